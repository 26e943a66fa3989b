//! The runs of several ranks as one: the types behind `fleet` of a merged run in `run.json`.

use serde::{Deserialize, Serialize};

use super::packets::{Lost, Received, Traffic};
use crate::stats::spread::Spread;
use crate::units::listed;

/// The ranks behind a merged run. The counts of the run are the sums of those of `ranks`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Fleet {
    /// Number of ranks that were to measure.
    pub size: u64,
    /// The ranks with a result, in order.
    pub ranks: Vec<Rank>,
    /// The ranks without a result.
    pub missing: Vec<MissingRank>,
    /// The complete rank with the lowest goodput; null if no goodput is known.
    pub slowest: Option<String>,
    /// Goodput of the ranks, in 1000 bytes per second.
    pub kb_per_s: Option<Spread>,
    /// From the first rank's first datagram to the last rank's, in ns; null unless the clocks of all ranks are related.
    pub start_skew_ns: Option<u64>,
    /// Half-width of the error bar of `start_skew_ns`, in ns: twice the largest error of a clock offset.
    pub start_skew_error_ns: Option<u64>,
    /// CPU time by host.
    pub hosts: Vec<HostCpu>,
}

/// The result of a rank.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Rank {
    /// The rank; null of a saved run that was merged afterwards.
    pub rank: Option<u64>,
    /// `rank 3`, or the name of the saved run's folder.
    pub name: String,
    /// The host.
    pub host: String,
    /// As the run's own `complete`.
    pub complete: bool,
    /// As the run's own `ended`.
    pub ended: String,
    /// As the run's own `reason`.
    pub reason: Option<String>,
    /// From the common start to the rank's first datagram, in ns; null if unknown.
    pub start_ns: Option<i64>,
    /// The part of `start_ns` by which the rank's schedule is shifted, so that paced ranks take turns, in ns.
    #[serde(default)]
    pub phase_ns: u64,
    /// As the run's own `sent`.
    pub sent: Traffic,
    /// As the run's own `received`.
    pub received: Received,
    /// As the run's own `lost`.
    pub lost: Lost,
    /// As the run's own `seconds`.
    pub seconds: Option<f64>,
    /// As the run's own `kb_per_s`.
    pub kb_per_s: Option<f64>,
    /// Median of the rank's latencies, in ns.
    pub latency_p50_ns: Option<u64>,
    /// 99th percentile of the rank's latencies, in ns.
    pub latency_p99_ns: Option<u64>,
    /// The rank's largest latency, in ns.
    pub latency_max_ns: Option<u64>,
    /// CPU seconds of the rank's sending threads.
    pub sender_s: Option<f64>,
    /// CPU seconds of the threads that received the rank's datagrams.
    pub receiver_s: Option<f64>,
}

/// A rank without a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingRank {
    /// The rank.
    pub rank: u64,
    /// Why: the predicate of a sentence about the rank.
    pub reason: String,
}

impl MissingRank {
    /// The missing ranks with the reason of the first one; `None` without any.
    pub fn named(missing: &[Self]) -> Option<String> {
        let first = missing.first()?;
        let names = missing.iter().map(|rank| rank.rank.to_string());
        let (word, verb) = match missing.len() {
            1 => ("rank", "is"),
            _ => ("ranks", "are"),
        };
        Some(format!(
            "{word} {} {verb} missing (rank {} {})",
            listed(names),
            first.rank,
            first.reason
        ))
    }
}

/// CPU time of the ranks of a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostCpu {
    /// The host.
    pub host: String,
    /// Ranks with a result.
    pub ranks: u64,
    /// CPU seconds of the sending threads; null if a rank's is unknown.
    pub sender_s: Option<f64>,
    /// CPU seconds of the threads that received these ranks' datagrams; null if a rank's is unknown.
    pub receiver_s: Option<f64>,
}
