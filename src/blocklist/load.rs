//! Reading the files of a list: all of them, or an account of what is wrong.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::format::{self, Format, Item, LineError};
use super::index::Index;

/// Bad lines that are told one by one.
const TOLD: usize = 10;

/// The entries of some files, and where each stands.
#[derive(Debug, Default)]
pub struct List {
    pub(super) index: Index,
    files: Vec<PathBuf>,
    /// By the entry's number.
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    file: usize,
    line: usize,
    text: Box<str>,
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By<'a> {
    /// The file, as it was named.
    pub file: &'a Path,
    /// The line in it, counted from 1.
    pub line: usize,
    /// The entry's text.
    pub entry: &'a str,
}

/// `FILE:LINE (entry)`
impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { file, line, entry } = self;
        write!(f, "{}:{line} ({entry})", file.display())
    }
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Its format; none where it has only comments, or nothing.
    pub format: Option<Format>,
    /// Entries in it.
    pub entries: usize,
}

/// One sentence about it.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let file = self.file.display();
        match self.format {
            Some(format) if self.entries > 0 => {
                let noun = if self.entries == 1 {
                    "entry"
                } else {
                    "entries"
                };
                write!(f, "{file}: {} {noun} ({format})", self.entries)
            }
            _ => write!(f, "{file}: an empty list, it has no entries"),
        }
    }
}

/// Why lists are not loaded: everything that is wrong with them, a line each.
#[derive(Debug, Default)]
pub struct LoadError {
    problems: Vec<Problem>,
    /// Bad lines beside those.
    more: usize,
}

/// One thing that is wrong.
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
    /// A line says nothing that its format knows.
    #[error("{}:{line}: {error}", file.display())]
    Line {
        /// The file, as it was named.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        error: LineError,
    },
}

impl std::error::Error for LoadError {}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut between = "";
        for problem in &self.problems {
            write!(f, "{between}{problem}")?;
            between = "\n";
        }
        match self.more {
            0 => Ok(()),
            1 => write!(f, "\nand 1 more bad line"),
            more => write!(f, "\nand {more} more bad lines"),
        }
    }
}

impl LoadError {
    fn line(&mut self, file: &Path, line: usize, error: LineError) {
        if self.problems.len() < TOLD {
            let file = file.to_owned();
            self.problems.push(Problem::Line { file, line, error });
        } else {
            self.more += 1;
        }
    }

    /// Done, if nothing is wrong.
    pub(super) fn or<T>(self, done: T) -> Result<T, Self> {
        if self.problems.is_empty() {
            Ok(done)
        } else {
            Err(self)
        }
    }
}

impl List {
    /// Adds a file's entries. What is wrong goes to `wrong`; then the list is of no use.
    pub(super) fn read(&mut self, file: &Path, wrong: &mut LoadError) -> Loaded {
        let before = self.places.len();
        let content = fs::read(file).unwrap_or_else(|error| {
            let file = file.to_owned();
            wrong.problems.push(Problem::Unreadable { file, error });
            Vec::new()
        });
        let number = self.files.len();
        self.files.push(file.to_owned());
        let format = format::read(&content, |line, item| match item {
            Item::Entry(text, entry) => {
                self.index.insert(entry);
                self.places.push(Place {
                    file: number,
                    line,
                    text: text.into(),
                });
            }
            Item::Bad(error) => wrong.line(file, line, error),
        });
        Loaded {
            file: file.to_owned(),
            format,
            entries: self.places.len() - before,
        }
    }

    /// Where an entry stands, by its number.
    pub(super) fn place(&self, entry: usize) -> Option<By<'_>> {
        let place = self.places.get(entry)?;
        Some(By {
            file: self.files.get(place.file)?,
            line: place.line,
            entry: &place.text,
        })
    }
}
