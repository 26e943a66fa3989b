//! The metrics of proxy runs, and of the settings of two records.

use super::{Rows, cpu_time, known, latencies, ratio, seconds, spread, warnings};
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
    let cpu = ("proxy_cpu_seconds_total", "CPU time of the proxy, by mode.");
    cpu_time(page, &all, cpu, |run| {
        [run.cpu.proxy_user_s, run.cpu.proxy_system_s]
    });
    let cpu = (
        "load_cpu_seconds_total",
        "CPU time of the load generator, by mode.",
    );
    cpu_time(page, &all, cpu, |run| {
        [run.cpu.load_user_s, run.cpu.load_system_s]
    });
    let cpu = (
        "origin_cpu_seconds_total",
        "CPU time of the origin server, by mode.",
    );
    cpu_time(page, &all, cpu, |run| {
        [run.cpu.origin_user_s, run.cpu.origin_system_s]
    });
    let busy = (
        "busy_ratio",
        Gauge,
        "CPU time of the load generator as a share of its threads' time; near 1 it may be the limit.",
    );
    all.each(page, busy, |run| run.cpu.load_busy);
    warnings(page, &all, |run| run.warnings.len());
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
    ratio(page, &all, ("rate_ratio", "The rate"), |of| of.ratios?.rate);
    ratio(page, &all, ("latency_p99_ratio", "99 % latency"), |of| {
        of.ratios?.latency_p99_ns
    });
}
