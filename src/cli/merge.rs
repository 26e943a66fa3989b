//! `bench merge`: saved runs of several hosts as one.

mod ahead;
mod load;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::error::CliError;
use super::exports::Exports;
use super::{command_line, interrupt};
use crate::report::export::html::Html;
use crate::report::export::json::Json;
use crate::report::export::ranks::RanksCsv;
use crate::report::export::text::{self, Text};
use crate::report::export::{Document, Exporter};
use crate::report::model::{Curves, Meta, UdpRecord};
use crate::report::store::histograms::{self, RunHistograms};
use crate::report::store::saved::{self, Saved};
use crate::sys::clock;
use crate::udp::merge::{Merge, MergeError, RankResult, wall_start};
use crate::udp::result::{Measured, MissingRank, Run};

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// Saved runs of `bench udp` or of `bench proxy load`, each a folder or its run.json, or a folder with such folders
    #[arg(value_name = "DIR", required = true)]
    paths: Vec<PathBuf>,
    /// Write the merged record as JSON; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    json: Option<PathBuf>,
    /// Write a row for each saved run, and a row with the total, as CSV; - writes them to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    csv: Option<PathBuf>,
    /// Write a self-contained HTML page with charts; - writes it to stdout and nothing else
    #[arg(long, value_name = "PATH", help_heading = "Output")]
    html: Option<PathBuf>,
}

/// The runs that become one: the n-th run of a setting and a direction in each record.
type Key = (Option<String>, String, usize);

pub(super) fn run(args: &MergeArgs) -> Result<(), CliError> {
    interrupt::exit_on_signal().map_err(CliError::runtime)?;
    let formats = [
        ("--json", &args.json, &Json as &dyn Exporter),
        ("--csv", &args.csv, &RanksCsv),
        ("--html", &args.html, &Html),
    ];
    let exports = Exports::of(&formats)?;
    let paths = expand(&args.paths)?;
    if load::is_first(&paths) {
        return load::run(exports, &paths);
    }
    let measured = merge(&paths)?;
    if measured.is_empty() {
        let first = paths.first().map(|path| path.display().to_string());
        return Err(CliError::Runtime(format!(
            "{} has no runs: the command ended before the first one",
            first.unwrap_or_default()
        )));
    }
    write(exports, &measured)?;
    let incomplete = measured.iter().find(|of| !of.run.complete);
    match incomplete.map(|of| of.run.reason.as_deref()) {
        Some(reason) => Err(CliError::Runtime(format!(
            "the merged run is incomplete: {}",
            reason.unwrap_or("it ended early")
        ))),
        None => Ok(()),
    }
}

fn write(exports: Exports, measured: &[Measured]) -> Result<(), CliError> {
    let record = UdpRecord {
        meta: Meta::here("udp", clock::realtime_ns(), command_line()),
        runs: measured.iter().map(|of| of.run.clone()).collect(),
        comparison: Vec::new(),
        curves: Curves::default(),
    };
    let document = Document::UdpRuns {
        id: "",
        record: &record,
    };
    if !exports.uses_stdout() {
        let mut out = io::stdout().lock();
        for (number, measured) in measured.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            text::summary(measured, &mut out)?;
        }
        Text.write(&document, &mut out)?;
        out.flush()?;
    }
    exports.write(&document)
}

/// The records: folders of records are replaced by the records in them.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let is_record = |path: &Path| path.join("run.json").is_file();
    let mut records = Vec::new();
    for path in paths {
        if !path.is_dir() || is_record(path) {
            records.push(path.clone());
            continue;
        }
        let failed = |error| CliError::Runtime(format!("cannot read {}: {error}", path.display()));
        let entries = fs::read_dir(path).map_err(failed)?;
        let folders = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut folders: Vec<PathBuf> = folders.collect::<io::Result<_>>().map_err(failed)?;
        folders.retain(|folder| is_record(folder));
        folders.sort_unstable();
        if folders.is_empty() {
            return Err(CliError::Runtime(format!(
                "{} is not a saved run and contains none; give run folders of bench udp or bench proxy load",
                path.display()
            )));
        }
        records.append(&mut folders);
    }
    let mut seen = HashSet::new();
    for record in &records {
        if !seen.insert(fs::canonicalize(record).unwrap_or_else(|_| record.clone())) {
            return Err(CliError::Runtime(format!(
                "{} is given twice; give each saved run once",
                record.display()
            )));
        }
    }
    Ok(records)
}

