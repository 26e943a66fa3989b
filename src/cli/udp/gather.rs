//! The results of a run's ranks, as they reach the collector.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::fleet::Report;
use crate::udp::client::Cancel;
use crate::udp::fleet::member::Member;
use crate::udp::merge::{Merge, RankResult};
use crate::udp::result::{Measured, MissingRank};
use crate::udp::wire::fleet::FleetReply;

/// How long results are awaited after a signal.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Most bytes of a rank's result.
const LONGEST: usize = 64 << 20;

/// Wait for a message between two checks for a signal.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// The results of a run so far.
pub(super) struct Gather {
    run: u32,
    /// The common start in ns of the server's clock, once it is known.
    at_ns: Option<u64>,
    /// One for each direction.
    merges: Vec<Merge>,
    missing: Vec<MissingRank>,
    /// The ranks with a result, and those that are missing.
    settled: BTreeSet<u32>,
    /// The parts of results that are not complete.
    texts: BTreeMap<u32, String>,
    /// Whether the result or the loss of each rank is known.
    is_whole: bool,
    /// Why the server is lost.
    server_lost: Option<String>,
}

impl Gather {
    pub(super) fn new(run: u32, at_ns: Option<u64>) -> Self {
        Self {
            run,
            at_ns,
            merges: Vec::new(),
            missing: Vec::new(),
            settled: BTreeSet::new(),
            texts: BTreeMap::new(),
            is_whole: false,
            server_lost: None,
        }
    }

    /// Adds the result of a rank. A result that cannot be merged, in any direction, is missing in all.
    pub(super) fn add(&mut self, rank: u32, report: &Report) {
        self.settled.insert(rank);
        let name = format!("rank {rank}");
        if self.merges.is_empty() {
            let new = || Merge::new(self.at_ns.unwrap_or(0));
            self.merges.resize_with(report.runs.len(), new);
        }
        let (here, there) = (self.merges.len(), report.runs.len());
        if here != there {
            let reason = format!("has {there} directions instead of {here}");
            return self.lacks(rank, &reason);
        }
        let is_aligned = self.at_ns.is_some();
        let results: Vec<RankResult<'_>> = report
            .runs
            .iter()
            .map(|report_run| RankResult {
                rank: Some(u64::from(rank)),
                name: &name,
                host: &report.host,
                run: &report_run.run,
                latency: &report_run.latency,
                intended: &report_run.intended,
                more: &report_run.more,
                start_ns: report_run.start_ns.filter(|_| is_aligned),
                phase_ns: report.phase_ns,
            })
            .collect();
        let mut both = self.merges.iter().zip(&results);
        let mut checked = both.try_for_each(|(merge, result)| merge.check(result));
        for (merge, result) in self.merges.iter_mut().zip(results) {
            checked = checked.and_then(|()| merge.add(result));
        }
        if let Err(error) = checked {
            self.lacks(
                rank,
                &format!("has a result that cannot be merged: {error}"),
            );
        }
    }

    fn lacks(&mut self, rank: u32, reason: &str) {
        self.settled.insert(rank);
        self.missing.push(MissingRank {
            rank: u64::from(rank),
            reason: reason.to_owned(),
        });
    }

    /// The ranks without a result are missing.
    fn lack_others(&mut self, ranks: Range<u32>, reason: &str) {
        for rank in ranks {
            if !self.settled.contains(&rank) {
                self.lacks(rank, reason);
            }
        }
    }

    fn add_part(&mut self, rank: u32, part: &str, last: bool) {
        let text = self.texts.entry(rank).or_default();
        if text.len().saturating_add(part.len()) <= LONGEST {
            text.push_str(part);
        }
        if !last {
            return;
        }
        let text = self.texts.remove(&rank).unwrap_or_default();
        match serde_json::from_str(&text) {
            Ok(report) => self.add(rank, &report),
            Err(error) => self.lacks(rank, &format!("sent an invalid result: {error}")),
        }
    }

    /// Waits for the results of all `ranks` that take part, and merges them: a run for each direction.
    pub(super) fn collect(
        &mut self,
        member: &Member,
        ranks: Range<u32>,
        cancel: &Cancel,
    ) -> Vec<Measured> {
        let mut cancelled: Option<Instant> = None;
        loop {
            match member.reply_within(TICK) {
                Ok(Some(FleetReply::Start { run, at_ns })) if run == self.run => {
                    self.at_ns = Some(at_ns);
                }
                Ok(Some(FleetReply::Result {
                    run,
                    rank,
                    part,
                    last,
                })) if run == self.run => self.add_part(rank, &part, last),
                Ok(Some(FleetReply::Missing { run, rank, reason })) if run == self.run => {
                    self.lacks(rank, &reason);
                }
                Ok(Some(FleetReply::End { run })) if run == self.run => {
                    self.is_whole = true;
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    self.lack_others(ranks.clone(), &format!("has no result, as {error}"));
                    self.server_lost = Some(error.to_string());
                    break;
                }
            }
            if cancel.is_cancelled() && cancelled.get_or_insert_with(Instant::now).elapsed() > GRACE
            {
                self.lack_others(ranks.clone(), "was interrupted");
                break;
            }
        }
        let missing = &self.missing;
        let merges = std::mem::take(&mut self.merges).into_iter();
        let finished = merges.filter(|merge| !merge.is_empty());
        let finished = finished.map(|merge| merge.finish(ranks.len() as u64, missing.clone()));
        finished.collect()
    }

    /// Whether the result or the loss of each rank is known. It is not after an interrupt without an answer.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Why the server was lost before all results had arrived, if it was.
    pub(super) fn server_lost(&self) -> Option<&str> {
        self.server_lost.as_deref()
    }

    /// Why there is no result.
    pub(super) fn nothing(&self) -> String {
        match self.missing.first() {
            Some(MissingRank { rank, reason }) => {
                format!("no rank has a result: rank {rank} {reason}")
            }
            None => "no rank has a result: all of them were lost".to_owned(),
        }
    }
}
