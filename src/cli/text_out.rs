//! Text on standard output, which waits while the live view has the screen.

use std::io::{self, Write};

use super::error::CliError;

/// Text for stdout.
pub(super) struct TextOut {
    /// Text that is kept while the live view has the screen; `None` without the view.
    deferred: Option<Vec<u8>>,
}

impl TextOut {
    pub(super) fn new(is_deferred: bool) -> Self {
        Self {
            deferred: is_deferred.then(Vec::new),
        }
    }

    /// Prints, or keeps the text until [`Self::release`].
    pub(super) fn print(
        &mut self,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        if let Some(deferred) = &mut self.deferred {
            return Ok(text(deferred)?);
        }
        let mut out = io::stdout().lock();
        text(&mut out)?;
        Ok(out.flush()?)
    }

    /// Prints the kept text, and all later text at once.
    pub(super) fn release(&mut self) -> Result<(), CliError> {
        match self.deferred.take() {
            Some(text) => self.print(|out| out.write_all(&text)),
            None => Ok(()),
        }
    }
}
