//! What a session brings back, message by message, and what the server itself says of it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::SessionReport;
use crate::report::dates;
use crate::report::record::{Clock, Effective};
use crate::sys::clock::WallClock;
use crate::udp::account::Latencies;
use crate::udp::control::{Done, MOST_ROWS, Reply, StreamReceived, StreamSent, Welcome};
use crate::udp::outcome::{self, Ended, Facts};
use crate::udp::plan::Plan;
use crate::udp::receiver::Received;
use crate::udp::spool::Rows;

/// All that a session leaves when its receivers have ended.
pub(super) struct Finished {
    pub(super) plan: Plan,
    pub(super) welcome: Welcome,
    pub(super) ended: Ended,
    /// What the client says it sent.
    pub(super) sent: Option<Vec<StreamSent>>,
    pub(super) received: Vec<Received>,
    pub(super) latencies: Latencies,
    pub(super) intervals: outcome::Rows,
    pub(super) wall: WallClock,
    /// How far `UdpRcvbufErrors` of this host rose meanwhile.
    pub(super) buffer_errors: Option<u64>,
}

/// A result on its way.
pub(super) struct Report {
    plan: Plan,
    welcome: Welcome,
    ended: Ended,
    sent: Option<Vec<StreamSent>>,
    received: Vec<StreamReceived>,
    done: Done,
    latencies: Latencies,
    intervals: outcome::Rows,
    /// Rows a packet that still have to be sent.
    rows: VecDeque<(usize, Rows)>,
    /// All other messages that still have to be.
    replies: VecDeque<Reply>,
}

impl Report {
    pub(super) fn new(finished: Finished) -> Self {
        let mut report = Self {
            plan: finished.plan,
            welcome: finished.welcome,
            ended: finished.ended,
            sent: finished.sent,
            received: Vec::new(),
            done: Done {
                host_receive_buffer_errors: finished.buffer_errors,
                ..Done::default()
            },
            latencies: finished.latencies,
            intervals: finished.intervals,
            rows: VecDeque::new(),
            replies: VecDeque::new(),
        };
        for stream in finished.received {
            report.add(stream);
        }
        report.finish(&finished.wall);
        report
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

    fn finish(&mut self, wall: &WallClock) {
        let Latencies { actual, intended } = &self.latencies;
        let last = self
            .received
            .iter()
            .filter_map(|stream| stream.last_received)
            .max();
        self.done.last_received_wall = last.map(|last| wall.at(last));
        self.done.sums_ns = [actual.sum_ns().to_string(), intended.sum_ns().to_string()];
        self.done.out_of_range = [actual.out_of_range(), intended.out_of_range()];
        self.done.reason = match &self.ended {
            Ended::Limited(reason) | Ended::Failed(reason) => Some(reason.clone()),
            _ => None,
        };
        for (intended, latency) in [(false, actual), (true, intended)] {
            let counts: Vec<(u64, u64)> = latency.counts().collect();
            let parts = counts.chunks(MOST_ROWS);
            self.replies.extend(parts.map(|part| Reply::Counts {
                intended,
                counts: part.to_vec(),
            }));
        }
        self.replies
            .extend(self.received.iter().cloned().map(Reply::Stream));
        self.replies
            .push_back(Reply::Done(Box::new(self.done.clone())));
    }

    /// The next message to send; `None` after the last.
    pub(super) fn next(&mut self) -> Option<Reply> {
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
    pub(super) fn is_over(&self) -> bool {
        self.rows.is_empty() && self.replies.is_empty()
    }

    /// The server's own view of the session.
    pub(super) fn into_session(self, client: SocketAddr, delivered: bool) -> SessionReport {
        let plan = &self.plan;
        let chunk = plan.chunk as u64;
        // Without the sender's word, the highest number seen tells how many there were at least.
        let seen = self.received.iter().map(|stream| StreamSent {
            packets: stream.next,
            bytes: (stream.next * chunk).max(stream.bytes),
            not_sent: 0,
        });
        let sent = self.sent.unwrap_or_else(|| seen.collect());
        let source = if self.welcome.same_clock {
            "same"
        } else {
            "estimated"
        };
        let measured = outcome::assemble(Facts {
            plan,
            requested: outcome::requested(plan),
            effective: Effective {
                gro: self.welcome.gro,
                rcvbuf: self.welcome.receive_buffer,
                receiver_cpus: self.welcome.cpus.clone(),
                window: self.welcome.window,
                clock: Clock {
                    source: source.to_owned(),
                    ..Clock::default()
                },
                ..outcome::effective(plan)
            },
            ended: self.ended,
            sent,
            senders: Vec::new(),
            first_sent: self
                .received
                .iter()
                .filter_map(|stream| stream.first_sent)
                .min(),
            first_sent_at: None,
            received: self.received,
            last_received_at: self.done.last_received_wall.map(dates::rfc3339),
            done: Some(self.done),
            client_ip: Some(self.welcome.client_ip),
            latencies: self.latencies,
            intervals: self.intervals,
        });
        SessionReport {
            client,
            measured,
            delivered,
        }
    }
}
