//! All rounds of a path together. Histograms are merged, as percentiles cannot be averaged.

use super::{PathKey, errors};
use crate::load::result::{Measured, Run};
use crate::report::compare::group::{Group, group_by};
use crate::report::model::proxy::Total;
use crate::stats::latency::{Latency, Summary};

/// Merged latencies of the complete runs of each scenario, path and setting.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<(PathKey, Latency)>);

impl Latencies {
    /// Adds a run.
    pub fn add(&mut self, measured: &Measured) {
        if !measured.run.complete {
            return;
        }
        let key = PathKey::of(&measured.run);
        match self.0.iter_mut().find(|(of, _)| *of == key) {
            Some((_, merged)) => merged.merge(measured.client_latency()),
            None => self.0.push((key, measured.client_latency().clone())),
        }
    }

    fn summary(&self, key: &PathKey) -> Option<Summary> {
        let (_, latency) = self.0.iter().find(|(of, _)| of == key)?;
        (latency.count() > 0).then(|| latency.summary())
    }
}

/// Totals of `runs`, in the order of their scenarios, the direct path first. `latencies` has the same runs.
pub fn totals(runs: &[Run], latencies: &Latencies) -> Vec<Total> {
    let mut groups = group_by(runs, PathKey::of);
    let scenarios: Vec<String> = groups.iter().map(|(key, _)| key.scenario.clone()).collect();
    // Each round begins with another path, so the first round's order is arbitrary; all others are read against the direct path.
    groups.sort_by_key(|(key, _)| {
        let scenario = scenarios.iter().position(|of| *of == key.scenario);
        (scenario, key.path != "direct")
    });
    groups
        .into_iter()
        .map(|(key, group)| total(key, &group, latencies))
        .collect()
}

fn total(key: PathKey, group: &Group<'_, Run>, latencies: &Latencies) -> Total {
    let complete = group.complete().count();
    let proxy: Option<f64> = group.complete().map(|run| run.cpu.proxy()).sum();
    let requests = group.total(|run| run.requests);
    let bytes = group.total(|run| run.bytes);
    let per = |parts: f64| proxy.filter(|_| parts > 0.0).map(|proxy| proxy / parts);
    let is_bulk = key.scenario == "bulk";
    Total {
        latency_ns: latencies.summary(&key),
        scenario: key.scenario,
        path: key.path,
        setting: key.setting,
        runs: complete,
        incomplete: group.runs.len() - complete,
        requests,
        errors: errors(group),
        requests_per_s: group.spread(|run| run.requests_per_s),
        bytes_per_s: group.spread(|run| run.bytes_per_s),
        proxy_s_per_gb: is_bulk.then(|| per(bytes as f64 / 1e9)).flatten(),
        proxy_s_per_10k: (!is_bulk).then(|| per(requests as f64 / 1e4)).flatten(),
        load_busy: group
            .spread(|run| run.cpu.load_busy)
            .map(|busy| busy.median),
    }
}

#[cfg(test)]
mod tests {
    use crate::load::result::Errors;
    use crate::report::sample;

    #[test]
    fn direct_path_is_first_and_incomplete_runs_count_by_their_errors() {
        let mut dead = sample::proxy::measured("connect", "proxied", None, 0, 1_000);
        dead.run.complete = false;
        dead.run.errors = Errors {
            total: 3,
            reset: 3,
            ..Errors::default()
        };
        let direct = sample::proxy::measured("connect", "direct", None, 0, 1_000);
        let record = sample::proxy::of(&[dead, direct]);
        let [direct, proxied] = &record.totals[..] else {
            panic!("{:?}", record.totals)
        };
        assert_eq!((&direct.path[..], direct.runs), ("direct", 1));
        assert_eq!((proxied.runs, proxied.incomplete), (0, 1));
        assert_eq!((proxied.errors.reset, proxied.requests), (3, 0));
        assert!(proxied.requests_per_s.is_none() && proxied.latency_ns.is_none());
        assert!(record.overhead.is_empty());
    }
}
