//! The ledgers `udp.csv` and `proxy.csv`: one row per run, of all commands that save to the same folder.
//!
//! Several commands may finish at once, and a newer wirebench may add columns, so a row is added under a lock. The lock is on the
//! folder: the file itself is replaced when its header grows.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use thiserror::Error;

use super::atomic_file::{self, AtomicFile, FileError};
use crate::report::export::columns::{LedgerRow, LedgerRun};
use crate::report::export::csv::record;

/// Longest accepted header, in bytes; the ledger's own has about 1,500.
const LONGEST_HEADER: u64 = 64 << 10;

/// Why the ledger has no row of a run, with advice.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The folder cannot be locked.
    #[error("cannot lock {}: {source}; choose another folder with --out or skip saving with --no-save", path.display())]
    Lock {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The existing file cannot be read.
    #[error("cannot read {}: {source}; choose another folder with --out or skip saving with --no-save", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("{0}; choose another folder with --out or skip saving with --no-save")]
    Write(#[from] FileError),
    /// The existing file has other columns, or is not a CSV file.
    #[error("{} is not a ledger of wirebench: {what}; move it away, the next run starts a new one", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The difference.
        what: String,
    },
}

/// The ledger of a kind of command in a folder.
///
/// A crash may cut a file off anywhere, so a file is read to its end before a row is added. A file that no other process has
/// changed since the last row is not read again: for thousands of runs, that would take quadratic time.
#[derive(Debug)]
pub struct Ledger {
    out_dir: PathBuf,
    /// State of the file after the last row, and its number of columns.
    last: Option<(FileState, usize)>,
}

/// Detects changes by other processes.
#[derive(Debug, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    length: u64,
}

impl FileState {
    fn of(path: &Path) -> io::Result<Self> {
        let file = fs::symlink_metadata(path)?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            length: file.len(),
        })
    }
}

impl Ledger {
    /// The ledger in the folder `out_dir`, which must exist when a row is added.
    pub fn new(out_dir: &Path) -> Self {
        Self {
            out_dir: out_dir.to_owned(),
            last: None,
        }
    }

    /// Adds `row`. Waits for other processes that add a row.
    ///
    /// # Errors
    /// [`LedgerError`]; the ledger is then unchanged.
    pub fn append<R: LedgerRun>(&mut self, row: &LedgerRow<'_, R>) -> Result<(), LedgerError> {
        let path = self.out_dir.join(R::LEDGER);
        let _lock = lock(&self.out_dir).map_err(|source| LedgerError::Lock {
            path: self.out_dir.clone(),
            source,
        })?;
        let last = self.last.take();
        let unchanged = last.filter(|(last, _)| FileState::of(&path).is_ok_and(|now| now == *last));
        let width = match unchanged {
            Some((_, width)) => {
                let added = add(&path, row, width, Vec::new());
                added.map_err(|error| write_error(&path, error))?;
                width
            }
            None => add_to_unknown(&path, row)?,
        };
        self.last = FileState::of(&path).ok().map(|state| (state, width));
        Ok(())
    }
}

/// Adds `row` to a file in any state, and returns its number of columns.
fn add_to_unknown<R: LedgerRun>(path: &Path, row: &LedgerRow<'_, R>) -> Result<usize, LedgerError> {
    let names: Vec<&str> = LedgerRow::<R>::names().collect();
    let count = names.len();
    let read_error = |source| LedgerError::Read {
        path: path.to_owned(),
        source,
    };
    let foreign = |what: String| LedgerError::Foreign {
        path: path.to_owned(),
        what,
    };
    let header = match header(path) {
        Ok(None) => return create(path, &names, row).map(|()| count),
        Ok(Some(header)) => header,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(foreign(error.to_string()));
        }
        Err(error) => return Err(read_error(error)),
    };
    let common = header.len().min(count);
    let own = names.iter().take(common).map(|name| name.as_bytes());
    if !header.iter().take(common).eq(own) {
        return Err(foreign("its columns differ".to_owned()));
    }
    if header.len() >= count {
        let extended = extend(path, row, header.len());
        extended.map_err(|error| write_error(path, error))?;
        return Ok(header.len());
    }
    widen(path, &names, row, header.len(), foreign)?;
    Ok(count)
}

/// An exclusive lock on the folder itself (flock(2)).
fn lock(folder: &Path) -> io::Result<File> {
    let folder = File::open(folder)?;
    folder.lock()?;
    Ok(folder)
}

