//! The results of one direction, collected message by message. Pure.

use super::check::Known;
use super::{Observer, Packet};
use crate::stats::latency::Latency;
use crate::udp::latencies::Latencies;
use crate::udp::plan::Direction;
use crate::udp::result::StageInputs;
use crate::udp::result::{Interval, IntervalRows};
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::wire::control::Reply;
use crate::udp::wire::results::{Done, Histogram, SenderResult, StreamReceived, StreamSent};

/// The results of a direction received so far.
pub(super) struct DirectionResults {
    pub(super) intervals: IntervalRows,
    pub(super) latencies: Latencies,
    /// The receivers' last message, once it has arrived.
    pub(super) done: Option<Done>,
    /// The reason in the senders' last message, once it has arrived.
    pub(super) senders_done: Option<Option<String>>,
    received: Vec<StreamReceived>,
    senders: Vec<SenderResult>,
    lateness: Latency,
    gap_error: Latency,
    /// The kernel's stamps.
    pub(super) stages: StageInputs,
    /// Latencies of the interval whose row arrives next, if the server sends them.
    interval_latencies: Option<Box<Latencies>>,
    /// `forward` or `reverse`.
    direction: Direction,
    /// Number of streams. Results of more streams are dropped.
    streams: usize,
    /// Whether the relation of the two clocks is known. Otherwise latencies are dropped.
    clocks_related: bool,
}

impl DirectionResults {
    /// The results of a direction with `streams` streams.
    pub(super) fn new(direction: Direction, streams: usize, clocks_related: bool) -> Self {
        Self {
            intervals: IntervalRows::default(),
            latencies: Latencies::default(),
            done: None,
            senders_done: None,
            received: Vec::new(),
            senders: Vec::new(),
            lateness: Latency::new(),
            gap_error: Latency::new(),
            stages: StageInputs::new(streams),
            interval_latencies: None,
            direction,
            streams,
            clocks_related,
        }
    }

    /// Adds an interval, with its latencies if they are known.
    pub(super) fn add_interval(
        &mut self,
        mut row: Interval,
        mut latencies: Option<Box<Latencies>>,
        observer: &mut impl Observer,
    ) {
        if !self.clocks_related {
            row.clear_latency();
            latencies = None;
        }
        observer.interval(self.direction, &row, latencies.as_deref());
        self.intervals.push(row);
    }

    /// Checks the server's result about the streams that it received.
    ///
    /// # Errors
    /// What is impossible: the object of a sentence.
    pub(super) fn check_received(
        &self,
        known: Known<'_>,
        sent: &[StreamSent],
    ) -> Result<(), String> {
        let Some(done) = &self.done else {
            return Ok(());
        };
        let received = self.received();
        known.received(
            sent,
            &received,
            &self.intervals.total,
            done,
            &self.latencies,
        )
    }

    /// Checks the server's result about the streams that it sent.
    ///
    /// # Errors
    /// As [`Self::check_received`].
    pub(super) fn check_sent(&self, known: Known<'_>) -> Result<(), String> {
        if self.senders_done.is_none() {
            return Ok(());
        }
        let received = match self.done {
            Some(_) => self.received(),
            None => Vec::new(),
        };
        let mut senders = self.senders.clone();
        senders.sort_by_key(|sender| sender.stream);
        known.sent(&senders, &received, [&self.lateness, &self.gap_error])
    }

    /// Drops all that the server has reported about the streams that it received.
    pub(super) fn refuse_received(&mut self) {
        let (direction, streams) = (self.direction, self.streams);
        *self = Self::new(direction, streams, self.clocks_related);
    }

    /// Drops all that the server has reported about the streams that it sent.
    pub(super) fn refuse_sent(&mut self) {
        self.senders = Vec::new();
        self.senders_done = None;
        (self.lateness, self.gap_error) = (Latency::new(), Latency::new());
        self.stages = StageInputs::new(self.streams);
    }

