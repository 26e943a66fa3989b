//! Both sides' figures, put together into the record of a run. Pure: numbers in, numbers out.

mod costs;
mod settings;
mod warnings;

use super::account::Latencies;
use super::control::{Done, StreamReceived, StreamSent};
use super::plan::Plan;
use super::sender::Sent;
use crate::report::record::{
    Effective, Interval, Lost, MOST_INTERVALS, Measured, Received, Requested, Run, Stream, Traffic,
};

use costs::{cpu, engine_stats, pacing};
pub use settings::{effective, requested};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// As planned.
    Complete,
    /// Somebody here said stop: what was sent is all accounted for.
    Interrupted(String),
    /// The other side ended it, and both sides' figures are here.
    Limited(String),
    /// The other side is gone, and its last figures with it.
    PeerLost(String),
    /// Something here failed.
    Failed(String),
}

impl Ended {
    fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Interrupted(_) => "interrupted",
            Self::Limited(_) => "limit",
            Self::PeerLost(_) => "peer_lost",
            Self::Failed(_) => "failed",
        }
    }

    fn reason(&self) -> Option<String> {
        match self {
            Self::Complete => None,
            Self::Interrupted(reason)
            | Self::Limited(reason)
            | Self::PeerLost(reason)
            | Self::Failed(reason) => Some(reason.clone()),
        }
    }
}

/// Everything known at the end of a run.
pub struct Facts<'a> {
    /// What was to be done.
    pub plan: &'a Plan,
    /// As given.
    pub requested: Requested,
    /// What was in force.
    pub effective: Effective,
    /// How it ended.
    pub ended: Ended,
    /// What each stream's sender says it sent.
    pub sent: Vec<StreamSent>,
    /// What each sender thread did; empty where the senders are elsewhere.
    pub senders: Vec<Sent>,
    /// The first send stamp, in ns of the receiver's clock.
    pub first_sent: Option<u64>,
    /// Its wall time, RFC 3339.
    pub first_sent_at: Option<String>,
    /// What each stream's receiver counted.
    pub received: Vec<StreamReceived>,
    /// The receiver's side as a whole; `None` when it was lost.
    pub done: Option<Done>,
    /// Wall time of the last arrival, RFC 3339.
    pub last_received_at: Option<String>,
    /// The sender's address.
    pub client_ip: Option<String>,
    /// All latencies.
    pub latencies: Latencies,
    /// Interval rows.
    pub intervals: Rows,
}

/// Interval rows as they come: the first [`MOST_INTERVALS`] are kept, all are added up.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The first.
    pub kept: Vec<Interval>,
    /// How many more there were.
    pub omitted: u64,
    /// What they say all together: all that is known when the result itself is lost.
    pub total: StreamReceived,
    /// When the last of them ended, in seconds from the first datagram.
    pub end_s: f64,
}

impl Rows {
    /// Adds a row.
    pub fn push(&mut self, row: Interval) {
        let total = &mut self.total;
        total.unique = total
            .unique
            .saturating_add(row.packets.saturating_sub(row.duplicates));
        total.duplicates = total.duplicates.saturating_add(row.duplicates);
        total.reordered = total.reordered.saturating_add(row.reordered);
        total.bytes = total.bytes.saturating_add(row.bytes);
        self.end_s = self.end_s.max(row.start_s + row.seconds);
        if self.kept.len() < MOST_INTERVALS {
            self.kept.push(row);
        } else {
            self.omitted += 1;
        }
    }
}

