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
    /// `forward` for the client's streams, `reverse` for the server's.
    pub direction: &'static str,
    /// As given.
    pub requested: Requested,
    /// What was in force.
    pub effective: Effective,
    /// How it ended.
    pub ended: Ended,
    /// What each stream's sender says it sent, or what it sent at least.
    pub sent: Vec<StreamSent>,
    /// Whether the senders were lost, so that it is not known what was sent last.
    pub senders_lost: bool,
    /// What each sender thread did; empty where the senders are elsewhere.
    pub senders: Vec<Sent>,
    /// The first send stamp, in ns of the server's clock.
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
    /// The sum of their `missing`.
    pub missing: i64,
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
        self.missing = self.missing.saturating_add(row.missing);
        self.end_s = self.end_s.max(row.start_s + row.seconds);
        if self.kept.len() < MOST_INTERVALS {
            self.kept.push(row);
        } else {
            self.omitted += 1;
        }
    }

    /// The row that makes all rows add up to `run`: what was sent after the last arrival and lost, above all. `None`
    /// where they do. It starts where the last row ended and lasts until `sending_s`, when the sender stopped, in seconds
    /// from the first datagram; where that is not known or earlier, it has no length.
    fn closing(&self, run: &Run, sending_s: Option<f64>) -> Option<Interval> {
        let (seen, all) = (&self.total, &run.received);
        let unique = all.unique.saturating_sub(seen.unique);
        let duplicates = all.duplicates.saturating_sub(seen.duplicates);
        let lost = i64::try_from(run.lost.packets).unwrap_or(i64::MAX);
        let start_s = Some(self.end_s).filter(|end| end.is_finite());
        let start_s = start_s.unwrap_or(0.0);
        let seconds = sending_s.map_or(0.0, |end| (end - start_s).max(0.0));
        let bytes = all.bytes.saturating_sub(seen.bytes);
        let row = Interval {
            start_s,
            seconds,
            packets: unique.saturating_add(duplicates),
            bytes,
            kb_per_s: match seconds > 0.0 {
                true => bytes as f64 / 1e3 / seconds,
                false => 0.0,
            },
            missing: lost.saturating_sub(self.missing),
            duplicates,
            reordered: all.reordered.saturating_sub(seen.reordered),
            ..Interval::default()
        };
        let is_empty = row.packets == 0 && row.bytes == 0 && row.missing == 0 && row.reordered == 0;
        (!is_empty).then_some(row)
    }
}

/// Puts the record together.
pub fn assemble(mut facts: Facts<'_>) -> Measured {
    let done = facts.done.clone().unwrap_or_default();
    let mut streams = streams(&facts);
    let mut run = Run {
        engine: facts.plan.engine.kind.name().to_owned(),
        mode: facts.plan.mode.name().to_owned(),
        direction: facts.direction.to_owned(),
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
        packet_rows_omitted: done.rows_omitted,
        ..Run::default()
    };
    for stream in &mut streams {
        add(&mut run, stream);
        stream.lost.is_unknown = facts.senders_lost;
    }
    run.lost.is_unknown = facts.senders_lost;
    if facts.done.is_none() {
        // What the receiver saw after its last row is not known, nor what it missed.
        run.lost.is_unknown = true;
        run.received.is_unknown = facts.intervals.total.unique == 0;
    }
    run.streams = match facts.done {
        Some(_) => streams,
        None => Vec::new(),
    };
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
    // Stamps of two clocks that are not related say nothing of each other.
    let is_related = run.effective.clock.source != "none";
    if !is_related {
        facts.latencies = Latencies::default();
        for row in &mut run.intervals {
            (row.latency_p50_ns, row.latency_p99_ns, row.latency_max_ns) = (None, None, None);
        }
    }
    let first = match is_related {
        true => facts.first_sent,
        false => {
            let first = facts.received.iter();
            first.filter_map(|stream| stream.first_received).min()
        }
    };
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
    } else if let (Some(first), Some(last)) = (first, last)
        && last > first
    {
        speeds(&mut run, (last - first) as f64 / 1e9);
    }
    if latency.sum_ns() > 0 {
        let transit = latency.sum_ns() as f64 / 1e9;
        run.transit_kb_per_s = Some(run.received.bytes as f64 / 1e3 / transit);
    }
    let mut rows = facts.intervals;
    // What a lost receiver saw after its last row is not known, and neither is what it missed.
    let closing_row = match facts.done {
        Some(_) => rows.closing(&run, sending_s(&facts.senders)),
        None => None,
    };
    closing_row
        .clone()
        .into_iter()
        .for_each(|row| rows.push(row));
    run.intervals = rows.kept;
    run.intervals_omitted = rows.omitted;
    run.warnings = warnings::warnings(&run);
    let Latencies { actual, intended } = facts.latencies;
    Measured {
        run,
        latency: actual,
        latency_from_intended: intended,
        closing_row,
    }
}

