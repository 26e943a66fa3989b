//! The folder of a command: `<UTC time>-<kind>-<id>` with `run.json`, the histograms and the tables.
//!
//! The folder is created under a hidden name before the first run, so that a folder without write permission fails early. It gets
//! its name with the first result.
//!
//! Each run is saved when it ends. `run.json` and the histograms are rewritten after each of the first runs. For thousands of runs
//! that would take quadratic time, so later runs go to a [`journal`] between rewrites.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use thiserror::Error;

use super::atomic_file::{self, AtomicFile, FileError};
use super::histograms::{self, RunHistograms};
use super::journal::{self, Journal, RewriteSchedule};
use super::partial::{self, Partial};
use crate::report::export::columns::{SEARCH_TRIAL, UDP_SETTING};
use crate::report::export::hgrm::Histograms;
use crate::report::export::html::Picture;
use crate::report::export::intervals::IntervalsWriter;
use crate::report::export::packets::PacketsWriter;
use crate::report::export::{Document, Exporter, csv, hgrm, json, ranks};
use crate::report::model::{Distributed, ProxyRecord, SearchRecord, UdpRecord, histogram_name};
use crate::stats::latency::Latency;
use crate::udp::result::Measured;
use crate::{dates, load};

/// Number of ids to try. There are two thousand million ids a second, so a second collision has another cause.
const TRIES: usize = 16;

