//! Why lists are rejected: all problems of all files, a line each.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::format::LineError;
use super::format::detect::Unsupported;

/// Why lists are rejected.
#[derive(Debug, Default)]
pub struct LoadError {
    problems: Vec<Problem>,
    /// Number of invalid lines that are not in `problems`.
    omitted: usize,
}

/// One problem.
#[derive(Debug, Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Unreadable {
        /// The file, as named by the user.
        file: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// A line is invalid in the file's format.
    #[error("{}:{line}: {error}", file.display())]
    Line {
        /// The file, as named by the user.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// Its error.
        error: LineError,
    },
    /// The file is rejected as a whole.
    #[error("{}: {error}", file.display())]
    File {
        /// The file, as named by the user.
        file: PathBuf,
        /// Its error.
        error: FileError,
    },
    /// The addresses of this host, for `--deny-private`, cannot be read.
    #[error(
        "cannot read the addresses of this host, which --deny-private blocks too: {0}; allow sockets of AF_NETLINK"
    )]
    LocalAddresses(io::Error),
}

/// Why a file is rejected as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// The format is not supported.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Only words that are probably not hosts; their number.
    #[error(
        "none of its {0} names has a dot, so they are probably not host names; write NAME. for a host, or .NAME for a domain \
         and all names below it"
    )]
    NoDots(usize),
    /// Too many invalid lines to skip.
    #[error(
        "{bad} of {of} lines are not valid, and --skip-bad-lines skips at most 1 %; the first is line {line}: {error}"
    )]
    BadLines {
        /// Number of invalid lines.
        bad: usize,
        /// Number of lines.
        of: usize,
        /// First invalid line, counted from 1.
        line: usize,
        /// Its error.
        error: LineError,
    },
    /// The file has no entries.
    #[error("an empty list, it has no entries; --allow-empty accepts it")]
    Empty,
    /// The file lost more than half of its entries.
    #[error(
        "{after} of {before} entries are left; --allow-empty accepts a list that lost more than half of its entries"
    )]
    Shrunk {
        /// Entries of the active list.
        before: usize,
        /// Entries of the file now.
        after: usize,
    },
    /// The file was written while it was read.
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
    /// Invalid lines that are listed one by one.
    pub(super) const REPORTED: usize = 10;

    /// Whether all files are valid lists, rejected only because they are empty or lost most entries.
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

    /// Counts invalid lines that are not listed.
    pub(super) fn more_lines(&mut self, lines: usize) {
        self.omitted += lines;
    }

    /// `result`, if there is no problem.
    pub(super) fn into_result<T>(self, result: T) -> Result<T, Self> {
        if self.problems.is_empty() {
            Ok(result)
        } else {
            Err(self)
        }
    }
}
