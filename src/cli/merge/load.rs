//! Saved runs of `bench proxy load` as one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Histograms;
use crate::cli::error::CliError;
use crate::cli::exports::Exports;
use crate::cli::proxy::record::record_of;
use crate::load::fleet::MissingRank;
use crate::load::merge::{Merge, RankResult, wall_start};
use crate::load::result::{Measured, Run};
use crate::report::export::text::Text;
use crate::report::export::{Document, Exporter};
use crate::report::model::ProxyRecord;
use crate::report::store::histograms::{LATENESS, RunHistograms};
use crate::report::store::saved::{self, Saved};
use crate::sys::clock;

/// The runs that become one: the n-th run of a scenario, a path and a setting in each record.
type Key = (String, String, Option<String>, usize);

/// A merge, its place in the result, and the records without such a run.
type Place = (usize, Merge, Vec<MissingRank>);

/// Whether the first record is of `bench proxy`.
pub(super) fn is_first(paths: &[PathBuf]) -> bool {
    let first = paths.first().map(|path| saved::read_runs(path));
    matches!(first, Some(Ok((Saved::Proxy(_), _))))
}

/// Merges the records and writes the result.
pub(super) fn run(exports: Exports, paths: &[PathBuf]) -> Result<(), CliError> {
    let measured = merge(paths)?;
    if measured.is_empty() {
        return Err(CliError::Runtime(format!(
            "{} has no runs: the command ended before the first one",
            paths[0].display()
        )));
    }
    let record = record_of(clock::realtime_ns(), &measured);
    let document = Document::ProxyRuns {
        id: "",
        record: &record,
    };
    if !exports.uses_stdout() {
        let mut out = io::stdout().lock();
        Text.write(&document, &mut out)?;
        out.flush()?;
    }
    exports.write(&document)?;
    match record.runs.iter().find(|run| !run.complete) {
        Some(run) => Err(CliError::Runtime(format!(
            "the merged run is incomplete: {}",
            run.reason.as_deref().unwrap_or("it ended early")
        ))),
        None => Ok(()),
    }
}

fn merge(paths: &[PathBuf]) -> Result<Vec<Measured>, CliError> {
    let mut merges: BTreeMap<Key, Place> = BTreeMap::new();
    let names = super::names(paths);
    let mut seen = HashMap::new();
    let empty = RunHistograms::default();
    super::ahead::read(paths, record, |number, record| {
        let ((record, histograms), path) = (record?, &paths[number]);
        let mut absent: HashSet<Key> = merges.keys().cloned().collect();
        for (at, (key, run)) in keyed(record.runs).enumerate() {
            absent.remove(&key);
            if run.fleet.is_some() {
                return Err(super::merged_already(&names[number]));
            }
            if let Some(print) = fingerprint(&run)
                && let Some(first) = seen.insert((key.clone(), print), number)
            {
                return Err(super::copy(path, &paths[first], run.started_at.as_deref()));
            }
            let of_run = histograms.get(&at);
            if of_run.is_none() && run.latency_ns.is_some() {
                return Err(super::no_histogram(path, at));
            }
            let of_run = of_run.unwrap_or(&empty);
            let place = merges.len();
            let (_, merge, _) = merges.entry(key).or_insert_with(|| {
                // The runs that earlier records lack.
                let earlier = (0..number).map(|rank| super::lacks(rank, &paths[rank]));
                (place, Merge::new(None), earlier.collect())
            });
            let result = RankResult {
                rank: None,
                name: &names[number],
                host: &names[number],
                run: &run,
                latency: &of_run.latency,
                intended: &of_run.intended,
                lateness: of_run.more.get(LATENESS).unwrap_or(&empty.latency),
                start_ns: wall_start(&run),
                // The wall clocks of hosts differ by an unknown time.
                start_error_ns: None,
            };
            merge.add(result).map_err(CliError::runtime)?;
        }
        for key in absent {
            if let Some((_, _, missing)) = merges.get_mut(&key) {
                missing.push(super::lacks(number, path));
            }
        }
        Ok(())
    })?;
    let mut merged: Vec<Place> = merges.into_values().collect();
    merged.sort_by_key(|(place, ..)| *place);
    let size = paths.len() as u64;
    let finished = merged.into_iter();
    Ok(finished
        .map(|(_, merge, missing)| merge.finish(size, missing))
        .collect())
}

fn record(path: &Path) -> Result<(ProxyRecord, Histograms), CliError> {
    match saved::read_runs(path).map_err(CliError::runtime)? {
        (Saved::Proxy(record), folder) => Ok((record, super::histograms(path, folder.as_deref())?)),
        (other, _) => Err(CliError::Runtime(format!(
            "{} is a record of kind '{}' and the first one of bench proxy load; merge runs of one command",
            path.display(),
            other.kind()
        ))),
    }
}

/// The runs of a record with their keys.
fn keyed(runs: Vec<Run>) -> impl Iterator<Item = (Key, Run)> {
    let mut counts: BTreeMap<(String, String, Option<String>), usize> = BTreeMap::new();
    runs.into_iter().map(move |run| {
        let of = (run.scenario.clone(), run.path.clone(), run.setting.clone());
        let count = counts.entry(of.clone()).or_default();
        *count += 1;
        ((of.0, of.1, of.2, *count - 1), run)
    })
}

/// The figures of a run that no other run has together; `None` for a run without a start.
fn fingerprint(run: &Run) -> Option<u64> {
    let start = run.started_at.as_ref()?;
    let figures = (start, run.seconds, run.requests, run.bytes, run.latency_ns);
    let mut hasher = DefaultHasher::new();
    format!("{figures:?}").hash(&mut hasher);
    Some(hasher.finish())
}
