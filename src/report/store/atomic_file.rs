//! A file that is complete or absent: it is written under a temporary name and renamed at the end.
//!
//! A reader never sees half of it, and an earlier file survives a full disk. Files are opened before a measurement, so that a path
//! without write permission fails early.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};
use thiserror::Error;

use super::partial::Partial;

/// A file that cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// A file being written. Dropped before [`Self::finish`], it leaves nothing behind.
///
/// The errors of its [`Write`] contain a [`FileError`], which names the file.
#[derive(Debug)]
pub struct AtomicFile {
    /// The path in messages.
    path: PathBuf,
    file: BufWriter<File>,
    /// The temporary path and the final path; `None` for a file written in place.
    rename: Option<(TempPath, PathBuf, Partial)>,
}

impl AtomicFile {
    /// Starts writing the file at `path`. [`Self::finish`] replaces an existing file.
    ///
    /// A terminal, a pipe or a device is written in place. Of a symbolic link, the target is replaced.
    ///
    /// # Errors
    /// The file, or a temporary file beside it, cannot be written.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        Self::open(path).map_err(|source| file_error(path, source))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let (target, mode) = match fs::metadata(path) {
            Ok(there) if !there.is_file() => {
                let file = File::options().write(true).open(path)?;
                return Ok(Self::direct(path, file));
            }
            // A file without write permission must not be replaced either, so it is opened.
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

    /// Creates a file at `path` that can be read as it grows. `shown` is the path in errors.
    ///
    /// # Errors
    /// The file exists or cannot be created.
    pub(super) fn growing(path: &Path, shown: &Path) -> Result<Self, FileError> {
        let file = File::create_new(path).map_err(|source| file_error(shown, source))?;
        Ok(Self::direct(shown, file))
    }

    fn direct(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            rename: None,
        }
    }

    /// Writes the remaining bytes and renames the file.
    ///
    /// # Errors
    /// The remaining bytes cannot be written, as on a full disk. An earlier file is then unchanged.
    pub fn finish(mut self) -> Result<(), FileError> {
        let done = self.persist();
        done.map_err(|source| file_error(&self.path, source))
    }

    fn persist(&mut self) -> io::Result<()> {
        self.file.flush()?;
        // The temporary path stays registered until the rename.
        let Some((temporary, target, _partial)) = self.rename.take() else {
            return Ok(());
        };
        // Some file systems report a full disk only now (close(2), NFS, quotas).
        self.file.get_ref().sync_all()?;
        temporary.persist(target).map_err(|failed| failed.error)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.file.write(bytes);
        done.map_err(|source| wrapped(&self.path, source))
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.file.flush();
        done.map_err(|source| wrapped(&self.path, source))
    }
}

/// Replaces the file at `path` with the output of `content`, atomically.
///
/// # Errors
/// Those of [`AtomicFile::create`], [`AtomicFile::finish`] and `content`.
pub fn replace(
    path: &Path,
    content: impl FnOnce(&mut AtomicFile) -> io::Result<()>,
) -> Result<(), FileError> {
    let mut output = AtomicFile::create(path)?;
    content(&mut output).map_err(|error| file_error_within(path, error))?;
    output.finish()
}

/// A temporary file in the folder of `target`, as a rename does not cross file systems.
fn beside(target: &Path) -> io::Result<NamedTempFile> {
    let name = target
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let prefix = format!(".{}.", name.to_string_lossy());
    // tempfile's own error names the temporary file, which means nothing to a user.
    let mut cause = None;
    let made = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".partial")
        // tempfile's default is readable by the owner only.
        .make_in(folder, |path| {
            File::create_new(path).inspect_err(|error| cause = error.raw_os_error())
        });
    made.map_err(|error| cause.map_or(error, io::Error::from_raw_os_error))
}

fn file_error(path: &Path, source: io::Error) -> FileError {
    FileError {
        path: path.to_owned(),
        source,
    }
}

fn wrapped(path: &Path, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), file_error(path, source))
}

/// The [`FileError`] within `error`, or a new one.
pub(super) fn file_error_within(path: &Path, error: io::Error) -> FileError {
    error
        .downcast::<FileError>()
        .unwrap_or_else(|error| file_error(path, error))
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
    fn file_is_invisible_until_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        fs::write(&path, "before").unwrap();
        let mut output = AtomicFile::create(&path).unwrap();
        output.write_all(b"after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        output.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(names(folder.path()), ["run.json"]);
    }

    #[test]
    fn dropped_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        drop(AtomicFile::create(&path).unwrap());
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn device_is_written_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("null");
        symlink("/dev/null", &link).unwrap();
        replace(&link, |out| out.write_all(b"x")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(folder.path()), ["null"]);
    }

    #[test]
    fn target_of_a_link_is_replaced() {
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
        let missing = AtomicFile::create(Path::new("/nowhere/run.json")).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "cannot write /nowhere/run.json: No such file or directory (os error 2)"
        );
        let folder = AtomicFile::create(Path::new("/")).unwrap_err();
        assert!(
            folder.to_string().starts_with("cannot write /: "),
            "{folder}"
        );
    }
}