/// Why a run cannot be saved, with advice.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The folder cannot be created.
    #[error("cannot create {}: {source}; choose another folder with --out or skip saving with --no-save", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file in the folder cannot be written.
    #[error("{0}; choose another folder with --out or skip saving with --no-save")]
    Write(#[from] FileError),
    /// The folder cannot be renamed to its final name.
    #[error("cannot rename {} to {}: {source}; choose another folder with --out or skip saving with --no-save", from.display(), to.display())]
    Rename {
        /// The hidden name.
        from: PathBuf,
        /// The final name.
        to: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The folder of one command. Dropped before the first save, it is removed.
#[derive(Debug)]
pub struct RunFolder {
    hidden: PathBuf,
    path: PathBuf,
    saved: bool,
    /// Parents that were created with the folder, the innermost first.
    parents: Vec<PathBuf>,
    /// Registration until the first save.
    partial: Option<Partial>,
    /// Histograms of all saved runs, by file name.
    merged: Histograms,
    /// Runs that `run.json` and the histograms do not contain yet.
    journal: Journal,
    /// When they are rewritten.
    schedule: RewriteSchedule,
}

impl RunFolder {
    /// Creates the folder, in `out_dir`, of a command of `kind` that started at `started_ns` (ns since the epoch), and verifies that
    /// files can be written to it. Creates `out_dir` if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Create`] or [`StoreError::Write`]; nothing is left behind.
    pub fn create(out_dir: &Path, kind: &str, started_ns: u64) -> Result<Self, StoreError> {
        let parents = partial::missing(out_dir);
        let claimed = Partial::folder(&parents, || {
            fs::create_dir_all(out_dir)
                .map_err(|source| cannot_create(out_dir, source))
                .and_then(|()| claim(out_dir, kind, started_ns))
                .map(|(hidden, path)| ((hidden.clone(), path), hidden))
        });
        let ((hidden, path), partial) = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                remove(None, &parents);
                return Err(error);
            }
        };
        let folder = Self {
            hidden,
            path,
            saved: false,
            parents,
            partial: Some(partial),
            merged: Histograms::default(),
            journal: Journal::default(),
            schedule: RewriteSchedule::default(),
        };
        folder.verify()?;
        Ok(folder)
    }

    /// The final path, valid after the first save.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last component of [`Self::path`]: the command's id in the ledger.
    pub fn id(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Opens `intervals.csv`. The writer's `finish` writes and checks the last bytes.
    ///
    /// # Errors
    /// [`StoreError::Write`], also if it was opened before.
    pub fn intervals(&mut self) -> Result<IntervalsWriter<AtomicFile>, StoreError> {
        let file = self.growing("intervals.csv")?;
        IntervalsWriter::new(file).map_err(|error| self.write_error("intervals.csv", error))
    }

    /// Opens `packets.csv`, as [`Self::intervals`] does.
    ///
    /// # Errors
    /// [`StoreError::Write`], also if it was opened before.
    pub fn packets(&mut self) -> Result<PacketsWriter<AtomicFile>, StoreError> {
        let file = self.growing("packets.csv")?;
        PacketsWriter::new(file).map_err(|error| self.write_error("packets.csv", error))
    }

    /// Saves the last of `record.runs`, whose measurement is `last`. Call it after each run, and [`Self::finish`] after the last.
    ///
    /// # Errors
    /// Any [`StoreError`], such as a full disk. Earlier runs stay saved, and the run may be saved again.
    pub fn save(&mut self, record: &UdpRecord, last: &Measured) -> Result<(), StoreError> {
        let setting = last.run.setting.as_deref();
        let mut all = vec![(histogram_name("latency", setting), &last.latency)];
        let intended = &last.latency_from_intended;
        if !intended.is_empty() {
            all.push((histogram_name("latency-intended", setting), intended));
        }
        let stages = last.stages.iter();
        all.extend(stages.map(|(name, latency)| (histogram_name(name, setting), latency)));
        let number = record.runs.len().saturating_sub(1);
        self.append(&RunHistograms::of_udp(number, last))?;
        self.save_with(record, &record.runs, &all)
    }

    /// As [`Self::save`], for a record of `bench proxy`.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_proxy(
        &mut self,
        record: &ProxyRecord,
        last: &load::result::Measured,
    ) -> Result<(), StoreError> {
        let both = [&last.latency, &last.latency_from_intended];
        let named = last.run.histograms().into_iter().zip(both);
        let all: Vec<_> = named.filter(|(_, latency)| !latency.is_empty()).collect();
        let number = record.runs.len().saturating_sub(1);
        self.append(&RunHistograms::of_proxy(number, last))?;
        self.save_with(record, &record.runs, &all)
    }

    fn append(&self, line: &RunHistograms) -> Result<(), StoreError> {
        histograms::append(self.folder(), line)
            .map_err(|error| self.write_error(histograms::NAME, error))
    }

    /// As [`Self::save`], for a record of any kind with `runs`. Merges each of `histograms` into the histogram of its file name.
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
        let is_due = self.schedule.is_due(runs.len(), began);
        if !is_due && let Some(last) = runs.last() {
            let folder = self.folder().to_owned();
            let added = self.journal.add(&folder, runs.len() - 1, last);
            added.map_err(|error| self.write_error(journal::NAME, error))?;
        }
        let before = is_due.then(|| self.merged.clone());
        for (name, latency) in histograms {
            self.merged.add(name, latency);
        }
        let Some(before) = before else {
            return Ok(());
        };
        let changed: Vec<&str> = histograms.iter().map(|(name, _)| &name[..]).collect();
        let saved = self.write(record, |name| changed.contains(&name));
        if saved.is_err() {
            // The run may be saved again.
            self.merged = before;
        }
        saved?;
        self.schedule.rewritten(began, Instant::now());
        self.rename()
    }

    /// Writes `run.json`, and the histograms that `changed`.
    fn write(
        &mut self,
        record: &impl Serialize,
        changed: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        self.put("run.json", |out| json::write(record, out))?;
        let is_behind = self.journal.has_runs();
        for (name, all) in self.merged.iter() {
            if is_behind || changed(name) {
                self.put(name, |out| hgrm::write(all, out))?;
            }
        }
        let folder = self.folder().to_owned();
        let cleared = self.journal.clear(&folder);
        cleared.map_err(|error| self.write_error(journal::NAME, error))
    }

    /// Writes `run.json` and the histograms if the journal has runs. Call it after the last run.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn finish(&mut self, record: &impl Serialize) -> Result<(), StoreError> {
        match self.journal.has_runs() {
            true => self.write(record, |_| false),
            false => Ok(()),
        }
    }

    /// Writes `run.json` with the comparison of `record`, and `comparison.csv`.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_comparison(&mut self, record: &UdpRecord) -> Result<(), StoreError> {
        self.save_record(record)?;
        self.put("comparison.csv", |out| {
            csv::table(UDP_SETTING, &record.comparison, out)
        })
    }

    /// Writes `ranks.csv` with the ranks of merged runs.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_ranks(&mut self, record: &UdpRecord) -> Result<(), StoreError> {
        self.put("ranks.csv", |out| ranks::ranks(&record.runs, out))
    }

    /// As [`Self::save_ranks`], for a record of `bench proxy load`.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_proxy_ranks(&self, record: &ProxyRecord) -> Result<(), StoreError> {
        self.put("ranks.csv", |out| ranks::proxy_ranks(&record.runs, out))
    }

    /// Writes `run.json` with the parts of `record` beside its runs.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_record(&mut self, record: &impl Serialize) -> Result<(), StoreError> {
        self.write(record, |_| false)
    }

    /// Saves a search: `run.json`, `search.csv` and, if it is measured, `curve.csv`.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_search(&mut self, record: &SearchRecord) -> Result<(), StoreError> {
        self.save_record(record)?;
        self.put("search.csv", |out| {
            csv::table(SEARCH_TRIAL, &record.trials, out)
        })?;
        let curve: Vec<_> = record.curve().cloned().collect();
        if !curve.is_empty() {
            self.put("curve.csv", |out| csv::table(SEARCH_TRIAL, &curve, out))?;
        }
        self.rename()
    }

    /// Writes `search.svg`, the charts of a search.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_picture(&self, record: &SearchRecord) -> Result<(), StoreError> {
        let document = Document::UdpSearch { id: "", record };
        self.put("search.svg", |out| Picture.write(&document, out))
    }

    /// Renames the folder to its final name, once.
    fn rename(&mut self) -> Result<(), StoreError> {
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

    fn verify(&self) -> Result<(), StoreError> {
        self.put("run.json", |out| io::Write::write_all(out, b"{}\n"))?;
        let probe = self.folder().join("run.json");
        fs::remove_file(&probe).map_err(|source| self.write_error("run.json", source))
    }

    fn put(
        &self,
        name: &str,
        content: impl FnOnce(&mut AtomicFile) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let done = atomic_file::replace(&self.folder().join(name), content);
        done.map_err(|error| self.write_error(name, error.source))
    }

    fn growing(&self, name: &str) -> Result<AtomicFile, StoreError> {
        let shown = self.path.join(name);
        Ok(AtomicFile::growing(&self.folder().join(name), &shown)?)
    }

    fn folder(&self) -> &Path {
        if self.saved { &self.path } else { &self.hidden }
    }

    /// An error with the final path, as the hidden path is gone when the message is read.
    fn write_error(&self, name: &str, error: io::Error) -> StoreError {
        atomic_file::file_error_within(&self.path.join(name), error).into()
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if !self.saved {
            remove(Some(&self.hidden), &self.parents);
        }
    }
}

/// Creates a folder with a unique name; returns its hidden path and its final path.
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

/// Six random digits of base 36.
fn random_id() -> String {
    // The standard library seeds each hasher differently.
    let mut random = RandomState::new().build_hasher().finish();
    let mut id = String::new();
    for _ in 0..6 {
        id.extend(char::from_digit((random % 36) as u32, 36));
        random /= 36;
    }
    id
}

/// Removes the folder and its empty parents. The caller reports an earlier error.
fn remove(hidden: Option<&Path>, parents: &[PathBuf]) {
    if let Some(hidden) = hidden {
        let _ = fs::remove_dir_all(hidden);
    }
    for folder in parents {
        // Fails if the folder is not empty.
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
