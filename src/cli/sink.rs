//! The destination of a format: stdout, or a file that is opened before the run.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::error::CliError;
use super::stdout;
use crate::report::store::atomic_file::{AtomicFile, FileError};

/// Destination of a document.
pub(super) enum Sink {
    Stdout,
    /// Complete or absent.
    File(AtomicFile),
    /// Written in place, so that it can be followed.
    Followed(fs::File),
}

impl Sink {
    pub(super) fn open(path: &Path, option: &str) -> Result<Self, CliError> {
        if is_stdout(path) {
            return Ok(Self::Stdout);
        }
        let file = AtomicFile::create(path).map_err(|error| cannot_write(&error, option))?;
        Ok(Self::File(file))
    }

    /// Replaces a file at once.
    pub(super) fn follow(path: &Path, option: &str) -> Result<Self, CliError> {
        if is_stdout(path) {
            return Ok(Self::Stdout);
        }
        let file = fs::File::create(path).map_err(|source| {
            let path = path.to_owned();
            cannot_write(&FileError { path, source }, option)
        })?;
        Ok(Self::Followed(file))
    }

    pub(super) fn write(
        mut self,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        let written = match &self {
            Self::Stdout => {
                stdout::take();
                content(&mut io::stdout().lock())
            }
            _ => content(&mut self),
        };
        written.map_err(|error| self.error(error))?;
        self.finish()
    }

    /// Completes the document.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        match self.flush() {
            Err(error) => Err(self.error(error)),
            Ok(()) => match self {
                Self::File(file) => file.finish().map_err(CliError::runtime),
                Self::Stdout | Self::Followed(_) => Ok(()),
            },
        }
    }

    /// The error of a write to this destination.
    pub(super) fn error(&self, error: io::Error) -> CliError {
        match self {
            Self::Stdout => error.into(),
            Self::Followed(_) if error.kind() == io::ErrorKind::BrokenPipe => CliError::BrokenPipe,
            Self::File(_) | Self::Followed(_) => CliError::runtime(error),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => io::stdout().write(bytes),
            Self::File(file) => file.write(bytes),
            Self::Followed(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().flush(),
            Self::File(file) => file.flush(),
            Self::Followed(file) => file.flush(),
        }
    }
}

/// Whether `path` stands for standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn cannot_write(error: &FileError, option: &str) -> CliError {
    CliError::Runtime(format!("{error}; choose another path with {option}"))
}
