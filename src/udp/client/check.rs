//! Checks the server's results against what this host knows. Pure.
//!
//! A result is a claim of another program. This host knows what it sent or received itself, and how long the session has lasted. A
//! result that contradicts them is refused as a whole: a number that is impossible casts doubt on those beside it.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::Value;

use crate::stats::latency::Latency;
use crate::udp::latencies::Latencies;
use crate::udp::plan::{Mode, Plan};
use crate::udp::result::Ended;
use crate::udp::wire::header::HEADER;
use crate::udp::wire::results::{Done, Interval, SenderResult, StreamReceived, StreamSent};

/// More datagrams, calls or messages a second than any host has.
const MOST_PER_S: f64 = 1e9;

/// Longest distance of a stamp from the session, beyond the error of the clock offset, and of the end of an interval.
const SLACK_NS: u64 = 1_000_000_000;

/// Most sends that may be in flight when a sender fails, which it does not count.
const MOST_IN_FLIGHT: u64 = 1 << 16;

/// What this host knows.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The run.
    pub plan: &'a Plan,
    /// When the session began and the present time, in ns of this host's clock.
    pub session: (u64, u64),
    /// The server's clock minus this host's and its error, in ns; `None` if unknown.
    pub offset: Option<(i64, u64)>,
    /// Whether the run reached its end; otherwise sends may be uncounted.
    pub is_complete: bool,
}

/// The end of a run with an impossible result.
pub(super) fn impossible(server: SocketAddr, what: &str) -> Ended {
    Ended::Failed(format!(
        "the server at {server} sent an impossible result: {what}; its figures are not used"
    ))
}

/// Why a result is impossible: the object of a sentence.
type Checked = Result<(), String>;

fn require(is_possible: bool, what: impl FnOnce() -> String) -> Checked {
    match is_possible {
        true => Ok(()),
        false => Err(what()),
    }
}

