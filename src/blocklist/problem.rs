//! Why lists are not put in force: everything that is wrong with them, a line each.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::format::LineError;
use super::format::detect::Unsupported;

/// Why lists are not put in force.
#[derive(Debug, Default)]
pub struct LoadError {
    problems: Vec<Problem>,
    /// Bad lines beside those.
    omitted: usize,
}

/// One thing that is errors.
#[derive(Debug, Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Unreadable {
        /// The file, as it was named.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line that is not valid in the file's format.
    #[error("{}:{line}: {error}", file.display())]
    Line {
        /// The file, as it was named.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is errors.
        error: LineError,
    },
    /// The file as a whole.
    #[error("{}: {error}", file.display())]
    File {
        /// The file, as it was named.
        file: PathBuf,
        /// What is errors.
        error: FileError,
    },
    /// The addresses of this host, which `--deny-private` is about too.
    #[error(
        "cannot read the addresses of this host, which --deny-private blocks too: {0}; allow sockets of AF_NETLINK"
    )]
    LocalAddresses(io::Error),
}

/// What is wrong with a file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// A format that is not supported.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// So many words that are probably no hosts.
    #[error(
        "none of its {0} names has a dot, so they are probably not host names; write NAME. for a host, or .NAME for a domain \
         and all names below it"
    )]
    NoDots(usize),
    /// More lines that are not valid than may be left out.
    #[error(
        "{bad} of {of} lines are not valid, and --skip-bad-lines skips at most 1 %; the first is line {line}: {error}"
    )]
    BadLines {
        /// How many.
        bad: usize,
        /// Of how many.
        of: usize,
        /// The first, counted from 1.
        line: usize,
        /// What is wrong with it.
        error: LineError,
    },
    /// Nothing is listed.
    #[error("an empty list, it has no entries; with --allow-empty that is no error")]
    Empty,
    /// Most of what was listed is not any more.
    #[error(
        "{after} of {before} entries are left; with --allow-empty a list may lose more than half of its entries"
    )]
    Shrunk {
        /// Entries in force.
        before: usize,
        /// Entries that the file has now.
        after: usize,
    },
    /// Written to while it was read.
    #[error("it changed while it was read")]
    Changing,
}

impl std::error::Error for LoadError {}

/// The addresses of this host cannot be read.
impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        let mut errors = Self::default();
        errors.add(Problem::LocalAddresses(error));
        errors
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut between = "";
        for problem in &self.problems {
            write!(f, "{between}{problem}")?;
            between = "\n";
        }
        match self.omitted {
            0 => Ok(()),
            1 => write!(f, "\nand 1 more bad line"),
            more => write!(f, "\nand {more} more bad lines"),
        }
    }
}

impl LoadError {
    /// Bad lines that are reported one by one.
    pub(super) const REPORTED: usize = 10;

    /// Whether the files are valid lists, but so empty that they are not put in force.
    pub fn is_refusal(&self) -> bool {
        let refused = |problem: &Problem| {
            matches!(
                problem,
                Problem::File {
                    error: FileError::Empty | FileError::Shrunk { .. },
                    ..
                }
            )
        };
        !self.problems.is_empty() && self.problems.iter().all(refused)
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn file(&mut self, file: &Path, error: impl Into<FileError>) {
        let (file, error) = (file.to_owned(), error.into());
        self.add(Problem::File { file, error });
    }

    pub(super) fn line(&mut self, file: &Path, line: usize, error: LineError) {
        if self.problems.len() < Self::REPORTED {
            let file = file.to_owned();
            self.add(Problem::Line { file, line, error });
        } else {
            self.omitted += 1;
        }
    }

    /// So many bad lines more.
    pub(super) fn more_lines(&mut self, lines: usize) {
        self.omitted += lines;
    }

    /// Done, if nothing is errors.
    pub(super) fn into_result<T>(self, done: T) -> Result<T, Self> {
        if self.problems.is_empty() {
            Ok(done)
        } else {
            Err(self)
        }
    }
}