    /// Adds a message. Packet records are passed to `observer` only.
    pub(super) fn add(&mut self, reply: Reply, observer: &mut impl Observer) {
        match reply {
            Reply::IntervalCounts { of, counts } => {
                let latencies = self.interval_latencies.get_or_insert_default();
                match of {
                    Histogram::Latency => latencies.actual.absorb(&counts),
                    Histogram::Intended => latencies.intended.absorb(&counts),
                    _ => {}
                }
            }
            Reply::Interval(row) => {
                let latencies = self.interval_latencies.take();
                self.add_interval(row.into(), latencies, observer);
            }
            Reply::Counts { of, counts } => match of {
                Histogram::Latency => self.latencies.actual.absorb(&counts),
                Histogram::Intended => self.latencies.intended.absorb(&counts),
                Histogram::Lateness => self.lateness.absorb(&counts),
                Histogram::GapError => self.gap_error.absorb(&counts),
                Histogram::SenderStage | Histogram::QdiscStage | Histogram::ReceiverStage => {
                    self.stages.add_counts(of, &counts);
                }
            },
            Reply::Stamps { stream, of, rows } => self.stages.add_rows(stream, of, &rows),
            Reply::Rows {
                stream,
                rows,
                lateness,
            } => {
                for (number, (sequence, sent_ns, received_ns)) in rows.into_iter().enumerate() {
                    let late = lateness.get(number);
                    observer.packet(&Packet {
                        direction: self.direction,
                        stream,
                        sequence,
                        sent_ns,
                        received_ns,
                        clocks_related: self.clocks_related,
                        intended_ns: late.map(|late| sent_ns.wrapping_sub(*late)),
                    });
                }
            }
            Reply::Stream(stream) if self.received.len() < self.streams => {
                self.received.push(stream);
            }
            Reply::Done(done) => {
                let Latencies { actual, intended } = &mut self.latencies;
                let totals = done.sums_ns.iter().zip(done.out_of_range);
                for (latency, (sum, out_of_range)) in [actual, intended].into_iter().zip(totals) {
                    latency.absorb_totals(sum.parse().unwrap_or(0), out_of_range.into());
                }
                if let Some(counts) = &done.stages {
                    self.stages.add_receiver(counts);
                }
                self.done = Some(*done);
            }
            Reply::Sender(sender) if self.senders.len() < self.streams => {
                if let Some(counts) = &sender.stages {
                    self.stages.add_sender(counts);
                }
                if let Some(totals) = &sender.schedule {
                    let both = [&mut self.lateness, &mut self.gap_error];
                    let totals = totals.sums_ns.iter().zip(totals.out_of_range);
                    for (latency, (sum, out_of_range)) in both.into_iter().zip(totals) {
                        latency.absorb_totals(sum.parse().unwrap_or(0), out_of_range.into());
                    }
                }
                self.senders.push(*sender);
            }
            Reply::SendersDone { reason } => self.senders_done = Some(reason),
            _ => {}
        }
    }

    /// The counts of each stream's receiver. If the receivers were lost: the totals of the interval rows, for all streams.
    pub(super) fn received(&self) -> Vec<StreamReceived> {
        if self.done.is_none() {
            return vec![self.intervals.total.clone()];
        }
        let mut streams = self.received.clone();
        streams.sort_by_key(|stream| stream.stream);
        streams
    }

    /// Wall time of the last arrival, in ns since the epoch.
    pub(super) fn last_received_wall(&self) -> Option<u64> {
        self.done.as_ref().and_then(|done| done.last_received_wall)
    }

    /// Wall time of the first send, in ns since the epoch.
    pub(super) fn first_sent_wall(&self) -> Option<u64> {
        let walls = self
            .senders
            .iter()
            .filter_map(|sender| sender.first_sent_wall);
        walls.min()
    }

    /// The outcome of each of the server's senders. Their histograms are merged, and belong to the first outcome.
    pub(super) fn senders(&self) -> Vec<SenderOutcome> {
        let mut senders = self.senders.clone();
        senders.sort_by_key(|sender| sender.stream);
        let mut outcomes: Vec<SenderOutcome> =
            senders.into_iter().map(SenderOutcome::from).collect();
        if let Some(first) = outcomes.first_mut() {
            first.times.lateness.merge(&self.lateness);
            first.times.gap_error.merge(&self.gap_error);
        }
        outcomes
    }
}
