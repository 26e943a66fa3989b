//! Saved records, read back.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::journal;
use crate::report::export::hgrm;
use crate::report::model::{Curves, Distributed, ProxyRecord, SCHEMA, SearchRecord, UdpRecord};
use crate::udp::result::Run;

/// Longest accepted file, in bytes. A record with thousands of runs is far smaller.
const LONGEST: u64 = 256 << 20;

/// A record of the kind that its file names.
#[derive(Debug, Clone)]
pub enum Saved {
    /// A record of `bench udp`.
    Udp(UdpRecord),
    /// A record of `bench udp search`.
    Search(Box<SearchRecord>),
    /// A record of `bench proxy`.
    Proxy(ProxyRecord),
}

impl Saved {
    /// The kind, as in the record.
    pub fn kind(&self) -> &str {
        match self {
            Self::Udp(record) => &record.meta.kind,
            Self::Search(record) => &record.meta.kind,
            Self::Proxy(record) => &record.meta.kind,
        }
    }
}

/// Why a file is not a readable record.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; give a run's folder or its run.json", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is longer than any record.
    #[error("{} is not a saved run: it is longer than {LONGEST} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file is not JSON, or a key is missing or of another type.
    #[error("{} is not a saved run: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The fault and its position.
        source: serde_json::Error,
    },
    /// The keys are of an unknown version.
    #[error("{} has schema {found}, this bench reads {SCHEMA}; use the bench that wrote it", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
    },
    /// The record is of another kind.
    #[error("{} is a record of kind '{found}', not of bench udp or bench proxy", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The kind in the file.
        found: String,
    },
}

/// Reads the record in the file at `path`, or in the `run.json` of the folder at `path`. The journal of a killed command, beside
/// `run.json`, is read too.
///
/// # Errors
/// [`ReadError`], which names the file and the fault.
pub fn read(path: &Path) -> Result<Saved, ReadError> {
    let (mut saved, folder) = read_runs(path)?;
    if let Some(folder) = folder {
        match &mut saved {
            Saved::Udp(record) => record.curves = curves(&record.runs, &folder),
            Saved::Search(_) => {}
            Saved::Proxy(record) => record.curves = curves(&record.runs, &folder),
        }
    }
    Ok(saved)
}

/// As [`read`], without the distributions of latency. Returns the record's folder too, if the record is a `run.json`.
///
/// # Errors
/// As [`read`].
pub fn read_runs(path: &Path) -> Result<(Saved, Option<PathBuf>), ReadError> {
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
    if let Some(folder) = &folder {
        match &mut saved {
            Saved::Udp(record) => add_runs(&mut record.runs, folder),
            Saved::Search(_) => {}
            Saved::Proxy(record) => add_runs(&mut record.runs, folder),
        }
    }
    Ok((saved, folder))
}

/// The runs of a record with the parts that show when they began, which takes less time than [`read_runs`]. The runs of a journal
/// follow, whole.
///
/// # Errors
/// As [`read`].
pub fn starts(path: &Path) -> Result<Vec<Run>, ReadError> {
    #[derive(Deserialize)]
    struct Start {
        #[serde(default)]
        setting: Option<String>,
        #[serde(default)]
        direction: Option<String>,
        first_sent_at: Option<String>,
    }
    #[derive(Deserialize)]
    struct Starts {
        runs: Vec<Start>,
    }
    let path = match path.is_dir() {
        true => path.join("run.json"),
        false => path.to_owned(),
    };
    let text = match content(&path) {
        Ok(text) => text,
        Err(source) => return Err(ReadError::Read { path, source }),
    };
    let starts: Starts = match serde_json::from_slice(&text) {
        Ok(starts) => starts,
        // A record of another kind, or none: the reader of the whole record names the fault.
        Err(_) => return Ok(Vec::new()),
    };
    let run = |start: Start| Run {
        setting: start.setting,
        direction: start.direction.unwrap_or_else(|| "forward".to_owned()),
        first_sent_at: start.first_sent_at,
        ..Run::default()
    };
    let mut runs: Vec<Run> = starts.runs.into_iter().map(run).collect();
    let folder = path.parent();
    let folder = folder.filter(|_| path.file_name().is_some_and(|name| name == "run.json"));
    if let Some(folder) = folder {
        add_runs(&mut runs, folder);
    }
    Ok(runs)
}

fn add_runs<R: DeserializeOwned>(runs: &mut Vec<R>, folder: &Path) {
    runs.extend(journal::read(folder, runs.len(), LONGEST));
}

