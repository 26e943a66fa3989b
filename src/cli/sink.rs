//! Where `--json` and `--csv` go: a file that is opened before anything is done, or stdout.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::Failure;
use crate::report::store::atomic_file::AtomicFile as File;

/// Whether stdout has its document.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes stdout for a document; `false` where it has one. There is one standard output, and one document on it.
pub(super) fn take_stdout() -> bool {
    !TAKEN.swap(true, Ordering::Relaxed)
}

/// Where `--json` or `--csv` goes.
pub(super) enum Sink {
    Stdout,
    File(File),
}

impl Sink {
    pub(super) fn open(path: &Path, option: &str) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        let file = File::create(path).map_err(|error| {
            Failure::Undone(format!("{error}; choose another path with {option}"))
        })?;
        Ok(Self::File(file))
    }

    pub(super) fn write(
        self,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        match self {
            Self::Stdout => {
                take_stdout();
                let mut out = io::stdout().lock();
                content(&mut out)?;
                Ok(out.flush()?)
            }
            Self::File(mut file) => {
                content(&mut file).map_err(Failure::undone)?;
                file.finish().map_err(Failure::undone)
            }
        }
    }
}
