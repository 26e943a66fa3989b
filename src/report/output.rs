//! A file that is written under a temporary name and takes its own only when it is whole.
//!
//! So a reader never sees half of it, and what lay there before survives a full disk. It is opened
//! before the measurement, so that a path nobody may write to is found then and not afterwards.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};
use thiserror::Error;

use super::partial::Partial;

/// A file that could not be written, and why.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct OutputError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// A file being written. One that replaces another and is dropped before [`Self::finish`] leaves
/// nothing behind.
///
/// The errors of its [`Write`] name the file: they carry an [`OutputError`].
#[derive(Debug)]
pub struct Output {
    /// As the user knows it, for messages.
    path: PathBuf,
    file: BufWriter<File>,
    /// The temporary name, and the one it is to have; `None` when it is written in place.
    rename: Option<(TempPath, PathBuf, Partial)>,
}

impl Output {
    /// Begins to write the file at `path`, which is replaced by [`Self::finish`].
    ///
    /// What is there and no regular file (a terminal, a pipe, /dev/null) is written to directly, and
    /// of a symbolic link the file it leads to is replaced.
    ///
    /// # Errors
    /// When the file, or another beside it, may not be written.
    pub fn create(path: &Path) -> Result<Self, OutputError> {
        Self::open(path).map_err(|source| named(path, source))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let (target, mode) = match fs::metadata(path) {
            Ok(there) if !there.is_file() => {
                let file = File::options().write(true).open(path)?;
                return Ok(Self::direct(path, file));
            }
            // A file that may not be written to is not to be replaced either, so it is opened.
            Ok(there) => {
                File::options().append(true).open(path)?;
                (fs::canonicalize(path)?, Some(there.permissions()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
            Err(error) => return Err(error),
        };
        let (temporary, partial) = Partial::file(|| {
            let temporary = beside(&target)?;
            let path = temporary.path().to_owned();
            io::Result::Ok((temporary, path))
        })?;
        if let Some(permissions) = mode {
            temporary.as_file().set_permissions(permissions)?;
        }
        let (file, temporary) = temporary.into_parts();
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            rename: Some((temporary, target, partial)),
        })
    }

    /// Begins a new file at `path` that can be read as it grows. `shown` is how errors call it.
    ///
    /// # Errors
    /// When it exists already or cannot be made.
    pub(super) fn growing(path: &Path, shown: &Path) -> Result<Self, OutputError> {
        let file = File::create_new(path).map_err(|source| named(shown, source))?;
        Ok(Self::direct(shown, file))
    }

    fn direct(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            rename: None,
        }
    }

    /// Writes out what is left and gives the file its name.
    ///
    /// # Errors
    /// When the disk is full, or any other way the last bytes cannot be kept. The file that was there
    /// before is still there then.
    pub fn finish(mut self) -> Result<(), OutputError> {
        let done = self.keep();
        done.map_err(|source| named(&self.path, source))
    }

    fn keep(&mut self) -> io::Result<()> {
        self.file.flush()?;
        // The name is kept until the file has its own.
        let Some((temporary, target, _partial)) = self.rename.take() else {
            return Ok(());
        };
        // Some file systems find out only now that there is no room (close(2), NFS, quotas).
        self.file.get_ref().sync_all()?;
        temporary.persist(target).map_err(|failed| failed.error)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.file.write(bytes);
        done.map_err(|source| carried(&self.path, source))
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.file.flush();
        done.map_err(|source| carried(&self.path, source))
    }
}

/// Replaces the file at `path` with what `content` writes, whole or not at all.
///
/// # Errors
/// As [`Output::create`] and [`Output::finish`], and what `content` fails with.
pub fn replace(
    path: &Path,
    content: impl FnOnce(&mut Output) -> io::Result<()>,
) -> Result<(), OutputError> {
    let mut output = Output::create(path)?;
    content(&mut output).map_err(|error| uncarried(path, error))?;
    output.finish()
}

/// A temporary file in the same folder, so that a rename can put it in place.
fn beside(target: &Path) -> io::Result<NamedTempFile> {
    let name = target
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let prefix = format!(".{}.", name.to_string_lossy());
    // tempfile's own error names the temporary file, which says nothing to anyone.
    let mut cause = None;
    let made = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".partial")
        // By itself tempfile lets only the owner read.
        .make_in(folder, |path| {
            File::create_new(path).inspect_err(|error| cause = error.raw_os_error())
        });
    made.map_err(|error| cause.map_or(error, io::Error::from_raw_os_error))
}

fn named(path: &Path, source: io::Error) -> OutputError {
    OutputError {
        path: path.to_owned(),
        source,
    }
}

fn carried(path: &Path, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), named(path, source))
}

/// An [`OutputError`] again, of an error that may carry one.
pub(super) fn uncarried(path: &Path, error: io::Error) -> OutputError {
    error
        .downcast::<OutputError>()
        .unwrap_or_else(|error| named(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_shows_until_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        fs::write(&path, "before").unwrap();
        let mut output = Output::create(&path).unwrap();
        output.write_all(b"after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        output.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(names(folder.path()), ["run.json"]);
    }

    #[test]
    fn one_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        drop(Output::create(&path).unwrap());
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("null");
        symlink("/dev/null", &link).unwrap();
        replace(&link, |out| out.write_all(b"x")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(folder.path()), ["null"]);
    }

    #[test]
    fn of_a_link_the_file_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "before").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        symlink(&file, &link).unwrap();
        replace(&link, |out| out.write_all(b"after")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn errors_name_the_file_once() {
        let full = replace(Path::new("/dev/full"), |out| out.write_all(b"x")).unwrap_err();
        assert_eq!(
            full.to_string(),
            "cannot write /dev/full: No space left on device (os error 28)"
        );
        let full = replace(Path::new("/dev/full"), |out| {
            out.write_all(&[b'x'; 100_000])
        });
        assert_eq!(
            full.unwrap_err().to_string(),
            "cannot write /dev/full: No space left on device (os error 28)"
        );
        let missing = Output::create(Path::new("/nowhere/run.json")).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "cannot write /nowhere/run.json: No such file or directory (os error 2)"
        );
        let folder = Output::create(Path::new("/")).unwrap_err();
        assert!(
            folder.to_string().starts_with("cannot write /: "),
            "{folder}"
        );
    }
}
