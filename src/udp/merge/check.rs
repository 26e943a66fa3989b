//! Whether a run can be merged: its settings are those of the first run, and its histograms have the figures of its record. Pure.

use thiserror::Error;

use super::RankResult;
use crate::stats::latency::Summary;
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
    let Some(contradiction) = saved.contradiction(recorded) else {
        return Ok(());
    };
    Err(MergeError::Histogram {
        name: name.to_owned(),
        histogram: histogram.to_owned(),
        figure: contradiction.figure,
        saved: contradiction.saved,
        recorded: contradiction.recorded,
    })
}
