//! One side of a comparison between two records: what the runs of one setting come to, and that as multiples of the
//! other's.

mod verdict;

use serde::Serialize;

use super::{Errors, Requested, Run, Settings};
use crate::report::comparison::{Comparable, Figure, Group};
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;

const RATE: Figure<Run> = Run::rate;
const P50: Figure<Run> = |run| run.told()?.p50.map(|ns| ns as f64);
const P99: Figure<Run> = |run| run.told()?.p99.map(|ns| ns as f64);
const CPU: Figure<Run> = |run| run.cpu.proxy_s_per_10k.or(run.cpu.proxy_s_per_gb);
const ANSWERED: Figure<Run> = |run| {
    let started = run.requests as f64 + run.errors.total as f64;
    Some(run.requests as f64 / started)
};

/// What the complete runs of one setting come to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Side {
    /// What it is called here.
    pub setting: String,
    /// The one that its ratios are to; null when it is that one.
    pub base: Option<String>,
    /// As [`Run::scenario`].
    pub scenario: String,
    /// As [`Run::path`].
    pub path: String,
    /// As [`Run::engine`].
    pub engine: Option<String>,
    /// As [`Run::protocol`].
    pub protocol: Option<String>,
    /// As [`Run::forwarding`].
    pub forwarding: Option<String>,
    /// As [`Run::proxy_threads`].
    pub proxy_threads: Option<usize>,
    /// As [`Run::requested`].
    pub requested: Requested,
    /// Complete runs.
    pub runs: usize,
    /// Runs that are not, of which only the errors count.
    pub incomplete: usize,
    /// Requests answered rightly.
    pub requests: u64,
    /// Requests that were not, those of incomplete runs among them.
    pub errors: Errors,
    /// Requests a second over these runs; null for bulk.
    pub requests_per_s: Option<Spread>,
    /// Bytes a second over these runs; null where requests are refused.
    pub bytes_per_s: Option<Spread>,
    /// Median latency of the median run, in ns; with a rate, from the time in the schedule. Null for bulk.
    pub latency_p50_ns: Option<u64>,
    /// The 99 % latency, likewise.
    pub latency_p99_ns: Option<u64>,
    /// CPU seconds of the proxy per 10,000 requests over these runs; null for bulk.
    pub proxy_s_per_10k: Option<Spread>,
    /// The same per 10^9 bytes; null but for bulk.
    pub proxy_s_per_gb: Option<Spread>,
    /// The share of requests answered rightly over these runs.
    pub answered: Option<Spread>,
    /// The load generator's share of the time its threads had, over these runs.
    pub load_busy: Option<Spread>,
    /// Figures as multiples of the base's; null for the base.
    pub ratios: Option<Ratios>,
}

/// Figures of one side as multiples of the other's. Each is null where one of the two has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Ratios {
    /// Of requests a second, or of bulk bytes.
    pub rate: Option<Ratio>,
    /// Of the runs' own median latencies.
    pub latency_p50_ns: Option<Ratio>,
    /// Of the runs' own 99 % latencies.
    pub latency_p99_ns: Option<Ratio>,
    /// Of the proxy's CPU time a request or a byte.
    pub proxy_cpu: Option<Ratio>,
    /// Of the share of requests that were answered rightly.
    pub answered: Option<Ratio>,
}

impl Comparable for Run {
    type Settings = Settings;
    type Row = Side;

    fn settings(&self) -> Settings {
        Settings::of(self)
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn is_as_much_as(&self, other: &Self) -> bool {
        let amount = |run: &Self| (run.requested.bytes, run.requested.duration_s);
        amount(self) == amount(other)
    }

    fn pair(
        [base_name, name]: [String; 2],
        base: &Group<'_, Self>,
        new: &Group<'_, Self>,
    ) -> [Side; 2] {
        let ratio = |figure| new.apart(base, figure);
        [
            Side {
                setting: base_name.clone(),
                ..figures(base)
            },
            Side {
                setting: name,
                base: Some(base_name),
                ratios: Some(Ratios {
                    rate: ratio(RATE),
                    latency_p50_ns: ratio(P50),
                    latency_p99_ns: ratio(P99),
                    proxy_cpu: ratio(CPU),
                    answered: ratio(ANSWERED),
                }),
                ..figures(new)
            },
        ]
    }
}

/// All that can be said of a group by itself.
fn figures(group: &Group<'_, Run>) -> Side {
    let first = group.runs.first().copied().cloned().unwrap_or_default();
    let median = |figure| group.spread(figure).map(|spread| spread.median as u64);
    let runs = group.complete().count();
    let mut errors = Errors::default();
    group.runs.iter().for_each(|run| errors.add(&run.errors));
    Side {
        scenario: first.scenario,
        path: first.path,
        engine: first.engine,
        protocol: first.protocol,
        forwarding: first.forwarding,
        proxy_threads: first.proxy_threads,
        requested: first.requested,
        runs,
        incomplete: group.runs.len() - runs,
        requests: group.total(|run| run.requests),
        errors,
        requests_per_s: group.spread(|run| run.requests_per_s),
        bytes_per_s: group.spread(|run| run.bytes_per_s),
        latency_p50_ns: median(P50),
        latency_p99_ns: median(P99),
        proxy_s_per_10k: group.spread(|run| run.cpu.proxy_s_per_10k),
        proxy_s_per_gb: group.spread(|run| run.cpu.proxy_s_per_gb),
        answered: group.spread(ANSWERED),
        load_busy: group.spread(|run| run.cpu.load_busy),
        ..Side::default()
    }
}

impl Side {
    /// Whether it is about bytes and not about requests.
    pub(super) fn is_bulk(&self) -> bool {
        self.scenario == "bulk"
    }

    /// What it is called without which side it is.
    pub(super) fn shared_name(&self) -> &str {
        let mut sides = [", base", ", new"].into_iter();
        let stripped = sides.find_map(|side| self.setting.strip_suffix(side));
        stripped.unwrap_or(&self.setting)
    }
}

#[cfg(test)]
mod tests;
