//! The folder of a run: `<UTC time>-<kind>-<id>` with `run.json`, the histograms and the tables.
//!
//! It is made under a hidden name before the run, which finds out early whether there is a place to
//! write to, and gets its own name with the first result. The row in the ledger beside it is
//! [`super::ledger`]'s.
//!
//! Every run is in the folder once it is over. Its first runs are each saved by writing `run.json` and the histograms
//! anew; of thousands that would cost the square of their number, so later ones wait in a journal beside it for their turn.

mod journal;

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use thiserror::Error;

use super::intervals::IntervalsWriter;
use super::output::{self, Output, OutputError};
use super::packets::PacketsWriter;
use super::partial::{self, Partial};
use super::record::{Measured, Record};
use super::{comparison, dates, hgrm, json};
use crate::stats::latency::Latency;
use journal::{Journal, Turn};

pub(super) use journal::read as read_journal;

/// How often another id is tried when the name is taken. Even two in a row mean that something else
/// is wrong: there are two thousand million ids a second.
const TRIES: usize = 16;

/// Why a run could not be saved, and what to do.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder cannot be made.
    #[error("cannot create {}: {source}; choose another folder with --out or skip saving with --no-save", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("{0}; choose another folder with --out or skip saving with --no-save")]
    Write(#[from] OutputError),
    /// The finished folder cannot get its name.
    #[error("cannot rename {} to {}: {source}; choose another folder with --out or skip saving with --no-save", from.display(), to.display())]
    Rename {
        /// The hidden name.
        from: PathBuf,
        /// The name it should get.
        to: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The folder of one command's runs. Dropped before anything was saved, it is removed again.
#[derive(Debug)]
pub struct Store {
    hidden: PathBuf,
    path: PathBuf,
    saved: bool,
    /// The folders around it that were made for this one, the innermost first.
    made: Vec<PathBuf>,
    /// Until something is saved.
    partial: Option<Partial>,
    /// Of all runs saved so far, under their files' names.
    merged: Vec<(String, Latency)>,
    /// Runs that `run.json` and the histograms do not have yet.
    journal: Journal,
    /// When they are written again.
    turn: Turn,
}

impl Store {
    /// Makes the folder for a command of `kind` that began at `started_ns` (since the epoch) in
    /// `out_dir`, which is made too if it is missing, and proves that files can be written to it.
    ///
    /// # Errors
    /// [`StoreError::Create`] or [`StoreError::Write`], with nothing left behind.
    pub fn create(out_dir: &Path, kind: &str, started_ns: u64) -> Result<Self, StoreError> {
        let made = partial::missing(out_dir);
        let claimed = Partial::folder(&made, || {
            fs::create_dir_all(out_dir)
                .map_err(|source| cannot_create(out_dir, source))
                .and_then(|()| claim(out_dir, kind, started_ns))
                .map(|(hidden, path)| ((hidden.clone(), path), hidden))
        });
        let ((hidden, path), partial) = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                remove(None, &made);
                return Err(error);
            }
        };
        let store = Self {
            hidden,
            path,
            saved: false,
            made,
            partial: Some(partial),
            merged: Vec::new(),
            journal: Journal::default(),
            turn: Turn::default(),
        };
        store.prove()?;
        Ok(store)
    }

    /// The folder's own name, which it has once something is saved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last part of [`Self::path`]: what the ledger calls the command.
    pub fn id(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Opens `intervals.csv`. Its writer's `finish` must be called for what is left in it and the
    /// error of writing that.
    ///
    /// # Errors
    /// [`StoreError::Write`], also when it was opened before.
    pub fn intervals(&mut self) -> Result<IntervalsWriter<Output>, StoreError> {
        let file = self.growing("intervals.csv")?;
        IntervalsWriter::new(file).map_err(|error| self.unwritten("intervals.csv", error))
    }

    /// Opens `packets.csv`, as [`Self::intervals`].
    ///
    /// # Errors
    /// [`StoreError::Write`], also when it was opened before.
    pub fn packets(&mut self) -> Result<PacketsWriter<Output>, StoreError> {
        let file = self.growing("packets.csv")?;
        PacketsWriter::new(file).map_err(|error| self.unwritten("packets.csv", error))
    }

    /// Saves the last of `record.runs`, of which `last` is the measurement. Call it after each run, and [`Self::finish`]
    /// after the last.
    ///
    /// # Errors
    /// Any [`StoreError`], a full disk among them. What was saved before is still there then, and
    /// the run may be saved again.
    pub fn save(&mut self, record: &Record, last: &Measured) -> Result<(), StoreError> {
        let setting = last.run.setting.as_deref();
        let mut all = vec![(histogram_name("latency", setting), &last.latency)];
        let intended = &last.latency_from_intended;
        if !intended.is_empty() {
            all.push((histogram_name("latency-intended", setting), intended));
        }
        self.save_with(record, &record.runs, &all)
    }

    /// As [`Self::save`], of any kind of record with `runs`, with these histograms under these names; each is merged with
    /// those that had the name before.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_with<R: Serialize>(
        &mut self,
        record: &impl Serialize,
        runs: &[R],
        histograms: &[(String, &Latency)],
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let turn = self.turn.has_come(runs.len(), began);
        if !turn && let Some(last) = runs.last() {
            let folder = self.folder().to_owned();
            let added = self.journal.add(&folder, runs.len() - 1, last);
            added.map_err(|error| self.unwritten(journal::NAME, error))?;
        }
        let before = turn.then(|| self.merged.clone());
        for (name, latency) in histograms {
            let at = self.merged.iter().position(|(of, _)| of == name);
            let at = at.unwrap_or_else(|| {
                self.merged.push((name.clone(), Latency::new()));
                self.merged.len() - 1
            });
            if let Some((_, all)) = self.merged.get_mut(at) {
                all.merge(latency);
            }
        }
        let Some(before) = before else {
            return Ok(());
        };
        let changed: Vec<&str> = histograms.iter().map(|(name, _)| &name[..]).collect();
        let saved = self.write(record, |name| changed.contains(&name));
        if saved.is_err() {
            // The run is not saved, and may be saved again.
            self.merged = before;
        }
        saved?;
        self.turn.over(began, Instant::now());
        self.show()
    }

    /// Writes `run.json` with `record`, and the histograms that `changed`.
    fn write(
        &mut self,
        record: &impl Serialize,
        changed: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        self.put("run.json", |out| json::write(record, out))?;
        let behind = self.journal.has_runs();
        for (name, all) in &self.merged {
            if behind || changed(name) {
                self.put(name, |out| hgrm::write(all, out))?;
            }
        }
        let folder = self.folder().to_owned();
        let cleared = self.journal.clear(&folder);
        cleared.map_err(|error| self.unwritten(journal::NAME, error))
    }

    /// Writes whatever is still to be written of `record`. Call it when all runs are saved.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn finish(&mut self, record: &impl Serialize) -> Result<(), StoreError> {
        match self.journal.has_runs() {
            true => self.write(record, |_| false),
            false => Ok(()),
        }
    }

    /// As [`Self::finish`], with the comparison in `record`, and that as `comparison.csv`.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_comparison(&mut self, record: &Record) -> Result<(), StoreError> {
        self.save_record(record)?;
        self.put("comparison.csv", |out| {
            comparison::write(&record.comparison, out)
        })
    }

    /// As [`Self::finish`], with what is in `record` beside its runs.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_record(&mut self, record: &impl Serialize) -> Result<(), StoreError> {
        self.write(record, |_| false)
    }

    /// Gives the folder its own name, the first time.
    fn show(&mut self) -> Result<(), StoreError> {
        if self.saved {
            return Ok(());
        }
        fs::rename(&self.hidden, &self.path).map_err(|source| StoreError::Rename {
            from: self.hidden.clone(),
            to: self.path.clone(),
            source,
        })?;
        self.saved = true;
        self.partial = None;
        Ok(())
    }

    fn prove(&self) -> Result<(), StoreError> {
        self.put("run.json", |out| io::Write::write_all(out, b"{}\n"))?;
        let probe = self.folder().join("run.json");
        fs::remove_file(&probe).map_err(|source| self.unwritten("run.json", source))
    }

    fn put(
        &self,
        name: &str,
        content: impl FnOnce(&mut Output) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let done = output::replace(&self.folder().join(name), content);
        done.map_err(|error| self.unwritten(name, error.source))
    }

    fn growing(&self, name: &str) -> Result<Output, StoreError> {
        let shown = self.path.join(name);
        Ok(Output::growing(&self.folder().join(name), &shown)?)
    }

    fn folder(&self) -> &Path {
        if self.saved { &self.path } else { &self.hidden }
    }

    /// Names the file as it is called in the end; the hidden name is gone by the time it is read.
    fn unwritten(&self, name: &str, error: io::Error) -> StoreError {
        output::uncarried(&self.path.join(name), error).into()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.saved {
            remove(Some(&self.hidden), &self.made);
        }
    }
}

