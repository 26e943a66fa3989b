//! A histogram as plain numbers: how it is saved, and how a rank sends it.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::stats::latency::{Latency, OutOfRange, Summary};

/// Relative difference of two means that are computed from the same numbers.
const ROUNDING: f64 = 1e-9;

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

    /// The first figure of a record that this histogram contradicts.
    pub fn contradiction(&self, recorded: &Summary) -> Option<Contradiction> {
        let differs = |figure, saved: String, recorded: String| {
            Some(Contradiction {
                figure,
                saved,
                recorded,
            })
        };
        let mut latency = Latency::small();
        self.add_to(&mut latency);
        let figures = latency.summary();
        let pairs = |of: &Summary| {
            [
                ("the number of values", Some(of.count)),
                ("the number below zero", Some(of.out_of_range.negative)),
                ("the number above 60 s", Some(of.out_of_range.too_long)),
                ("the minimum", of.min),
                ("the maximum", of.max),
                ("p50", of.p50),
                ("p90", of.p90),
                ("p99", of.p99),
                ("p99.9", of.p99_9),
                ("p99.99", of.p99_99),
            ]
        };
        for ((figure, saved), (_, recorded)) in pairs(&figures).into_iter().zip(pairs(recorded)) {
            if saved != recorded {
                return differs(figure, shown(saved), shown(recorded));
            }
        }
        if self.sum().is_none() {
            return differs("the sum", "not a number".to_owned(), shown(recorded.mean));
        }
        let is_close = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => {
                (one - other).abs() <= ROUNDING * one.abs().max(other.abs()).max(1.0)
            }
            (one, other) => one.is_none() && other.is_none(),
        };
        for (figure, saved, recorded) in [
            ("the standard deviation", figures.stdev, recorded.stdev),
            // Unknown in both if the sum is not that of the values.
            ("the mean", figures.mean, recorded.mean),
        ] {
            if !is_close(saved, recorded) {
                return differs(figure, shown(saved), shown(recorded));
            }
        }
        None
    }
}

/// A figure that a histogram and a record give differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The figure.
    pub figure: &'static str,
    /// The figure by the histogram.
    pub saved: String,
    /// The figure in the record.
    pub recorded: String,
}

fn shown(figure: Option<impl Display>) -> String {
    figure.map_or("unknown".to_owned(), |figure| figure.to_string())
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
