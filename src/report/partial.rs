//! What is not whole yet: files and folders that [`remove_all`] takes away when the program has to end at once.
//!
//! Otherwise each is removed or renamed by what made it. A program that ends by [`std::process::exit`] drops nothing, so
//! their names are kept here.

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static NAMES: Mutex<Vec<Name>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    File(PathBuf),
    /// With all that is in it.
    Folder(PathBuf),
    /// Only if nothing is in it.
    Parent(PathBuf),
}

impl Name {
    fn remove(&self) {
        // As far as possible: nobody is left who could do more.
        let _ = match self {
            Self::File(path) => fs::remove_file(path),
            Self::Folder(path) => fs::remove_dir_all(path),
            Self::Parent(path) => fs::remove_dir(path),
        };
    }
}

/// Something that is not whole yet. Dropped, it is left to whoever made it.
#[derive(Debug)]
pub struct Partial(Vec<Name>);

impl Partial {
    /// A file that `make` makes at a path it gives with it.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn file<T, E>(make: impl FnOnce() -> Result<(T, PathBuf), E>) -> Result<(T, Self), E> {
        // Nothing is made while all is taken away.
        let mut names = names();
        let (made, path) = make()?;
        Ok((made, Self::add(&mut names, [Name::File(path)])))
    }

    /// A folder that `make` makes, in others of which `parents` may be made for it too (the innermost first).
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn folder<T, E>(
        parents: &[PathBuf],
        make: impl FnOnce() -> Result<(T, PathBuf), E>,
    ) -> Result<(T, Self), E> {
        let mut names = names();
        let (made, path) = make()?;
        let parents = parents.iter().cloned().map(Name::Parent);
        let all = [Name::Folder(path)].into_iter().chain(parents);
        Ok((made, Self::add(&mut names, all)))
    }

    fn add(names: &mut Vec<Name>, these: impl IntoIterator<Item = Name>) -> Self {
        let these: Vec<Name> = these.into_iter().collect();
        names.extend(these.iter().cloned());
        Self(these)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let mut names = names();
        for name in &self.0 {
            if let Some(place) = names.iter().position(|other| other == name) {
                names.remove(place);
            }
        }
    }
}

/// Takes away all that is not whole. The program must end then: whoever would make or finish something waits for ever.
pub fn remove_all() {
    let mut names = names();
    // A file may lie in a folder that is not whole either, and goes with it.
    names.drain(..).for_each(|name| name.remove());
    mem::forget(names);
}

fn names() -> MutexGuard<'static, Vec<Name>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folders around `path` and itself that are not there, the innermost first.
pub(super) fn missing(path: &Path) -> Vec<PathBuf> {
    path.ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .map(Path::to_owned)
        .collect()
}
