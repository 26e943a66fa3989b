//! The runs of one setting, and the figures that are taken from them.

use super::settings::Settings;
use crate::report::record::Run;
use crate::stats::latency::Summary;
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;

/// A figure of a run; `None` where it has none.
pub(super) type Figure = fn(&Run) -> Option<f64>;

pub(super) const KB_PER_S: Figure = |run| run.kb_per_s;
pub(super) const PACKETS_PER_S: Figure = |run| run.packets_per_s;
pub(super) const SENDER_CPU: Figure = |run| run.cpu.sender_s_per_million;
pub(super) const RECEIVER_CPU: Figure = |run| run.cpu.receiver_s_per_million;
pub(super) const CPU: Figure = |run| Some(SENDER_CPU(run)? + RECEIVER_CPU(run)?);
pub(super) const P50: Figure = |run| latency(run)?.p50.map(|ns| ns as f64);
pub(super) const P99: Figure = |run| latency(run)?.p99.map(|ns| ns as f64);

/// The latency that settings are compared by: of a paced run that from the intended send, which no stall hides.
pub fn latency(run: &Run) -> Option<Summary> {
    match run.mode.as_str() {
        "paced" => run.latency_from_intended_ns,
        _ => run.latency_ns,
    }
}

/// The runs of one setting, in the order of their rounds.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    pub(super) settings: Settings,
    pub(super) runs: Vec<&'a Run>,
}

/// Puts together which of `runs` are alike, in the order in which each kind first occurs.
pub(super) fn groups(runs: &[Run]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for run in runs {
        let settings = Settings::of(run);
        match groups.iter_mut().find(|group| group.settings == settings) {
            Some(group) => group.runs.push(run),
            None => groups.push(Group {
                settings,
                runs: vec![run],
            }),
        }
    }
    groups
}

impl<'a> Group<'a> {
    /// Those that count.
    pub(super) fn complete(&self) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().copied().filter(|run| run.complete)
    }

    pub(super) fn spread(&self, figure: Figure) -> Option<Spread> {
        let values = self.complete().filter_map(figure);
        Spread::of(values.filter(|value| value.is_finite()))
    }

    /// Of every complete run, or none at all: a run of which nothing arrived has no goodput, and to leave
    /// it out would make its setting look better than it is.
    fn values(&self, figure: Figure) -> Option<Vec<f64>> {
        self.complete().map(figure).collect()
    }

    /// A count, over all complete runs.
    pub(super) fn total(&self, count: fn(&Run) -> u64) -> u64 {
        let counts = self.complete().map(count);
        counts.fold(0, u64::saturating_add)
    }

    /// As a multiple of `base`, with which it took turns: only rounds count in which both are complete.
    pub(super) fn in_rounds(&self, base: &Self, figure: Figure) -> Option<Ratio> {
        let rounds = base.runs.iter().zip(&self.runs);
        let complete = rounds.filter(|(base, new)| base.complete && new.complete);
        let figures = complete.map(|(base, new)| figure(base).zip(figure(new)));
        Ratio::paired(figures.collect::<Option<_>>()?)
    }

    /// As a multiple of `base`, of another command.
    pub(super) fn apart(&self, base: &Self, figure: Figure) -> Option<Ratio> {
        Ratio::unpaired(base.values(figure)?, self.values(figure)?)
    }
}
