//! The causes of the losses of a run, from the drops on both hosts. Pure.
//!
//! Each cause claims a range of datagrams. The number of its drops is known, but with GSO or GRO a drop may be a run of datagrams,
//! and a qdisc's drop may have been sent again. `apportion` chooses a number in each range, so that they sum to the losses if
//! possible.

pub(in crate::udp) mod apportion;
pub(in crate::udp) mod claims;

use super::explained::{Explained, HostDrops, Increase, LossCause, Reason};
use crate::udp::explain::{NO_REASONS, drops};
use crate::udp::wire::explain::{HostReport, TracedDrops};
use apportion::apportion;
use claims::Claim;

/// Most entries of a list that another host sent, and most characters of a name.
const MOST_ENTRIES: usize = 200;
const MOST_CHARS: usize = 200;

/// The data from which the causes are computed.
#[derive(Debug, Clone, Default)]
pub struct LossInputs {
    /// Datagrams lost.
    pub lost: u64,
    /// Datagrams that the sender's kernel refused for good.
    pub not_sent: u64,
    /// Messages dropped at the receiver's sockets.
    pub socket_drops: u64,
    /// Times that the sender's kernel was out of memory or its qdisc full, so that the message was sent again.
    pub repeats: u64,
    /// Send calls that accepted some messages only. The next message may have been dropped by the qdisc, and was sent again.
    pub partial_sends: u64,
    /// Partial sends that may have another reason: a full send buffer, a refusal or an ICMP error.
    pub other_partial_sends: u64,
    /// Most datagrams of a message at the sender.
    pub segments: u64,
    /// Most datagrams of a message at the receiver.
    pub coalesced: u64,
    /// Whether the other direction was measured at the same time.
    pub both_directions: bool,
    /// Clock exchanges that were lost. The drops of either host may be those of their datagrams.
    pub lost_exchanges: u64,
    /// The sender's host, if it explains its side.
    pub sender: Option<HostReport>,
    /// The receiver's host, if it explains its side.
    pub receiver: Option<HostReport>,
}

/// Computes the causes.
pub fn explain(mut inputs: LossInputs) -> Explained {
    for report in [&mut inputs.sender, &mut inputs.receiver]
        .into_iter()
        .flatten()
    {
        bound(report);
    }
    share_trace(&mut inputs.sender, &mut inputs.receiver);
    let mut explained = Explained {
        notes: notes(&inputs),
        sender: inputs.sender.as_ref().map(host),
        receiver: inputs.receiver.as_ref().map(host),
        ..Explained::default()
    };
    let claims = match inputs.lost {
        0 => Vec::new(),
        _ => claims::all(&inputs),
    };
    let ranges: Vec<(u64, u64)> = claims.iter().map(|claim| (claim.low, claim.high)).collect();
    let apportioned = apportion(inputs.lost, &ranges);
    let both = inputs.sender.is_some() && inputs.receiver.is_some();
    match both {
        true => explained.between = Some(apportioned.rest),
        false => explained.unexplained = Some(apportioned.rest),
    }
    explained.surplus = apportioned.surplus;
    if let Some(note) = surplus_note(&inputs, apportioned.surplus) {
        explained.notes.push(note);
    }
    let repeated = claims
        .iter()
        .find(|claim| claim.cause == claims::SENDER_QDISC)
        .is_none_or(|claim| claim.high < claim.drops);
    if repeated && inputs.repeats > 0 && count(&inputs.sender, "qdisc_drops") > 0 {
        explained.notes.push(
            "The qdisc of the sender's device refused messages, and the sender sent them again: these drops are no losses."
                .to_owned(),
        );
    }
    explained.causes = claims
        .into_iter()
        .zip(apportioned.counts)
        .filter(|(_, datagrams)| *datagrams > 0)
        .map(|(claim, datagrams)| cause(claim, datagrams, &inputs))
        .collect();
    let is_run = inputs.segments > 1 || inputs.coalesced > 1;
    if is_run && explained.causes.iter().any(|cause| cause.estimated) {
        explained.notes.push(
            "With GSO or GRO the kernel counts one drop for a datagram or for a whole message, so that numbers of datagrams are estimates within these bounds; --gso off makes them exact.".to_owned(),
        );
    }
    if explained.causes.iter().any(has_other_drops) {
        explained.notes.push(
            "The trace covers the whole machine, and has drops of other programs or network namespaces.".to_owned(),
        );
    }
    explained
}

/// Whether the trace has more drops of a cause than its counters.
fn has_other_drops(cause: &LossCause) -> bool {
    let traced = cause.reasons.iter().map(|reason| reason.drops);
    traced.fold(0, u64::saturating_add) > cause.drops
}

