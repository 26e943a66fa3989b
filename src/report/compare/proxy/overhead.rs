//! The proxied path against the direct path, and one setting against another, within one command.

use super::{CPU, P99, PathKey, RATE};
use crate::load::result::Run;
use crate::report::compare::group::{Group, Pairing, group_by};
use crate::report::model::proxy::{Added, Overhead, SettingRatios};
use crate::stats::latency::Summary;

/// The overhead in each scenario and with each setting.
pub fn overhead(runs: &[Run]) -> Vec<Overhead> {
    let groups = group_by(runs, PathKey::of);
    let on = |path: &'static str| groups.iter().filter(move |(key, _)| key.path == path);
    on("proxied")
        .filter_map(|(key, proxied)| {
            let (_, direct) = on("direct").find(|(of, _)| of.scenario == key.scenario)?;
            let rounds = proxied.rounds(direct).len();
            (rounds > 0).then(|| Overhead {
                scenario: key.scenario.clone(),
                setting: key.setting.clone(),
                rounds,
                rate: proxied.ratio(direct, RATE, Pairing::Rounds),
                added_ns: added(proxied, direct),
            })
        })
        .collect()
}

/// Each setting of a scenario against the first of that scenario; empty with one setting.
pub fn within_command(runs: &[Run]) -> Vec<SettingRatios> {
    let groups = group_by(runs, PathKey::of);
    let mut found = Vec::new();
    for path in ["proxied", "blocked"] {
        let on_path = || groups.iter().filter(|(key, _)| key.path == path);
        for (key, group) in on_path() {
            let base = on_path().find(|(of, _)| of.scenario == key.scenario);
            let (Some((base_key, base)), Some(setting)) = (base, &key.setting) else {
                continue;
            };
            let Some(base_name) = base_key.setting.as_ref().filter(|base| *base != setting) else {
                continue;
            };
            let ratio = |figure| group.ratio(base, figure, Pairing::Rounds);
            found.push(SettingRatios {
                scenario: key.scenario.clone(),
                path: path.to_owned(),
                setting: setting.clone(),
                base: base_name.clone(),
                rounds: group.rounds(base).len(),
                rate: ratio(RATE),
                latency_p99_ns: ratio(P99),
                proxy_cpu: ratio(CPU),
            });
        }
    }
    found
}

fn added(proxied: &Group<'_, Run>, direct: &Group<'_, Run>) -> Option<Added> {
    let of = |percentile: fn(&Summary) -> Option<u64>| {
        proxied.difference(direct, |run| {
            percentile(run.client_latency()?).map(|ns| ns as f64)
        })
    };
    let added = Added {
        p50: of(|summary| summary.p50),
        p90: of(|summary| summary.p90),
        p99: of(|summary| summary.p99),
        p99_9: of(|summary| summary.p99_9),
    };
    (added != Added::default()).then_some(added)
}

#[cfg(test)]
mod tests {
    use crate::report::sample;

    #[test]
    fn added_latency_is_free_of_drift() {
        let record = sample::proxy::record();
        let of = |scenario: &str, setting: &str| {
            let mut all = record.overhead.iter();
            all.find(|of| of.scenario == scenario && of.setting.as_deref() == Some(setting))
                .unwrap()
        };
        let mio = of("request-response", "mio");
        assert_eq!(mio.rounds, 5);
        let p50 = mio.added_ns.unwrap().p50.unwrap();
        // Values in a histogram have three digits.
        assert!((p50.difference - 100_000.0).abs() < 300.0, "{p50:?}");
        let interval = p50.interval.unwrap();
        assert!(
            interval.low > 99_000.0 && interval.high < 101_000.0,
            "{interval:?}"
        );
        assert!((mio.rate.unwrap().ratio - 0.5).abs() < 0.01);
        assert_eq!(of("bulk", "uring").added_ns, None);
        assert!(of("bulk", "uring").rate.is_some());
        assert!(!record.overhead.iter().any(|of| of.scenario == "blocked"));
    }

    #[test]
    fn settings_are_compared_with_the_first_of_their_scenario() {
        let record = sample::proxy::record();
        let found: Vec<_> = record
            .comparison
            .iter()
            .map(|of| (&of.scenario[..], &of.setting[..], &of.base[..]))
            .collect();
        assert_eq!(
            found,
            [
                ("request-response", "uring", "mio"),
                ("bulk", "uring", "mio")
            ]
        );
        let first = &record.comparison[0];
        assert!((first.latency_p99_ns.unwrap().ratio - 1.5).abs() < 0.01);
        assert!((first.proxy_cpu.unwrap().ratio - 1.0).abs() < 1e-9);
    }
}