/// The curves of the histogram files in `folder`. A file that cannot be read has none.
fn curves<R: Distributed>(runs: &[R], folder: &Path) -> Curves {
    let mut names: Vec<String> = runs.iter().flat_map(Distributed::histograms).collect();
    names.sort_unstable();
    names.dedup();
    let mut curves = Curves::default();
    for name in names {
        curves.add(name, |name| hgrm::read(&folder.join(name)));
    }
    curves
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    // One byte more than allowed distinguishes a longest file from a longer or endless one.
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The keys that determine how the others are read.
#[derive(Deserialize)]
struct Head {
    schema: u32,
    kind: String,
}

impl Head {
    /// The head of a record. Written records begin with it, so that the rest is not read twice.
    fn of(text: &[u8]) -> serde_json::Result<Self> {
        const KEYS: usize = 200;
        let begin = text.get(..KEYS).unwrap_or(text);
        let end = begin.iter().enumerate().filter(|(_, byte)| **byte == b',');
        if let Some((end, _)) = end.take(2).last() {
            let first = [&begin[..end], b"}"].concat();
            if let Ok(head) = serde_json::from_slice(&first) {
                return Ok(head);
            }
        }
        serde_json::from_slice(text)
    }
}

fn parse(text: &[u8], path: PathBuf) -> Result<Saved, ReadError> {
    let head = match Head::of(text) {
        Ok(head) => head,
        Err(source) => return Err(ReadError::Malformed { path, source }),
    };
    if head.schema != SCHEMA {
        let found = head.schema;
        return Err(ReadError::Schema { path, found });
    }
    let read = match head.kind.as_str() {
        "udp" => serde_json::from_slice(text).map(Saved::Udp),
        "udp-search" => serde_json::from_slice(text).map(|record| Saved::Search(Box::new(record))),
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
    use crate::report::export::json::write;
    use crate::report::sample;
    use proptest::prelude::*;
    use serde::Serialize;
    use std::fs;
    use std::sync::LazyLock;

    fn written(record: &impl Serialize) -> Vec<u8> {
        let mut text = Vec::new();
        write(record, &mut text).unwrap();
        text
    }

    fn udp() -> Vec<u8> {
        written(&sample::udp::record(vec![sample::udp::measured().run]))
    }

    #[test]
    fn starts_of_a_journal_follow_those_of_the_record() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.json"), udp()).unwrap();
        let mut run = sample::udp::measured().run;
        run.first_sent_at = Some("2026-11-27T10:23:15.598887282Z".to_owned());
        let line = serde_json::to_string(&(1, &run)).unwrap();
        fs::write(folder.path().join(journal::NAME), line).unwrap();
        for path in [folder.path(), &folder.path().join("run.json")] {
            let starts = starts(path).unwrap();
            let starts: Vec<_> = starts.iter().map(|run| &run.first_sent_at).collect();
            assert_eq!(starts.len(), 2);
            assert_eq!(starts[1], &run.first_sent_at);
        }
    }

    /// Created once, as its ratios take time.
    static PROXY: LazyLock<Vec<u8>> = LazyLock::new(|| written(&sample::proxy::record()));

    #[test]
    fn written_record_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        for text in [&udp(), &*PROXY, &written(&sample::search::record())] {
            fs::write(&path, text).unwrap();
            assert!(text.ends_with(b"}\n"));
            for place in [path.as_path(), folder.path()] {
                match read(place).unwrap() {
                    Saved::Udp(record) => assert_eq!(&written(&record), text),
                    Saved::Search(record) => assert_eq!(&written(&record), text),
                    Saved::Proxy(record) => assert_eq!(record.runs.len(), 35),
                }
            }
        }
    }

    #[test]
    fn unknown_values_are_null() {
        let run = crate::udp::result::Run::default();
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
    fn errors_name_the_file_and_the_fault() {
        let error = |text: &str| {
            parse(text.as_bytes(), PathBuf::from("a.json"))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            error(r#"{"schema": 9, "kind": "udp"}"#),
            "a.json has schema 9, this bench reads 1; use the bench that wrote it"
        );
        assert_eq!(
            error(r#"{"schema": 1, "kind": "doctor"}"#),
            "a.json is a record of kind 'doctor', not of bench udp or bench proxy"
        );
        assert_eq!(
            error(r#"{"schema": 1, "kind": "udp"}"#),
            "a.json is not a saved run: missing field `runs` at line 1 column 28"
        );
        assert!(error("").starts_with("a.json is not a saved run: "));
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
