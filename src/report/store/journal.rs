//! `runs.jsonl`: runs that `run.json` does not contain yet, one per line, so that a killed program loses none.
//!
//! A line is an array of the run's number and the run. The file exists only while `run.json` is incomplete.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The file's name.
pub(super) const NAME: &str = "runs.jsonl";

/// Up to this number of runs, `run.json` is rewritten after each run.
const REWRITTEN: usize = 64;

/// With more runs, rewriting takes at most one part in this many of the time.
const SHARE: u32 = 20;

/// When `run.json` and the histograms are rewritten.
#[derive(Debug, Default)]
pub(super) struct RewriteSchedule {
    /// Earliest time of the next rewrite.
    next: Option<Instant>,
}

impl RewriteSchedule {
    /// A rewrite is due for a record of `runs` runs.
    pub(super) fn is_due(&self, runs: usize, now: Instant) -> bool {
        runs <= REWRITTEN || self.next.is_none_or(|next| now >= next)
    }

    /// Records a rewrite.
    pub(super) fn rewritten(&mut self, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        self.next = ended.checked_add(took.checked_mul(SHARE).unwrap_or(Duration::MAX));
    }
}

/// The file while it exists.
#[derive(Debug, Default)]
pub(super) struct Journal(Option<File>);

impl Journal {
    /// Adds a line. A crash may cut off this line only.
    pub(super) fn add(
        &mut self,
        folder: &Path,
        number: usize,
        run: &impl Serialize,
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(&(number, run))?;
        line.push(b'\n');
        let file = match &mut self.0 {
            Some(file) => file,
            empty => empty.insert(File::create(folder.join(NAME))?),
        };
        file.write_all(&line)
    }

    pub(super) fn has_runs(&self) -> bool {
        self.0.is_some()
    }

    /// Removes the file, after `run.json` was rewritten.
    pub(super) fn clear(&mut self, folder: &Path) -> io::Result<()> {
        match self.0.take() {
            Some(_) => fs::remove_file(folder.join(NAME)),
            None => Ok(()),
        }
    }
}

/// The complete runs in `folder` from number `have` on. At most `longest` bytes are read.
pub(super) fn read<R: DeserializeOwned>(folder: &Path, have: usize, longest: u64) -> Vec<R> {
    let Ok(file) = File::open(folder.join(NAME)) else {
        return Vec::new();
    };
    let lines = BufReader::new(file.take(longest)).lines();
    let mut runs = Vec::new();
    for line in lines.map_while(Result::ok) {
        let Ok((number, run)) = serde_json::from_str::<(usize, R)>(&line) else {
            break;
        };
        // Earlier runs are in run.json, if it was rewritten just before the end.
        if number == have + runs.len() {
            runs.push(run);
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_is_read_from_the_end_of_the_record_to_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let read = |have| read::<String>(path, have, 1 << 20);
        assert_eq!(read(0), [""; 0]);
        let mut journal = Journal::default();
        for number in 3..6 {
            journal.add(path, number, &format!("run {number}")).unwrap();
        }
        assert!(journal.has_runs());
        assert_eq!(read(3), ["run 3", "run 4", "run 5"]);
        assert_eq!(read(5), ["run 5"]);
        assert_eq!(read(6), [""; 0]);
        // With a gap, later runs would get a wrong number.
        assert_eq!(read(2), [""; 0]);
        let text = fs::read(path.join(NAME)).unwrap();
        fs::write(path.join(NAME), &text[..text.len() - 4]).unwrap();
        assert_eq!(read(3), ["run 3", "run 4"]);
        journal.clear(path).unwrap();
        assert!(!journal.has_runs() && fs::read_dir(path).unwrap().next().is_none());
    }

    #[test]
    fn rewrites_take_a_limited_share_of_the_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut schedule = RewriteSchedule::default();
        assert!(schedule.is_due(1, start) && schedule.is_due(1_000, start));
        schedule.rewritten(at(0), at(10));
        assert!(schedule.is_due(REWRITTEN, at(10)));
        assert!(!schedule.is_due(REWRITTEN + 1, at(209)));
        assert!(schedule.is_due(REWRITTEN + 1, at(210)));
    }
}
