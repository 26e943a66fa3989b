//! The destination of a format: stdout, or a file that is opened before the run.

use std::io::{self, Write};
use std::path::Path;

use super::error::CliError;
use super::stdout;
use crate::report::store::atomic_file::AtomicFile as File;

/// Destination of a document.
pub(super) enum Sink {
    Stdout,
    File(File),
}

impl Sink {
    pub(super) fn open(path: &Path, option: &str) -> Result<Self, CliError> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        let file = File::create(path).map_err(|error| {
            CliError::Runtime(format!("{error}; choose another path with {option}"))
        })?;
        Ok(Self::File(file))
    }

    pub(super) fn write(
        self,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        match self {
            Self::Stdout => {
                stdout::take();
                let mut out = io::stdout().lock();
                content(&mut out)?;
                Ok(out.flush()?)
            }
            Self::File(mut file) => {
                content(&mut file).map_err(CliError::runtime)?;
                file.finish().map_err(CliError::runtime)
            }
        }
    }
}
