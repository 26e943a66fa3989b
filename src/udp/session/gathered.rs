//! What the server has brought back, put together message by message. Pure.

use super::Observer;
use crate::udp::account::Latencies;
use crate::udp::control::{Done, Reply, StreamReceived};
use crate::udp::outcome::Rows;

/// As much of the receiver's side as there is yet.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) intervals: Rows,
    pub(super) latencies: Latencies,
    /// The last message; `None` until it has come.
    pub(super) done: Option<Done>,
    streams: Vec<StreamReceived>,
}

impl Gathered {
    /// Takes in a message; what is not kept goes to `observer`.
    pub(super) fn take(&mut self, reply: Reply, observer: &mut impl Observer) {
        match reply {
            Reply::Interval(row) => {
                observer.interval(&row);
                self.intervals.push(row);
            }
            Reply::Counts { intended, counts } => {
                let latencies = &mut self.latencies;
                if intended {
                    &mut latencies.intended
                } else {
                    &mut latencies.actual
                }
                .absorb(&counts);
            }
            Reply::Rows { stream, rows } => {
                rows.into_iter()
                    .for_each(|row| observer.packet(stream, row));
            }
            Reply::Stream(stream) => self.streams.push(stream),
            Reply::Done(done) => {
                let Latencies { actual, intended } = &mut self.latencies;
                let totals = done.sums_ns.iter().zip(done.out_of_range);
                for (latency, (sum, out_of_range)) in [actual, intended].into_iter().zip(totals) {
                    latency.absorb_totals(sum.parse().unwrap_or(0), out_of_range);
                }
                self.done = Some(*done);
            }
            Reply::Alive | Reply::Welcome(_) | Reply::Refused { .. } => {}
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
}
