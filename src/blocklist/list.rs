//! Entries with their file and line.

use std::fmt;
use std::path::{Path, PathBuf};

use super::entry::Entry;
use super::index::Index;

/// The entries of some files.
#[derive(Debug, Default)]
pub struct List {
    pub(super) index: Index,
    files: Vec<PathBuf>,
    /// By entry number.
    places: Vec<Place>,
    /// Texts of all entries, concatenated: lists have millions of entries, and freeing an allocation for each would dominate.
    texts: String,
}

#[derive(Debug)]
struct Place {
    /// Index in `files`.
    file: u32,
    line: u32,
    /// End of its text, which begins at the end of the previous one.
    end: usize,
}

/// A deciding entry. Its file and line are looked up on demand: that costs cache misses, and most decisions do not need them.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    list: &'a List,
    entry: usize,
}

impl<'a> EntryRef<'a> {
    /// The file, as named by the user.
    pub fn file(self) -> &'a Path {
        let file = self
            .place()
            .and_then(|place| self.list.files.get(place.file as usize));
        file.map_or(Path::new(""), PathBuf::as_path)
    }

    /// The line, counted from 1.
    pub fn line(self) -> usize {
        self.place().map_or(0, |place| place.line as usize)
    }

    /// The text of the entry.
    pub fn text(self) -> &'a str {
        let before = self.entry.checked_sub(1);
        let before = before.and_then(|before| self.list.places.get(before));
        let start = before.map_or(0, |before| before.end);
        let text = self
            .place()
            .and_then(|place| self.list.texts.get(start..place.end));
        text.unwrap_or_default()
    }

    // Every entry has a place.
    fn place(self) -> Option<&'a Place> {
        self.list.places.get(self.entry)
    }
}

/// Equal if it is the same entry of the same list.
impl PartialEq for EntryRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.list, other.list) && self.entry == other.entry
    }
}

impl Eq for EntryRef<'_> {}

/// `FILE:LINE (entry)`
impl fmt::Display for EntryRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (file, line, text) = (self.file().display(), self.line(), self.text());
        write!(f, "{file}:{line} ({text})")
    }
}

impl List {
    /// Starts a file: entries added next belong to it.
    pub(super) fn begin(&mut self, file: &Path) {
        self.files.push(file.to_owned());
    }

    /// Adds an entry of the current file.
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

    /// The entry with a number in the index.
    pub(super) fn entry(&self, entry: usize) -> EntryRef<'_> {
        EntryRef { list: self, entry }
    }
}
