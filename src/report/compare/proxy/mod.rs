//! Comparison of runs of `bench proxy`.

mod judged;
pub mod notes;
mod overhead;
mod settings;
mod totals;

use super::group::{Comparable, Figure, Group};
use crate::load::result::{Errors, Run};
use crate::report::model::proxy::{ComparedSetting, Ratios};
use crate::stats::ratio::Ratio;

pub use overhead::{overhead, within_command};
pub use settings::Settings;
pub use totals::{Latencies, totals};

const RATE: Figure<Run> = Run::rate;
const P50: Figure<Run> = |run| run.client_latency()?.p50.map(|ns| ns as f64);
const P99: Figure<Run> = |run| run.client_latency()?.p99.map(|ns| ns as f64);
const CPU: Figure<Run> = |run| run.cpu.proxy_s_per_10k.or(run.cpu.proxy_s_per_gb);
const ANSWERED: Figure<Run> = |run| {
    let started = run.requests as f64 + run.errors.total as f64;
    Some(run.requests as f64 / started)
};

/// The runs of one command that are measured together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PathKey {
    scenario: String,
    path: String,
    setting: Option<String>,
}

impl PathKey {
    fn of(run: &Run) -> Self {
        Self {
            scenario: run.scenario.clone(),
            path: run.path.clone(),
            setting: run.setting.clone(),
        }
    }
}

impl Comparable for Run {
    type Settings = Settings;
    type Compared = ComparedSetting;

    fn settings(&self) -> Settings {
        Settings::of(self)
    }

    fn is_complete(&self) -> bool {
        self.complete
    }

    fn round(&self) -> Option<usize> {
        Some(self.round)
    }

    fn is_as_much_as(&self, other: &Self) -> bool {
        let amount = |run: &Self| (run.requested.bytes, run.requested.duration_s);
        amount(self) == amount(other)
    }

    fn figures(name: String, group: &Group<'_, Self>) -> ComparedSetting {
        let first = group.runs.first().copied().cloned().unwrap_or_default();
        let median = |figure| group.spread(figure).map(|spread| spread.median as u64);
        let runs = group.complete().count();
        ComparedSetting {
            setting: name,
            base: None,
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
            errors: errors(group),
            requests_per_s: group.spread(|run| run.requests_per_s),
            bytes_per_s: group.spread(|run| run.bytes_per_s),
            latency_p50_ns: median(P50),
            latency_p99_ns: median(P99),
            proxy_s_per_10k: group.spread(|run| run.cpu.proxy_s_per_10k),
            proxy_s_per_gb: group.spread(|run| run.cpu.proxy_s_per_gb),
            answered: group.spread(ANSWERED),
            load_busy: group.spread(|run| run.cpu.load_busy),
            ratios: None,
        }
    }

    fn add_ratios(
        compared: &mut ComparedSetting,
        base: &str,
        ratio: &dyn Fn(Figure<Self>) -> Option<Ratio>,
    ) {
        compared.base = Some(base.to_owned());
        compared.ratios = Some(Ratios {
            rate: ratio(RATE),
            latency_p50_ns: ratio(P50),
            latency_p99_ns: ratio(P99),
            proxy_cpu: ratio(CPU),
            answered: ratio(ANSWERED),
        });
    }
}

/// Errors of all runs, incomplete runs included.
fn errors(group: &Group<'_, Run>) -> Errors {
    let mut errors = Errors::default();
    group.runs.iter().for_each(|run| errors.add(&run.errors));
    errors
}

/// A sentence on a load generator that was busy for the share `busy` of its time.
fn limited_by_load(path: &str, busy: f64) -> String {
    format!(
        "{path}: the load generator's threads were busy {:.0} % of the time and may limit the result; try more --load-threads",
        busy * 100.0
    )
}

#[cfg(test)]
pub(in crate::report) mod tests;
