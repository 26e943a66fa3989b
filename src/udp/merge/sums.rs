//! Sums of the parts of a run. Numbers come from other processes and files, so every addition saturates.

use serde_json::Value;

use crate::stats::latency::{OutOfRange, Summary};
use crate::udp::result::causes::claims;
use crate::udp::result::{
    Clock, Cpu, DscpCount, Effective, Explained, Increase, LossCause, Lost, Marks, Pacing, Reason,
    Received, Run, Traffic,
};

pub(super) fn traffic(sum: &mut Traffic, other: &Traffic) {
    sum.is_unknown |= other.is_unknown;
    sum.packets = sum.packets.saturating_add(other.packets);
    sum.bytes = sum.bytes.saturating_add(other.bytes);
}

pub(super) fn received(sum: &mut Received, other: &Received) {
    sum.is_unknown |= other.is_unknown;
    for (sum, other) in [
        (&mut sum.packets, other.packets),
        (&mut sum.bytes, other.bytes),
        (&mut sum.unique, other.unique),
        (&mut sum.duplicates, other.duplicates),
        (&mut sum.reordered, other.reordered),
        (&mut sum.late, other.late),
        (&mut sum.foreign, other.foreign),
        (&mut sum.foreign_token, other.foreign_token),
        (&mut sum.foreign_short, other.foreign_short),
        (&mut sum.foreign_malformed, other.foreign_malformed),
    ] {
        *sum = sum.saturating_add(other);
    }
}

pub(super) fn lost(sum: &mut Lost, other: &Lost) {
    sum.is_unknown |= other.is_unknown;
    for (sum, other) in [
        (&mut sum.packets, other.packets),
        (&mut sum.not_sent, other.not_sent),
        (&mut sum.receiver_socket, other.receiver_socket),
        (&mut sum.elsewhere, other.elsewhere),
    ] {
        *sum = sum.saturating_add(other);
    }
}

/// A sum is unknown if a part is.
pub(super) fn known(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? + other?)
}

/// CPU time per million datagrams, as of a run of one rank.
pub(super) fn per_million(run: &mut Run) {
    let (sent, received) = (run.sent.packets as f64, run.received.packets as f64);
    let cpu = &mut run.cpu;
    let of = |seconds: Option<f64>, packets: f64| {
        seconds
            .filter(|_| packets > 0.0)
            .map(|seconds| seconds / packets * 1e6)
    };
    let sender = known(cpu.sender_user_s, cpu.sender_system_s);
    let receiver = known(cpu.receiver_user_s, cpu.receiver_system_s);
    cpu.sender_s_per_million = of(sender, sent);
    cpu.receiver_s_per_million = of(receiver, received);
}

pub(super) fn cpu(sum: &mut Cpu, other: &Cpu) {
    for (sum, other) in [
        (&mut sum.sender_user_s, other.sender_user_s),
        (&mut sum.sender_system_s, other.sender_system_s),
        (&mut sum.receiver_user_s, other.receiver_user_s),
        (&mut sum.receiver_system_s, other.receiver_system_s),
        (&mut sum.sender_throttled_s, other.sender_throttled_s),
        (&mut sum.receiver_throttled_s, other.receiver_throttled_s),
    ] {
        *sum = known(*sum, other);
    }
    for (sum, other) in [
        (&mut sum.sender_preemptions, other.sender_preemptions),
        (
            &mut sum.sender_throttled_periods,
            other.sender_throttled_periods,
        ),
        (
            &mut sum.receiver_throttled_periods,
            other.receiver_throttled_periods,
        ),
    ] {
        *sum = sum.zip(other).map(|(one, other)| one.saturating_add(other));
    }
}

