//! The folder of a run: `<UTC time>-<kind>-<id>` with `run.json`, the histograms and the tables.
//!
//! It is made under a hidden name before the run, which finds out early whether there is a place to
//! write to, and gets its own name with the first result. The row in the ledger beside it is
//! [`super::ledger`]'s.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::intervals::IntervalsWriter;
use super::output::{self, Output, OutputError};
use super::packets::PacketsWriter;
use super::partial::{self, Partial};
use super::record::{Measured, Record};
use super::{comparison, dates, hgrm, json};
use crate::stats::latency::Latency;

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

    /// Writes `run.json` with `record`, and the histograms of all runs of its setting saved so far and
    /// of `last`, which is the last of `record.runs`. Call it after each run.
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
        self.save_with(record, &all)
    }

    /// As [`Self::save`], of any kind of record, with these histograms under these names; each is merged with those that had the
    /// name before.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_with(
        &mut self,
        record: &impl Serialize,
        histograms: &[(String, &Latency)],
    ) -> Result<(), StoreError> {
        self.put("run.json", |out| json::write(record, out))?;
        let mut merged = self.merged.clone();
        for (name, latency) in histograms {
            let at = merged.iter().position(|(of, _)| of == name);
            let at = at.unwrap_or_else(|| {
                merged.push((name.clone(), Latency::new()));
                merged.len() - 1
            });
            let (_, all) = &mut merged[at];
            all.merge(latency);
            self.put(name, |out| hgrm::write(all, out))?;
        }
        self.show()?;
        self.merged = merged;
        Ok(())
    }

    /// Writes `run.json` with the comparison in `record`, and that as `comparison.csv`. Call it when
    /// all runs are saved.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_comparison(&mut self, record: &Record) -> Result<(), StoreError> {
        self.put("run.json", |out| json::to_writer(record, out))?;
        self.put("comparison.csv", |out| {
            comparison::write(&record.comparison, out)
        })
    }

    /// Writes `run.json` anew, with what came last.
    ///
    /// # Errors
    /// As [`Self::save`].
    pub fn save_record(&mut self, record: &impl Serialize) -> Result<(), StoreError> {
        self.put("run.json", |out| json::write(record, out))
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
mod tests {
    use super::*;
    use crate::report::packets::PacketRow;
    use crate::report::sample;
    use std::os::unix::fs::symlink;

    const STARTED: u64 = 1_795_356_301_000_000_000;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Of a command that compares nothing.
    fn alone() -> Measured {
        let mut measured = sample::measured();
        measured.run.setting = None;
        measured
    }

    fn saved(folder: &Path) -> Record {
        match json::read(folder).unwrap() {
            json::Saved::Udp(record) => record,
            json::Saved::Proxy(_) => panic!("it is of bench udp"),
        }
    }

    #[test]
    fn an_aborted_command_leaves_no_junk() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("results");
        let mut store = Store::create(&out, "udp", STARTED).unwrap();
        assert_eq!(names(&out).len(), 1);
        assert!(names(&out)[0].starts_with(".20261122T140501Z-udp-"));
        let _open = store.intervals().unwrap();
        drop(store);
        assert!(!out.exists());

        fs::create_dir(&out).unwrap();
        drop(Store::create(&out, "udp", STARTED).unwrap());
        assert!(out.exists(), "it was not the store that made it");
    }

    #[test]
    fn a_saved_run_has_all_its_files() {
        let out = tempfile::tempdir().unwrap();
        let mut store = Store::create(out.path(), "udp", STARTED).unwrap();
        let mut intervals = store.intervals().unwrap();
        let mut packets = store.packets().unwrap();
        let measured = alone();
        for run in 0..2 {
            intervals.row(run, &sample::interval()).unwrap();
            let row = PacketRow {
                stream: 0,
                sequence: 1,
                sent_ns: 2,
                received_ns: 3,
            };
            packets.row(run, &row).unwrap();
            let runs = vec![measured.run.clone(); run + 1];
            store.save(&sample::record(runs), &measured).unwrap();
        }
        intervals.finish().unwrap().finish().unwrap();
        packets.finish().unwrap().finish().unwrap();
        let path = store.path().to_owned();
        drop(store);

        assert_eq!(names(out.path()).len(), 1);
        assert_eq!(
            names(&path),
            [
                "intervals.csv",
                "latency-intended.hgrm",
                "latency.hgrm",
                "packets.csv",
                "run.json"
            ]
        );
        assert_eq!(saved(&path).runs.len(), 2);
        let text = |name| fs::read_to_string(path.join(name)).unwrap();
        assert!(text("latency.hgrm").contains("Total count    =         2000]"));
        assert!(text("latency-intended.hgrm").contains("Total count    =         2002]"));
        assert_eq!(text("intervals.csv").lines().count(), 3);
        assert!(text("packets.csv").ends_with("\n0,0,1,2,3,1\n1,0,1,2,3,1\n"));
    }

    #[test]
    fn each_setting_compared_has_histograms_of_its_own() {
        let out = tempfile::tempdir().unwrap();
        let mut store = Store::create(out.path(), "udp", STARTED).unwrap();
        let mut runs = Vec::new();
        for setting in ["mio", "uring, batch 1.5k", "mio"] {
            let mut measured = sample::measured();
            measured.run.setting = Some(setting.into());
            runs.push(measured.run.clone());
            store
                .save(&sample::record(runs.clone()), &measured)
                .unwrap();
        }
        let mut record = sample::record(runs);
        record.comparison = comparison::within(&record.runs, &comparison::Latencies::default());
        store.save_comparison(&record).unwrap();
        assert_eq!(
            names(store.path()),
            [
                "comparison.csv",
                "latency-intended-mio.hgrm",
                "latency-intended-uring-batch-1.5k.hgrm",
                "latency-mio.hgrm",
                "latency-uring-batch-1.5k.hgrm",
                "run.json"
            ]
        );
        let count = |name: &str| {
            let text = fs::read_to_string(store.path().join(name)).unwrap();
            let at = text.find("Total count    =").unwrap();
            text[at + 16..].split(']').next().unwrap().trim().to_owned()
        };
        assert_eq!(count("latency-mio.hgrm"), "2000");
        assert_eq!(count("latency-uring-batch-1.5k.hgrm"), "1000");
        assert!(!saved(store.path()).comparison.is_empty());
    }

    #[test]
    fn a_full_disk_is_told_and_what_was_saved_stays() {
        let out = tempfile::tempdir().unwrap();
        let mut store = Store::create(out.path(), "udp", STARTED).unwrap();
        let measured = alone();
        let record = sample::record(vec![measured.run.clone()]);
        store.save(&record, &measured).unwrap();
        let file = store.path().join("latency.hgrm");
        let aside = store.path().join("aside");
        fs::rename(&file, &aside).unwrap();
        symlink("/dev/full", &file).unwrap();
        let told = store.save(&record, &measured).unwrap_err().to_string();
        assert_eq!(
            told,
            format!(
                "cannot write {}: No space left on device (os error 28); choose another folder with --out or skip saving with --no-save",
                file.display()
            )
        );
        assert!(json::read(store.path()).is_ok());

        fs::rename(&aside, &file).unwrap();
        store.save(&record, &measured).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            text.contains("Total count    =         2000]"),
            "merged once"
        );
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_found_before_the_run() {
        for place in ["/proc/results", "/dev/null"] {
            let told = Store::create(Path::new(place), "udp", STARTED)
                .unwrap_err()
                .to_string();
            assert!(
                told.starts_with(&format!("cannot create {place}: ")),
                "{told}"
            );
            assert!(told.contains("--no-save"), "{told}");
        }
    }

    #[test]
    fn a_folder_that_takes_no_other_is_told_from_one_that_is_missing() {
        let told = Store::create(Path::new("/proc"), "udp", STARTED).unwrap_err();
        let told = told.to_string();
        assert!(
            told.starts_with("cannot create /proc/20261122T140501Z-udp-"),
            "{told}"
        );
    }

    #[test]
    fn ids_are_six_digits_and_differ() {
        let (a, b) = (random_id(), random_id());
        assert_eq!((a.len(), b.len()), (6, 6));
        assert_ne!(a, b);
    }
}
