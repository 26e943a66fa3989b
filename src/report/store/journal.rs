//! `runs.jsonl`: the runs that `run.json` does not have yet, a line each, so that a program that is killed leaves them all.
//!
//! A line is an array of the run's number and the run. The file is there only while `run.json` is behind.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The file's name.
pub(super) const NAME: &str = "runs.jsonl";

/// So many runs are each saved at once, which costs little.
const AT_ONCE: usize = 64;

/// Of a command with more, writing everything takes at most one part in so many of the time.
const SHARE: u32 = 20;

/// When everything is written anew.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Not before then.
    next: Option<Instant>,
}

impl Turn {
    /// Whether it has, with so many runs to write.
    pub(super) fn has_come(&self, runs: usize, now: Instant) -> bool {
        runs <= AT_ONCE || self.next.is_none_or(|next| now >= next)
    }

    /// All was written in this time.
    pub(super) fn over(&mut self, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        self.next = ended.checked_add(took.checked_mul(SHARE).unwrap_or(Duration::MAX));
    }
}

/// The file while it is written.
#[derive(Debug, Default)]
pub(super) struct Journal(Option<File>);

impl Journal {
    /// Adds a line. A crash may cut it short, and no other.
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

    /// `run.json` has them all.
    pub(super) fn clear(&mut self, folder: &Path) -> io::Result<()> {
        match self.0.take() {
            Some(_) => fs::remove_file(folder.join(NAME)),
            None => Ok(()),
        }
    }
}

/// The runs from number `have` on that are in `folder` beside `run.json`, as far as they are whole. At most `longest` bytes are read.
pub(in crate::report) fn read<R: DeserializeOwned>(
    folder: &Path,
    have: usize,
    longest: u64,
) -> Vec<R> {
    let Ok(file) = File::open(folder.join(NAME)) else {
        return Vec::new();
    };
    let lines = BufReader::new(file.take(longest)).lines();
    let mut runs = Vec::new();
    for line in lines.map_while(Result::ok) {
        let Ok((number, run)) = serde_json::from_str::<(usize, R)>(&line) else {
            break;
        };
        // Those before are in run.json already: it was written last.
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
    fn a_journal_is_read_from_where_the_record_ends_to_where_a_crash_cut_it() {
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
        // With one missing between, later ones would get the wrong number.
        assert_eq!(read(2), [""; 0]);
        let text = fs::read(path.join(NAME)).unwrap();
        fs::write(path.join(NAME), &text[..text.len() - 4]).unwrap();
        assert_eq!(read(3), ["run 3", "run 4"]);
        journal.clear(path).unwrap();
        assert!(!journal.has_runs() && fs::read_dir(path).unwrap().next().is_none());
    }

    #[test]
    fn writing_everything_takes_a_share_of_the_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut turn = Turn::default();
        assert!(turn.has_come(1, start) && turn.has_come(1_000, start));
        turn.over(at(0), at(10));
        assert!(turn.has_come(AT_ONCE, at(10)));
        assert!(!turn.has_come(AT_ONCE + 1, at(209)));
        assert!(turn.has_come(AT_ONCE + 1, at(210)));
    }
}
