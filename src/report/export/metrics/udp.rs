//! The metrics of UDP runs, and of the settings of two records.

use super::{Rows, cpu_time, known, latencies, ratio, seconds, spread, warnings};
use crate::exposition::{Kind, Page};
use crate::report::model::udp::ComparedSetting;
use crate::udp::result::Run;

pub(super) fn runs(page: &mut Page, runs: &[Run]) {
    use Kind::{Counter, Gauge};
    let all = Rows::new(runs, |number, run| {
        known([
            ("run", Some(number.to_string())),
            ("engine", Some(run.engine.clone())),
            ("mode", Some(run.mode.clone())),
            ("direction", Some(run.direction.clone())),
            ("setting", run.setting.clone()),
        ])
    });
    let complete = (
        "complete",
        Gauge,
        "Whether the run reached its end and both sides reported.",
    );
    all.each(page, complete, |run| run.complete);
    let seconds_of = (
        "duration_seconds",
        Gauge,
        "From the first send to the last arrival.",
    );
    all.each(page, seconds_of, |run| run.seconds);
    let goodput = (
        "goodput_bytes_per_second",
        Gauge,
        "Unique message bytes a second.",
    );
    all.each(page, goodput, |run| run.kb_per_s.map(|kb| kb * 1e3));
    let rate = ("datagrams_per_second", Gauge, "Unique datagrams a second.");
    all.each(page, rate, |run| run.packets_per_s);
    let sent = ("sent_datagrams_total", Counter, "Datagrams sent.");
    all.each(page, sent, |run| {
        (!run.sent.is_unknown).then_some(run.sent.packets)
    });
    let sent = ("sent_bytes_total", Counter, "Message bytes sent.");
    all.each(page, sent, |run| {
        (!run.sent.is_unknown).then_some(run.sent.bytes)
    });
    let received = (
        "received_bytes_total",
        Counter,
        "Message bytes of unique datagrams.",
    );
    all.each(page, received, |run| {
        (!run.received.is_unknown).then_some(run.received.bytes)
    });
    let received = (
        "received_datagrams_total",
        Counter,
        "Datagrams received, by kind: unique and duplicate ones add up to all of the run; late ones count as lost; foreign ones belong to no run.",
    );
    all.split(page, received, "kind", |run| {
        let of = &run.received;
        let kinds = vec![
            ("unique", of.unique),
            ("duplicate", of.duplicates),
            ("late", of.late),
            ("foreign", of.foreign),
        ];
        if of.is_unknown { Vec::new() } else { kinds }
    });
    let reordered = (
        "reordered_datagrams_total",
        Counter,
        "Unique datagrams that arrived after a later one (RFC 4737).",
    );
    all.each(page, reordered, |run| {
        (!run.received.is_unknown).then_some(run.received.reordered)
    });
    let lost = (
        "lost_datagrams_total",
        Counter,
        "Datagrams sent that did not arrive, by where they were lost.",
    );
    all.split(page, lost, "at", |run| {
        let of = &run.lost;
        let places = vec![
            ("sender", of.not_sent),
            ("receiver_socket", of.receiver_socket),
            ("elsewhere", of.elsewhere),
        ];
        if of.is_unknown { Vec::new() } else { places }
    });
    let marks = (
        "received_by_ecn_datagrams_total",
        Counter,
        "Received datagrams by ECN field; with --dscp or --ecn.",
    );
    all.split(page, marks, "ecn", |run| match &run.marks {
        Some(of) => vec![
            ("not_ect", of.not_ect),
            ("ect0", of.ect0),
            ("ect1", of.ect1),
            ("ce", of.ce),
        ],
        None => Vec::new(),
    });
    latencies(
        page,
        &all,
        [
            "One-way latency from the actual send.",
            "One-way latency from the intended send.",
        ],
        [
            |run| run.latency_ns.as_ref(),
            |run| run.latency_from_intended_ns.as_ref(),
        ],
    );
    let jitter = ("jitter_seconds", Gauge, "Interarrival jitter (RFC 3550).");
    all.each(page, jitter, |run| run.jitter_ns.map(|ns| ns / 1e9));
    let clock = (
        "clock_error_seconds",
        Gauge,
        "Half-width of the error bar of the clock offset.",
    );
    all.each(page, clock, |run| run.effective.clock.error_ns.map(seconds));
    let cpu = (
        "sender_cpu_seconds_total",
        "CPU time of the sending threads, by mode.",
    );
    cpu_time(page, &all, cpu, |run| {
        [run.cpu.sender_user_s, run.cpu.sender_system_s]
    });
    let cpu = (
        "receiver_cpu_seconds_total",
        "CPU time of the receiving threads, by mode.",
    );
    cpu_time(page, &all, cpu, |run| {
        [run.cpu.receiver_user_s, run.cpu.receiver_system_s]
    });
    warnings(page, &all, |run| run.warnings.len());
}

pub(super) fn settings(page: &mut Page, settings: &[ComparedSetting]) {
    use Kind::Gauge;
    let all = Rows::new(settings, |_, of| {
        known([
            ("setting", Some(of.setting.clone())),
            ("base", of.base.clone()),
        ])
    });
    all.each(page, ("runs", Gauge, "Complete runs."), |of| of.runs);
    let goodput = (
        "goodput_bytes_per_second",
        Gauge,
        "Unique message bytes a second over the runs.",
    );
    all.split(page, goodput, "of", |of| spread(of.kb_per_s, 1e3));
    let latency = (
        "latency_p50_seconds",
        Gauge,
        "Median latency; of paced runs, from the intended send.",
    );
    all.each(page, latency, |of| of.latency_p50_ns.map(seconds));
    let latency = (
        "latency_p99_seconds",
        Gauge,
        "99 % latency; of paced runs, from the intended send.",
    );
    all.each(page, latency, |of| of.latency_p99_ns.map(seconds));
    ratio(page, &all, ("goodput_ratio", "Goodput"), |of| {
        of.ratios?.kb_per_s
    });
    ratio(page, &all, ("latency_p99_ratio", "99 % latency"), |of| {
        of.ratios?.latency_p99_ns
    });
}
