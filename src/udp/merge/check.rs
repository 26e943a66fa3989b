//! Whether a run can be merged: its record has no contradictions, and its histograms have the figures of its record. Pure.

use thiserror::Error;

use super::RankResult;
use crate::stats::latency::Summary;
use crate::stats::saved_histogram::SavedHistogram;
use crate::udp::result::Run;

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
    #[error(
        "{0} is merged already, so that it may have the other runs in it; leave it out, and merge the runs of single ranks"
    )]
    Merged(String),
    /// A run of scenario udp of the load generator.
    #[error("{0} has runs of scenario udp, which cannot be merged; merge runs of bench udp")]
    Datagrams(String),
    /// Figures of a record that are equal, unless the record was changed.
    #[error(
        "{name} contradicts itself: {whole} are {count} and {parts} are {sum}; it was changed after it was saved"
    )]
    Identity {
        /// The run.
        name: String,
        /// The figure.
        whole: &'static str,
        /// Its value.
        count: u64,
        /// The figures that add up to it.
        parts: &'static str,
        /// Their sum.
        sum: u64,
    },
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

/// A figure and those that add up to it, each with its name.
pub(crate) type Identity = ((&'static str, u64), (&'static str, u64));

/// Checks the identities of the run `name`.
///
/// # Errors
/// [`MergeError::Identity`], of the first one that does not hold.
pub(crate) fn identities(
    name: &str,
    all: impl IntoIterator<Item = Identity>,
) -> Result<(), MergeError> {
    let broken = all.into_iter().find(|((_, count), (_, sum))| count != sum);
    match broken {
        None => Ok(()),
        Some(((whole, count), (parts, sum))) => Err(MergeError::Identity {
            name: name.to_owned(),
            whole,
            count,
            parts,
            sum,
        }),
    }
}

/// Checks the counts of a run, as far as they are known.
pub(super) fn counts(result: &RankResult<'_>) -> Result<(), MergeError> {
    let Run {
        sent,
        received,
        lost,
        ..
    } = result.run;
    let is_known = !received.is_unknown && !lost.is_unknown;
    let sums = [
        (
            ("the datagrams sent", sent.packets),
            (
                "those received and lost",
                received.unique.saturating_add(lost.packets),
            ),
        ),
        (
            ("the datagrams received", received.packets),
            (
                "unique ones and duplicates",
                received.unique.saturating_add(received.duplicates),
            ),
        ),
    ];
    identities(result.name, sums.into_iter().filter(|_| is_known))
}

/// Checks a histogram of the run `name` against its record.
pub(crate) fn histogram(
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
