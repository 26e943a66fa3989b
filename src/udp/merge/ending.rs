//! How a merged run ended, and the figures that follow from its sums.

use super::sums;
use crate::udp::result::{MissingRank, Rank, Run};
use crate::units::listed;

/// CPU time per million datagrams, as of a run of one rank.
pub(super) fn per_million(run: &mut Run) {
    let (sent, received) = (run.sent.packets as f64, run.received.packets as f64);
    let cpu = &mut run.cpu;
    let of = |seconds: Option<f64>, packets: f64| {
        seconds
            .filter(|_| packets > 0.0)
            .map(|seconds| seconds / packets * 1e6)
    };
    let sender = sums::known(cpu.sender_user_s, cpu.sender_system_s);
    let receiver = sums::known(cpu.receiver_user_s, cpu.receiver_system_s);
    cpu.sender_s_per_million = of(sender, sent);
    cpu.receiver_s_per_million = of(receiver, received);
}

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
