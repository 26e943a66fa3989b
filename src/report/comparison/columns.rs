//! The columns of `comparison.csv`: each with its name and how its cell is taken from a setting.
//!
//! As in the ledger, what is missing is an empty cell, and a new column goes to the end.

use std::fmt::Display;

use crate::report::record::{Compared, Ratios};
use crate::stats::ratio::{Interval, Ratio};
use crate::stats::spread::Spread;

/// The names of the columns, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|(name, _)| *name)
}

/// The cells of a setting, in the order of [`names`].
pub(super) fn cells(row: &Compared) -> impl Iterator<Item = String> {
    COLUMNS.iter().map(|(_, cell)| cell(row))
}

type Column = (&'static str, fn(&Compared) -> String);

const COLUMNS: &[Column] = &[
    ("setting", |row| row.setting.clone()),
    ("base", |row| some(row.base.as_ref())),
    ("engine", |row| row.engine.clone()),
    ("mode", |row| row.mode.clone()),
    ("chunk", |row| row.requested.chunk.to_string()),
    ("batch", |row| some(row.requested.batch)),
    ("gso", |row| row.requested.gso.clone()),
    ("zerocopy", |row| row.requested.zerocopy.clone()),
    ("uring_receive", |row| {
        some(row.requested.uring.as_ref().map(|uring| &uring.receive))
    }),
    ("uring_ring_size", |row| {
        let uring = row.requested.uring.as_ref();
        some(uring.and_then(|uring| uring.ring_size))
    }),
    ("streams", |row| row.requested.streams.to_string()),
    ("sndbuf", |row| some(row.requested.sndbuf)),
    ("rcvbuf", |row| some(row.requested.rcvbuf)),
    ("rate_bits_per_s", |row| some(row.requested.rate_bits_per_s)),
    ("pps", |row| some(row.requested.pps)),
    ("runs", |row| row.runs.to_string()),
    ("incomplete", |row| row.incomplete.to_string()),
    ("kb_per_s_median", |row| median(row.kb_per_s)),
    ("kb_per_s_min", |row| min(row.kb_per_s)),
    ("kb_per_s_max", |row| max(row.kb_per_s)),
    ("ratio", |row| ratio(row, |of| of.kb_per_s)),
    ("ratio_low", |row| low(row, |of| of.kb_per_s)),
    ("ratio_high", |row| high(row, |of| of.kb_per_s)),
    ("verdict", |row| verdict(row, |of| of.kb_per_s)),
    ("packets_per_s_median", |row| median(row.packets_per_s)),
    ("packets_per_s_min", |row| min(row.packets_per_s)),
    ("packets_per_s_max", |row| max(row.packets_per_s)),
    ("packets_ratio", |row| ratio(row, |of| of.packets_per_s)),
    ("packets_ratio_low", |row| low(row, |of| of.packets_per_s)),
    ("packets_ratio_high", |row| high(row, |of| of.packets_per_s)),
    ("packets_verdict", |row| verdict(row, |of| of.packets_per_s)),
    ("cpu_s_per_million_median", |row| {
        median(row.cpu_s_per_million)
    }),
    ("cpu_s_per_million_min", |row| min(row.cpu_s_per_million)),
    ("cpu_s_per_million_max", |row| max(row.cpu_s_per_million)),
    ("sender_s_per_million_median", |row| {
        median(row.sender_s_per_million)
    }),
    ("receiver_s_per_million_median", |row| {
        median(row.receiver_s_per_million)
    }),
    ("cpu_ratio", |row| ratio(row, |of| of.cpu_s_per_million)),
    ("cpu_ratio_low", |row| low(row, |of| of.cpu_s_per_million)),
    ("cpu_ratio_high", |row| high(row, |of| of.cpu_s_per_million)),
    ("cpu_verdict", |row| verdict(row, |of| of.cpu_s_per_million)),
    ("latency_p50_ns", |row| some(row.latency_p50_ns)),
    ("latency_p99_ns", |row| some(row.latency_p99_ns)),
    ("p99_ratio", |row| ratio(row, |of| of.latency_p99_ns)),
    ("p99_ratio_low", |row| low(row, |of| of.latency_p99_ns)),
    ("p99_ratio_high", |row| high(row, |of| of.latency_p99_ns)),
    ("p99_verdict", |row| verdict(row, |of| of.latency_p99_ns)),
    ("sent_packets", |row| row.sent_packets.to_string()),
    ("lost_packets", |row| row.lost_packets.to_string()),
    ("lost_percent", |row| {
        let share = row.lost_packets as f64 / row.sent_packets as f64;
        some((row.sent_packets > 0).then_some(share * 100.0))
    }),
];

fn some(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn median(of: Option<Spread>) -> String {
    some(of.map(|spread| spread.median))
}

fn min(of: Option<Spread>) -> String {
    some(of.map(|spread| spread.min))
}

fn max(of: Option<Spread>) -> String {
    some(of.map(|spread| spread.max))
}

fn ratio(row: &Compared, of: fn(Ratios) -> Option<Ratio>) -> String {
    some(row.ratios.and_then(of).map(|ratio| ratio.ratio))
}

fn interval(row: &Compared, of: fn(Ratios) -> Option<Ratio>) -> Option<Interval> {
    row.ratios.and_then(of)?.interval
}

fn low(row: &Compared, of: fn(Ratios) -> Option<Ratio>) -> String {
    some(interval(row, of).map(|interval| interval.low))
}

fn high(row: &Compared, of: fn(Ratios) -> Option<Ratio>) -> String {
    some(interval(row, of).map(|interval| interval.high))
}

fn verdict(row: &Compared, of: fn(Ratios) -> Option<Ratio>) -> String {
    some(row.ratios.and_then(of).map(|ratio| ratio.verdict.name()))
}
