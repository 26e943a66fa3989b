//! The results of a measurement's ranks, as they reach the collector.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::load::fleet::MissingRank;
use crate::load::merge::{Merge, RankResult};
use crate::load::result::{Measured, Run};
use crate::stats::saved_histogram::SavedHistogram;
use crate::udp::client::Cancel;
use crate::udp::fleet::clock::ServerClock;
use crate::udp::fleet::member::Member;
use crate::udp::wire::fleet::FleetReply;

/// How long results are awaited after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// Most bytes of a rank's result.
const LONGEST: usize = 64 << 20;

/// Wait for a message between two checks for a signal.
const TICK: Duration = Duration::from_millis(100);

/// The result of a rank, as it is sent to the collector.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    host: String,
    run: Run,
    /// In ns of the server's clock.
    start_ns: Option<u64>,
    start_error_ns: u64,
    latency: SavedHistogram,
    intended: SavedHistogram,
    lateness: SavedHistogram,
}

impl Report {
    pub(super) fn new(host: String, measured: &Measured, clock: ServerClock) -> Self {
        Self {
            host,
            run: measured.run.clone(),
            start_ns: measured.start_ns.map(|ns| clock.there(ns)),
            start_error_ns: clock.error_ns,
            latency: (&measured.latency).into(),
            intended: (&measured.latency_from_intended).into(),
            lateness: (&measured.lateness).into(),
        }
    }
}

/// The results of a measurement so far.
pub(super) struct Gather {
    number: u32,
    merge: Merge,
    missing: Vec<MissingRank>,
    /// The ranks with a result, and those that are missing.
    settled: BTreeSet<u32>,
    /// The parts of results that are not complete.
    texts: BTreeMap<u32, String>,
}

impl Gather {
    /// No result yet of measurement `number`, which starts at `at_ns` of the server's clock.
    pub(super) fn new(number: u32, at_ns: Option<u64>) -> Self {
        Self {
            number,
            merge: Merge::new(at_ns),
            missing: Vec::new(),
            settled: BTreeSet::new(),
            texts: BTreeMap::new(),
        }
    }

    /// Adds the result of a rank. A result that cannot be merged is missing.
    pub(super) fn add(&mut self, rank: u32, report: &Report) {
        self.settled.insert(rank);
        let added = self.merge.add(RankResult {
            rank: Some(u64::from(rank)),
            name: &format!("rank {rank}"),
            host: &report.host,
            run: &report.run,
            latency: &report.latency,
            intended: &report.intended,
            lateness: &report.lateness,
            start_ns: report.start_ns,
            start_error_ns: Some(report.start_error_ns),
        });
        if let Err(error) = added {
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
    fn lack_others(&mut self, size: u32, reason: &str) {
        for rank in 0..size {
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

    /// Waits for the results of all ranks that take part, and merges them.
    pub(super) fn collect(mut self, member: &Member, size: u32, cancel: &Cancel) -> Measured {
        let mut cancelled: Option<Instant> = None;
        loop {
            match member.reply_within(TICK) {
                Ok(Some(FleetReply::Result {
                    run,
                    rank,
                    part,
                    last,
                })) if run == self.number => self.add_part(rank, &part, last),
                Ok(Some(FleetReply::Missing { run, rank, reason })) if run == self.number => {
                    self.lacks(rank, &reason);
                }
                Ok(Some(FleetReply::End { run })) if run == self.number => break,
                Ok(_) => {}
                Err(error) => {
                    self.lack_others(size, &format!("has no result, as {error}"));
                    break;
                }
            }
            if cancel.is_cancelled() && cancelled.get_or_insert_with(Instant::now).elapsed() > GRACE
            {
                self.lack_others(size, "was interrupted");
                break;
            }
        }
        self.merge.finish(u64::from(size), self.missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::latency::Latency;
    use proptest::prelude::*;

    fn report() -> String {
        let measured = Measured {
            run: Run {
                scenario: "connect".to_owned(),
                requests: 3,
                complete: true,
                ..Run::default()
            },
            latency: Latency::small(),
            latency_from_intended: Latency::small(),
            lateness: Latency::small(),
            start_ns: Some(7),
        };
        let report = Report::new("host".to_owned(), &measured, ServerClock::default());
        serde_json::to_string(&report).unwrap()
    }

    #[test]
    fn parts_of_a_result_are_joined() {
        let mut gather = Gather::new(0, None);
        let text = report();
        let (first, second) = text.split_at(text.len() / 2);
        gather.add_part(1, first, false);
        gather.add_part(0, &text, true);
        gather.add_part(1, second, true);
        let run = gather.merge.finish(2, gather.missing).run;
        assert_eq!((run.requests, run.complete), (6, true));
    }

    proptest! {
        #[test]
        fn no_text_of_a_rank_panics(text in ".{0,60}", cut in 0usize..2_000) {
            let mut gather = Gather::new(0, None);
            gather.add_part(0, &text, true);
            let report = report();
            let cut = cut.min(report.len() - 1);
            gather.add_part(1, report.get(..cut).unwrap_or_default(), true);
            prop_assert_eq!(gather.missing.len(), 2);
        }
    }
}
