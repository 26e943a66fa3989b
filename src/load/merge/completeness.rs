//! Whether a merged run is complete, and why not.

use crate::load::fleet::{MissingRank, Rank};
use crate::load::result::Run;
use crate::units::listed;

/// The merged run is complete if every rank has a result and is complete. Otherwise its reason names the ranks.
pub(super) fn end(run: &mut Run, ranks: &[Rank], missing: &[MissingRank]) {
    run.complete &= missing.is_empty() && !ranks.is_empty();
    let mut reasons = Vec::new();
    reasons.extend(MissingRank::named(missing));
    let unfinished = || ranks.iter().filter(|rank| !rank.complete);
    if let Some(first) = unfinished().next() {
        let why = first.reason.as_deref().unwrap_or("it ended early");
        let names = unfinished().map(|rank| rank.name.clone());
        let verb = if unfinished().count() == 1 {
            "is"
        } else {
            "are"
        };
        reasons.push(format!(
            "{} {verb} incomplete ({}: {why})",
            listed(names),
            first.name
        ));
    }
    run.reason = (!reasons.is_empty()).then(|| reasons.join("; "));
}