/// From the first stamp of any sender to the last, in seconds; `None` where they are elsewhere or sent nothing.
fn sending_s(senders: &[Sent]) -> Option<f64> {
    let written = senders.iter().map(|sent| &sent.written);
    let first = written.clone().filter_map(|stamps| stamps.first).min()?;
    let last = written.map(|stamps| stamps.last).max()?;
    Some(last.saturating_sub(first) as f64 / 1e9)
}

fn speeds(run: &mut Run, seconds: f64) {
    let bytes = run.received.bytes as f64;
    run.seconds = Some(seconds);
    run.kb_per_s = Some(bytes / 1e3 / seconds);
    let clock = &run.effective.clock;
    if clock.source == "estimated" {
        run.seconds_error = clock.error_ns.map(|ns| ns as f64 / 1e9);
        // The shorter the time may be, the further the rate may be above: that side is the longer one.
        let shortest = run.seconds_error.map(|error| seconds - error);
        let shortest = shortest.filter(|shortest| *shortest > 0.0);
        run.kb_per_s_error =
            shortest.map(|shortest| bytes / 1e3 * (1.0 / shortest - 1.0 / seconds));
    }
    run.kib_per_s = Some(bytes / 1024.0 / seconds);
    run.gbit_per_s = Some(bytes * 8.0 / 1e9 / seconds);
    run.packets_per_s = Some(run.received.unique as f64 / seconds);
}

/// What all streams sent, as one.
pub fn together(streams: &[StreamSent]) -> StreamSent {
    streams
        .iter()
        .fold(StreamSent::default(), |all, one| StreamSent {
            packets: all.packets.saturating_add(one.packets),
            bytes: all.bytes.saturating_add(one.bytes),
            not_sent: all.not_sent.saturating_add(one.not_sent),
        })
}