/// The runs of a record with their keys.
fn keyed(runs: Vec<Run>) -> impl Iterator<Item = (Key, Run)> {
    let mut counts: BTreeMap<(Option<String>, String), usize> = BTreeMap::new();
    runs.into_iter().map(move |run| {
        let of = (run.setting.clone(), run.direction.clone());
        let count = counts.entry(of).or_default();
        *count += 1;
        let key = (run.setting.clone(), run.direction.clone(), *count - 1);
        (key, run)
    })
}

fn merge(paths: &[PathBuf]) -> Result<Vec<Measured>, CliError> {
    let mut merges: BTreeMap<Key, (usize, Merge, Vec<MissingRank>)> = BTreeMap::new();
    let (origins, names) = (origins(paths)?, names(paths));
    let mut seen = HashMap::new();
    let empty = RunHistograms::default();
    ahead::read(paths, record, |number, record| {
        let ((record, histograms), path) = (record?, &paths[number]);
        let mut absent: HashSet<Key> = merges.keys().cloned().collect();
        for (at, (key, run)) in keyed(record.runs).enumerate() {
            absent.remove(&key);
            if run.fleet.is_some() {
                return Err(merged_already(&names[number]));
            }
            if let Some(print) = fingerprint(&run)
                && let Some(first) = seen.insert((key.clone(), print), number)
            {
                return Err(copy(path, &paths[first], run.first_sent_at.as_deref()));
            }
            let of_run = histograms.get(&at);
            if of_run.is_none() && run.latency_ns.is_some() {
                return Err(no_histogram(path, at));
            }
            let of_run = of_run.unwrap_or(&empty);
            let place = merges.len();
            let origin = origins.get(&key).copied().unwrap_or(0);
            let (_, merge, _) = merges.entry(key).or_insert_with(|| {
                // The runs that earlier records lack.
                let earlier = (0..number).map(|rank| lacks(rank, &paths[rank]));
                (place, Merge::new(origin), earlier.collect())
            });
            let result = RankResult {
                rank: None,
                name: &names[number],
                host: &names[number],
                run: &run,
                latency: &of_run.latency,
                intended: &of_run.intended,
                more: &of_run.more,
                start_ns: wall_start(&run),
                phase_ns: 0,
            };
            merge.add(result).map_err(CliError::runtime)?;
        }
        for key in absent {
            if let Some((_, _, missing)) = merges.get_mut(&key) {
                missing.push(lacks(number, path));
            }
        }
        Ok(())
    })?;
    let mut merged: Vec<_> = merges.into_values().collect();
    merged.sort_by_key(|(place, ..)| *place);
    let size = paths.len() as u64;
    let finished = merged
        .into_iter()
        .map(|(_, merge, missing)| merge.finish(size, missing));
    Ok(finished.collect())
}

/// The figures of a run that no other run has together; `None` for a run without datagrams. The start alone may be that of another
/// run, as thousands of hosts start at one time.
fn fingerprint(run: &Run) -> Option<u64> {
    let start = run.first_sent_at.as_ref()?;
    let figures = (
        start,
        &run.last_received_at,
        run.sent,
        run.received,
        run.latency_ns,
    );
    let mut hasher = DefaultHasher::new();
    format!("{figures:?}").hash(&mut hasher);
    Some(hasher.finish())
}

fn lacks(number: usize, path: &Path) -> MissingRank {
    MissingRank {
        rank: number as u64,
        reason: format!("has no such run in {}", path.display()),
    }
}

/// When the first host began each run, in ns since the epoch.
fn origins(paths: &[PathBuf]) -> Result<BTreeMap<Key, u64>, CliError> {
    let mut origins = BTreeMap::new();
    for path in paths {
        let starts = saved::starts(path).map_err(CliError::runtime)?;
        for (key, run) in keyed(starts) {
            if let Some(start) = wall_start(&run) {
                let first = origins.entry(key).or_insert(start);
                *first = start.min(*first);
            }
        }
    }
    Ok(origins)
}

