//! What a proxy costs: the proxied path against the direct one, and one setting against another, round by round.

use serde::{Deserialize, Serialize};

use super::Run;
use crate::stats::difference::Difference;
use crate::stats::latency::Summary;
use crate::stats::ratio::Ratio;

/// The proxied path of a scenario against the direct one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Overhead {
    /// As [`Run::scenario`].
    pub scenario: String,
    /// As [`Run::setting`].
    pub setting: Option<String>,
    /// Rounds in which both paths were measured to the end.
    pub rounds: usize,
    /// Requests or bytes a second, as a multiple of the direct path's.
    pub rate: Option<Ratio>,
    /// Latency of the proxied path less that of the direct one, by percentile; null for bulk.
    pub added_ns: Option<Added>,
}

/// What is added to a latency in ns: the difference of the medians over rounds of each round's own percentile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Added {
    /// To the median.
    pub p50: Option<Difference>,
    /// To the 90 % latency.
    pub p90: Option<Difference>,
    /// To the 99 % latency.
    pub p99: Option<Difference>,
    /// To the 99.9 % latency.
    pub p99_9: Option<Difference>,
}

/// One setting of a scenario against the first.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Compared {
    /// As [`Run::scenario`].
    pub scenario: String,
    /// What it is called.
    pub setting: String,
    /// What the first is called.
    pub base: String,
    /// Rounds in which both were measured to the end.
    pub rounds: usize,
    /// Requests or bytes a second, as a multiple of the base's.
    pub rate: Option<Ratio>,
    /// The same of the 99 % latency; null for bulk.
    pub latency_p99_ns: Option<Ratio>,
    /// The same of the proxy's CPU time a request or a byte.
    pub proxy_cpu: Option<Ratio>,
}

/// The overhead in each scenario, with each setting.
pub fn overhead(runs: &[Run]) -> Vec<Overhead> {
    let lines = lines(runs, "proxied");
    lines
        .iter()
        .filter_map(|(scenario, setting)| {
            let direct = |run: &Run| run.scenario == *scenario && run.path == "direct";
            let proxied = |run: &Run| is(run, scenario, "proxied", setting);
            let pairs = pairs(runs, direct, proxied);
            let rate = figures(&pairs, Run::rate);
            if pairs.is_empty() {
                return None;
            }
            Some(Overhead {
                scenario: scenario.clone(),
                setting: setting.clone(),
                rounds: pairs.len(),
                rate: rate.and_then(Ratio::paired),
                added_ns: added(&pairs),
            })
        })
        .collect()
}

/// Each setting of a scenario against the first of it, where there are several.
pub fn compared(runs: &[Run]) -> Vec<Compared> {
    let mut found = Vec::new();
    for path in ["proxied", "blocked"] {
        let lines = lines(runs, path);
        for (scenario, setting) in &lines {
            let base = lines.iter().find(|(of, _)| of == scenario);
            let (Some((_, Some(base))), Some(setting)) = (base, setting) else {
                continue;
            };
            if base == setting {
                continue;
            }
            let of = |name: &String| {
                let name = Some(name.clone());
                move |run: &Run| is(run, scenario, path, &name)
            };
            let pairs = pairs(runs, of(base), of(setting));
            let ratio = |of: fn(&Run) -> Option<f64>| figures(&pairs, of).and_then(Ratio::paired);
            found.push(Compared {
                scenario: scenario.clone(),
                setting: setting.clone(),
                base: base.clone(),
                rounds: pairs.len(),
                rate: ratio(Run::rate),
                latency_p99_ns: ratio(|run| run.told()?.p99.map(|ns| ns as f64)),
                proxy_cpu: ratio(|run| run.cpu.proxy_s_per_10k.or(run.cpu.proxy_s_per_gb)),
            });
        }
    }
    found
}

/// Scenarios and settings on a path, as they come.
fn lines(runs: &[Run], path: &str) -> Vec<(String, Option<String>)> {
    let mut lines = Vec::new();
    // The first round has them in the order of the plan, apart from where it begins.
    for run in runs.iter().filter(|run| run.path == path) {
        let line = (run.scenario.clone(), run.setting.clone());
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn is(run: &Run, scenario: &str, path: &str, setting: &Option<String>) -> bool {
    run.scenario == scenario && run.path == path && run.setting == *setting
}

/// The runs of the rounds in which both sides are complete, the base first.
fn pairs(
    runs: &[Run],
    base: impl Fn(&Run) -> bool,
    new: impl Fn(&Run) -> bool,
) -> Vec<(&Run, &Run)> {
    let complete = || runs.iter().filter(|run| run.complete);
    complete()
        .filter(|run| base(run))
        .filter_map(|first| {
            let same = |run: &&Run| new(run) && run.round == first.round;
            Some((first, complete().find(same)?))
        })
        .collect()
}

/// A figure of every pair; `None` where one has none.
fn figures(pairs: &[(&Run, &Run)], of: impl Fn(&Run) -> Option<f64>) -> Option<Vec<(f64, f64)>> {
    pairs
        .iter()
        .map(|(base, new)| Some((of(base)?, of(new)?)))
        .collect()
}

fn added(pairs: &[(&Run, &Run)]) -> Option<Added> {
    let of = |percentile: fn(&Summary) -> Option<u64>| {
        let figures = figures(pairs, |run| percentile(run.told()?).map(|ns| ns as f64));
        figures.and_then(Difference::paired)
    };
    let added = Added {
        p50: of(|summary| summary.p50),
        p90: of(|summary| summary.p90),
        p99: of(|summary| summary.p99),
        p99_9: of(|summary| summary.p99_9),
    };
    (added != Added::default()).then_some(added)
}
