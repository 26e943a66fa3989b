//! All rounds of a path together. Percentiles are those of all requests: histograms are merged, never averaged.

use serde::{Deserialize, Serialize};

use super::{Errors, Measured, Run};
use crate::stats::latency::{Latency, Summary};
use crate::stats::spread::Spread;

/// What the complete runs of one scenario on one path, with one setting, come to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Total {
    /// As [`Run::scenario`].
    pub scenario: String,
    /// As [`Run::path`].
    pub path: String,
    /// As [`Run::setting`].
    pub setting: Option<String>,
    /// Complete runs.
    pub runs: usize,
    /// Runs that are not, of which only the errors count.
    pub incomplete: usize,
    /// Requests answered rightly.
    pub requests: u64,
    /// Requests that were not, those of incomplete runs among them.
    pub errors: Errors,
    /// Requests a second over these runs.
    pub requests_per_s: Option<Spread>,
    /// Bytes a second over these runs.
    pub bytes_per_s: Option<Spread>,
    /// Of all requests: with a rate, from the time they should have started.
    pub latency_ns: Option<Summary>,
    /// CPU seconds of the proxy per 10^9 bytes, over all bytes; null but for bulk.
    pub proxy_s_per_gb: Option<f64>,
    /// The same per 10,000 requests; null for bulk.
    pub proxy_s_per_10k: Option<f64>,
    /// The load generator's share of the time its threads had.
    pub load_busy: Option<f64>,
}

/// Scenarios, paths and settings as they come, each with its latencies.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<(Key, Latency)>);

type Key = (String, String, Option<String>);

fn key(run: &Run) -> Key {
    (run.scenario.clone(), run.path.clone(), run.setting.clone())
}

impl Latencies {
    /// Takes in a run.
    pub fn add(&mut self, measured: &Measured) {
        if !measured.run.complete {
            return;
        }
        let key = key(&measured.run);
        match self.0.iter_mut().find(|(of, _)| *of == key) {
            Some((_, merged)) => merged.merge(measured.told()),
            None => self.0.push((key, measured.told().clone())),
        }
    }

    fn summary(&self, key: &Key) -> Option<Summary> {
        let (_, latency) = self.0.iter().find(|(of, _)| of == key)?;
        (latency.count() > 0).then(|| latency.summary())
    }
}

/// The totals of `runs`, whose latencies are in `latencies`: by scenario, and then by path and setting in the order in which they came
/// first.
pub fn totals(runs: &[Run], latencies: &Latencies) -> Vec<Total> {
    let mut keys: Vec<Key> = Vec::new();
    for run in runs {
        let key = key(run);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let scenarios: Vec<String> = keys.iter().map(|(scenario, ..)| scenario.clone()).collect();
    let rank = |(scenario, path, _): &Key| {
        let scenario = scenarios.iter().position(|of| of == scenario);
        // Rounds begin with each path in turn, and the direct one is what all others are read against.
        (scenario, path != "direct")
    };
    keys.sort_by_key(rank);
    keys.iter()
        .map(|of| {
            let all: Vec<&Run> = runs.iter().filter(|run| key(run) == *of).collect();
            total(of, &all, latencies)
        })
        .collect()
}

fn total(key: &Key, all: &[&Run], latencies: &Latencies) -> Total {
    let complete: Vec<&Run> = all.iter().copied().filter(|run| run.complete).collect();
    let mut errors = Errors::default();
    all.iter().for_each(|run| errors.add(&run.errors));
    let sum = |of: fn(&Run) -> Option<f64>| complete.iter().copied().map(of).sum::<Option<f64>>();
    let spread = |of: fn(&Run) -> Option<f64>| Spread::of(complete.iter().copied().filter_map(of));
    let proxy = sum(|run| run.cpu.proxy());
    let requests: u64 = complete.iter().map(|run| run.requests).sum();
    let bytes: u64 = complete.iter().map(|run| run.bytes).sum();
    let per = |parts: f64| proxy.filter(|_| parts > 0.0).map(|proxy| proxy / parts);
    let is_bulk = key.0 == "bulk";
    let (scenario, path, setting) = key.clone();
    Total {
        scenario,
        path,
        setting,
        runs: complete.len(),
        incomplete: all.len() - complete.len(),
        requests,
        errors,
        requests_per_s: spread(|run| run.requests_per_s),
        bytes_per_s: spread(|run| run.bytes_per_s),
        latency_ns: latencies.summary(key),
        proxy_s_per_gb: is_bulk.then(|| per(bytes as f64 / 1e9)).flatten(),
        proxy_s_per_10k: (!is_bulk).then(|| per(requests as f64 / 1e4)).flatten(),
        load_busy: Spread::of(complete.iter().filter_map(|run| run.cpu.load_busy))
            .map(|busy| busy.median),
    }
}
