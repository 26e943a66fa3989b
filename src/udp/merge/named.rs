//! The histograms of the schedule and of the stages, which are known by name. Pure.

use std::collections::BTreeMap;

use crate::stats::latency::Latency;
use crate::stats::saved_histogram::SavedHistogram;
use crate::udp::result::NamedHistograms;

/// The names of the histograms that are merged.
const NAMES: [&str; 6] = [
    "lateness",
    "gap-error",
    "stage-sender",
    "stage-qdisc",
    "stage-wire",
    "stage-receiver",
];

/// The sum of the ranks' histograms of a name.
#[derive(Debug)]
struct Sum {
    latency: Latency,
    /// Ranks that have the histogram.
    ranks: usize,
}

/// The sums by name.
#[derive(Debug, Default)]
pub(super) struct Named(BTreeMap<&'static str, Sum>);

impl Named {
    /// Adds the histograms of a rank. Other names are ignored.
    pub(super) fn add(&mut self, histograms: &BTreeMap<String, SavedHistogram>) {
        for name in NAMES {
            let Some(saved) = histograms.get(name) else {
                continue;
            };
            let sum = self.0.entry(name).or_insert_with(|| Sum {
                latency: Latency::small(),
                ranks: 0,
            });
            saved.add_to(&mut sum.latency);
            sum.ranks += 1;
        }
    }

    /// The histogram of a name, if all of `ranks` ranks with values have it.
    pub(super) fn whole(&self, name: &str, ranks: usize) -> Option<&Latency> {
        let sum = self.0.get(name).filter(|sum| sum.ranks >= ranks);
        sum.map(|sum| &sum.latency).filter(|of| !of.is_empty())
    }
}

/// The histograms as they are saved and sent.
pub(super) fn saved(histograms: &NamedHistograms) -> BTreeMap<String, SavedHistogram> {
    let saved = histograms.iter().filter(|(_, latency)| !latency.is_empty());
    saved
        .map(|(name, latency)| ((*name).to_owned(), latency.into()))
        .collect()
}