/// The header of the file at `path`; `None` if the file is missing or empty.
fn header(path: &Path) -> io::Result<Option<ByteRecord>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    match fs::metadata(path) {
        Ok(file) if file.len() == 0 && file.is_file() => return Ok(None),
        Ok(file) if file.is_file() => {}
        // A read from a pipe may block for ever.
        Ok(_) => return Err(invalid("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut header = ByteRecord::new();
    let mut table = reader(File::open(path)?.take(LONGEST_HEADER));
    if !table.read_byte_record(&mut header)? || table.position().byte() >= LONGEST_HEADER {
        return Err(invalid("it has no header"));
    }
    Ok(Some(header))
}

/// Reads rows of any length; the first is the header.
fn reader<R: Read>(from: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(from)
}

/// Creates a ledger with one row, atomically: a crash leaves no half header.
fn create<R: LedgerRun>(
    path: &Path,
    names: &[&str],
    row: &LedgerRow<'_, R>,
) -> Result<(), LedgerError> {
    let created = atomic_file::replace(path, |out| {
        let mut table = csv::Writer::from_writer(out);
        table.write_record(names)?;
        table.write_byte_record(&padded(row, names.len()))?;
        table.flush()
    });
    Ok(created?)
}

/// Adds `row`, padded to `width` cells, to a file that a crash may have cut off.
fn extend<R: LedgerRun>(path: &Path, row: &LedgerRow<'_, R>, width: usize) -> io::Result<()> {
    let separator = separator(&mut File::open(path)?)?;
    add(path, row, width, separator)
}

/// Adds `separator` and `row` to the file.
fn add<R: LedgerRun>(
    path: &Path,
    row: &LedgerRow<'_, R>,
    width: usize,
    separator: Vec<u8>,
) -> io::Result<()> {
    let mut file = File::options().append(true).open(path)?;
    let before = file.metadata()?.len();
    let builder = &mut csv::WriterBuilder::new();
    let mut table = builder.flexible(true).from_writer(separator);
    table.write_byte_record(&padded(row, width))?;
    let text = table.into_inner().map_err(|error| error.into_error())?;
    let done = file.write_all(&text).and_then(|()| file.sync_data());
    if done.is_err() {
        // No row is better than half a row. The caller reports the first error.
        let _ = file.set_len(before);
    }
    done
}

/// The bytes that separate a new row from a last row that a crash may have cut off.
fn separator(file: &mut File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut table = reader((&*file).chain(&b"\nnext\n"[..]));
    let mut cells = ByteRecord::new();
    let mut is_separate = false;
    while table.read_byte_record(&mut cells)? {
        is_separate = cells.iter().eq([b"next"]);
    }
    // The last cell has an open quote, which would include the following rows.
    if !is_separate {
        return Ok(b"\"\n".to_vec());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(if last == *b"\n" {
        Vec::new()
    } else {
        b"\n".to_vec()
    })
}

/// Replaces the file by one with all columns: existing rows get empty cells, and `row` is added.
fn widen<R: LedgerRun>(
    path: &Path,
    names: &[&str],
    row: &LedgerRow<'_, R>,
    width: usize,
    foreign: impl Fn(String) -> LedgerError,
) -> Result<(), LedgerError> {
    let read_error = |error: csv::Error| LedgerError::Read {
        path: path.to_owned(),
        source: error.into(),
    };
    let csv_error = |error: csv::Error| write_error(path, error.into());
    let file = File::open(path).map_err(|error| read_error(error.into()))?;
    let mut old = reader(io::BufReader::new(file));
    let mut new = csv::Writer::from_writer(AtomicFile::create(path)?);
    new.write_record(names).map_err(csv_error)?;
    let mut cells = ByteRecord::new();
    let mut is_header = true;
    while old.read_byte_record(&mut cells).map_err(read_error)? {
        if std::mem::take(&mut is_header) {
            continue;
        }
        if cells.len() > width {
            let line = cells.position().map_or(0, csv::Position::line);
            return Err(foreign(format!(
                "line {line} has {} cells under {width} columns",
                cells.len()
            )));
        }
        pad(&mut cells, names.len());
        new.write_byte_record(&cells).map_err(csv_error)?;
    }
    new.write_byte_record(&padded(row, names.len()))
        .map_err(csv_error)?;
    let file = new.into_inner();
    let file = file.map_err(|error| write_error(path, error.into_error()))?;
    Ok(file.finish()?)
}

fn padded<R: LedgerRun>(row: &LedgerRow<'_, R>, width: usize) -> ByteRecord {
    let mut cells = record(row.cells());
    pad(&mut cells, width);
    cells
}

fn pad(cells: &mut ByteRecord, width: usize) {
    for _ in cells.len()..width {
        cells.push_field(b"");
    }
}

fn write_error(path: &Path, error: io::Error) -> LedgerError {
    atomic_file::file_error_within(path, error).into()
}

#[cfg(test)]
mod tests;
