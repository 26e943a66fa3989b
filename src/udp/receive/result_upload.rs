//! The result of a session's receivers as a sequence of messages. The client processes the messages of its own receivers exactly
//! as those of the server.

use std::collections::VecDeque;

use super::receivers::ReceiversOutcome;
use crate::stats::latency::Latency;
use crate::udp::engine::stats::ReceiveStats;
use crate::udp::latencies::Latencies;
use crate::udp::receive::by_size::LatencyBySize;
use crate::udp::receive::packet_log::PacketRecords;
use crate::udp::receive::receiver::Received;
use crate::udp::result::IntervalRows;
use crate::udp::wire::control::{MAX_LATE_ROWS, MAX_ROWS, Reply};
use crate::udp::wire::results::{Done, Histogram, StreamReceived};
use crate::udp::wire::stages::StampedEnd;

/// A result that is being sent.
pub struct ResultUpload {
    /// The counts of each stream.
    pub received: Vec<StreamReceived>,
    /// The totals.
    pub done: Done,
    /// All latencies.
    pub latencies: Latencies,
    /// All interval rows.
    pub intervals: IntervalRows,
    /// The receiver's stage of the latency, if the plan requests stages.
    stage: Latency,
    /// The kernel's stamps by stream.
    stamps: Vec<(usize, Vec<(u64, u64)>)>,
    /// The latency of each size of a mix.
    by_size: Option<LatencyBySize>,
    /// Whether the packet logs are sent with the lateness of each datagram.
    is_paced: bool,
    /// Packet logs that are not sent yet.
    records: VecDeque<(usize, PacketRecords)>,
    /// Other messages that are not sent yet.
    replies: VecDeque<Reply>,
}

impl ResultUpload {
    /// The result of receivers that have ended, for `reason` unless all was received.
    pub fn new(outcome: ReceiversOutcome, reason: Option<String>) -> Self {
        let mut upload = Self {
            received: Vec::new(),
            done: Done {
                reason,
                host_receive_buffer_errors: outcome.buffer_errors,
                throttled: outcome.throttled.map(|of| (of.periods, of.ns)),
                ..Done::default()
            },
            latencies: outcome.latencies,
            intervals: outcome.intervals,
            stage: Latency::small(),
            stamps: Vec::new(),
            by_size: None,
            is_paced: outcome.is_paced,
            records: VecDeque::new(),
            replies: VecDeque::new(),
        };
        let mut stats = ReceiveStats::default();
        for stream in outcome.received {
            stats.add(stream.stats);
            upload.add(stream);
        }
        upload.done.stats = stats.into();
        let last = upload
            .received
            .iter()
            .filter_map(|stream| stream.last_received)
            .max();
        // Stamps are in the server's clock: this host's clock plus the offset.
        upload.done.last_received_wall = last
            .and_then(|last| last.checked_add_signed(outcome.offset.checked_neg()?))
            .map(|last| outcome.wall.at(last));
        upload.queue();
        upload
    }

    fn add(&mut self, stream: Received) {
        let counts = stream.counts;
        self.received.push(StreamReceived {
            stream: stream.stream,
            unique: counts.unique,
            bytes: counts.bytes,
            duplicates: counts.duplicates,
            reordered: counts.reordered,
            late: counts.late,
            foreign_token: counts.foreign.token,
            foreign_short: counts.foreign.short,
            foreign_malformed: counts.foreign.malformed,
            next: counts.next,
            jitter_ns: counts.jitter_ns,
            first_sent: counts.first_sent,
            first_received: counts.first_received,
            last_received: counts.last_received,
            drops: stream.drops,
            window: stream.window,
            marks: stream
                .marks
                .map(|marks| marks.counts().collect())
                .unwrap_or_default(),
        });
        self.done.user_s += stream.cpu.user;
        self.done.system_s += stream.cpu.system;
        if let Some(stamps) = stream.stamps {
            let totals = self.done.stages.get_or_insert_default();
            totals.stamped += stamps.stamped;
            totals.unstamped += stamps.unstamped;
            totals.clock_steps = totals.clock_steps.max(stamps.clock_steps);
            self.stage.merge(&stamps.receiver);
            self.stamps.push((stream.stream, stamps.rows));
        }
        match (&mut self.by_size, stream.by_size) {
            (Some(all), Some(of_stream)) => all.merge(&of_stream),
            (all, of_stream) => *all = all.take().or(of_stream),
        }
        match stream.packet_log.map(|log| log.into_records()) {
            Some(Ok(records)) => {
                self.done.rows_omitted += records.omitted();
                self.records.push_back((stream.stream, records));
            }
            Some(Err(_)) => self.done.rows_omitted += counts.unique + counts.duplicates,
            None => {}
        }
    }

