//! The stages of the latency of several ranks. Pure.

use super::named::Named;
use super::sentences::Sentences;
use crate::udp::result::{NamedHistograms, Stage, Stages, StampCost};

/// The stages of the ranks so far.
#[derive(Debug, Default)]
pub(super) struct MergedStages {
    /// Ranks that have stages.
    ranks: usize,
    every: u64,
    /// By stage: ranks with stamps, and why another rank has none.
    stages: [(usize, Option<String>); 4],
    cost: StampCost,
    notes: Sentences,
}

impl MergedStages {
    /// Adds the stages of a rank.
    pub(super) fn add(&mut self, stages: &Stages) {
        self.ranks += 1;
        self.every = self.every.max(stages.every);
        for ((_, stage), (ranks, reason)) in stages.all().into_iter().zip(&mut self.stages) {
            *ranks += usize::from(stage.latency_ns.is_some());
            // One of them, whatever the order.
            let both = [reason.take(), stage.reason.clone()];
            *reason = both.into_iter().flatten().min();
        }
        let (sum, cost) = (&mut self.cost, &stages.cost);
        for (most, of_rank) in [
            (&mut sum.read_ns, cost.read_ns),
            (&mut sum.plain_send_ns, cost.plain_send_ns),
            (&mut sum.stamped_send_ns, cost.stamped_send_ns),
            (&mut sum.plain_receive_ns, cost.plain_receive_ns),
            (&mut sum.stamped_receive_ns, cost.stamped_receive_ns),
        ] {
            *most = [*most, of_rank].into_iter().flatten().reduce(f64::max);
        }
        for note in &stages.notes {
            self.notes.add_with_figures(note);
        }
    }

    /// The merged stages with their histograms; `None` if no rank has stages.
    pub(super) fn finish(self, named: &Named) -> Option<(Stages, NamedHistograms)> {
        if self.ranks == 0 {
            return None;
        }
        let names = [
            "stage-sender",
            "stage-qdisc",
            "stage-wire",
            "stage-receiver",
        ];
        let mut histograms = NamedHistograms::new();
        let mut notes: Vec<String> = self.notes.into_texts().collect();
        let mut merged = names
            .into_iter()
            .zip(self.stages)
            .map(|(name, (ranks, reason))| {
                let Some(latency) = named.whole(name, ranks).filter(|_| ranks > 0) else {
                    let older = "the record of a rank has percentiles and no histogram";
                    let reason = if ranks > 0 {
                        Some(older.to_owned())
                    } else {
                        reason
                    };
                    return Stage {
                        latency_ns: None,
                        reason,
                    };
                };
                if let Some(reason) = reason {
                    let stage = name.trim_start_matches("stage-");
                    notes.push(format!(
                        "The stage {stage} is that of {ranks} of {} ranks: {reason}.",
                        self.ranks
                    ));
                }
                histograms.push((name, latency.clone()));
                Stage {
                    latency_ns: Some(latency.summary()),
                    reason: None,
                }
            });
        let mut next = || merged.next().unwrap_or_default();
        let (sender, qdisc, wire, receiver) = (next(), next(), next(), next());
        drop(merged);
        let stages = Stages {
            every: self.every,
            sender,
            qdisc,
            wire,
            receiver,
            cost: self.cost,
            notes,
        };
        Some((stages, histograms))
    }
}
