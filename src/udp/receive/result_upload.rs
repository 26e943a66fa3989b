//! What a session's receivers measured, message by message. The client takes its own receivers' messages in the same way as the server's.

use std::collections::VecDeque;

use super::receivers::Outcome;
use crate::udp::receive::accounting::Latencies;
use crate::udp::receive::packet_log::Rows;
use crate::udp::receive::receiver::Received;
use crate::udp::result;
use crate::udp::result::Interval;
use crate::udp::wire::control::{Done, Histogram, MOST_ROWS, Reply, Row, StreamReceived};

/// A result on its way.
pub struct Upload {
    /// Each stream's figures.
    pub received: Vec<StreamReceived>,
    /// The figures of all.
    pub done: Done,
    /// All latencies.
    pub latencies: Latencies,
    /// All interval rows.
    pub intervals: result::Rows,
    /// Rows a packet that still have to be sent.
    rows: VecDeque<(usize, Rows)>,
    /// All other messages that still have to be.
    replies: VecDeque<Reply>,
}

impl Upload {
    /// Of receivers that have ended, for `reason` unless all was received.
    pub fn new(outcome: Outcome, reason: Option<String>) -> Self {
        let mut upload = Self {
            received: Vec::new(),
            done: Done {
                reason,
                host_receive_buffer_errors: outcome.buffer_errors,
                ..Done::default()
            },
            latencies: outcome.latencies,
            intervals: outcome.intervals,
            rows: VecDeque::new(),
            replies: VecDeque::new(),
        };
        for stream in outcome.received {
            upload.add(stream);
        }
        let last = upload
            .received
            .iter()
            .filter_map(|stream| stream.last_received)
            .max();
        // Stamps are in the server's clock, which is this host's plus the offset.
        upload.done.last_received_wall = last
            .and_then(|last| last.checked_add_signed(outcome.offset.checked_neg()?))
            .map(|last| outcome.wall.at(last));
        upload.queue();
        upload
    }

    fn add(&mut self, stream: Received) {
        let tally = stream.tally;
        self.received.push(StreamReceived {
            stream: stream.stream,
            unique: tally.unique,
            bytes: tally.bytes,
            duplicates: tally.duplicates,
            reordered: tally.reordered,
            late: tally.late,
            foreign_token: tally.foreign.token,
            foreign_short: tally.foreign.short,
            foreign_malformed: tally.foreign.malformed,
            next: tally.next,
            jitter_ns: tally.jitter_ns,
            first_sent: tally.first_sent,
            first_received: tally.first_received,
            last_received: tally.last_received,
            drops: stream.drops,
            window: stream.window,
        });
        self.done.user_s += stream.cpu.user;
        self.done.system_s += stream.cpu.system;
        self.done.stats.add(stream.stats);
        match stream.spool.map(|spool| spool.into_rows()) {
            Some(Ok(rows)) => {
                self.done.rows_omitted += rows.omitted();
                self.rows.push_back((stream.stream, rows));
            }
            Some(Err(_)) => self.done.rows_omitted += tally.unique + tally.duplicates,
            None => {}
        }
    }

    fn queue(&mut self) {
        let Latencies { actual, intended } = &self.latencies;
        self.done.sums_ns = [actual.sum_ns().to_string(), intended.sum_ns().to_string()];
        self.done.out_of_range = [actual.out_of_range(), intended.out_of_range()];
        for (of, latency) in [
            (Histogram::Latency, actual),
            (Histogram::Intended, intended),
        ] {
            self.replies.extend(counts(of, latency));
        }
        self.replies
            .extend(self.received.iter().cloned().map(Reply::Stream));
        self.replies
            .push_back(Reply::Done(Box::new(self.done.clone())));
    }

    /// The next message to send; `None` after the last.
    pub fn next_reply(&mut self) -> Option<Reply> {
        while let Some((stream, rows)) = self.rows.front_mut() {
            let stream = *stream;
            let part: Vec<(u64, u64, u64)> = rows
                .take(MOST_ROWS)
                .map(|row| (row.sequence, row.sent, row.received))
                .collect();
            if !part.is_empty() {
                return Some(Reply::Rows { stream, rows: part });
            }
            self.rows.pop_front();
        }
        self.replies.pop_front()
    }

    /// Whether all has been given out.
    pub fn is_over(&self) -> bool {
        self.rows.is_empty() && self.replies.is_empty()
    }
}

/// A histogram in messages.
pub fn counts(
    of: Histogram,
    latency: &crate::stats::latency::Latency,
) -> impl Iterator<Item = Reply> {
    let counts: Vec<(u64, u64)> = latency.counts().collect();
    let parts: Vec<Vec<(u64, u64)>> = counts.chunks(MOST_ROWS).map(<[_]>::to_vec).collect();
    parts
        .into_iter()
        .map(move |counts| Reply::Counts { of, counts })
}

impl From<&Interval> for Row {
    fn from(row: &Interval) -> Self {
        Self {
            start_s: row.start_s,
            seconds: row.seconds,
            packets: row.packets,
            bytes: row.bytes,
            missing: row.missing,
            duplicates: row.duplicates,
            reordered: row.reordered,
            latency_ns: [row.latency_p50_ns, row.latency_p99_ns, row.latency_max_ns],
        }
    }
}

impl From<Row> for Interval {
    fn from(row: Row) -> Self {
        let [latency_p50_ns, latency_p99_ns, latency_max_ns] = row.latency_ns;
        Self {
            start_s: row.start_s,
            seconds: row.seconds,
            packets: row.packets,
            bytes: row.bytes,
            kb_per_s: if row.seconds > 0.0 {
                row.bytes as f64 / 1e3 / row.seconds
            } else {
                0.0
            },
            missing: row.missing,
            duplicates: row.duplicates,
            reordered: row.reordered,
            latency_p50_ns,
            latency_p99_ns,
            latency_max_ns,
        }
    }
}
