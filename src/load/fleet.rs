//! The ranks of a merged run: load generators that measured at one time.
//!
//! These types are a part of the saved record. Programs rely on the keys: add keys, never rename them. Unknown values are null.

use serde::{Deserialize, Serialize};

use super::result::{Errors, Run};
use crate::stats::spread::Spread;
pub use crate::udp::result::MissingRank;

/// The ranks of a merged run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Fleet {
    /// Number of ranks that were to measure.
    pub size: u64,
    /// The ranks with a result, in order.
    pub ranks: Vec<Rank>,
    /// The ranks without a result.
    pub missing: Vec<MissingRank>,
    /// The complete rank with the lowest rate; if a rate is requested, with the highest 99 % latency.
    pub slowest: Option<String>,
    /// Requests per second of the ranks; null for bulk.
    pub requests_per_s: Option<Spread>,
    /// Bytes per second of the ranks; null for blocked.
    pub bytes_per_s: Option<Spread>,
    /// 99 % latency of the ranks in ns, as [`Rank::latency_p99_ns`]; null for bulk.
    pub latency_p99_ns: Option<Spread>,
    /// From the first rank's start to the last rank's, in ns; null if a start is unknown.
    pub start_skew_ns: Option<u64>,
    /// Half-width of the error bar of `start_skew_ns`, in ns: twice the largest error of a clock offset; null if unknown.
    pub start_skew_error_ns: Option<u64>,
}

/// The result of a rank.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Rank {
    /// The rank; null of a saved run that was merged afterwards, and of a total.
    pub rank: Option<u64>,
    /// `rank 3`, or the name of the saved run's folder.
    pub name: String,
    /// The host.
    pub host: String,
    /// As [`Run::complete`].
    pub complete: bool,
    /// As [`Run::reason`].
    pub reason: Option<String>,
    /// From the common start to the rank's, in ns; null if unknown.
    pub start_ns: Option<i64>,
    /// The rank's concurrent connections; for bulk, streams.
    pub connections: usize,
    /// The rank's share of the requested rate; null for an unlimited rate.
    pub rate_per_s: Option<f64>,
    /// As [`Run::requests`].
    pub requests: u64,
    /// As [`Run::errors`].
    pub errors: Errors,
    /// As [`Run::bytes`].
    pub bytes: u64,
    /// As [`Run::seconds`].
    pub seconds: Option<f64>,
    /// As [`Run::requests_per_s`].
    pub requests_per_s: Option<f64>,
    /// As [`Run::bytes_per_s`].
    pub bytes_per_s: Option<f64>,
    /// Median latency; with a rate, from the scheduled start; null for bulk.
    pub latency_p50_ns: Option<u64>,
    /// 99 % latency; with a rate, from the scheduled start; null for bulk.
    pub latency_p99_ns: Option<u64>,
    /// Largest latency; with a rate, from the scheduled start; null for bulk.
    pub latency_max_ns: Option<u64>,
    /// CPU time of the rank's load generator threads.
    pub load_s: Option<f64>,
    /// This time as a share of the threads' wall time.
    pub load_busy: Option<f64>,
}

impl Rank {
    /// The figures of a run as a row. Its start is unknown.
    pub fn of(run: &Run, rank: Option<u64>, name: &str, host: &str) -> Self {
        let latency = run.client_latency().copied().unwrap_or_default();
        Self {
            rank,
            name: name.to_owned(),
            host: host.to_owned(),
            complete: run.complete,
            reason: run.reason.clone(),
            start_ns: None,
            connections: run.requested.connections,
            rate_per_s: run.requested.rate_per_s,
            requests: run.requests,
            errors: run.errors,
            bytes: run.bytes,
            seconds: run.seconds,
            requests_per_s: run.requests_per_s,
            bytes_per_s: run.bytes_per_s,
            latency_p50_ns: latency.p50,
            latency_p99_ns: latency.p99,
            latency_max_ns: latency.max,
            load_s: run.cpu.load(),
            load_busy: run.cpu.load_busy,
        }
    }

    /// The rate that the scenario measures, as [`Run::rate`].
    pub fn rate(&self) -> Option<f64> {
        self.requests_per_s.or(self.bytes_per_s)
    }
}
