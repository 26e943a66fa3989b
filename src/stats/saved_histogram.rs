//! A histogram as plain numbers: how it is saved, and how a rank sends it.

use serde::{Deserialize, Serialize};

use crate::stats::latency::{Latency, OutOfRange};

/// The counts of a histogram. Values, the exact sum and values out of range are those of the [`Latency`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHistogram {
    /// Pairs of a value in ns and its count, ascending.
    pub counts: Vec<(u64, u64)>,
    /// Exact sum of the values in ns, as decimal text.
    pub sum_ns: String,
    /// Values out of the histogram's range.
    pub out_of_range: OutOfRange,
}

impl SavedHistogram {
    /// The recorded values, without those out of range.
    pub fn count(&self) -> u64 {
        let counts = self.counts.iter().map(|(_, count)| *count);
        counts.fold(0, u64::saturating_add)
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.out_of_range == OutOfRange::default()
    }

    /// Adds the values to `latency`.
    pub fn add_to(&self, latency: &mut Latency) {
        latency.absorb(&self.counts);
        latency.absorb_totals(self.sum().unwrap_or(0), self.out_of_range);
    }

    /// The sum of the values in ns; `None` if the text is not a number.
    pub fn sum(&self) -> Option<u128> {
        match self.sum_ns.as_str() {
            "" => Some(0),
            sum => sum.parse().ok(),
        }
    }
}

impl From<&Latency> for SavedHistogram {
    fn from(latency: &Latency) -> Self {
        Self {
            counts: latency.counts().collect(),
            sum_ns: latency.sum_ns().to_string(),
            out_of_range: latency.out_of_range(),
        }
    }
}
