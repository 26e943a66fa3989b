//! What runs of `bench udp` are compared by.

use super::gate::Judged;
use super::group::{Comparable, Figure, Group, Row};
use super::settings::Settings;
use crate::report::record::{Compared, Ratios, Run};
use crate::stats::latency::Summary;
use crate::stats::ratio::{Interval, Ratio};

const KB_PER_S: Figure<Run> = |run| run.kb_per_s;
const PACKETS_PER_S: Figure<Run> = |run| run.packets_per_s;
const SENDER_CPU: Figure<Run> = |run| run.cpu.sender_s_per_million;
const RECEIVER_CPU: Figure<Run> = |run| run.cpu.receiver_s_per_million;
const CPU: Figure<Run> = |run| Some(SENDER_CPU(run)? + RECEIVER_CPU(run)?);
const P50: Figure<Run> = |run| latency(run)?.p50.map(|ns| ns as f64);
const P99: Figure<Run> = |run| latency(run)?.p99.map(|ns| ns as f64);

/// The latency that settings are compared by: of a paced run that from the intended send, which no stall hides.
pub fn latency(run: &Run) -> Option<Summary> {
    match run.mode.as_str() {
        "paced" => run.latency_from_intended_ns,
        _ => run.latency_ns,
    }
}

impl Comparable for Run {
    type Settings = Settings;
    type Row = Compared;

    fn settings(&self) -> Settings {
        Settings::of(self)
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn is_as_much_as(&self, other: &Self) -> bool {
        let amount = |run: &Self| {
            let asked = &run.requested;
            (asked.bytes, asked.packets, asked.duration_s)
        };
        amount(self) == amount(other)
    }

    fn pair(
        [base_name, name]: [String; 2],
        base: &Group<'_, Self>,
        new: &Group<'_, Self>,
    ) -> [Compared; 2] {
        [
            Compared {
                setting: base_name.clone(),
                ..figures(base)
            },
            Compared {
                setting: name,
                base: Some(base_name),
                ratios: Some(ratios(|figure| new.apart(base, figure))),
                ..figures(new)
            },
        ]
    }
}

impl Row for Compared {
    fn name(&self) -> &str {
        &self.setting
    }

    /// Goodput; of paced runs, who have theirs from the schedule, the 99 % latency from the intended send.
    fn judged(&self) -> Vec<Judged> {
        let ratios = self.ratios.unwrap_or_default();
        let interval = |ratio: Option<Ratio>| ratio?.interval;
        vec![match self.mode.as_str() {
            "paced" => {
                let longer = interval(ratios.latency_p99_ns);
                Judged::slower("99 % latency", longer.map(Interval::inverse))
            }
            _ => Judged::slower("KB/s", interval(ratios.kb_per_s)),
        }]
    }
}

/// The figures that are compared, each as `ratio` finds it.
pub(super) fn ratios(ratio: impl Fn(Figure<Run>) -> Option<Ratio>) -> Ratios {
    Ratios {
        kb_per_s: ratio(KB_PER_S),
        packets_per_s: ratio(PACKETS_PER_S),
        cpu_s_per_million: ratio(CPU),
        latency_p99_ns: ratio(P99),
    }
}

/// All that can be said of a group by itself.
pub(super) fn figures(group: &Group<'_, Run>) -> Compared {
    let first = group.runs.first().copied();
    let median = |figure| group.spread(figure).map(|spread| spread.median as u64);
    let runs = group.complete().count();
    Compared {
        engine: first.map(|run| run.engine.clone()).unwrap_or_default(),
        mode: first.map(|run| run.mode.clone()).unwrap_or_default(),
        requested: first.map(|run| run.requested.clone()).unwrap_or_default(),
        runs,
        incomplete: group.runs.len() - runs,
        kb_per_s: group.spread(KB_PER_S),
        packets_per_s: group.spread(PACKETS_PER_S),
        cpu_s_per_million: group.spread(CPU),
        sender_s_per_million: group.spread(SENDER_CPU),
        receiver_s_per_million: group.spread(RECEIVER_CPU),
        latency_p50_ns: median(P50),
        latency_p99_ns: median(P99),
        sent_packets: group.total(|run| run.sent.packets),
        lost_packets: group.total(|run| run.lost.packets),
        ..Compared::default()
    }
}