/// Puts the record together.
pub fn assemble(facts: Facts<'_>) -> Measured {
    let done = facts.done.clone().unwrap_or_default();
    let streams = streams(&facts);
    let mut run = Run {
        engine: facts.plan.engine.kind.name().to_owned(),
        mode: facts.plan.mode.name().to_owned(),
        complete: facts.ended == Ended::Complete,
        ended: facts.ended.name().to_owned(),
        reason: facts.ended.reason(),
        requested: facts.requested,
        effective: facts.effective,
        first_sent_at: facts.first_sent_at,
        last_received_at: facts.last_received_at,
        client_ip: facts.client_ip,
        engine_stats: engine_stats(&facts.senders, &facts.received, &done),
        pacing: pacing(facts.plan.mode, &facts.senders),
        intervals: facts.intervals.kept,
        intervals_omitted: facts.intervals.omitted,
        packet_rows_omitted: done.rows_omitted,
        ..Run::default()
    };
    for stream in &streams {
        add(&mut run, stream);
    }
    run.streams = streams;
    settings::at_the_end(&mut run.effective, &facts.senders);
    run.jitter_ns = facts
        .received
        .iter()
        .filter_map(|stream| stream.jitter_ns)
        .reduce(f64::max);
    run.cpu = cpu(&facts.senders, facts.done.as_ref(), &run);
    if run.effective.window.is_some() {
        run.effective.window = facts
            .received
            .iter()
            .map(|stream| stream.window)
            .min()
            .or(run.effective.window);
    }
    let last = facts
        .received
        .iter()
        .filter_map(|stream| stream.last_received)
        .max();
    let latency = &facts.latencies.actual;
    if !latency.is_empty() {
        run.latency_ns = Some(latency.summary());
    }
    if !facts.latencies.intended.is_empty() {
        run.latency_from_intended_ns = Some(facts.latencies.intended.summary());
    }
    if facts.done.is_none() && facts.intervals.end_s > 0.0 {
        // The result was lost, and with it the last stamp: up to the last row is what is known.
        speeds(&mut run, facts.intervals.end_s);
    } else if let (Some(first), Some(last)) = (facts.first_sent, last)
        && last > first
    {
        speeds(&mut run, (last - first) as f64 / 1e9);
    }
    if latency.sum_ns() > 0 {
        let transit = latency.sum_ns() as f64 / 1e9;
        run.transit_kb_per_s = Some(run.received.bytes as f64 / 1e3 / transit);
    }
    run.warnings = warnings::warnings(&run);
    let Latencies { actual, intended } = facts.latencies;
    Measured {
        run,
        latency: actual,
        latency_from_intended: intended,
    }
}

fn speeds(run: &mut Run, seconds: f64) {
    let bytes = run.received.bytes as f64;
    run.seconds = Some(seconds);
    run.kb_per_s = Some(bytes / 1e3 / seconds);
    run.kib_per_s = Some(bytes / 1024.0 / seconds);
    run.gbit_per_s = Some(bytes * 8.0 / 1e9 / seconds);
    run.packets_per_s = Some(run.received.unique as f64 / seconds);
}

/// Each stream's account, in which `sent = unique + lost` and `received = unique + duplicates`.
fn streams(facts: &Facts<'_>) -> Vec<Stream> {
    let count = facts.sent.len().max(facts.received.len());
    let a_message = datagrams_a_message(facts);
    (0..count)
        .map(|number| {
            let sent = facts.sent.get(number).copied().unwrap_or_default();
            let received = facts.received.get(number).cloned().unwrap_or_default();
            // A sender that admits to fewer than arrived is wrong about it.
            let packets = sent.packets.max(received.unique);
            let foreign = received
                .foreign_token
                .saturating_add(received.foreign_short)
                .saturating_add(received.foreign_malformed);
            Stream {
                stream: number,
                sent: Traffic {
                    packets,
                    bytes: sent.bytes.max(received.bytes),
                },
                lost: lost(
                    packets - received.unique,
                    sent.not_sent,
                    received.drops,
                    a_message,
                ),
                received: Received {
                    packets: received.unique.saturating_add(received.duplicates),
                    bytes: received.bytes,
                    unique: received.unique,
                    duplicates: received.duplicates,
                    reordered: received.reordered,
                    late: received.late,
                    foreign,
                    foreign_token: received.foreign_token,
                    foreign_short: received.foreign_short,
                    foreign_malformed: received.foreign_malformed,
                },
                jitter_ns: received.jitter_ns,
            }
        })
        .collect()
}

/// How many datagrams a received message held, as a rule.
fn datagrams_a_message(facts: &Facts<'_>) -> u64 {
    let messages = facts.done.as_ref().map_or(0, |done| done.stats.messages);
    let datagrams = facts.received.iter().fold(0u64, |sum, stream| {
        sum.saturating_add(stream.unique)
            .saturating_add(stream.duplicates)
    });
    // To the nearest: the messages that open a run hold only one.
    (datagrams + messages / 2)
        .checked_div(messages)
        .unwrap_or(1)
        .max(1)
}

