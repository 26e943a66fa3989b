//! The metrics of proxy runs, and of the settings of two records.

use super::{Rows, known, latencies, ratio, seconds, spread};
use crate::exposition::{Kind, Page};
use crate::load::result::Run;
use crate::report::model::proxy::ComparedSetting;

pub(super) fn runs(page: &mut Page, runs: &[Run]) {
    use Kind::{Counter, Gauge};
    let all = Rows::new(runs, |_, run| {
        known([
            ("scenario", Some(run.scenario.clone())),
            ("path", Some(run.path.clone())),
            ("round", Some(run.round.to_string())),
            ("engine", run.engine.clone()),
            ("protocol", run.protocol.clone()),
            ("setting", run.setting.clone()),
        ])
    });
    let complete = (
        "complete",
        Gauge,
        "Whether the run reached its end and had a correct answer.",
    );
    all.each(page, complete, |run| run.complete);
    all.each(page, ("duration_seconds", Gauge, "Measured time."), |run| {
        run.seconds
    });
    let requests = (
        "requests_total",
        Counter,
        "Correctly answered requests; for bulk, streams; for blocked, refusals.",
    );
    all.each(page, requests, |run| run.requests);
    let errors = ("errors_total", Counter, "Failed requests, by kind.");
    all.split(page, errors, "kind", |run| run.errors.kinds().collect());
    let bytes = (
        "bytes_total",
        Counter,
        "Message bytes of correctly answered requests, one way.",
    );
    all.each(page, bytes, |run| run.bytes);
    let rate = ("requests_per_second", Gauge, "Requests a second.");
    all.each(page, rate, |run| run.requests_per_s);
    let rate = ("bytes_per_second", Gauge, "Message bytes a second.");
    all.each(page, rate, |run| run.bytes_per_s);
    latencies(
        page,
        &all,
        [
            "From the actual start of a request to the end of its answer.",
            "From the scheduled start of a request to the end of its answer.",
        ],
        [
            |run| run.latency_ns.as_ref(),
            |run| run.latency_from_intended_ns.as_ref(),
        ],
    );
    for (name, help, get) in [
        (
            "proxy_cpu_seconds_total",
            "CPU time of the proxy, by mode.",
            (|run| [run.cpu.proxy_user_s, run.cpu.proxy_system_s]) as fn(&Run) -> [Option<f64>; 2],
        ),
        (
            "load_cpu_seconds_total",
            "CPU time of the load generator, by mode.",
            |run| [run.cpu.load_user_s, run.cpu.load_system_s],
        ),
        (
            "origin_cpu_seconds_total",
            "CPU time of the origin server, by mode.",
            |run| [run.cpu.origin_user_s, run.cpu.origin_system_s],
        ),
    ] {
        all.split(page, (name, Counter, help), "cpu_mode", |run| {
            let [user, system] = get(run);
            vec![("user", user), ("system", system)]
        });
    }
    let busy = (
        "busy_ratio",
        Gauge,
        "CPU time of the load generator as a share of its threads' time; near 1 it may be the limit.",
    );
    all.each(page, busy, |run| run.cpu.load_busy);
    let warnings = (
        "warnings",
        Gauge,
        "Warnings about effects of the measurement on the run.",
    );
    all.each(page, warnings, |run| run.warnings.len());
}

pub(super) fn settings(page: &mut Page, settings: &[ComparedSetting]) {
    use Kind::Gauge;
    let all = Rows::new(settings, |_, of| {
        known([
            ("setting", Some(of.setting.clone())),
            ("base", of.base.clone()),
            ("scenario", Some(of.scenario.clone())),
            ("path", Some(of.path.clone())),
        ])
    });
    all.each(page, ("runs", Gauge, "Complete runs."), |of| of.runs);
    let rate = (
        "requests_per_second",
        Gauge,
        "Requests a second over the runs.",
    );
    all.split(page, rate, "of", |of| spread(of.requests_per_s, 1.0));
    let rate = (
        "bytes_per_second",
        Gauge,
        "Message bytes a second over the runs.",
    );
    all.split(page, rate, "of", |of| spread(of.bytes_per_s, 1.0));
    let latency = (
        "latency_p50_seconds",
        Gauge,
        "Median latency of the median run.",
    );
    all.each(page, latency, |of| of.latency_p50_ns.map(seconds));
    let latency = (
        "latency_p99_seconds",
        Gauge,
        "99 % latency of the median run.",
    );
    all.each(page, latency, |of| of.latency_p99_ns.map(seconds));
    let ratios = (
        "rate_ratio",
        Gauge,
        "The rate as a multiple of the base's, with the ends of the 95 % interval.",
    );
    all.split(page, ratios, "bound", |of| {
        ratio(of.ratios.and_then(|of| of.rate))
    });
    let ratios = (
        "latency_p99_ratio",
        Gauge,
        "99 % latency as a multiple of the base's, with the ends of the 95 % interval.",
    );
    all.split(page, ratios, "bound", |of| {
        ratio(of.ratios.and_then(|of| of.latency_p99_ns))
    });
}
