//! The results of a run's ranks, as they reach the collector.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Instant;

use serde::de::DeserializeOwned;

use super::keep::Unmerged;
use super::{GRACE, TICK};
use crate::udp::client::Cancel;
use crate::udp::fleet::member::Member;
use crate::udp::result::MissingRank;
use crate::udp::wire::fleet::FleetReply;

/// Most bytes of a rank's result.
const LONGEST: usize = 64 << 20;

/// The sum of the results of a run.
pub(in crate::cli) trait Sum {
    /// The result of a rank.
    type Report: DeserializeOwned;

    /// Adds the result of a rank. `at_ns` is the common start in ns of the server's clock, if it is known.
    ///
    /// # Errors
    /// Why it cannot be added: the predicate of a sentence about the rank.
    fn add(&mut self, rank: u32, report: &Self::Report, at_ns: Option<u64>) -> Result<(), String>;
}

/// The results of a run so far.
pub(in crate::cli) struct Gather<S> {
    run: u32,
    /// The common start in ns of the server's clock, once it is known.
    at_ns: Option<u64>,
    sum: S,
    missing: Vec<MissingRank>,
    /// The ranks with a result, and those that are missing.
    settled: BTreeSet<u32>,
    /// The parts of results that are not complete.
    texts: BTreeMap<u32, String>,
}

/// The results of a run.
pub(in crate::cli) struct Collected<S> {
    pub(in crate::cli) sum: S,
    /// The ranks without a result.
    pub(in crate::cli) missing: Vec<MissingRank>,
    pub(in crate::cli) end: End,
}

impl<S> Collected<S> {
    /// Why the results are not merged here: the server is lost, and each rank saves its own result if these are confirmed. A merged
    /// record would have results that the ranks save too.
    pub(in crate::cli) fn unmerged(&self, confirms: bool) -> Option<Unmerged> {
        match &self.end {
            End::ServerLost(reason) if confirms => Some(Unmerged::ByNone(reason.clone())),
            _ => None,
        }
    }
}

/// How the wait for results ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum End {
    /// The result or the loss of each rank is known.
    Whole,
    /// A signal, after which not all ranks answered.
    Interrupted,
    /// The server is lost, for this reason.
    ServerLost(String),
}

impl<S: Sum> Gather<S> {
    /// No result yet of run number `run`, which started at `at_ns` of the server's clock.
    pub(in crate::cli) fn new(run: u32, at_ns: Option<u64>, sum: S) -> Self {
        Self {
            run,
            at_ns,
            sum,
            missing: Vec::new(),
            settled: BTreeSet::new(),
            texts: BTreeMap::new(),
        }
    }

    /// Adds the result of a rank. One that cannot be added is missing.
    pub(in crate::cli) fn add(&mut self, rank: u32, report: &S::Report) {
        self.settled.insert(rank);
        if let Err(reason) = self.sum.add(rank, report, self.at_ns) {
            self.lacks(rank, reason);
        }
    }

    fn lacks(&mut self, rank: u32, reason: String) {
        self.settled.insert(rank);
        self.missing.push(MissingRank {
            rank: u64::from(rank),
            reason,
        });
    }

    /// The ranks without a result are missing.
    fn lack_others(&mut self, ranks: Range<u32>, reason: &str) {
        for rank in ranks {
            if !self.settled.contains(&rank) {
                self.lacks(rank, reason.to_owned());
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
            Err(error) => self.lacks(rank, format!("sent an invalid result: {error}")),
        }
    }

    /// Waits for the results of all `ranks` that take part.
    pub(in crate::cli) fn collect(
        mut self,
        member: &Member,
        ranks: Range<u32>,
        cancel: &Cancel,
    ) -> Collected<S> {
        let mut cancelled: Option<Instant> = None;
        let end = loop {
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
                    self.lacks(rank, reason);
                }
                Ok(Some(FleetReply::End { run })) if run == self.run => break End::Whole,
                Ok(_) => {}
                Err(error) => {
                    self.lack_others(ranks, &format!("has no result, as {error}"));
                    break End::ServerLost(error.to_string());
                }
            }
            if cancel.is_cancelled() && cancelled.get_or_insert_with(Instant::now).elapsed() > GRACE
            {
                self.lack_others(ranks, "was interrupted");
                break End::Interrupted;
            }
        };
        Collected {
            sum: self.sum,
            missing: self.missing,
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Adds numbers below 1,000.
    impl Sum for u64 {
        type Report = u64;

        fn add(&mut self, _rank: u32, report: &u64, _at_ns: Option<u64>) -> Result<(), String> {
            if *report >= 1_000 {
                return Err("has too much".to_owned());
            }
            *self += report;
            Ok(())
        }
    }

    #[test]
    fn parts_of_a_result_are_joined() {
        let mut gather = Gather::new(0, None, 0u64);
        gather.add_part(1, "1", false);
        gather.add_part(0, "7", true);
        gather.add_part(1, "23", true);
        gather.add_part(2, "1000", true);
        gather.lack_others(0..4, "is late");
        assert_eq!(gather.sum, 130);
        let missing = gather.missing.iter();
        let missing: Vec<_> = missing.map(|of| (of.rank, of.reason.as_str())).collect();
        assert_eq!(missing, [(2, "has too much"), (3, "is late")]);
    }

    #[test]
    fn results_are_not_merged_if_each_rank_saves_its_own() {
        let collected = |end| Collected {
            sum: 0u64,
            missing: Vec::new(),
            end,
        };
        let lost = collected(End::ServerLost("it was lost".to_owned()));
        let reason = Unmerged::ByNone("it was lost".to_owned());
        assert_eq!(lost.unmerged(true), Some(reason));
        assert_eq!(lost.unmerged(false), None);
        assert_eq!(collected(End::Whole).unmerged(true), None);
        assert_eq!(collected(End::Interrupted).unmerged(true), None);
    }

    proptest! {
        #[test]
        fn a_text_that_is_no_result_is_a_missing_rank(text in ".{0,60}", cut in 0usize..60) {
            prop_assume!(serde_json::from_str::<u64>(&text).is_err());
            let cut = text.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(text.len());
            let mut gather = Gather::new(0, None, 0u64);
            gather.add_part(0, &text[..cut], false);
            gather.add_part(0, &text[cut..], true);
            prop_assert_eq!(gather.missing.len(), 1);
        }
    }
}