/// Splits losses by where they went. With GRO the kernel counts a dropped message once, however many datagrams it
/// holds, so a drop stands for as many as there are in `a_message`; never for more than are missing.
fn lost(packets: u64, not_sent: u64, drops: u64, a_message: u64) -> Lost {
    let not_sent = not_sent.min(packets);
    let receiver_socket = drops.saturating_mul(a_message).min(packets - not_sent);
    Lost {
        packets,
        not_sent,
        receiver_socket,
        elsewhere: packets - not_sent - receiver_socket,
    }
}

/// Adds a stream's account to the run's. The numbers come from another process, so they may be anything.
fn add(run: &mut Run, stream: &Stream) {
    let (of, to) = (&stream.received, &mut run.received);
    for (sum, part) in [
        (&mut run.sent.packets, stream.sent.packets),
        (&mut run.sent.bytes, stream.sent.bytes),
        (&mut to.packets, of.packets),
        (&mut to.bytes, of.bytes),
        (&mut to.unique, of.unique),
        (&mut to.duplicates, of.duplicates),
        (&mut to.reordered, of.reordered),
        (&mut to.late, of.late),
        (&mut to.foreign, of.foreign),
        (&mut to.foreign_token, of.foreign_token),
        (&mut to.foreign_short, of.foreign_short),
        (&mut to.foreign_malformed, of.foreign_malformed),
        (&mut run.lost.packets, stream.lost.packets),
        (&mut run.lost.not_sent, stream.lost.not_sent),
        (&mut run.lost.receiver_socket, stream.lost.receiver_socket),
        (&mut run.lost.elsewhere, stream.lost.elsewhere),
    ] {
        *sum = sum.saturating_add(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::tests::small_plan;
    use proptest::prelude::*;

    fn facts<'a>(plan: &'a Plan, sent: StreamSent, received: StreamReceived) -> Facts<'a> {
        Facts {
            plan,
            requested: requested(plan),
            effective: effective(plan),
            ended: Ended::Complete,
            sent: vec![sent],
            senders: Vec::new(),
            first_sent: Some(1_000),
            first_sent_at: None,
            received: vec![received],
            done: Some(Done::default()),
            last_received_at: None,
            client_ip: None,
            latencies: Latencies::default(),
            intervals: Rows::default(),
        }
    }

    #[test]
    fn speed_is_bytes_over_the_time_from_first_sent_to_last_received() {
        let plan = small_plan();
        let sent = StreamSent {
            packets: 100,
            bytes: 100_000,
            not_sent: 0,
        };
        let received = StreamReceived {
            unique: 100,
            bytes: 100_000,
            last_received: Some(1_000 + 500_000_000),
            ..StreamReceived::default()
        };
        let run = assemble(facts(&plan, sent, received)).run;
        assert_eq!(run.seconds, Some(0.5));
        assert_eq!(run.kb_per_s, Some(200.0));
        assert_eq!(run.packets_per_s, Some(200.0));
        assert_eq!(run.gbit_per_s, Some(0.0016));
    }

    #[test]
    fn nothing_received_has_no_speed_and_no_latency() {
        let plan = small_plan();
        let sent = StreamSent {
            packets: 5,
            bytes: 5_000,
            not_sent: 0,
        };
        let run = assemble(facts(&plan, sent, StreamReceived::default())).run;
        assert_eq!(
            (run.kb_per_s, run.seconds, run.latency_ns),
            (None, None, None)
        );
        assert_eq!(run.lost.packets, 5);
    }

    proptest! {
        #[test]
        fn the_identities_hold_whatever_the_sides_say(
            packets in 0u64..1_000, not_sent in 0u64..1_000, unique in 0u64..1_000,
            duplicates in 0u64..1_000, drops in 0u64..1_000, token in 0u64..9, short in 0u64..9,
        ) {
            let plan = small_plan();
            let sent = StreamSent { packets, bytes: packets * 1_000, not_sent };
            let received = StreamReceived {
                unique, duplicates, drops, foreign_token: token, foreign_short: short,
                ..StreamReceived::default()
            };
            let run = assemble(facts(&plan, sent, received)).run;
            prop_assert_eq!(run.sent.packets, run.received.unique + run.lost.packets);
            prop_assert_eq!(run.received.packets, run.received.unique + run.received.duplicates);
            prop_assert_eq!(run.lost.packets, run.lost.not_sent + run.lost.receiver_socket + run.lost.elsewhere);
            prop_assert_eq!(run.received.foreign, token + short);
        }
    }
}
