//! The counts of an interval.

use serde::{Deserialize, Serialize};

/// One row of `intervals.csv`: the counts of the receivers of all streams in an interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Start of the interval, in seconds from the start of the run.
    pub start_s: f64,
    /// Length in seconds.
    pub seconds: f64,
    /// Datagrams received, including duplicates.
    pub packets: u64,
    /// Message bytes of the unique datagrams.
    pub bytes: u64,
    /// `bytes` / 1000 / `seconds`.
    pub kb_per_s: f64,
    /// Datagrams missing at the end of the interval minus those missing at its start; negative if missing datagrams arrived.
    pub missing: i64,
    /// Duplicates.
    pub duplicates: u64,
    /// Reordered datagrams.
    pub reordered: u64,
    /// Median latency in ns.
    pub latency_p50_ns: Option<u64>,
    /// 99 % latency in ns.
    pub latency_p99_ns: Option<u64>,
    /// Largest latency in ns.
    pub latency_max_ns: Option<u64>,
    /// Datagrams received with the mark CE; absent unless marks are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce: Option<u64>,
}

impl Interval {
    /// Removes the latencies, which are unknown if the clocks are unrelated.
    pub(in crate::udp) fn clear_latency(&mut self) {
        (
            self.latency_p50_ns,
            self.latency_p99_ns,
            self.latency_max_ns,
        ) = (None, None, None);
    }
}
