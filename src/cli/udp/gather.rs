//! The result of a rank of `bench udp --fleet`, and the sum of all.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cli::fleet::gather::{Collected, Sum};
use crate::sys::machine;
use crate::udp::merge::{Merge, RankResult, SavedHistogram, more};
use crate::udp::result::{Measured, MissingRank, Run};

/// The result of a rank, as it is sent to the collector.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    host: String,
    /// One for each direction.
    runs: Vec<ReportRun>,
    /// From the common start to the rank's first send, in ns, by its share in the schedule.
    #[serde(default)]
    phase_ns: u64,
}

impl Report {
    pub(super) fn new(measured: &[Measured], phase_ns: u64) -> Self {
        Self {
            host: machine::hostname(),
            runs: measured.iter().map(ReportRun::from).collect(),
            phase_ns,
        }
    }
}

/// A run of a rank.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ReportRun {
    run: Run,
    start_ns: Option<u64>,
    latency: SavedHistogram,
    intended: SavedHistogram,
    /// The histograms of the schedule and the stages, by name.
    #[serde(default)]
    more: BTreeMap<String, SavedHistogram>,
}

impl From<&Measured> for ReportRun {
    fn from(measured: &Measured) -> Self {
        // Stamps of unrelated clocks have no common start.
        let is_related = measured.run.effective.clock.source != "none";
        Self {
            run: measured.run.clone(),
            start_ns: measured.start_ns.filter(|_| is_related),
            latency: (&measured.latency).into(),
            intended: (&measured.latency_from_intended).into(),
            more: more(measured),
        }
    }
}

/// The sum of the ranks: one for each direction.
#[derive(Debug, Default)]
pub(super) struct Directions(Vec<Merge>);

impl Sum for Directions {
    type Report = Report;

    /// A result that cannot be merged, in any direction, is added to none.
    fn add(&mut self, rank: u32, report: &Report, at_ns: Option<u64>) -> Result<(), String> {
        let name = format!("rank {rank}");
        let Self(merges) = self;
        if merges.is_empty() {
            let new = || Merge::new(at_ns.unwrap_or(0));
            merges.resize_with(report.runs.len(), new);
        }
        let (here, there) = (merges.len(), report.runs.len());
        if here != there {
            return Err(format!("has {there} directions instead of {here}"));
        }
        let results: Vec<RankResult<'_>> = report
            .runs
            .iter()
            .map(|of| RankResult {
                rank: Some(u64::from(rank)),
                name: &name,
                host: &report.host,
                run: &of.run,
                latency: &of.latency,
                intended: &of.intended,
                more: &of.more,
                start_ns: of.start_ns.filter(|_| at_ns.is_some()),
                phase_ns: report.phase_ns,
            })
            .collect();
        let mut both = merges.iter().zip(&results);
        let mut added = both.try_for_each(|(merge, result)| merge.check(result));
        for (merge, result) in merges.iter_mut().zip(results) {
            added = added.and_then(|()| merge.add(result));
        }
        added.map_err(|error| format!("has a result that cannot be merged: {error}"))
    }
}

/// The merged runs, one for each direction, of a fleet of `size` ranks that send.
pub(super) fn merged(collected: Collected<Directions>, size: u64) -> Vec<Measured> {
    let merges = collected.sum.0.into_iter();
    let merges = merges.filter(|merge| !merge.is_empty());
    merges
        .map(|merge| merge.finish(size, collected.missing.clone()))
        .collect()
}

/// Why there is no result.
pub(super) fn nothing(missing: &[MissingRank]) -> String {
    match missing.first() {
        Some(MissingRank { rank, reason }) => {
            format!("no rank has a result: rank {rank} {reason}")
        }
        None => "no rank has a result: all of them were lost".to_owned(),
    }
}
