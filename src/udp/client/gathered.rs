//! What one direction's receivers and senders reported, put together message by message. Pure.

use super::Observer;
use crate::stats::latency::Latency;
use crate::sys::cgroup::Throttled;
use crate::sys::usage::CpuTime;
use crate::udp::engine::Path;
use crate::udp::receive::accounting::Latencies;
use crate::udp::result::Interval;
use crate::udp::result::Rows;
use crate::udp::send::sender::Sent;
use crate::udp::send::stream::Written;
use crate::udp::wire::control::{Done, Histogram, Reply, SenderFacts, StreamReceived};

/// As much of a direction's result as there is yet.
pub(super) struct Gathered {
    pub(super) intervals: Rows,
    pub(super) latencies: Latencies,
    /// The receivers' last message; `None` until it has come.
    pub(super) done: Option<Done>,
    /// The senders' last message; `None` until it has come.
    pub(super) senders_done: Option<Option<String>>,
    streams: Vec<StreamReceived>,
    senders: Vec<SenderFacts>,
    lateness: Latency,
    gap_error: Latency,
    /// How many streams there are: more are not kept.
    most: usize,
}

impl Gathered {
    /// Of a direction with so many streams.
    pub(super) fn new(streams: usize) -> Self {
        Self {
            intervals: Rows::default(),
            latencies: Latencies::default(),
            done: None,
            senders_done: None,
            streams: Vec::new(),
            senders: Vec::new(),
            lateness: Latency::new(),
            gap_error: Latency::new(),
            most: streams,
        }
    }

    /// Takes an interval in.
    pub(super) fn row(&mut self, row: Interval, observer: &mut impl Observer) {
        observer.interval(&row);
        self.intervals.push(row);
    }

    /// Takes in a message; what is not kept goes to `observer`.
    pub(super) fn take(&mut self, reply: Reply, observer: &mut impl Observer) {
        match reply {
            Reply::Interval(row) => self.row(row.into(), observer),
            Reply::Counts { of, counts } => match of {
                Histogram::Latency => self.latencies.actual.absorb(&counts),
                Histogram::Intended => self.latencies.intended.absorb(&counts),
                Histogram::Lateness => self.lateness.absorb(&counts),
                Histogram::GapError => self.gap_error.absorb(&counts),
            },
            Reply::Rows { stream, rows } => {
                rows.into_iter()
                    .for_each(|row| observer.packet(stream, row));
            }
            Reply::Stream(stream) if self.streams.len() < self.most => self.streams.push(stream),
            Reply::Done(done) => {
                let Latencies { actual, intended } = &mut self.latencies;
                let totals = done.sums_ns.iter().zip(done.out_of_range);
                for (latency, (sum, out_of_range)) in [actual, intended].into_iter().zip(totals) {
                    latency.absorb_totals(sum.parse().unwrap_or(0), out_of_range);
                }
                self.done = Some(*done);
            }
            Reply::Sender(sender) if self.senders.len() < self.most => self.senders.push(*sender),
            Reply::SendersDone { reason } => self.senders_done = Some(reason),
            _ => {}
        }
    }

    /// What each stream's receiver counted. When the result was lost, what the interval rows add up to, all streams together.
    pub(super) fn received(&self) -> Vec<StreamReceived> {
        if self.done.is_none() {
            return vec![self.intervals.total.clone()];
        }
        let mut streams = self.streams.clone();
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

    /// What the server's senders did. Their histograms are known only together, and are the first one's.
    pub(super) fn sent(&self) -> Vec<Sent> {
        let mut senders = self.senders.clone();
        senders.sort_by_key(|sender| sender.stream);
        let sent = senders.into_iter().enumerate().map(|(number, facts)| {
            let mut written = Written::default();
            if let Some((first, last)) = facts.span {
                written.first = Some(first);
                written.last = last;
            }
            if number == 0 {
                written.lateness.merge(&self.lateness);
                written.gap_error.merge(&self.gap_error);
            }
            let (user, system) = facts.cpu_s;
            Sent {
                packets: facts.sent.packets,
                bytes: facts.sent.bytes,
                not_sent: facts.sent.not_sent,
                written,
                probes: facts.probes,
                cpu: CpuTime { user, system },
                stats: facts.stats,
                too_long: facts.too_long,
                segments: facts.segments,
                path: facts.path.map(|(mtu, headers)| Path { mtu, headers }),
                spin: facts.spin,
                why_no_spin: facts.why_no_spin,
                preemptions: facts.preemptions,
                throttled: facts
                    .throttled
                    .map(|(periods, ns)| Throttled { periods, ns }),
                effective: facts.effective,
            }
        });
        sent.collect()
    }
}