/// Makes a folder that nobody else has: its hidden path and the one it gets in the end.
fn claim(out_dir: &Path, kind: &str, started_ns: u64) -> Result<(PathBuf, PathBuf), StoreError> {
    let stamp = dates::compact(started_ns);
    for _ in 0..TRIES {
        let name = format!("{stamp}-{kind}-{}", random_id());
        let path = out_dir.join(&name);
        let hidden = out_dir.join(format!(".{name}.partial"));
        if path.exists() {
            continue;
        }
        match fs::create_dir(&hidden) {
            Ok(()) => return Ok((hidden, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot_create(&path, error)),
        }
    }
    Err(cannot_create(out_dir, io::ErrorKind::AlreadyExists.into()))
}

/// The histogram called `name` of the setting called so: `latency-uring-batch-16.hgrm` of `uring, batch 16`.
pub fn histogram_name(name: &str, setting: Option<&str>) -> String {
    let words = setting.into_iter().flat_map(|setting| {
        setting.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.')
    });
    let mut name = name.to_owned();
    for word in words.filter(|word| !word.is_empty()) {
        name.push('-');
        name.push_str(&word.to_ascii_lowercase());
    }
    name + ".hgrm"
}

/// Six random digits of base 36.
fn random_id() -> String {
    // Seeded by the system and different at each call; no need for a crate of random numbers.
    let mut random = RandomState::new().build_hasher().finish();
    let mut id = String::new();
    for _ in 0..6 {
        id.extend(char::from_digit((random % 36) as u32, 36));
        random /= 36;
    }
    id
}

/// Tidies up as far as possible: there is nobody left to tell, and something else went wrong before.
fn remove(hidden: Option<&Path>, made: &[PathBuf]) {
    if let Some(hidden) = hidden {
        let _ = fs::remove_dir_all(hidden);
    }
    for folder in made {
        // Only removes what is empty.
        let _ = fs::remove_dir(folder);
    }
}

fn cannot_create(path: &Path, source: io::Error) -> StoreError {
    StoreError::Create {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
