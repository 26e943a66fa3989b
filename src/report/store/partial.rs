//! A registry of incomplete files and folders, which [`remove_all`] removes when the program must end at once.
//!
//! Normally the owner of a file removes or renames it. [`std::process::exit`] runs no destructors, so the paths are registered
//! here.

use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

static NAMES: Mutex<Vec<Name>> = Mutex::new(Vec::new());

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    File(PathBuf),
    /// A folder with its content.
    Folder(PathBuf),
    /// A folder, if it is empty.
    Parent(PathBuf),
}

impl Name {
    fn remove(&self) {
        // The program ends, so errors have no handler.
        let _ = match self {
            Self::File(path) => fs::remove_file(path),
            Self::Folder(path) => fs::remove_dir_all(path),
            Self::Parent(path) => fs::remove_dir(path),
        };
    }
}

/// A registration. Dropping it leaves the files to their owner.
#[derive(Debug)]
pub struct Partial(Vec<Name>);

impl Partial {
    /// Registers a file that `make` creates; `make` returns its path.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn file<T, E>(make: impl FnOnce() -> Result<(T, PathBuf), E>) -> Result<(T, Self), E> {
        // The lock keeps `remove_all` from missing the new file.
        let mut names = names();
        let (made, path) = make()?;
        Ok((made, Self::add(&mut names, [Name::File(path)])))
    }

    /// Registers a folder that `make` creates, and its `parents` (the innermost first), which `make` may create too.
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

/// Removes everything that is registered. The program must end afterwards: the registry stays locked, so any thread that creates or
/// finishes a file blocks.
pub fn remove_all() {
    let mut names = names();
    // The removal of a file fails if its folder was removed first.
    names.drain(..).for_each(|name| name.remove());
    mem::forget(names);
}

fn names() -> MutexGuard<'static, Vec<Name>> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `path` and its ancestors that do not exist, the innermost first.
pub(super) fn missing(path: &Path) -> Vec<PathBuf> {
    path.ancestors()
        .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
        .map(Path::to_owned)
        .collect()
}
