//! How a command fails: one plain sentence on stderr, and the exit code that scripts rely on.

use std::io::{self, Write};
use std::process::ExitCode;

/// Why a command did not do all it was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// All was done, and a gate failed: exit 1.
    Gate(String),
    /// The command line asks for what cannot be: exit 2.
    Usage(String),
    /// The run could not be done, or not to its end: exit 3.
    Undone(String),
    /// Whoever read our output went away, which is their right.
    ReaderGone,
}

impl Failure {
    pub(super) fn usage(error: impl ToString) -> Self {
        Self::Usage(error.to_string())
    }

    pub(super) fn undone(error: impl ToString) -> Self {
        Self::Undone(error.to_string())
    }

    /// Says it, and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Gate(sentence) => say(&sentence, 1),
            Self::Usage(sentence) => say(&sentence, 2),
            Self::Undone(sentence) => say(&sentence, 3),
            Self::ReaderGone => ExitCode::SUCCESS,
        }
    }
}

/// Of our own output to stdout.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Undone(format!("cannot write to standard output: {error}")),
        }
    }
}

fn say(sentence: &str, code: u8) -> ExitCode {
    // Nobody may be there to read it; the exit code still tells.
    let _ = writeln!(io::stderr(), "bench: {sentence}");
    ExitCode::from(code)
}

/// Prints what clap has to say: help and version on stdout, the rest on stderr with exit 2.
pub(super) fn of_clap(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
