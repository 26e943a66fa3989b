//! The result of a rank of `bench proxy load --fleet`, as the sum takes it.

use serde::{Deserialize, Serialize};

use crate::cli::fleet::gather::Sum;
use crate::load::merge::{Merge, RankResult};
use crate::load::result::{Measured, Run};
use crate::stats::saved_histogram::SavedHistogram;
use crate::udp::fleet::clock::ServerClock;

/// The result of a rank, as it is sent to the collector.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct Report {
    host: String,
    run: Run,
    /// In ns of the server's clock.
    start_ns: Option<u64>,
    start_error_ns: u64,
    latency: SavedHistogram,
    intended: SavedHistogram,
    lateness: SavedHistogram,
}

impl Report {
    pub(super) fn new(host: String, measured: &Measured, clock: ServerClock) -> Self {
        Self {
            host,
            run: measured.run.clone(),
            start_ns: measured.start_ns.map(|ns| clock.there(ns)),
            start_error_ns: clock.error_ns,
            latency: (&measured.latency).into(),
            intended: (&measured.latency_from_intended).into(),
            lateness: (&measured.lateness).into(),
        }
    }
}

impl Sum for Merge {
    type Report = Report;

    fn add(&mut self, rank: u32, report: &Report, _at_ns: Option<u64>) -> Result<(), String> {
        let result = RankResult {
            rank: Some(u64::from(rank)),
            name: &format!("rank {rank}"),
            host: &report.host,
            run: &report.run,
            latency: &report.latency,
            intended: &report.intended,
            lateness: &report.lateness,
            start_ns: report.start_ns,
            start_error_ns: Some(report.start_error_ns),
        };
        let added = Self::add(self, result);
        added.map_err(|error| format!("has a result that cannot be merged: {error}"))
    }
}