/// What each stream sent at least, by the highest number that its receiver saw.
pub fn at_least(plan: &Plan, received: &[StreamReceived]) -> Vec<StreamSent> {
    let chunk = plan.chunk as u64;
    let seen = received.iter().map(|stream| StreamSent {
        packets: stream.next,
        bytes: stream.next.saturating_mul(chunk).max(stream.bytes),
        not_sent: 0,
    });
    seen.collect()
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

/// How many datagrams a received message held, as a rule.
fn datagrams_a_message(facts: &Facts<'_>) -> u64 {
    let messages = facts.done.as_ref().map_or(0, |done| done.stats.messages);
    let datagrams = facts.received.iter().fold(0u64, |sum, stream| {
        sum.saturating_add(stream.unique)
            .saturating_add(stream.duplicates)
    });
    // To the nearest: the messages that open a run hold only one.
    datagrams
        .saturating_add(messages / 2)
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
        is_unknown: false,
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
            direction: "forward",
            requested: requested(plan),
            effective: effective(plan),
            ended: Ended::Complete,
            sent: vec![sent],
            senders_lost: false,
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
    fn an_estimated_clock_gives_time_and_rate_an_error_bar() {
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
        let run = |source: &str, error_ns| {
            let mut facts = facts(&plan, sent, received.clone());
            facts.effective.clock.source = source.to_owned();
            facts.effective.clock.error_ns = error_ns;
            assemble(facts).run
        };
        let known = run("estimated", Some(100_000_000));
        assert_eq!(known.seconds_error, Some(0.1));
        // 100 KB in 0.5 s are 200 KB/s, and in 0.4 s they are 250.
        assert!((known.kb_per_s_error.unwrap() - 50.0).abs() < 1e-9);
        let (wide, unknown) = (run("estimated", Some(500_000_000)), run("estimated", None));
        assert_eq!((wide.seconds_error, wide.kb_per_s_error), (Some(0.5), None));
        assert_eq!(
            (unknown.seconds_error, unknown.kb_per_s_error),
            (None, None)
        );
        for source in ["same", "none"] {
            let run = run(source, Some(0));
            assert_eq!((run.seconds_error, run.kb_per_s_error), (None, None));
        }
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

        /// The rows of a run add up to it, the closing row with them, and past those that are kept.
        #[test]
        fn rows_add_up_to_the_run(
            parts in prop::collection::vec((0u64..50, 0u64..5, 0u64..5, -3i64..9), 0..30),
            tail in 0u64..100, more in 0u64..3, omitted in prop::bool::ANY, sending_ns in 1u64..90_000_000_000,
        ) {
            let plan = small_plan();
            let mut rows = Rows::default();
            for number in 0..if omitted { MOST_INTERVALS } else { 0 } {
                rows.push(Interval { start_s: number as f64, seconds: 1.0, ..Interval::default() });
            }
            for &(unique, duplicates, reordered, missing) in &parts {
                let row = Interval {
                    start_s: rows.end_s, seconds: 1.0, packets: unique + duplicates, bytes: unique * 10,
                    missing, duplicates, reordered, ..Interval::default()
                };
                rows.push(row);
            }
            let sum = |of: fn(&(u64, u64, u64, i64)) -> u64| parts.iter().map(of).sum::<u64>() + more;
            let received = StreamReceived {
                unique: sum(|part| part.0), bytes: sum(|part| part.0 * 10),
                duplicates: sum(|part| part.1), reordered: sum(|part| part.2),
                ..StreamReceived::default()
            };
            let sent = StreamSent { packets: received.unique + tail, bytes: 0, not_sent: 0 };
            let mut sender = Sent::default();
            sender.written.first = Some(1_000);
            sender.written.last = 1_000 + sending_ns;
            let before = rows.clone();
            let measured = assemble(Facts {
                intervals: rows, senders: vec![sender], ..facts(&plan, sent, received)
            });
            let run = &measured.run;
            prop_assert_eq!(run.intervals_omitted + run.intervals.len() as u64,
                before.omitted + before.kept.len() as u64 + u64::from(measured.closing_row.is_some()));
            let closing = measured.closing_row.clone().unwrap_or_default();
            prop_assert_eq!(before.total.unique + before.total.duplicates + closing.packets, run.received.packets);
            prop_assert_eq!(before.total.bytes + closing.bytes, run.received.bytes);
            prop_assert_eq!(before.total.duplicates + closing.duplicates, run.received.duplicates);
            prop_assert_eq!(before.total.reordered + closing.reordered, run.received.reordered);
            prop_assert_eq!(before.missing + closing.missing, i64::try_from(run.lost.packets).unwrap());
            let end_s = sending_ns as f64 / 1e9;
            prop_assert!(closing.seconds == 0.0 || (closing.start_s + closing.seconds - end_s).abs() < 1e-6);
        }

        /// What the other side says may be any number: none overflows, and the record can be written and read.
        #[test]
        fn no_number_of_a_peer_upsets_the_record(
            sent: [u64; 3], received: [u64; 12], done: [u64; 4], row: [u64; 4], missing: i64, times: [f64; 2],
        ) {
            let plan = small_plan();
            let [packets, bytes, not_sent] = sent;
            let sent = StreamSent { packets, bytes, not_sent };
            let [unique, bytes, duplicates, reordered, late, token, short, malformed, next, last, drops, window] = received;
            let received = StreamReceived {
                stream: 0, unique, bytes, duplicates, reordered, late, foreign_token: token, foreign_short: short,
                foreign_malformed: malformed, next, last_received: Some(last), drops, window,
                ..StreamReceived::default()
            };
            let mut whole = Done { rows_omitted: done[0], ..Done::default() };
            whole.stats.messages = done[1];
            whole.stats.syscalls = done[2];
            let [start_s, seconds] = times.map(|time| if time.is_finite() { time } else { 0.0 });
            let mut rows = Rows::default();
            for _ in 0..2 {
                let [packets, bytes, duplicates, reordered] = row;
                rows.push(Interval { start_s, seconds, packets, bytes, missing, duplicates, reordered, ..Interval::default() });
            }
            let facts = Facts {
                sent: vec![sent; 2], received: vec![received; 2], done: Some(whole), intervals: rows,
                first_sent: Some(done[3]), ..facts(&plan, sent, StreamReceived::default())
            };
            let run = assemble(facts).run;
            let text = serde_json::to_string(&run).unwrap();
            prop_assert!(serde_json::from_str::<Run>(&text).is_ok(), "{}", text);
        }
    }
}