/// Adds the numbers of `other` to those of `sum`, key by key. A sum is null if a part is.
pub(super) fn numbers(sum: &mut Value, other: &Value) {
    match (&mut *sum, other) {
        (Value::Object(sum), Value::Object(other)) => {
            for (key, sum) in sum.iter_mut() {
                numbers(sum, other.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Number(one), Value::Number(other)) => {
            *sum = match (one.as_u64(), other.as_u64()) {
                (Some(one), Some(other)) => one.saturating_add(other).into(),
                _ => (one.as_f64().unwrap_or(0.0) + other.as_f64().unwrap_or(0.0)).into(),
            };
        }
        _ => *sum = Value::Null,
    }
}

pub(super) fn marks(sum: &mut Option<Marks>, other: Option<&Marks>) {
    let Some(other) = other else {
        return;
    };
    let sum = sum.get_or_insert_default();
    for (sum, other) in [
        (&mut sum.not_ect, other.not_ect),
        (&mut sum.ect0, other.ect0),
        (&mut sum.ect1, other.ect1),
        (&mut sum.ce, other.ce),
        (&mut sum.dscp_changed, other.dscp_changed),
    ] {
        *sum = sum.saturating_add(other);
    }
    for DscpCount { dscp, packets } in &other.dscp {
        match sum.dscp.binary_search_by_key(dscp, |count| count.dscp) {
            Ok(at) => {
                let count = &mut sum.dscp[at].packets;
                *count = count.saturating_add(*packets);
            }
            Err(at) => sum.dscp.insert(
                at,
                DscpCount {
                    dscp: *dscp,
                    packets: *packets,
                },
            ),
        }
    }
}

/// The sums of the figures that can be added; the percentiles of several ranks need histograms, which the record of a schedule lacks.
fn summary(sum: &Summary, other: &Summary) -> Summary {
    let count = sum.count.saturating_add(other.count);
    let weighted = |one: &Summary| one.mean.unwrap_or(0.0) * one.count as f64;
    let out = |one: u64, other: u64| one.saturating_add(other);
    Summary {
        count,
        min: [sum.min, other.min].into_iter().flatten().min(),
        mean: (count > 0).then(|| (weighted(sum) + weighted(other)) / count as f64),
        max: sum.max.max(other.max),
        out_of_range: OutOfRange {
            negative: out(sum.out_of_range.negative, other.out_of_range.negative),
            too_long: out(sum.out_of_range.too_long, other.out_of_range.too_long),
        },
        ..Summary::default()
    }
}

pub(super) fn pacing(sum: &mut Pacing, other: &Pacing) {
    sum.target_pps += other.target_pps;
    sum.achieved_pps = known(sum.achieved_pps, other.achieved_pps);
    let unsent = sum.unsent.zip(other.unsent);
    sum.unsent = unsent.map(|(one, other)| one.saturating_add(other));
    sum.lateness_ns = summary(&sum.lateness_ns, &other.lateness_ns);
    sum.gap_error_ns = summary(&sum.gap_error_ns, &other.gap_error_ns);
}

/// The smallest figures and the least common settings of all ranks.
pub(super) fn effective(all: &mut Effective, other: &Effective) {
    all.streams = all.streams.saturating_add(other.streams);
    for (all, other) in [
        (&mut all.batch, other.batch),
        (&mut all.segments, other.segments),
        (&mut all.sndbuf, other.sndbuf),
        (&mut all.rcvbuf, other.rcvbuf),
    ] {
        *all = (*all).min(other);
    }
    all.gso &= other.gso;
    all.gro &= other.gro;
    all.spin &= other.spin;
    all.window = all
        .window
        .zip(other.window)
        .map(|(one, other)| one.min(other));
    all.path_mtu = [all.path_mtu, other.path_mtu].into_iter().flatten().min();
    for (all, other) in [
        (&mut all.offload_note, &other.offload_note),
        (&mut all.path_note, &other.path_note),
        (&mut all.sender_note, &other.sender_note),
        (&mut all.receiver_note, &other.receiver_note),
        (&mut all.spin_note, &other.spin_note),
    ] {
        // One of them, whatever the order.
        *all = [all.take(), other.clone()].into_iter().flatten().min();
    }
    (all.sender_cpus, all.receiver_cpus, all.cpu_trials) = (None, None, None);
    clock(&mut all.clock, &other.clock);
}

/// The least certain relation. Offsets belong to a pair of hosts each, so the merged run has none unless all read one clock.
fn clock(all: &mut Clock, other: &Clock) {
    let rank = |source: &str| match source {
        "same" => 0,
        "estimated" => 1,
        _ => 2,
    };
    let errors = (all.error_ns, other.error_ns);
    let note = [all.note.take(), other.note.clone()]
        .into_iter()
        .flatten()
        .min();
    if rank(&other.source) > rank(&all.source) {
        all.source.clone_from(&other.source);
    }
    *all = Clock {
        offset_ns: (all.source == "same").then_some(0),
        error_ns: match (all.source.as_str(), errors) {
            ("none", _) => None,
            (_, (one, other)) => one.max(other),
        },
        source: std::mem::take(&mut all.source),
        note,
        ..Clock::default()
    };
}

/// The losses by cause. Unknown if those of a rank are.
pub(super) fn explained(sum: Option<Explained>, other: Option<&Explained>) -> Option<Explained> {
    let (mut sum, other) = (sum?, other?);
    let add = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    };
    sum = add_causes(sum, other.causes.iter().cloned());
    // A loss is unexplained where it may be either.
    match (
        sum.unexplained.or(other.unexplained),
        sum.between.or(other.between),
    ) {
        (Some(_), _) => {
            let unexplained = add(sum.unexplained, other.unexplained);
            let between = add(sum.between.take(), other.between);
            sum.unexplained = add(unexplained, between);
        }
        _ => sum.between = add(sum.between, other.between),
    }
    sum.surplus = sum.surplus.saturating_add(other.surplus);
    sum.notes.extend(other.notes.iter().cloned());
    sum.notes.sort_unstable();
    sum.notes.dedup();
    sum.notes.truncate(super::MOST_SENTENCES);
    // The counters of a host are in the records of all of its ranks.
    (sum.sender, sum.receiver) = (None, None);
    Some(sum)
}

/// Adds causes, by name, in the order of a datagram's way.
pub(super) fn add_causes(mut sum: Explained, causes: impl Iterator<Item = LossCause>) -> Explained {
    for cause in causes {
        match sum.causes.iter_mut().find(|of| of.cause == cause.cause) {
            Some(of) => add_cause(of, &cause),
            None => sum.causes.push(cause),
        }
    }
    let place = |cause: &LossCause| {
        let of_way = claims::WAY.iter().position(|name| *name == cause.cause);
        of_way.unwrap_or(claims::WAY.len())
    };
    let key = |cause: &LossCause| (place(cause), cause.cause.clone());
    sum.causes.sort_by_cached_key(key);
    sum
}

fn add_cause(sum: &mut LossCause, other: &LossCause) {
    sum.datagrams = sum.datagrams.saturating_add(other.datagrams);
    sum.drops = sum.drops.saturating_add(other.drops);
    sum.estimated |= other.estimated;
    for Increase { name, increase } in &other.counters {
        match sum.counters.iter_mut().find(|of| of.name == *name) {
            Some(of) => of.increase = of.increase.saturating_add(*increase),
            None => sum.counters.push(Increase {
                name: name.clone(),
                increase: *increase,
            }),
        }
    }
    for Reason {
        reason,
        place,
        drops,
    } in &other.reasons
    {
        let is_one = |of: &&mut Reason| of.reason == *reason && of.place == *place;
        match sum.reasons.iter_mut().find(is_one) {
            Some(of) => of.drops = of.drops.saturating_add(*drops),
            None => sum.reasons.push(Reason {
                reason: reason.clone(),
                place: place.clone(),
                drops: *drops,
            }),
        }
    }
    sum.counters.sort_by(|one, other| one.name.cmp(&other.name));
    sum.reasons
        .sort_by(|one, other| (&one.reason, &one.place).cmp(&(&other.reason, &other.place)));
}
