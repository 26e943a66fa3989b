//! The record of `bench udp`: its `run.json`, and the settings of a comparison.
//!
//! Programs rely on the keys: add keys, never rename them. Byte counts, packet counts and ns are integers. Unknown values are null,
//! never 0.

use serde::{Deserialize, Serialize};

use super::curve::{Curves, Distributed, histogram_name};
use super::meta::Meta;
use crate::stats::latency::Summary;
use crate::stats::ratio::Ratio;
use crate::stats::spread::Spread;
use crate::udp::result::{Interval, Requested, Run};

/// A `run.json` of `bench udp`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UdpRecord {
    /// Command, version and machine.
    #[serde(flatten)]
    pub meta: Meta,
    /// One entry per run.
    pub runs: Vec<Run>,
    /// One entry per setting, the base first; empty without a comparison.
    #[serde(default)]
    pub comparison: Vec<ComparedSetting>,
    /// Latency distributions of the runs, where they are known. They are in the histogram files, not in `run.json`.
    #[serde(skip)]
    pub curves: Curves,
}

/// The complete runs of one setting.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ComparedSetting {
    /// The setting's name.
    pub setting: String,
    /// Name of the setting that the ratios refer to; null for that setting.
    pub base: Option<String>,
    /// As [`Run::engine`].
    pub engine: String,
    /// As [`Run::mode`].
    pub mode: String,
    /// As [`Run::requested`].
    pub requested: Requested,
    /// Complete runs.
    pub runs: usize,
    /// Incomplete runs, which count nowhere else.
    pub incomplete: usize,
    /// Goodput over these runs, in 1000 bytes per second.
    pub kb_per_s: Option<Spread>,
    /// Unique datagrams per second.
    pub packets_per_s: Option<Spread>,
    /// CPU seconds of sender and receiver per million datagrams.
    pub cpu_s_per_million: Option<Spread>,
    /// The sender's part of `cpu_s_per_million`.
    pub sender_s_per_million: Option<Spread>,
    /// The receiver's part of `cpu_s_per_million`.
    pub receiver_s_per_million: Option<Spread>,
    /// Median latency in ns; when paced, from the intended send. Within one command, of the datagrams of all these runs together;
    /// between two records, which have no histograms, of the median run.
    pub latency_p50_ns: Option<u64>,
    /// 99 % latency in ns, taken as `latency_p50_ns` is.
    pub latency_p99_ns: Option<u64>,
    /// Datagrams sent.
    pub sent_packets: u64,
    /// Datagrams lost.
    pub lost_packets: u64,
    /// Figures as multiples of the base's; null for the base.
    pub ratios: Option<Ratios>,
}

/// Figures of one setting as multiples of another's. A ratio is null where one of the two has no figure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// Of goodput.
    pub kb_per_s: Option<Ratio>,
    /// Of datagrams per second.
    pub packets_per_s: Option<Ratio>,
    /// Of CPU time per datagram.
    pub cpu_s_per_million: Option<Ratio>,
    /// Of the runs' own 99 % latencies.
    pub latency_p99_ns: Option<Ratio>,
}

impl Distributed for Run {
    fn histograms(&self) -> [String; 2] {
        let setting = self.setting.as_deref();
        ["latency", "latency-intended"].map(|name| histogram_name(name, setting))
    }

    fn summaries(&self) -> [Option<&Summary>; 2] {
        [
            self.latency_ns.as_ref(),
            self.latency_from_intended_ns.as_ref(),
        ]
    }

    fn is_from_intended(&self) -> bool {
        match self.mode.as_str() {
            "round-trip" => self.latency_from_intended_ns.is_some(),
            mode => mode == "paced",
        }
    }

    fn known_rate(&self) -> Option<f64> {
        // Round trips have no goodput.
        let rate = self.kb_per_s.or_else(|| {
            self.round_trip.as_ref()?;
            self.packets_per_s
        });
        rate.filter(|_| self.complete)
    }

    fn intervals(&self) -> &[Interval] {
        &self.intervals
    }
}
