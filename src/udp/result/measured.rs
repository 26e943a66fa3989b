//! A measured run with its histograms, which `run.json` lacks.

use super::interval::Interval;
use super::run::Run;
use crate::stats::latency::{Latency, NamedHistograms};

/// A run with its histograms.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The record of the run.
    pub run: Run,
    /// One-way latency from the actual send, all streams merged.
    pub latency: Latency,
    /// One-way latency from the intended send; empty unless paced.
    pub latency_from_intended: Latency,
    /// The first datagram, in ns of the server's clock: when it was sent, or when it arrived if the clocks are unrelated.
    pub start_ns: Option<u64>,
    /// The last row of `run.intervals`, if it was computed from the sender's counts after the run: no observer has received it.
    pub closing_row: Option<Interval>,
    /// The histograms of the stages; empty unless requested.
    pub stages: NamedHistograms,
    /// The histograms of the schedule, `lateness` and `gap-error`; empty unless paced.
    pub schedule: NamedHistograms,
}
