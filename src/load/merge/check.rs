//! Whether the record of a run has no contradictions, and its histograms have the figures of its record. Pure.

use super::RankResult;
use crate::load::result::Run;
use crate::stats::latency::Summary;
use crate::udp::merge::MergeError;
use crate::udp::merge::check::{self, Identity};

/// Checks the counts of a run.
pub(super) fn counts(result: &RankResult<'_>) -> Result<(), MergeError> {
    let run = result.run;
    let of_kinds = run.errors.kinds().map(|(_, count)| count);
    let errors = (
        ("the errors", run.errors.total),
        ("those of all kinds", of_kinds.fold(0, u64::saturating_add)),
    );
    check::identities(result.name, of_requests(run).into_iter().chain([errors]))
}

/// The identities of requests. The streams of bulk data have no latencies.
fn of_requests(run: &Run) -> Vec<Identity> {
    if run.scenario == "bulk" {
        return Vec::new();
    }
    let values = |of: Option<Summary>| {
        let Summary {
            count,
            out_of_range: out,
            ..
        } = of.unwrap_or_default();
        let out = out.negative.saturating_add(out.too_long);
        count.saturating_add(out)
    };
    let requests = ("the answered requests", run.requests);
    let mut all = vec![(requests, ("their latencies", values(run.latency_ns)))];
    for (name, of) in [
        (
            "their latencies from the intended start",
            run.latency_from_intended_ns,
        ),
        ("their values of lateness", run.lateness_ns),
    ] {
        all.extend(of.map(|of| (requests, (name, values(Some(of))))));
    }
    if let Some(message) = run.requested.message.filter(|_| run.path != "blocked") {
        let bytes = run.requests.saturating_mul(message as u64);
        all.push((("the bytes", run.bytes), ("those of the requests", bytes)));
    }
    all
}

/// Checks all histograms of a run against its record.
pub(super) fn histograms(result: &RankResult<'_>) -> Result<(), MergeError> {
    let run = result.run;
    for (histogram, saved, summary) in [
        ("the latency", result.latency, run.latency_ns),
        (
            "the latency from the intended start",
            result.intended,
            run.latency_from_intended_ns,
        ),
        ("the lateness", result.lateness, run.lateness_ns),
    ] {
        check::histogram(result.name, histogram, saved, &summary.unwrap_or_default())?;
    }
    Ok(())
}
