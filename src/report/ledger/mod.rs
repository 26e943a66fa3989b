//! `udp.csv` and `proxy.csv`: the ledgers, one row a run, over all commands of a kind that save to the same folder.
//!
//! Several may end at once, and a newer wirebench may add columns. So a row is added under a lock,
//! on the folder and not on the file, which is replaced when its header grows. What the columns hold
//! is in [`columns`] and in [`proxy::columns`](super::proxy::columns).

pub mod columns;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use thiserror::Error;

use super::output::{self, Output, OutputError};

/// A row of a ledger: one run of a command.
pub trait Row {
    /// The ledger's name in the folder of results.
    const LEDGER: &'static str;

    /// The names of the columns, in order.
    fn names() -> impl Iterator<Item = &'static str>;

    /// Its cells, in the same order.
    fn cells(&self) -> impl Iterator<Item = String>;
}

/// The longest header that is looked at, in bytes; ours has some 1,500.
const LONGEST_HEADER: u64 = 64 << 10;

/// Why the ledger has no row of this run, and what to do.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The folder cannot be locked.
    #[error("cannot lock {}: {source}; choose another folder with --out or skip saving with --no-save", path.display())]
    Lock {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file there cannot be read.
    #[error("cannot read {}: {source}; choose another folder with --out or skip saving with --no-save", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("{0}; choose another folder with --out or skip saving with --no-save")]
    Write(#[from] OutputError),
    /// The file there has other columns, or is something else altogether.
    #[error("{} is no ledger of wirebench: {what}; move it away, the next run starts a new one", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// The ledger of a kind of command in a folder, which may be added to again and again.
///
/// A file is read to its end before it is added to, since a crash may have cut it off anywhere. One that nobody else
/// has touched since the last time is not read again: of thousands of runs that would cost the square of their number.
#[derive(Debug)]
pub struct Ledger {
    out_dir: PathBuf,
    /// The file as it was left, and how many columns it has.
    left: Option<(Left, usize)>,
}

/// What tells that a file is as it was left.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    device: u64,
    inode: u64,
    length: u64,
}

impl Left {
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
    /// That in the folder `out_dir`, which must exist when rows are added.
    pub fn new(out_dir: &Path) -> Self {
        Self {
            out_dir: out_dir.to_owned(),
            left: None,
        }
    }

    /// Adds `rows`. Waits while another process does the same.
    ///
    /// # Errors
    /// [`LedgerError`]; the ledger is as it was before then.
    pub fn append<R: Row>(&mut self, rows: &[R]) -> Result<(), LedgerError> {
        let path = self.out_dir.join(R::LEDGER);
        // Held until it is dropped at the end.
        let _lock = lock(&self.out_dir).map_err(|source| LedgerError::Lock {
            path: self.out_dir.clone(),
            source,
        })?;
        let left = self.left.take();
        let as_left = left.filter(|(left, _)| Left::of(&path).is_ok_and(|now| now == *left));
        let width = match as_left {
            Some((_, width)) => {
                let added = add(&path, rows, width, Vec::new());
                added.map_err(|error| written(&path, error))?;
                width
            }
            None => add_to_any(&path, rows)?,
        };
        self.left = Left::of(&path).ok().map(|left| (left, width));
        Ok(())
    }
}

/// As [`Ledger::append`], once.
///
/// # Errors
/// As there.
pub fn append<R: Row>(out_dir: &Path, rows: &[R]) -> Result<(), LedgerError> {
    Ledger::new(out_dir).append(rows)
}

/// Adds `rows` to a file of which nothing is known, and says how many columns it has then.
fn add_to_any<R: Row>(path: &Path, rows: &[R]) -> Result<usize, LedgerError> {
    let count = R::names().count();
    let unreadable = |source| LedgerError::Read {
        path: path.to_owned(),
        source,
    };
    let foreign = |what: String| LedgerError::Foreign {
        path: path.to_owned(),
        what,
    };
    let header = match header(path) {
        Ok(None) => return fresh(path, rows).map(|()| count),
        Ok(Some(header)) => header,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(foreign(error.to_string()));
        }
        Err(error) => return Err(unreadable(error)),
    };
    let common = header.len().min(count);
    if !header
        .iter()
        .take(common)
        .eq(R::names().take(common).map(str::as_bytes))
    {
        return Err(foreign("its columns are others".to_owned()));
    }
    if header.len() >= count {
        let extended = extend(path, rows, header.len());
        extended.map_err(|error| written(path, error))?;
        return Ok(header.len());
    }
    widen(path, rows, header.len(), foreign)?;
    Ok(count)
}

