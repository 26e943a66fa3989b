//! Entries with their file and line.

use std::fmt;
use std::path::{Path, PathBuf};

use super::entry::Entry;
use super::index::Index;

/// The entries of some files.
#[derive(Debug, Default)]
pub struct List {
    pub(super) index: Index,
    files: Vec<ListedFile>,
    runs: Vec<Run>,
    /// The line after that of the last entry.
    next_line: usize,
}

/// Entries of consecutive lines.
#[derive(Debug)]
struct Run {
    /// The number of the first entry.
    first: u32,
    /// Its line.
    line: u32,
}

#[derive(Debug)]
struct ListedFile {
    path: PathBuf,
    /// The number of its first entry.
    first: usize,
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
        let files = &self.list.files;
        let after = files.partition_point(|file| file.first <= self.entry);
        let file = after.checked_sub(1).and_then(|file| files.get(file));
        file.map_or(Path::new(""), |file| &file.path)
    }

    /// The line, counted from 1.
    pub fn line(self) -> usize {
        let runs = &self.list.runs;
        let after = runs.partition_point(|run| run.first as usize <= self.entry);
        let run = after.checked_sub(1).and_then(|run| runs.get(run));
        run.map_or(0, |run| run.line as usize + self.entry - run.first as usize)
    }

    /// The text of the entry.
    pub fn text(self) -> &'a str {
        self.list.index.text(self.entry)
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
        self.files.push(ListedFile {
            path: file.to_owned(),
            first: self.index.len(),
        });
        self.next_line = 0;
    }

    /// Adds an entry of the current file.
    pub(super) fn add(&mut self, line: usize, text: &str, entry: Entry) {
        let entry = self.index.insert(text, entry);
        let next = self.next_line;
        self.next_line = line + 1;
        if next != line {
            let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let (first, line) = (number(entry), number(line));
            self.runs.push(Run { first, line });
        }
    }

    /// The entry with a number in the index.
    pub(super) fn entry(&self, entry: usize) -> EntryRef<'_> {
        EntryRef { list: self, entry }
    }
}
