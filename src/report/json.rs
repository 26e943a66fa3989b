//! The record as JSON: what `run.json` holds and what `--json` prints.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::proxy;
use super::record::{Record, SCHEMA};
use super::store::read_journal;

/// The longest file that is read, in bytes. A record with thousands of runs is far below.
const LONGEST: u64 = 256 << 20;

/// A record that was read: which kind it is of only the file can tell.
#[derive(Debug, Clone)]
pub enum Saved {
    /// Of `bench udp`.
    Udp(Record),
    /// Of `bench proxy`.
    Proxy(proxy::Record),
}

impl Saved {
    /// As in the record.
    pub fn kind(&self) -> &str {
        match self {
            Self::Udp(record) => &record.kind,
            Self::Proxy(record) => &record.frame.kind,
        }
    }
}

/// Why a file is not a record that can be used.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It cannot be read at all.
    #[error("cannot read {}: {source}; give a run's folder or its run.json", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is longer than any record.
    #[error("{} is no saved run: it is longer than {LONGEST} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It is no JSON, or a key is missing or of another type.
    #[error("{} is no saved run: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        source: serde_json::Error,
    },
    /// Its keys are of a version this program does not know.
    #[error("{} has schema {found}, this bench reads {SCHEMA}; use the bench that wrote it", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version it claims.
        found: u32,
    },
    /// It is a record of something else.
    #[error("{} is a record of kind '{found}', not of bench udp or bench proxy", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The kind it claims.
        found: String,
    },
}

/// Writes `record` indented, with a newline at the end.
///
/// # Errors
/// Those of `out`.
pub fn to_writer(record: &Record, out: impl Write) -> io::Result<()> {
    write(record, out)
}

/// As [`to_writer`], of anything that is given out.
///
/// # Errors
/// Those of `out`.
pub fn write(value: &impl Serialize, mut out: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")
}

/// Reads the record in the file at `path`, or in the `run.json` of the folder at `path`. Of a command that was killed, runs that
/// are beside `run.json` and not in it yet are read too.
///
/// # Errors
/// [`ReadError`], which names the file and what is wrong with it.
pub fn read(path: &Path) -> Result<Saved, ReadError> {
    let path = match path.is_dir() {
        true => path.join("run.json"),
        false => path.to_owned(),
    };
    let text = match content(&path) {
        Ok(text) => text,
        Err(source) => return Err(ReadError::Read { path, source }),
    };
    if text.len() as u64 > LONGEST {
        return Err(ReadError::TooLong { path });
    }
    let folder = path.parent().map(Path::to_owned);
    let folder = folder.filter(|_| path.file_name().is_some_and(|name| name == "run.json"));
    let mut saved = parse(&text, path)?;
    if let Some(folder) = folder {
        match &mut saved {
            Saved::Udp(record) => add_runs(&mut record.runs, &folder),
            Saved::Proxy(record) => add_runs(&mut record.frame.runs, &folder),
        }
    }
    Ok(saved)
}

fn add_runs<R: DeserializeOwned>(runs: &mut Vec<R>, folder: &Path) {
    runs.extend(read_journal(folder, runs.len(), LONGEST));
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // One byte more than allowed tells a file that is too long, or never ends, from one that fits.
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The keys that say how to read the others.
#[derive(Deserialize)]
struct Head {
    schema: u32,
    kind: String,
}

fn parse(text: &[u8], path: PathBuf) -> Result<Saved, ReadError> {
    let head: Head = match serde_json::from_slice(text) {
        Ok(head) => head,
        Err(source) => return Err(ReadError::Malformed { path, source }),
    };
    if head.schema != SCHEMA {
        let found = head.schema;
        return Err(ReadError::Schema { path, found });
    }
    let read = match head.kind.as_str() {
        "udp" => serde_json::from_slice(text).map(Saved::Udp),
        "proxy" => serde_json::from_slice(text).map(Saved::Proxy),
        _ => {
            let found = head.kind;
            return Err(ReadError::Kind { path, found });
        }
    };
    read.map_err(|source| ReadError::Malformed { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use proptest::prelude::*;
    use std::fs;
    use std::sync::LazyLock;

    fn written(record: &impl Serialize) -> Vec<u8> {
        let mut text = Vec::new();
        write(record, &mut text).unwrap();
        text
    }

    fn udp() -> Vec<u8> {
        written(&sample::record(vec![sample::measured().run]))
    }

    /// Made once: its ratios take their time.
    static PROXY: LazyLock<Vec<u8>> = LazyLock::new(|| written(&proxy::sample::record()));

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        for text in [&udp(), &*PROXY] {
            fs::write(&path, text).unwrap();
            assert!(text.ends_with(b"}\n"));
            for place in [path.as_path(), folder.path()] {
                match read(place).unwrap() {
                    Saved::Udp(record) => assert_eq!(&written(&record), text),
                    Saved::Proxy(record) => assert_eq!(record.frame.runs.len(), 35),
                }
            }
        }
    }

    #[test]
    fn what_is_missing_is_null() {
        let run = crate::report::record::Run::default();
        let json = serde_json::to_value(&run).unwrap();
        for key in [
            "seconds",
            "kb_per_s",
            "latency_ns",
            "jitter_ns",
            "client_ip",
        ] {
            assert!(json[key].is_null(), "{key}");
        }
    }

    #[test]
    fn errors_name_the_file_and_what_is_wrong() {
        let told = |text: &str| {
            parse(text.as_bytes(), PathBuf::from("a.json"))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            told(r#"{"schema": 9, "kind": "udp"}"#),
            "a.json has schema 9, this bench reads 1; use the bench that wrote it"
        );
        assert_eq!(
            told(r#"{"schema": 1, "kind": "doctor"}"#),
            "a.json is a record of kind 'doctor', not of bench udp or bench proxy"
        );
        assert_eq!(
            told(r#"{"schema": 1, "kind": "udp"}"#),
            "a.json is no saved run: missing field `wirebench` at line 1 column 28"
        );
        assert!(told("").starts_with("a.json is no saved run: "));
        let missing = read(Path::new("/nowhere.json")).unwrap_err().to_string();
        assert!(
            missing.starts_with("cannot read /nowhere.json: "),
            "{missing}"
        );
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes: Vec<u8>, cut in 0usize..9_000) {
            let _ = parse(&bytes, PathBuf::new());
            for text in [&udp(), &*PROXY] {
                let _ = parse(&text[..cut.min(text.len())], PathBuf::new());
            }
        }
    }
}
