//! Entries, and where each of them stands.

use std::fmt;
use std::path::{Path, PathBuf};

use super::entry::Entry;
use super::index::Index;

/// The entries of some files.
#[derive(Debug, Default)]
pub struct List {
    pub(super) index: Index,
    files: Vec<PathBuf>,
    /// By the entry's number.
    places: Vec<Place>,
    /// The texts of all entries, one behind the other. There are millions, and freeing an allocation for each would take longer
    /// than all else.
    texts: String,
}

#[derive(Debug)]
struct Place {
    /// Among the files.
    file: u32,
    line: u32,
    /// Where its text ends. It begins where the one before ends.
    end: usize,
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

impl List {
    /// The entries that are added from now on are in this file.
    pub(super) fn begin(&mut self, file: &Path) {
        self.files.push(file.to_owned());
    }

    /// Adds an entry of the file that was begun last.
    pub(super) fn add(&mut self, line: usize, text: &str, entry: Entry) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.index.insert(entry);
        self.texts.push_str(text);
        self.places.push(Place {
            file: number(self.files.len().saturating_sub(1)),
            line: number(line),
            end: self.texts.len(),
        });
    }

    /// Where an entry stands, by its number.
    pub(super) fn place(&self, entry: usize) -> Option<By<'_>> {
        let place = self.places.get(entry)?;
        let before = entry
            .checked_sub(1)
            .and_then(|before| self.places.get(before));
        let start = before.map_or(0, |before| before.end);
        Some(By {
            file: self.files.get(place.file as usize)?,
            line: place.line as usize,
            entry: self.texts.get(start..place.end)?,
        })
    }
}
