//! The accounting of each stream: datagrams sent, received and lost, and the places of the losses.

use super::inputs::RunInputs;
use super::packets::{Lost, Received, Traffic};
use super::run::{Run, Stream};
use crate::udp::plan::Plan;
use crate::udp::wire::results::StreamReceived;
use crate::udp::wire::results::StreamSent;

/// The counts of all senders, added up.
pub fn total_sent(streams: &[StreamSent]) -> StreamSent {
    streams
        .iter()
        .fold(StreamSent::default(), |all, one| StreamSent {
            packets: all.packets.saturating_add(one.packets),
            bytes: all.bytes.saturating_add(one.bytes),
            not_sent: all.not_sent.saturating_add(one.not_sent),
        })
}

/// Lower bounds of each sender's counts, from the highest sequence number received.
pub fn sent_at_least(plan: &Plan, received: &[StreamReceived]) -> Vec<StreamSent> {
    let pattern = plan.pattern();
    let bytes = |packets: u64| match &pattern {
        Some(pattern) => pattern.bytes(packets),
        None => packets.saturating_mul(plan.chunk as u64),
    };
    let seen = received.iter().map(|stream| StreamSent {
        packets: stream.next,
        bytes: bytes(stream.next).max(stream.bytes),
        not_sent: 0,
    });
    seen.collect()
}

/// The accounting of each stream, in which `sent = unique + lost` and `received = unique + duplicates`.
pub(super) fn streams(inputs: &RunInputs<'_>) -> Vec<Stream> {
    let count = inputs.sent.len().max(inputs.received.len());
    let per_message = datagrams_per_message(inputs);
    (0..count)
        .map(|number| {
            let sent = inputs.sent.get(number).copied().unwrap_or_default();
            let received = inputs.received.get(number).cloned().unwrap_or_default();
            // A sender's count below the number of arrivals is wrong.
            let packets = sent.packets.max(received.unique);
            let foreign = received
                .foreign_token
                .saturating_add(received.foreign_short)
                .saturating_add(received.foreign_malformed);
            Stream {
                stream: number,
                rank: None,
                sent: Traffic {
                    is_unknown: inputs.senders_lost,
                    packets,
                    bytes: sent.bytes.max(received.bytes),
                },
                lost: lost(
                    packets - received.unique,
                    sent.not_sent,
                    received.drops,
                    per_message,
                ),
                received: Received {
                    is_unknown: false,
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

/// Average number of datagrams per received message.
fn datagrams_per_message(inputs: &RunInputs<'_>) -> u64 {
    let messages = inputs.done.as_ref().map_or(0, |done| done.stats.messages);
    let datagrams = inputs.received.iter().fold(0u64, |sum, stream| {
        sum.saturating_add(stream.unique)
            .saturating_add(stream.duplicates)
    });
    // Rounded to the nearest: the first messages of a run have one datagram each.
    datagrams
        .saturating_add(messages / 2)
        .checked_div(messages)
        .unwrap_or(1)
        .max(1)
}

/// Splits losses by where they occurred. With GRO the kernel counts a dropped message once, so a drop stands for `per_message`
/// datagrams, but never for more than are missing.
fn lost(packets: u64, not_sent: u64, drops: u64, per_message: u64) -> Lost {
    let not_sent = not_sent.min(packets);
    let receiver_socket = drops.saturating_mul(per_message).min(packets - not_sent);
    Lost {
        is_unknown: false,
        packets,
        not_sent,
        receiver_socket,
        elsewhere: packets - not_sent - receiver_socket,
    }
}

/// Attributes `at_socket` of the losses to the receiver's sockets, as their explanation does, which has more counters. Only streams with
/// drops at their socket change.
pub(super) fn assign_to_socket(run: &mut Run, at_socket: u64) {
    let lost = &mut run.lost;
    let at_socket = at_socket.min(lost.packets.saturating_sub(lost.not_sent));
    let (mut more, mut fewer) = (
        at_socket.saturating_sub(lost.receiver_socket),
        lost.receiver_socket.saturating_sub(at_socket),
    );
    lost.receiver_socket = at_socket;
    lost.elsewhere = lost.packets.saturating_sub(lost.not_sent) - at_socket;
    for lost in run.streams.iter_mut().map(|stream| &mut stream.lost) {
        if lost.receiver_socket == 0 {
            continue;
        }
        let (up, down) = (more.min(lost.elsewhere), fewer.min(lost.receiver_socket));
        (more, fewer) = (more - up, fewer - down);
        lost.receiver_socket = lost.receiver_socket.saturating_add(up) - down;
        lost.elsewhere = lost.elsewhere.saturating_add(down) - up;
    }
}

impl Run {
    /// Whether the losses at the receiver's socket, and so those elsewhere, are estimates: the kernel counts a dropped message once, and
    /// with GRO it may have several datagrams.
    pub fn is_loss_split_estimated(&self) -> bool {
        let stats = &self.engine_stats;
        self.lost.receiver_socket > 0 && stats.receive_messages < self.received.packets
    }
}

/// Adds a stream's counts to the run's. The numbers come from another process and may have any value.
pub(super) fn add(run: &mut Run, stream: &Stream) {
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
