//! Whether a run can be merged: its settings are those of the first run, and its histograms have the figures of its record. Pure.

use std::fmt::Display;

use thiserror::Error;

use super::RankResult;
use crate::stats::latency::{Latency, Summary};
use crate::stats::saved_histogram::SavedHistogram;

/// Why a run cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// The runs have other settings.
    #[error(
        "{name} has other settings than {first}: {key} is {there} instead of {here}; merge runs of one command line"
    )]
    Settings {
        /// The run.
        name: String,
        /// The first run.
        first: String,
        /// The key of the setting.
        key: String,
        /// Its value in the first run.
        here: String,
        /// Its value in this run.
        there: String,
    },
    /// A run of round trips.
    #[error("{0} has round trips, which cannot be merged; merge runs without --round-trip")]
    RoundTrip(String),
    /// A run that is merged already.
    #[error("{0} is merged already; merge the runs that it was merged from")]
    Merged(String),
    /// A histogram contradicts the record.
    #[error(
        "{name} has a histogram that contradicts its record: {figure} of {histogram} is {saved} in the histogram and {recorded} in the record; one of them was changed after it was saved"
    )]
    Histogram {
        /// The run.
        name: String,
        /// The histogram.
        histogram: String,
        /// The first figure that differs.
        figure: &'static str,
        /// The figure by the histogram.
        saved: String,
        /// The figure in the record.
        recorded: String,
    },
}

/// Names of the latency histograms in sentences.
const LATENCY: &str = "the latency";
const INTENDED: &str = "the latency from the intended send";

/// Relative difference of two means that are computed from the same numbers.
const ROUNDING: f64 = 1e-9;

/// Checks all histograms of a run against its record.
pub(super) fn histograms(result: &RankResult<'_>) -> Result<(), MergeError> {
    let run = result.run;
    let figures = [
        (LATENCY, result.latency, run.latency_ns),
        (INTENDED, result.intended, run.latency_from_intended_ns),
    ];
    for (what, saved, recorded) in figures {
        histogram(result.name, what, saved, &recorded.unwrap_or_default())?;
    }
    // Records of older versions lack these histograms.
    let pacing = run.pacing.iter();
    let schedule =
        pacing.flat_map(|of| [("lateness", of.lateness_ns), ("gap-error", of.gap_error_ns)]);
    let stages = run.stages.iter().flat_map(|stages| stages.all());
    let stages = stages.map(|(name, stage)| (name, stage.latency_ns.unwrap_or_default()));
    let stages = stages.map(|(name, figures)| (format!("stage-{name}"), figures));
    let schedule = schedule.map(|(name, figures)| (name.to_owned(), figures));
    for (name, recorded) in schedule.chain(stages) {
        if let Some(saved) = result.more.get(&name) {
            histogram(result.name, &name, saved, &recorded)?;
        }
    }
    Ok(())
}

fn histogram(
    name: &str,
    histogram: &str,
    saved: &SavedHistogram,
    recorded: &Summary,
) -> Result<(), MergeError> {
    let differs = |figure, saved: String, recorded: String| {
        Err(MergeError::Histogram {
            name: name.to_owned(),
            histogram: histogram.to_owned(),
            figure,
            saved,
            recorded,
        })
    };
    let mut latency = Latency::small();
    saved.add_to(&mut latency);
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
    if saved.sum().is_none() {
        return differs("the sum", "not a number".to_owned(), shown(recorded.mean));
    }
    let is_close = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => {
            (one - other).abs() <= ROUNDING * one.abs().max(other.abs()).max(1.0)
        }
        (one, other) => one.is_none() && other.is_none(),
    };
    for (figure, saved, recorded) in [
        ("the mean", figures.mean, recorded.mean),
        ("the standard deviation", figures.stdev, recorded.stdev),
    ] {
        if !is_close(saved, recorded) {
            return differs(figure, shown(saved), shown(recorded));
        }
    }
    if !latency.is_sum_possible() {
        let values = "not that of its values".to_owned();
        return differs(
            "the sum",
            values,
            format!("of mean {}", shown(recorded.mean)),
        );
    }
    Ok(())
}

fn shown(figure: Option<impl Display>) -> String {
    figure.map_or("unknown".to_owned(), |figure| figure.to_string())
}