/// Writes a table of its own, for `--csv`: the header and `rows`.
///
/// # Errors
/// Those of `out`.
pub fn write_fresh<R: Row>(out: impl Write, rows: &[R]) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record(R::names())?;
    put(&mut table, rows, R::names().count())?;
    table.flush()
}

/// An exclusive lock on the folder itself (flock(2)).
fn lock(folder: &Path) -> io::Result<File> {
    let folder = File::open(folder)?;
    folder.lock()?;
    Ok(folder)
}

/// The header of the file at `path`; `None` when there is no file or nothing in it.
fn header(path: &Path) -> io::Result<Option<ByteRecord>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    match fs::metadata(path) {
        Ok(there) if there.len() == 0 && there.is_file() => return Ok(None),
        Ok(there) if there.is_file() => {}
        // To read from a pipe might wait for ever.
        Ok(_) => return Err(invalid("it is no regular file")),
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

/// Reads rows of any length; the header is the first of them.
fn reader<R: Read>(from: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(from)
}

/// A new ledger. It appears as a whole, so that no crash leaves half a header.
fn fresh<R: Row>(path: &Path, rows: &[R]) -> Result<(), LedgerError> {
    Ok(output::replace(path, |out| write_fresh(out, rows))?)
}

/// Adds `rows` at the end of the file, each with `width` cells, wherever it was cut off.
fn extend<R: Row>(path: &Path, rows: &[R], width: usize) -> io::Result<()> {
    let seam = seam(&mut File::open(path)?)?;
    add(path, rows, width, seam)
}

/// Adds `rows` at the end of the file, with `seam` before them.
fn add<R: Row>(path: &Path, rows: &[R], width: usize, seam: Vec<u8>) -> io::Result<()> {
    let mut file = File::options().append(true).open(path)?;
    let before = file.metadata()?.len();
    let mut table = csv::WriterBuilder::new().flexible(true).from_writer(seam);
    put(&mut table, rows, width)?;
    let text = table.into_inner().map_err(|error| error.into_error())?;
    let done = file.write_all(&text).and_then(|()| file.sync_data());
    if done.is_err() {
        // Better no row than half a row; the error is told either way.
        let _ = file.set_len(before);
    }
    done
}

/// What must come before a new row, so that it does not go on with one that a crash cut off.
fn seam(file: &mut File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut table = reader((&*file).chain(&b"\nnext\n"[..]));
    let mut cells = ByteRecord::new();
    let mut is_apart = false;
    while table.read_byte_record(&mut cells)? {
        is_apart = cells.iter().eq([b"next"]);
    }
    // Otherwise the last cell has an open quote, and would take in the rows that follow.
    if !is_apart {
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

/// Writes the file anew with all our columns: the rows in it get empty cells, and `rows` follow.
fn widen<R: Row>(
    path: &Path,
    rows: &[R],
    width: usize,
    foreign: impl Fn(String) -> LedgerError,
) -> Result<(), LedgerError> {
    let unreadable = |error: csv::Error| LedgerError::Read {
        path: path.to_owned(),
        source: error.into(),
    };
    let unwritten = |error: csv::Error| written(path, error.into());
    let count = R::names().count();
    let file = File::open(path).map_err(|error| unreadable(error.into()))?;
    let mut old = reader(io::BufReader::new(file));
    let mut new = csv::Writer::from_writer(Output::create(path)?);
    new.write_record(R::names()).map_err(unwritten)?;
    let mut cells = ByteRecord::new();
    let mut is_header = true;
    while old.read_byte_record(&mut cells).map_err(unreadable)? {
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
        pad(&mut cells, count);
        new.write_byte_record(&cells).map_err(unwritten)?;
    }
    put(&mut new, rows, count).map_err(|error| written(path, error))?;
    let whole = new.into_inner();
    let whole = whole.map_err(|error| written(path, error.into_error()))?;
    Ok(whole.finish()?)
}

/// Writes `rows`, each with `width` cells.
fn put<W: Write, R: Row>(table: &mut csv::Writer<W>, rows: &[R], width: usize) -> io::Result<()> {
    for row in rows {
        let mut cells: ByteRecord = row.cells().collect();
        pad(&mut cells, width);
        table.write_byte_record(&cells)?;
    }
    Ok(())
}

fn pad(cells: &mut ByteRecord, width: usize) {
    for _ in cells.len()..width {
        cells.push_field(b"");
    }
}

fn written(path: &Path, error: io::Error) -> LedgerError {
    output::uncarried(path, error).into()
}

#[cfg(test)]
mod tests;
