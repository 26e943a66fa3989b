//! Latencies from the actual and from the intended send.

use crate::stats::latency::Latency;

/// The latencies of an interval or of a run.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    /// From the actual send.
    pub actual: Latency,
    /// From the intended send; empty unless the run is paced.
    pub intended: Latency,
}

impl Latencies {
    /// Empty histograms that grow with the number of their distinct values.
    pub fn small() -> Self {
        Self {
            actual: Latency::small(),
            intended: Latency::small(),
        }
    }

    /// Adds the latencies of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.actual.merge(&other.actual);
        self.intended.merge(&other.intended);
    }

    /// Empties both histograms and keeps their memory.
    pub fn clear(&mut self) {
        self.actual.clear();
        self.intended.clear();
    }
}
