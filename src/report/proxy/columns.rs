//! The columns of `proxy.csv`, as [`ledger::columns`] are those of `udp.csv`. A new one goes to the end.

use std::fmt::Display;

use super::{Record, Run};
use crate::report::ledger;
use crate::stats::latency::Summary;

/// One run of a command.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The name of the command's folder; empty when there is none.
    pub id: &'a str,
    /// Which run of the command, counted from 0.
    pub number: usize,
    /// The command.
    pub record: &'a Record,
    /// The run.
    pub run: &'a Run,
}

impl<'a> Row<'a> {
    /// A row for each run of `record`, whose folder is called `id`.
    pub fn all(id: &'a str, record: &'a Record) -> Vec<Self> {
        let runs = record.frame.runs.iter().enumerate();
        runs.map(|(number, run)| Self {
            id,
            number,
            record,
            run,
        })
        .collect()
    }

    /// That of the last run.
    pub fn last(id: &'a str, record: &'a Record) -> Option<Self> {
        let runs = &record.frame.runs;
        runs.last().map(|run| Self {
            id,
            number: runs.len() - 1,
            record,
            run,
        })
    }
}

impl ledger::Row for Row<'_> {
    const LEDGER: &'static str = "proxy.csv";

    fn names() -> impl Iterator<Item = &'static str> {
        COLUMNS.iter().map(|(name, _)| *name)
    }

    fn cells(&self) -> impl Iterator<Item = String> {
        COLUMNS.iter().map(|(_, cell)| cell(self))
    }
}

type Column = (&'static str, fn(&Row<'_>) -> String);

const COLUMNS: &[Column] = &[
    ("id", |row| row.id.to_owned()),
    ("run", |row| row.number.to_string()),
    ("started_at", |row| row.record.frame.started_at.clone()),
    ("wirebench", |row| row.record.frame.wirebench.clone()),
    ("kernel", |row| row.record.frame.host.kernel.clone()),
    ("cpu", |row| row.record.frame.host.cpu.clone()),
    ("cores", |row| row.record.frame.host.cores.to_string()),
    ("scenario", |row| row.run.scenario.clone()),
    ("path", |row| row.run.path.clone()),
    ("engine", |row| some(row.run.engine.as_ref())),
    ("protocol", |row| some(row.run.protocol.as_ref())),
    ("forwarding", |row| some(row.run.forwarding.as_ref())),
    ("proxy_threads", |row| some(row.run.proxy_threads)),
    ("setting", |row| some(row.run.setting.as_ref())),
    ("round", |row| row.run.round.to_string()),
    ("complete", |row| row.run.complete.to_string()),
    ("via", |row| some(row.run.requested.via.as_ref())),
    ("origin", |row| some(row.run.requested.origin.as_ref())),
    ("connections", |row| {
        row.run.requested.connections.to_string()
    }),
    ("message", |row| some(row.run.requested.message)),
    ("rate_per_s", |row| figure(row.run.requested.rate_per_s)),
    ("requested_bytes", |row| some(row.run.requested.bytes)),
    ("duration_s", |row| {
        figure(Some(row.run.requested.duration_s))
    }),
    ("load_threads", |row| {
        row.run.requested.load_threads.to_string()
    }),
    ("requests", |row| row.run.requests.to_string()),
    ("errors", |row| row.run.errors.total.to_string()),
    ("error_kinds", |row| {
        let some = row.run.errors.kinds().filter(|(_, count)| *count > 0);
        let told: Vec<_> = some
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        told.join(" ")
    }),
    ("bytes", |row| row.run.bytes.to_string()),
    ("seconds", |row| figure(row.run.seconds)),
    ("requests_per_s", |row| figure(row.run.requests_per_s)),
    ("bytes_per_s", |row| figure(row.run.bytes_per_s)),
    ("latency_count", |row| latency(row, |of| Some(of.count))),
    ("latency_min_ns", |row| latency(row, |of| of.min)),
    ("latency_mean_ns", |row| {
        figure(row.run.latency_ns.and_then(|of| of.mean))
    }),
    ("latency_p50_ns", |row| latency(row, |of| of.p50)),
    ("latency_p90_ns", |row| latency(row, |of| of.p90)),
    ("latency_p99_ns", |row| latency(row, |of| of.p99)),
    ("latency_p99_9_ns", |row| latency(row, |of| of.p99_9)),
    ("latency_max_ns", |row| latency(row, |of| of.max)),
    ("intended_p50_ns", |row| intended(row, |of| of.p50)),
    ("intended_p90_ns", |row| intended(row, |of| of.p90)),
    ("intended_p99_ns", |row| intended(row, |of| of.p99)),
    ("intended_p99_9_ns", |row| intended(row, |of| of.p99_9)),
    ("intended_max_ns", |row| intended(row, |of| of.max)),
    ("proxy_user_s", |row| figure(row.run.cpu.proxy_user_s)),
    ("proxy_system_s", |row| figure(row.run.cpu.proxy_system_s)),
    ("proxy_s_per_gb", |row| figure(row.run.cpu.proxy_s_per_gb)),
    ("proxy_s_per_10k", |row| figure(row.run.cpu.proxy_s_per_10k)),
    ("load_user_s", |row| figure(row.run.cpu.load_user_s)),
    ("load_system_s", |row| figure(row.run.cpu.load_system_s)),
    ("load_busy", |row| figure(row.run.cpu.load_busy)),
    ("origin_user_s", |row| figure(row.run.cpu.origin_user_s)),
    ("origin_system_s", |row| figure(row.run.cpu.origin_system_s)),
    ("reason", |row| some(row.run.reason.as_ref())),
    ("signed_in", |row| row.run.requested.signed_in.to_string()),
    ("warnings", |row| row.run.warnings.join(" ")),
];

fn some(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn figure(value: Option<f64>) -> String {
    some(value.filter(|value| value.is_finite()))
}

fn latency(row: &Row<'_>, of: impl Fn(&Summary) -> Option<u64>) -> String {
    some(row.run.latency_ns.as_ref().and_then(of))
}

fn intended(row: &Row<'_>, of: impl Fn(&Summary) -> Option<u64>) -> String {
    some(row.run.latency_from_intended_ns.as_ref().and_then(of))
}
