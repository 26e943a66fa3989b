//! How a merged run ended.

use crate::load::fleet::{MissingRank, Rank};
use crate::load::result::Run;

/// The merged run is complete if every rank has a result and is complete. Otherwise its reason names the ranks.
pub(super) fn end(run: &mut Run, ranks: &[Rank], missing: &[MissingRank]) {
    run.complete &= missing.is_empty() && !ranks.is_empty();
    let mut reasons = Vec::new();
    if let Some(first) = missing.first() {
        let names = missing.iter().map(|rank| rank.rank.to_string());
        let (word, verb) = match missing.len() {
            1 => ("rank", "is"),
            _ => ("ranks", "are"),
        };
        reasons.push(format!(
            "{word} {} {verb} missing (rank {} {})",
            listed(names),
            first.rank,
            first.reason
        ));
    }
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

/// `3, 7 and 9`; of many, the first ones.
pub(super) fn listed(names: impl Iterator<Item = String>) -> String {
    const MOST: usize = 16;
    let mut names: Vec<String> = names.collect();
    let count = names.len();
    if count > MOST {
        names.truncate(MOST);
        return format!("{} and {} more", names.join(", "), count - MOST);
    }
    match names.pop() {
        Some(last) if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        last => last.unwrap_or_default(),
    }
}
