//! The latency of each size of a mix.

use serde::{Deserialize, Serialize};

use crate::udp::wire::results;

/// Most sizes, which another process sent.
const MOST_SIZES: usize = 64;

/// One-way latency from the actual send of the datagrams of one size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SizeLatency {
    /// Message bytes.
    pub chunk: usize,
    /// First arrivals with a latency in range. Duplicates, and a last datagram that is shorter, are left out.
    pub packets: u64,
    /// Mean in ns.
    pub latency_mean_ns: Option<f64>,
    /// Minimum in ns.
    pub latency_min_ns: Option<u64>,
    /// Median in ns.
    pub latency_p50_ns: Option<u64>,
    /// 90 % of the latencies are at or below, in ns.
    pub latency_p90_ns: Option<u64>,
    /// 99 % of the latencies are at or below, in ns.
    pub latency_p99_ns: Option<u64>,
    /// Maximum in ns.
    pub latency_max_ns: Option<u64>,
}

/// The sizes that the receiver reported.
pub(super) fn by_size(reported: &[results::SizeLatency]) -> Vec<SizeLatency> {
    let sizes = reported.iter().take(MOST_SIZES).map(|of| {
        let [min, p50, p90, p99, max] = of.latency_ns;
        SizeLatency {
            chunk: of.chunk,
            packets: of.packets,
            latency_mean_ns: of.mean_ns.filter(|mean| mean.is_finite()),
            latency_min_ns: min,
            latency_p50_ns: p50,
            latency_p90_ns: p90,
            latency_p99_ns: p99,
            latency_max_ns: max,
        }
    });
    sizes.collect()
}

/// The median and 99 % latencies in ns of all sizes, in one cell.
pub fn cell(sizes: &[SizeLatency]) -> Option<String> {
    let number = |ns: Option<u64>| ns.map_or(String::new(), |ns| ns.to_string());
    let each = sizes.iter().map(|of| {
        let (p50, p99) = (number(of.latency_p50_ns), number(of.latency_p99_ns));
        format!("{} p50 {p50} p99 {p99}", of.chunk)
    });
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| each.join(", "))
}