fn record(path: &Path) -> Result<(UdpRecord, Histograms), CliError> {
    match saved::read_runs(path).map_err(CliError::runtime)? {
        (Saved::Udp(record), folder) => Ok((record, histograms(path, folder.as_deref())?)),
        (other, _) => Err(CliError::Runtime(format!(
            "{} is a record of kind '{}', and bench merge merges runs of bench udp or of bench proxy load",
            path.display(),
            other.kind()
        ))),
    }
}

/// The histograms of the runs of a record, by number of the run.
type Histograms = BTreeMap<usize, RunHistograms>;

fn histograms(path: &Path, folder: Option<&Path>) -> Result<Histograms, CliError> {
    let read = folder.map(histograms::read).transpose();
    let read = read.map_err(|error| {
        let file = histograms::NAME;
        CliError::Runtime(format!("cannot read {file} of {}: {error}", path.display()))
    })?;
    Ok(read.flatten().unwrap_or_default())
}

/// A merged run may have the other runs in it, and its ranks' own records lie beside it after a loss of the fleet's server: nothing is
/// counted twice.
fn merged_already(name: &str) -> CliError {
    CliError::runtime(MergeError::Merged(name.to_owned()))
}

fn no_histogram(path: &Path, run: usize) -> CliError {
    CliError::Runtime(format!(
        "{} has no {} with run {run}, as a bench of an older version saved it, and percentiles alone cannot be merged; measure again with this bench",
        path.display(),
        histograms::NAME
    ))
}

fn copy(path: &Path, first: &Path, began: Option<&str>) -> CliError {
    CliError::Runtime(format!(
        "{} is a copy of {}: both have the run that began at {}; give each saved run once",
        path.display(),
        first.display(),
        began.unwrap_or_default()
    ))
}

/// A name for each record: the last part of the path of its folder or file, with as many parts before it as make it the only one of
/// the name.
fn names(paths: &[PathBuf]) -> Vec<String> {
    let parts = paths.iter().map(|path| {
        let folder = match path.file_name() {
            Some(name) if name == "run.json" => path.parent().unwrap_or(path),
            _ => path,
        };
        let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let parts = whole.iter().map(|part| part.to_string_lossy().into_owned());
        parts.collect()
    });
    distinct(&parts.collect::<Vec<_>>())
}

fn distinct(paths: &[Vec<String>]) -> Vec<String> {
    let end = |path: &[String], count: usize| {
        let first = path.len().saturating_sub(count);
        path.get(first..).unwrap_or_default().join("/")
    };
    let mut names: Vec<String> = paths.iter().map(|path| end(path, 1)).collect();
    let longest = paths.iter().map(Vec::len).max().unwrap_or(0);
    for count in 2..=longest {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for name in &names {
            *numbers.entry(name).or_default() += 1;
        }
        let is_shared = |name: &String| numbers.get(name.as_str()).is_some_and(|of| *of > 1);
        let shared: Vec<usize> = (0..names.len())
            .filter(|at| is_shared(&names[*at]))
            .collect();
        if shared.is_empty() {
            break;
        }
        for at in shared {
            names[at] = end(&paths[at], count);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> Vec<String> {
        text.split('/').map(str::to_owned).collect()
    }

    #[test]
    fn equal_folder_names_have_the_parts_that_differ() {
        let paths = ["x/a/run1", "x/b/run1", "x/run2", "y/b/run1"].map(path);
        assert_eq!(distinct(&paths), ["a/run1", "x/b/run1", "run2", "y/b/run1"]);
    }

    proptest! {
        #[test]
        fn different_paths_have_different_names(paths in prop::collection::hash_set("[ab]{1,2}(/[ab]{1,2}){0,3}", 1..12)) {
            let paths: Vec<Vec<String>> = paths.iter().map(|text| path(text)).collect();
            // Whole paths begin at the root.
            let paths: Vec<_> = paths.into_iter().map(|path| [vec!["/".to_owned()], path].concat()).collect();
            let names = distinct(&paths);
            let all: HashSet<_> = names.iter().collect();
            prop_assert_eq!(all.len(), paths.len());
        }
    }
}