impl Known<'_> {
    fn seconds(&self) -> f64 {
        let (begun, now) = self.session;
        now.saturating_sub(begun).saturating_add(SLACK_NS) as f64 / 1e9
    }

    /// More than any count of the session.
    fn most(&self) -> u64 {
        (self.seconds() * MOST_PER_S * self.plan.streams.max(1) as f64) as u64
    }

    fn uncounted(&self) -> u64 {
        match self.is_complete {
            true => 0,
            false => MOST_IN_FLIGHT,
        }
    }

    fn longest_chunk(&self) -> u64 {
        self.plan.chunk as u64
    }

    /// The span of two stamps of the server's clock lies in the session.
    fn span(&self, first: u64, last: u64) -> Checked {
        let (begun, now) = self.session;
        let longest = now.saturating_sub(begun).saturating_add(SLACK_NS);
        let length = last.checked_sub(first);
        require(length.is_some_and(|length| length <= longest), || {
            format!("stamps from {first} ns to {last} ns in a session of {longest} ns")
        })?;
        let Some((offset, error)) = self.offset else {
            return Ok(());
        };
        let slack = SLACK_NS.saturating_add(error);
        let at = |ns: u64| {
            let ns = i128::from(ns) + i128::from(offset);
            (ns - i128::from(slack), ns + i128::from(slack))
        };
        let is_within = i128::from(first) >= at(begun).0 && i128::from(last) <= at(now).1;
        require(is_within, || {
            format!("stamps from {first} ns to {last} ns outside the session")
        })
    }

    /// Each counter fits the session, and each other number is finite.
    fn counters(&self, what: &str, counters: &impl Serialize) -> Checked {
        let value = serde_json::to_value(counters).unwrap_or_default();
        let most = self.most();
        require(is_each_within(&value, most), || {
            format!("{what} beyond the {most} that fit the session")
        })
    }

    fn cpu(&self, user: f64, system: f64) -> Checked {
        let most = self.seconds() * 4_096.0;
        let is_time = |seconds: f64| (0.0..=most).contains(&seconds);
        require(is_time(user) && is_time(system), || {
            format!("{user} s and {system} s of CPU time")
        })
    }

    /// The row of an interval that has ended.
    ///
    /// # Errors
    /// What is impossible.
    pub fn interval(&self, row: &Interval) -> Checked {
        let end = row.start_s + row.seconds;
        // The clocks may run at slightly different rates. Without their relation, a row starts at a stamp of the other clock.
        let longest = match self.offset {
            Some(_) => self.seconds() * 1.01,
            None => u64::MAX as f64 / 1e9,
        };
        let is_time = |seconds: f64| (0.0..=longest).contains(&seconds);
        require(
            is_time(row.start_s) && is_time(row.seconds) && is_time(end),
            || format!("an interval of {} s from {} s on", row.seconds, row.start_s),
        )?;
        let missing = row.missing.unsigned_abs();
        let counts = [row.packets, row.duplicates, row.reordered, missing];
        self.counters("datagrams of an interval", &counts)?;
        let bytes = row.packets.saturating_mul(self.longest_chunk());
        require(
            row.duplicates <= row.packets && row.reordered <= row.packets && row.bytes <= bytes,
            || {
                format!(
                    "an interval with more parts than its {} datagrams",
                    row.packets
                )
            },
        )
    }

    /// The counts of the server's receivers, with the sum of their rows, against those of this host's senders.
    ///
    /// # Errors
    /// What is impossible.
    pub fn received(
        &self,
        sent: &[StreamSent],
        received: &[StreamReceived],
        rows: &StreamReceived,
        done: &Done,
        latencies: &Latencies,
    ) -> Checked {
        for (number, stream) in received.iter().enumerate() {
            let sent = sent.get(number).copied().unwrap_or_default();
            require(stream.stream == number, || {
                format!(
                    "counts of stream {} in place of stream {number}",
                    stream.stream
                )
            })?;
            self.stream(sent, stream)?;
        }
        let sum =
            |of: fn(&StreamReceived) -> u64| received.iter().map(of).fold(0, u64::saturating_add);
        let unique = sum(|of| of.unique);
        let packets = unique.saturating_add(sum(|of| of.duplicates));
        let seen = rows.unique.saturating_add(rows.duplicates);
        require(seen <= packets && rows.bytes <= sum(|of| of.bytes), || {
            format!("{seen} datagrams in its intervals, and {packets} in all")
        })?;
        self.cpu(done.user_s, done.system_s)?;
        self.counters("counters of its receivers", &done.stats)?;
        self.latency("latencies", &latencies.actual, unique)?;
        self.latency(
            "latencies from the intended send",
            &latencies.intended,
            unique,
        )?;
        let sized = done.by_size.iter().map(|of| of.packets);
        let sized = sized.fold(0, u64::saturating_add);
        require(sized <= unique, || {
            format!("latencies of {sized} datagrams by size, of {unique}")
        })
    }

    /// The counts of the server's responder.
    ///
    /// # Errors
    /// What is impossible.
    pub fn answered(&self, received: Option<&StreamReceived>, done: Option<&Done>) -> Checked {
        if let Some(received) = received {
            self.counters("requests", &[received.unique, received.drops])?;
        }
        let Some(done) = done else {
            return Ok(());
        };
        self.cpu(done.user_s, done.system_s)?;
        self.counters("counters of its responder", &done.stats)
    }

    fn stream(&self, sent: StreamSent, stream: &StreamReceived) -> Checked {
        let most = sent.packets.saturating_add(self.uncounted());
        require(stream.unique <= most && stream.next <= most, || {
            let arrived = stream.unique.max(stream.next);
            format!("{arrived} of {} sent datagrams", sent.packets)
        })?;
        // Each datagram that did not arrive lacks at most a chunk.
        let lacking = sent.packets.saturating_sub(stream.unique);
        let lacking = lacking.saturating_mul(self.longest_chunk());
        let most = stream.unique.saturating_mul(self.longest_chunk());
        let is_of_sent = stream.bytes >= sent.bytes.saturating_sub(lacking)
            && (stream.bytes <= sent.bytes || !self.is_complete);
        require(stream.bytes <= most && is_of_sent, || {
            format!("{} B in {} datagrams", stream.bytes, stream.unique)
        })?;
        require(stream.reordered <= stream.unique, || {
            format!(
                "{} reordered of {} datagrams",
                stream.reordered, stream.unique
            )
        })?;
        let others = [
            stream.duplicates,
            stream.late,
            stream.foreign_token,
            stream.foreign_short,
            stream.foreign_malformed,
            stream.drops,
        ];
        self.counters("datagrams", &others)?;
        let marks = stream.marks.iter().map(|(_, packets)| *packets);
        let marks = marks.fold(0, u64::saturating_add);
        require(
            marks <= stream.unique.saturating_add(stream.duplicates),
            || format!("marks of {marks} datagrams"),
        )?;
        let longest = self.seconds() * 1e9;
        let jitter = stream.jitter_ns.unwrap_or(0.0);
        require((0.0..=longest).contains(&jitter), || {
            format!("a jitter of {jitter} ns")
        })?;
        match (stream.first_received, stream.last_received) {
            (Some(first), Some(last)) => self.span(first, last),
            (None, None) => Ok(()),
            (Some(at), None) | (None, Some(at)) => self.span(at, at),
        }
    }

    /// A histogram has each unique datagram once, or none if the server reports no latencies.
    fn latency(&self, what: &str, latency: &Latency, unique: u64) -> Checked {
        let count = all(latency);
        require(count == 0 || count == unique, || {
            format!("{count} {what} of {unique} datagrams")
        })
    }

    /// The results of the server's senders against the counts of this host's receivers.
    ///
    /// # Errors
    /// What is impossible.
    pub fn sent(
        &self,
        senders: &[SenderResult],
        received: &[StreamReceived],
        schedule: [&Latency; 2],
    ) -> Checked {
        require(
            senders.len() == self.plan.streams || !self.is_complete,
            || {
                format!(
                    "the results of {} of {} senders",
                    senders.len(),
                    self.plan.streams
                )
            },
        )?;
        for (number, sender) in senders.iter().enumerate() {
            require(sender.stream == number || !self.is_complete, || {
                format!(
                    "the result of stream {} in place of stream {number}",
                    sender.stream
                )
            })?;
            let arrived = received.iter().find(|of| of.stream == sender.stream);
            self.sender(sender, arrived)?;
        }
        let packets = senders.iter().map(|sender| sender.sent.packets);
        let packets = packets.fold(0, u64::saturating_add);
        for (what, latency) in ["lateness", "gap"].into_iter().zip(schedule) {
            let count = all(latency);
            require(count <= packets, || {
                format!("{count} of a {what} of {packets} datagrams")
            })?;
        }
        Ok(())
    }

    fn sender(&self, sender: &SenderResult, received: Option<&StreamReceived>) -> Checked {
        let StreamSent {
            packets,
            bytes,
            not_sent,
        } = sender.sent;
        let arrived = received.map_or((0, 0), |of| (of.unique.max(of.next), of.bytes));
        require(
            packets.saturating_add(self.uncounted()) >= arrived.0,
            || format!("{packets} sent datagrams, of which {} arrived", arrived.0),
        )?;
        let most = self.most_of(sender.stream);
        require(packets <= most, || {
            format!("{packets} sent datagrams, of at most {most}")
        })?;
        require(not_sent <= packets && sender.too_long <= not_sent, || {
            format!("{not_sent} refused of {packets} datagrams")
        })?;
        let shortest = self.plan.smallest_datagram().saturating_sub(HEADER) as u64;
        let least = packets.saturating_sub(1).saturating_mul(shortest);
        let most = packets.saturating_mul(self.longest_chunk());
        let is_of_arrived = bytes >= arrived.1 || !self.is_complete;
        require((least..=most).contains(&bytes) && is_of_arrived, || {
            format!("{bytes} B in {packets} datagrams")
        })?;
        self.cpu(sender.cpu_s.0, sender.cpu_s.1)?;
        let others = [sender.probes, sender.preemptions];
        self.counters("counters of a sender", &(sender.stats, others))?;
        match sender.span {
            Some((first, last)) => self.span(first, last),
            None => Ok(()),
        }
    }

    /// Most datagrams of a stream of the server.
    fn most_of(&self, stream: usize) -> u64 {
        if let Some(packets) = self.plan.quota(stream).packets {
            return packets;
        }
        match (self.plan.mode, self.plan.stream_pace(stream)) {
            // Random gaps and bursts may exceed the mean for a while.
            (Mode::Paced(_), Some((pps, _))) => {
                let burst = f64::from(self.plan.traffic.schedule.burst);
                (self.seconds() * pps * 1.5 + 64.0 * burst + 1_000.0) as u64
            }
            _ => self.most(),
        }
    }
}

/// Values of a histogram, with those out of its range.
fn all(latency: &Latency) -> u64 {
    let outside = latency.out_of_range();
    [outside.negative, outside.too_long]
        .into_iter()
        .fold(latency.count(), u64::saturating_add)
}

/// Whether each number of a tree of counters is at most `most`. An errno may be negative.
fn is_each_within(value: &Value, most: u64) -> bool {
    match value {
        Value::Number(number) => match number.as_u64() {
            Some(count) => count <= most,
            None => number.as_f64().is_some_and(f64::is_finite),
        },
        Value::Array(values) => values.iter().all(|value| is_each_within(value, most)),
        Value::Object(values) => values.values().all(|value| is_each_within(value, most)),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
