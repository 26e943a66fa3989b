//! Reads the files of lists and summarises each.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::entry::{Entry, Subject};
use super::format::detect::detect;
use super::format::{self, Format, Item, LineError};
use super::list::List;
use super::problem::{FileError, LoadError, Problem};
use crate::destination::error::quoted;

/// At most one line of this many may be skipped.
const MIN_LINES_PER_BAD_LINE: usize = 100;

/// How files are read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReadOptions {
    /// Plain names include their subdomains.
    pub(super) subdomains: bool,
    /// Skip invalid lines, up to the limit.
    pub(super) skip_bad_lines: bool,
}

/// Summary of a loaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedFile {
    /// The file, as named by the user.
    pub file: PathBuf,
    /// Its format; `None` if it has no entries.
    pub format: Option<Format>,
    /// Number of entries without exceptions.
    pub entries: usize,
    /// Skipped invalid lines.
    pub skipped: Option<Skipped>,
}

/// Skipped lines of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Number of skipped lines.
    pub bad: usize,
    /// Number of lines without comments and blank lines.
    pub of: usize,
    /// First skipped line, counted from 1.
    pub line: usize,
    /// Its error.
    pub error: LineError,
}

/// `FILE: 3 entries (hosts)`
impl fmt::Display for LoadedFile {
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

/// As a warning.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self {
            bad,
            of,
            line,
            error,
        } = self;
        write!(
            f,
            "skipped {bad} of {of} lines, the first is line {line}: {error}"
        )
    }
}

/// Blocklists. The first one combines files without exceptions. Each file with exceptions is separate, because its exceptions
/// apply to its own entries only.
#[derive(Debug)]
pub(super) struct Blocklists(Vec<Blocklist>);

/// Blocked entries and exceptions from them.
#[derive(Debug, Default)]
pub(super) struct Blocklist {
    pub(super) list: List,
    pub(super) exceptions: Option<List>,
}

impl Default for Blocklists {
    fn default() -> Self {
        Self(vec![Blocklist::default()])
    }
}

impl Blocklists {
    /// All blocklists.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Blocklist> {
        self.0.iter()
    }

    /// Reads a file.
    pub(super) fn read(
        &mut self,
        file: &Path,
        options: ReadOptions,
        errors: &mut LoadError,
    ) -> LoadedFile {
        let Some(opened) = ListFile::open(file, errors) else {
            return LoadedFile::nothing(file);
        };
        if opened.format.is_some_and(Format::has_exceptions) {
            let (mut list, mut exceptions) = (List::default(), List::default());
            let loaded = opened.read(&mut list, Some(&mut exceptions), options, errors);
            let exceptions = Some(exceptions);
            self.0.push(Blocklist { list, exceptions });
            return loaded;
        }
        match self.0.first_mut() {
            Some(shared) => opened.read(&mut shared.list, None, options, errors),
            None => LoadedFile::nothing(file),
        }
    }
}

impl List {
    /// Reads a file without exceptions.
    pub(super) fn read(
        &mut self,
        file: &Path,
        options: ReadOptions,
        errors: &mut LoadError,
    ) -> LoadedFile {
        match ListFile::open(file, errors) {
            Some(opened) => opened.read(self, None, options, errors),
            None => LoadedFile::nothing(file),
        }
    }
}

impl LoadedFile {
    /// Warnings about the file.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let empty = (self.entries == 0).then(|| self.to_string());
        let file = self.file.display();
        let skipped = self
            .skipped
            .as_ref()
            .map(|skipped| format!("{file}: {skipped}"));
        empty.into_iter().chain(skipped)
    }

    fn nothing(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            format: None,
            entries: 0,
            skipped: None,
        }
    }
}

/// An opened file.
struct ListFile<'a> {
    file: &'a Path,
    content: Vec<u8>,
    format: Option<Format>,
}

impl<'a> ListFile<'a> {
    /// Reads the file and detects its format.
    fn open(file: &'a Path, errors: &mut LoadError) -> Option<Self> {
        let content = fs::read(file).map_err(|error| {
            let file = file.to_owned();
            errors.add(Problem::Unreadable { file, error });
        });
        let content = content.ok()?;
        let format = detect(&content).map_err(|foreign| errors.file(file, foreign));
        Some(Self {
            file,
            format: format.ok()?,
            content,
        })
    }

    /// Adds its entries to a list and its exceptions to another.
    fn read(
        &self,
        list: &mut List,
        mut exceptions: Option<&mut List>,
        options: ReadOptions,
        errors: &mut LoadError,
    ) -> LoadedFile {
        let before = list.index.len();
        let mut bad = BadLines::default();
        let mut is_named = false;
        list.begin(self.file);
        if let Some(exceptions) = &mut exceptions {
            exceptions.begin(self.file);
        }
        let format = self.format.unwrap_or(Format::Lines);
        format::read_as(format, &self.content, |line, item| match item {
            Item::Entry(text, entry) => {
                is_named |= !is_word(text, &entry);
                let entry = match options.subdomains {
                    true => entry.with_subdomains(),
                    false => entry,
                };
                list.add(line, text, entry);
            }
            Item::Exception(text, entry) => match &mut exceptions {
                Some(exceptions) => exceptions.add(line, text, entry),
                None => bad.add(line, LineError::Exception(quoted(text))),
            },
            Item::Bad(error) => bad.add(line, error),
        });
        let entries = list.index.len() - before;
        let is_valid = bad.count == 0 || options.skip_bad_lines;
        if entries > 0 && !is_named && is_valid {
            errors.file(self.file, FileError::NoDots(entries));
        }
        LoadedFile {
            file: self.file.to_owned(),
            format: self.format,
            entries,
            skipped: bad.skipped(self, options, errors),
        }
    }
}

/// Whether an entry may be any word: a name without a dot that is not well known.
fn is_word(text: &str, entry: &Entry) -> bool {
    match &entry.subject {
        Subject::Name(name) => !text.contains('.') && name.as_str() != "localhost",
        _ => false,
    }
}

/// Invalid lines of a file.
#[derive(Default)]
struct BadLines {
    count: usize,
    /// The first lines, as many as are reported.
    first: Vec<(usize, LineError)>,
}

impl BadLines {
    fn add(&mut self, line: usize, error: LineError) {
        self.count += 1;
        if self.first.len() < LoadError::REPORTED {
            self.first.push((line, error));
        }
    }

    /// Skips the lines if allowed; otherwise adds them to `errors`.
    fn skipped(
        self,
        file: &ListFile,
        options: ReadOptions,
        errors: &mut LoadError,
    ) -> Option<Skipped> {
        if !options.skip_bad_lines {
            let more = self.count - self.first.len();
            for (line, error) in self.first {
                errors.line(file.file, line, error);
            }
            errors.more_lines(more);
            return None;
        }
        let bad = self.count;
        let (line, error) = self.first.into_iter().next()?;
        let of = format::lines(&file.content).count();
        if bad * MIN_LINES_PER_BAD_LINE > of {
            let error = FileError::BadLines {
                bad,
                of,
                line,
                error,
            };
            errors.file(file.file, error);
            return None;
        }
        Some(Skipped {
            bad,
            of,
            line,
            error,
        })
    }
}
