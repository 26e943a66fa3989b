//! Records with runs in them, for the tests.

use super::overhead::{compared, overhead};
use super::totals::{Latencies, totals};
use super::{Cpu, Errors, Measured, Record, Requested, Run};
use crate::report::record::{self, Host, SCHEMA};
use crate::stats::latency::Latency;

/// A run of which each request took `ns`.
pub(in crate::report) fn measured(
    scenario: &str,
    path: &str,
    setting: Option<&str>,
    round: usize,
    ns: u64,
) -> Measured {
    let mut latency = Latency::new();
    (0..100).for_each(|_| latency.record(ns));
    let is_bulk = scenario == "bulk";
    let rate = 1e9 / ns as f64;
    let run = Run {
        scenario: scenario.to_owned(),
        path: path.to_owned(),
        engine: setting.map(str::to_owned),
        protocol: (path != "direct").then(|| "socks5".to_owned()),
        setting: setting.map(str::to_owned),
        round,
        complete: true,
        requested: Requested {
            connections: 32,
            message: (!is_bulk).then_some(64),
            duration_s: 0.4,
            load_threads: 1,
            ..Requested::default()
        },
        requests: 100,
        bytes: 6_400,
        seconds: Some(0.4),
        requests_per_s: (!is_bulk).then_some(rate),
        bytes_per_s: Some(64.0 * rate),
        latency_ns: (!is_bulk).then(|| latency.summary()),
        cpu: Cpu {
            proxy_user_s: Some(0.01),
            proxy_system_s: Some(0.02),
            proxy_s_per_10k: (!is_bulk).then_some(3.0),
            proxy_s_per_gb: is_bulk.then_some(0.25),
            load_busy: Some(0.5),
            ..Cpu::default()
        },
        errors: Errors::default(),
        ..Run::default()
    };
    Measured {
        run,
        latency: if is_bulk { Latency::new() } else { latency },
        latency_from_intended: Latency::new(),
    }
}

/// Of these runs.
pub(in crate::report) fn of(all: &[Measured]) -> Record {
    let mut latencies = Latencies::default();
    all.iter().for_each(|measured| latencies.add(measured));
    let runs: Vec<Run> = all.iter().map(|measured| measured.run.clone()).collect();
    Record {
        interrupted: false,
        totals: totals(&runs, &latencies),
        overhead: overhead(&runs),
        frame: record::Record {
            schema: SCHEMA,
            kind: "proxy".to_owned(),
            wirebench: "0.1.0".to_owned(),
            started_at: "2026-11-22T14:05:01Z".to_owned(),
            command: vec!["bench".to_owned(), "proxy".to_owned()],
            host: Host::here(),
            comparison: compared(&runs),
            runs,
        },
    }
}

/// Five rounds, drifting, of two settings, the second of which adds twice as much.
pub(in crate::report) fn record() -> Record {
    let mut all = Vec::new();
    for round in 0..5 {
        let drift = 100 * round as u64;
        for scenario in ["request-response", "bulk"] {
            all.push(measured(scenario, "direct", None, round, 100_000 + drift));
            for (setting, ns) in [("mio", 200_000), ("uring", 300_000)] {
                all.push(measured(
                    scenario,
                    "proxied",
                    Some(setting),
                    round,
                    ns + drift,
                ));
            }
        }
        all.push(measured("blocked", "blocked", Some("mio"), round, 50_000));
    }
    of(&all)
}