fn cause(claim: Claim, datagrams: u64, inputs: &LossInputs) -> LossCause {
    let report = match claim.is_of_sender() {
        true => &inputs.sender,
        false => &inputs.receiver,
    };
    let traced = report.iter().flat_map(|report| &report.drops);
    LossCause {
        cause: claim.cause.to_owned(),
        datagrams,
        estimated: claim.low != claim.high,
        drops: claim.drops,
        counters: claim
            .counters
            .into_iter()
            .map(|(name, increase)| Increase { name, increase })
            .collect(),
        reasons: traced
            .filter(|drop| claim.classes.contains(&drops::class(&drop.reason)))
            .map(reason)
            .collect(),
    }
}

fn reason(drop: &TracedDrops) -> Reason {
    Reason {
        reason: drop.reason.clone(),
        place: drop.place.clone(),
        drops: drop.drops,
    }
}

fn host(report: &HostReport) -> HostDrops {
    let is_drop = |name: &str| {
        !matches!(
            name,
            "InReceives"
                | "InDelivers"
                | "ReasmReqds"
                | "ReasmOKs"
                | "ForwDatagrams"
                | "InMcastPkts"
                | "InBcastPkts"
        )
    };
    let counters = report.counters.iter();
    HostDrops {
        kernel: report.kernel.clone(),
        namespace: report.namespace.clone(),
        device: report.device.clone(),
        qdisc: report.qdisc.clone(),
        traced: report.traced,
        counters: counters
            .filter(|(name, increase)| **increase > 0 && is_drop(name))
            .map(|(name, increase)| Increase {
                name: name.clone(),
                increase: *increase,
            })
            .collect(),
        reasons: report.drops.iter().map(reason).collect(),
    }
}

/// The missing parts of the reports.
fn notes(inputs: &LossInputs) -> Vec<String> {
    let mut notes = Vec::new();
    for (side, report) in [("sender", &inputs.sender), ("receiver", &inputs.receiver)] {
        match report {
            None => notes.push(format!("The {side}'s host did not explain its side.")),
            Some(report) => {
                notes.extend(
                    report
                        .notes
                        .iter()
                        .map(|note| format!("At the {side}: {note}")),
                );
            }
        }
    }
    notes
}

/// Why the causes exceed the losses.
fn surplus_note(inputs: &LossInputs, surplus: u64) -> Option<String> {
    if surplus == 0 {
        return None;
    }
    let why = "other traffic in the network namespace is counted too";
    Some(match inputs.both_directions {
        false => format!("The causes exceed the losses by {surplus}: {why}."),
        true => format!(
            "The causes exceed the losses by {surplus}: {why}, and so is the other direction."
        ),
    })
}

/// Limits the size of a report, which comes from another process.
fn bound(report: &mut HostReport) {
    report.refused.truncate(MOST_ENTRIES);
    report.drops.truncate(MOST_ENTRIES);
    report.notes.truncate(8);
    let texts = [
        &mut report.kernel,
        &mut report.namespace,
        &mut report.device,
        &mut report.qdisc,
    ];
    let texts = texts.into_iter().flatten().chain(&mut report.notes);
    let names = report.drops.iter_mut();
    let names = names.flat_map(|drop| [&mut drop.reason, &mut drop.place]);
    for text in texts.chain(names) {
        if let Some((end, _)) = text.char_indices().nth(MOST_CHARS) {
            text.truncate(end);
        }
    }
    while report.counters.len() > MOST_ENTRIES {
        report.counters.pop_last();
    }
}

/// Gives the trace of one host to the other if both are on one machine.
fn share_trace(sender: &mut Option<HostReport>, receiver: &mut Option<HostReport>) {
    let (Some(sender), Some(receiver)) = (sender, receiver) else {
        return;
    };
    if sender.kernel.is_none() || sender.kernel != receiver.kernel {
        return;
    }
    let (from, to) = match (sender.traced, receiver.traced) {
        (true, false) => (sender, receiver),
        (false, true) => (receiver, sender),
        _ => return,
    };
    to.traced = true;
    to.drops.clone_from(&from.drops);
    // The note about the reasons is wrong now.
    to.notes.retain(|note| !note.starts_with(NO_REASONS));
}

/// A counter of a host; 0 if unknown.
fn count(report: &Option<HostReport>, name: &str) -> u64 {
    let counters = report.as_ref().map(|report| &report.counters);
    counters
        .and_then(|counters| counters.get(name))
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
