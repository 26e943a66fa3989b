//! `histograms.jsonl`: the latency histograms of each run without loss of counts, one line per run, from which runs are merged. The
//! `.hgrm` files have percentiles only.

mod line;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::stats::saved_histogram::SavedHistogram;
use crate::udp::merge::more;
use crate::{load, udp};

/// The file's name.
pub const NAME: &str = "histograms.jsonl";

/// Name of the histogram from the intended start of a request to the actual one.
pub const LATENESS: &str = "lateness";

/// Longest accepted file, in bytes.
const LONGEST: u64 = 1 << 30;

/// Bytes of a read.
const BUFFER: usize = 1 << 16;

/// A line: the histograms of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunHistograms {
    /// Number of the run within the command, from 0.
    pub run: usize,
    /// Latencies from the actual send, or from the actual start of a request.
    pub latency: SavedHistogram,
    /// Latencies from the intended send or start; empty unless paced.
    pub intended: SavedHistogram,
    /// The histograms of the schedule and the stages, by name; absent without any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, SavedHistogram>,
}

impl RunHistograms {
    /// Those of run number `run` of `bench udp`.
    pub(super) fn of_udp(run: usize, measured: &udp::result::Measured) -> Self {
        Self {
            run,
            latency: (&measured.latency).into(),
            intended: (&measured.latency_from_intended).into(),
            more: more(measured),
        }
    }

    /// Those of run number `run` of `bench proxy`.
    pub(super) fn of_proxy(run: usize, measured: &load::result::Measured) -> Self {
        let lateness = Some(&measured.lateness).filter(|of| !of.is_empty());
        let lateness = lateness.map(|of| (LATENESS.to_owned(), of.into()));
        Self {
            run,
            latency: (&measured.latency).into(),
            intended: (&measured.latency_from_intended).into(),
            more: lateness.into_iter().collect(),
        }
    }
}

/// Adds a line.
pub(super) fn append(folder: &Path, line: &RunHistograms) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    let mut options = OpenOptions::new();
    let mut file = options.create(true).append(true).open(folder.join(NAME))?;
    file.write_all(&bytes)
}

/// The histograms in `folder`, by number of the run. `None` without a file. A run that was saved again has its last line.
///
/// # Errors
/// Of reads, and for a line of another format.
pub fn read(folder: &Path) -> io::Result<Option<BTreeMap<usize, RunHistograms>>> {
    let file = match File::open(folder.join(NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut runs = BTreeMap::new();
    let (mut reader, mut line) = (
        BufReader::with_capacity(BUFFER, file.take(LONGEST)),
        Vec::new(),
    );
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = line.trim_ascii_end();
        let of_run = match line::decode(text) {
            Some(of_run) => of_run,
            None => serde_json::from_slice(text)?,
        };
        runs.insert(of_run.run, of_run);
        line.clear();
    }
    Ok(Some(runs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::stats::latency::Latency;

    #[test]
    fn histograms_are_read_back_without_loss() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap().is_none());
        let measured = sample::udp::measured();
        for run in [0, 1, 1] {
            append(folder.path(), &RunHistograms::of_udp(run, &measured)).unwrap();
        }
        let runs = read(folder.path()).unwrap().unwrap();
        assert_eq!(runs.len(), 2);
        let mut latency = Latency::new();
        runs[&1].latency.add_to(&mut latency);
        assert_eq!(latency.summary(), measured.latency.summary());
        assert_eq!(latency.sum_ns(), measured.latency.sum_ns());
        std::fs::write(folder.path().join(NAME), "{\"run\": 0}\n").unwrap();
        assert!(read(folder.path()).is_err());
    }
}
