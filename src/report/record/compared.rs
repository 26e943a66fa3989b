//! The settings of a comparison, as they stand in a record beside its runs.

use serde::{Deserialize, Serialize};

use super::Requested;
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;

/// What the complete runs of one setting come to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Compared {
    /// What it is called here.
    pub setting: String,
    /// The setting that its ratios are to; null when it is that one.
    pub base: Option<String>,
    /// As [`super::Run::engine`].
    pub engine: String,
    /// As [`super::Run::mode`].
    pub mode: String,
    /// As [`super::Run::requested`].
    pub requested: Requested,
    /// Complete runs.
    pub runs: usize,
    /// Runs that are not, and do not count.
    pub incomplete: usize,
    /// Goodput over these runs, in 1000 bytes a second.
    pub kb_per_s: Option<Spread>,
    /// Unique datagrams a second.
    pub packets_per_s: Option<Spread>,
    /// CPU seconds of both sides, per million datagrams.
    pub cpu_s_per_million: Option<Spread>,
    /// The sender's part of that.
    pub sender_s_per_million: Option<Spread>,
    /// The receiver's.
    pub receiver_s_per_million: Option<Spread>,
    /// Median latency in ns, from the intended send where paced: of all datagrams of these runs together,
    /// or between two records, which have no histograms, of the median run.
    pub latency_p50_ns: Option<u64>,
    /// The 99 % latency, likewise.
    pub latency_p99_ns: Option<u64>,
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Of these, lost.
    pub lost_packets: u64,
    /// Figures as multiples of the base's; null for the base.
    pub ratios: Option<Ratios>,
}

/// Figures of one setting as multiples of another's. Each is null where one of the two has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// Of goodput.
    pub kb_per_s: Option<Ratio>,
    /// Of datagrams a second.
    pub packets_per_s: Option<Ratio>,
    /// Of CPU time a datagram.
    pub cpu_s_per_million: Option<Ratio>,
    /// Of the runs' own 99 % latencies.
    pub latency_p99_ns: Option<Ratio>,
}
