//! Proxy records and runs.

use crate::load::fleet::MissingRank;
use crate::load::merge::{Merge, RankResult};
use crate::load::result::{Cpu, Errors, Measured, Requested, Run};
use crate::report::compare::proxy::{Latencies, overhead, totals, within_command};
use crate::report::model::{Curves, Meta, ProxyRecord};
use crate::stats::latency::Latency;
use crate::stats::saved_histogram::SavedHistogram;

/// A run in which each request takes `ns`.
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
        lateness: Latency::new(),
        start_ns: None,
    }
}

/// A merged run of `ranks` ranks; if there are several, another one is missing.
pub(in crate::report) fn merged(ranks: u64) -> Measured {
    let mut merge = Merge::new(Some(0));
    for rank in 0..ranks {
        let mut one = measured("connect", "proxied", None, 0, 100_000 + rank);
        one.run.cpu.load_user_s = Some(0.1);
        one.run.cpu.load_system_s = Some(0.1);
        let added = merge.add(RankResult {
            rank: Some(rank),
            name: &format!("rank {rank}"),
            host: &format!("node{rank}"),
            run: &one.run,
            latency: &(&one.latency).into(),
            intended: &SavedHistogram::default(),
            lateness: &SavedHistogram::default(),
            start_ns: Some(rank),
            start_error_ns: Some(1_000),
        });
        assert_eq!(added, Ok(()));
    }
    let missing = (ranks > 1).then(|| MissingRank {
        rank: ranks,
        reason: "never came".to_owned(),
    });
    merge.finish(ranks + 1, missing.into_iter().collect())
}

/// A record of these runs.
pub(in crate::report) fn of(all: &[Measured]) -> ProxyRecord {
    let mut latencies = Latencies::default();
    all.iter().for_each(|measured| latencies.add(measured));
    let runs: Vec<Run> = all.iter().map(|measured| measured.run.clone()).collect();
    ProxyRecord {
        interrupted: false,
        curves: Curves::default(),
        totals: totals(&runs, &latencies),
        overhead: overhead(&runs),
        meta: Meta::here("proxy", 0, vec!["bench".to_owned(), "proxy".to_owned()]),
        comparison: within_command(&runs),
        runs,
    }
}

/// Five drifting rounds of two settings; the second adds twice the latency of the first.
pub(in crate::report) fn record() -> ProxyRecord {
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
