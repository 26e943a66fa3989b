//! Whether a merged run is complete, and why not.

use crate::udp::result::{MissingRank, Rank, Run};
use crate::units::listed;

/// How the merged run ended: complete if every rank completed.
pub(super) fn end(run: &mut Run, ranks: &[Rank], missing: &[MissingRank]) {
    run.complete &= missing.is_empty() && !ranks.is_empty();
    let unfinished = || ranks.iter().filter(|rank| !rank.complete);
    let first = unfinished().next();
    run.ended = match (missing.is_empty(), first) {
        (true, None) => "complete",
        (true, Some(rank)) => &rank.ended,
        (false, _) => "peer_lost",
    }
    .to_owned();
    let mut reasons = Vec::new();
    reasons.extend(MissingRank::named(missing));
    if let Some(first) = first {
        let why = first.reason.as_deref().unwrap_or(&first.ended);
        reasons.push(format!(
            "{} ended early ({}: {why})",
            listed(unfinished().map(|rank| rank.name.clone())),
            first.name
        ));
    }
    run.reason = (!reasons.is_empty()).then(|| reasons.join("; "));
}
