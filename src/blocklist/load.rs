//! Reads the files of lists and summarises each.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::format::detect::{Unsupported, detect, detect_start};
use super::format::{self, Format, Item, LineError};
use super::list::List;
use super::problem::{FileError, LoadError, Problem};
use crate::destination::error::quoted;
use crate::sys::reopen;

/// Bytes that are read before the format is known.
const START: usize = 256 << 10;

/// Bytes of one read of the rest.
const READ: usize = 64 << 10;

/// At most one line of this many may be skipped.
const MIN_LINES_PER_BAD_LINE: usize = 100;

/// How files are read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReadOptions {
    /// Plain names include their subdomains.
    pub(super) subdomains: bool,
    /// Skip invalid lines, up to the limit.
    pub(super) skip_bad_lines: bool,
    /// Files were read before. A pipe is then refused instead of waited for.
    pub(super) again: bool,
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
        let Some(opened) = ListFile::open(file, options, errors) else {
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
        match ListFile::open(file, options, errors) {
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

/// An opened file. A large one is read as its entries are added, so that its content is not in memory beside them.
struct ListFile<'a> {
    file: &'a Path,
    start: Vec<u8>,
    /// `None` if the start is all of the content.
    rest: Option<File>,
    format: Option<Format>,
}

impl<'a> ListFile<'a> {
    /// Opens the file and detects its format.
    fn open(file: &'a Path, options: ReadOptions, errors: &mut LoadError) -> Option<Self> {
        let unreadable = |error| Problem::Unreadable {
            file: file.to_owned(),
            error,
        };
        let source = match options.again {
            true => reopen::for_reading(file),
            false => File::open(file),
        };
        let opened = source.and_then(|source| Self::read_start(file, source));
        let opened = opened.map_err(|error| errors.add(unreadable(error)));
        opened
            .ok()?
            .map_err(|foreign| errors.file(file, foreign))
            .ok()
    }

    /// # Errors
    /// As read(2).
    fn read_start(file: &'a Path, mut source: File) -> io::Result<Result<Self, Unsupported>> {
        let mut start = Vec::new();
        (&mut source).take(START as u64).read_to_end(&mut start)?;
        if start.len() == START {
            if let Some(format) = detect_start(&start) {
                return Ok(Ok(Self {
                    file,
                    start,
                    rest: Some(source),
                    format: Some(format),
                }));
            }
            source.read_to_end(&mut start)?;
        }
        Ok(detect(&start).map(|format| Self {
            file,
            start,
            rest: None,
            format,
        }))
    }

    /// Adds its entries to a list and its exceptions to another.
    fn read(
        self,
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
        let rest: Box<dyn BufRead> = match self.rest {
            Some(rest) => Box::new(BufReader::with_capacity(READ, rest)),
            None => Box::new(io::empty()),
        };
        let content = self.start.as_slice().chain(rest);
        let lines = format::read_as(format, content, |line, item| match item {
            Item::Entry(text, entry) => {
                is_named |= !entry.is_word(text);
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
        let lines = match lines {
            Ok(lines) => lines,
            Err(error) => {
                let file = self.file.to_owned();
                errors.add(Problem::Unreadable { file, error });
                return LoadedFile::nothing(self.file);
            }
        };
        let entries = list.index.len() - before;
        let is_valid = bad.count == 0 || options.skip_bad_lines;
        if entries > 0 && !is_named && is_valid {
            errors.file(self.file, FileError::NoDots(entries));
        }
        LoadedFile {
            file: self.file.to_owned(),
            format: self.format,
            entries,
            skipped: bad.skipped(self.file, lines, options, errors),
        }
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

    /// Skips the lines, of so many, if allowed; otherwise adds them to `errors`.
    fn skipped(
        self,
        file: &Path,
        of: usize,
        options: ReadOptions,
        errors: &mut LoadError,
    ) -> Option<Skipped> {
        if !options.skip_bad_lines {
            let more = self.count - self.first.len();
            for (line, error) in self.first {
                errors.line(file, line, error);
            }
            errors.more_lines(more);
            return None;
        }
        let bad = self.count;
        let (line, error) = self.first.into_iter().next()?;
        if bad * MIN_LINES_PER_BAD_LINE > of {
            let error = FileError::BadLines {
                bad,
                of,
                line,
                error,
            };
            errors.file(file, error);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use tempfile::NamedTempFile;

    /// The list of a file with this content, and its summary or its problems.
    fn load(content: &str) -> (List, Result<LoadedFile, String>) {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        let (mut list, mut errors) = (List::default(), LoadError::default());
        let loaded = list.read(file.path(), ReadOptions::default(), &mut errors);
        let loaded = errors.into_result(loaded).map_err(|e| e.to_string());
        (list, loaded)
    }

    /// So many lines with an entry each.
    fn lines(most: usize) -> String {
        (0..most).map(|n| format!("d{n}.example\r\n")).collect()
    }

    #[test]
    fn a_large_file_is_read_to_its_end() {
        let content = format!("\u{feff}# comment\n{}last.example", lines(2 * START / 16));
        assert!(content.len() > START + READ);
        let (list, loaded) = load(&content);
        let loaded = loaded.unwrap();
        assert_eq!(loaded.format, Some(Format::Lines));
        assert_eq!(loaded.entries, content.lines().count() - 1);
        for (number, line) in content.lines().skip(1).enumerate() {
            let entry = list.entry(number);
            assert_eq!((entry.line(), entry.text()), (number + 2, line));
            let found = list.index.name(&line.parse().unwrap(), |_| true);
            assert_eq!(found, Some(number));
        }
    }

    #[test]
    fn an_invalid_line_of_a_large_file_has_its_number() {
        let before = lines(2 * START / 16);
        let (_, loaded) = load(&format!("{before}not a name\n"));
        let number = before.lines().count() + 1;
        let error = loaded.unwrap_err();
        assert!(error.contains(&format!(":{number}: ")), "{error}");
    }

    #[test]
    fn the_format_of_a_large_file_may_depend_on_its_end() {
        let comments = "# nothing\n".repeat(START / 8);
        let (_, loaded) = load(&format!("{comments}0.0.0.0 ads.example\n"));
        assert_eq!(loaded.unwrap().format, Some(Format::Hosts));
        let words = "neither, one\n nor the other\n".repeat(START / 16);
        let (_, loaded) = load(&format!("{words}\0"));
        let error = loaded.unwrap_err();
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}
