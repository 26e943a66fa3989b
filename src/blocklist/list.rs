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

/// An entry that decides. Where it stands is only looked up when it is asked for: that is a cache miss or two, and nearly no
/// decision needs it.
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    list: &'a List,
    entry: usize,
}

impl<'a> EntryRef<'a> {
    /// The file, as it was named.
    pub fn file(self) -> &'a Path {
        let file = self
            .place()
            .and_then(|place| self.list.files.get(place.file as usize));
        file.map_or(Path::new(""), PathBuf::as_path)
    }

    /// The line in it, counted from 1.
    pub fn line(self) -> usize {
        self.place().map_or(0, |place| place.line as usize)
    }

    /// The entry's text.
    pub fn text(self) -> &'a str {
        let before = self.entry.checked_sub(1);
        let before = before.and_then(|before| self.list.places.get(before));
        let start = before.map_or(0, |before| before.end);
        let text = self
            .place()
            .and_then(|place| self.list.texts.get(start..place.end));
        text.unwrap_or_default()
    }

    /// There is one for each entry.
    fn place(self) -> Option<&'a Place> {
        self.list.places.get(self.entry)
    }
}

/// Whether it is the same entry of the same list.
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

    /// An entry, by its number in the index.
    pub(super) fn entry(&self, entry: usize) -> EntryRef<'_> {
        EntryRef { list: self, entry }
    }
}