    fn queue(&mut self) {
        let Latencies { actual, intended } = &self.latencies;
        self.done.sums_ns = [actual.sum_ns().to_string(), intended.sum_ns().to_string()];
        self.done.out_of_range = [actual, intended].map(|latency| latency.out_of_range().into());
        if let Some(by_size) = &self.by_size {
            self.done.by_size = by_size.message();
        }
        if let Some(totals) = &mut self.done.stages {
            totals.sum_ns = self.stage.sum_ns().to_string();
            totals.out_of_range = self.stage.out_of_range().into();
        }
        for (of, latency) in [
            (Histogram::Latency, actual),
            (Histogram::Intended, intended),
            (Histogram::ReceiverStage, &self.stage),
        ] {
            self.replies.extend(histogram_messages(of, latency));
        }
        for (stream, rows) in self.stamps.drain(..) {
            let parts = stamp_messages(stream, StampedEnd::Received, &rows);
            self.replies.extend(parts);
        }
        self.replies
            .extend(self.received.iter().cloned().map(Reply::Stream));
        self.replies
            .push_back(Reply::Done(Box::new(self.done.clone())));
    }

    /// The next message; `None` after the last.
    pub fn next_reply(&mut self) -> Option<Reply> {
        while let Some((stream, records)) = self.records.front_mut() {
            let stream = *stream;
            let (mut rows, mut lateness) = (Vec::new(), Vec::new());
            let most = if self.is_paced {
                MAX_LATE_ROWS
            } else {
                MAX_ROWS
            };
            for record in records.take(most) {
                rows.push((record.sequence, record.sent, record.received));
                if self.is_paced {
                    lateness.push(record.lateness);
                }
            }
            if !rows.is_empty() {
                return Some(Reply::Rows {
                    stream,
                    rows,
                    lateness,
                });
            }
            self.records.pop_front();
        }
        self.replies.pop_front()
    }

    /// Whether [`Self::next_reply`] has returned all messages.
    pub fn is_over(&self) -> bool {
        self.records.is_empty() && self.replies.is_empty()
    }
}

/// The messages that carry a histogram.
pub fn histogram_messages(of: Histogram, latency: &Latency) -> impl Iterator<Item = Reply> {
    parts(latency).map(move |counts| Reply::Counts { of, counts })
}

/// The messages that carry the stamps of one side of a stream.
pub fn stamp_messages(
    stream: usize,
    of: StampedEnd,
    rows: &[(u64, u64)],
) -> impl Iterator<Item = Reply> {
    rows.chunks(MAX_ROWS).map(move |rows| Reply::Stamps {
        stream,
        of,
        rows: rows.to_vec(),
    })
}

/// The messages that carry the latencies of an interval; they precede the interval.
pub fn interval_messages(latencies: &Latencies) -> impl Iterator<Item = Reply> {
    [
        (Histogram::Latency, &latencies.actual),
        (Histogram::Intended, &latencies.intended),
    ]
    .into_iter()
    .flat_map(|(of, latency)| {
        parts(latency).map(move |counts| Reply::IntervalCounts { of, counts })
    })
}

/// The counts of a histogram, as many as fit a message.
fn parts(latency: &Latency) -> impl Iterator<Item = Vec<(u64, u64)>> + use<> {
    let counts: Vec<(u64, u64)> = latency.counts().collect();
    let parts: Vec<_> = counts.chunks(MAX_ROWS).map(<[_]>::to_vec).collect();
    parts.into_iter()
}
