//! A session's streams put together, interval by interval. Pure: cuts in, rows out.
//!
//! Every stream ends its intervals at the same times, counted from the session's first datagram, but not at the same
//! moment. So an interval stays open until every stream has ended it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;
use std::time::Duration;

use crate::report::record::Interval;
use crate::udp::account::{Latencies, Tally};
use crate::udp::receiver::Cut;

/// Histograms that a stream may record into again, now empty.
pub(super) type Spare = (usize, Box<Latencies>);

pub(super) struct Intervals {
    length: Duration,
    streams: Vec<Progress>,
    /// Intervals that not every stream has ended yet.
    open: BTreeMap<u64, Open>,
    /// The interval after the last row.
    next: u64,
    /// Of all rows so far.
    latencies: Latencies,
}

/// How far a stream is.
#[derive(Default)]
struct Progress {
    tally: Tally,
    /// The interval it will end next; `None` once it is over.
    next: Option<u64>,
}

/// What the streams that have ended an interval saw in it.
struct Open {
    packets: u64,
    bytes: u64,
    missing: i64,
    duplicates: u64,
    reordered: u64,
    latencies: Box<Latencies>,
    /// The stream that the histograms go back to.
    owner: usize,
}

impl Intervals {
    pub(super) fn new(length: Duration, streams: usize) -> Self {
        Self {
            length,
            streams: (0..streams)
                .map(|_| Progress {
                    tally: Tally::default(),
                    next: Some(0),
                })
                .collect(),
            open: BTreeMap::new(),
            next: 0,
            latencies: Latencies::default(),
        }
    }

    /// Takes in what a stream saw in an interval, and gives back its histograms unless they are needed.
    pub(super) fn cut(&mut self, cut: Cut) -> Option<Spare> {
        let stream = self.streams.get_mut(cut.stream)?;
        let before = mem::replace(&mut stream.tally, cut.tally);
        stream.next = if cut.last { None } else { Some(cut.index + 1) };
        let (open, spare) = match self.open.entry(cut.index) {
            Entry::Vacant(place) => (place.insert(Open::new(cut.stream, cut.latencies)), None),
            Entry::Occupied(place) => {
                let open = place.into_mut();
                open.latencies.merge(&cut.latencies);
                (open, Some(emptied(cut.stream, cut.latencies)))
            }
        };
        open.add(&before, &cut.tally);
        spare
    }

    /// The next interval that every stream has ended, and histograms to give back. `first` is when the session's
    /// first datagram was sent, in ns.
    pub(super) fn complete(&mut self, first: u64) -> Option<(Option<Interval>, Spare)> {
        let ended = self.streams.iter().filter_map(|stream| stream.next).min();
        let entry = self.open.first_entry()?;
        if ended.is_some_and(|ended| *entry.key() >= ended) {
            return None;
        }
        let (index, open) = entry.remove_entry();
        self.latencies.merge(&open.latencies);
        let over = ended.is_none() && self.open.is_empty();
        let row = self.row(index, &open, over.then_some(first));
        self.next = index + 1;
        Some((row, emptied(open.owner, open.latencies)))
    }

    /// The row of an interval. The last of a session, which began at `first`, ends with its last datagram, and may
    /// be nothing at all.
    fn row(&self, index: u64, open: &Open, first: Option<u64>) -> Option<Interval> {
        let one = self.length.as_secs_f64();
        // An interval that no stream found the time to end is part of the next.
        let start_s = self.next.min(index) as f64 * one;
        let mut seconds = (index + 1) as f64 * one - start_s;
        if let Some(first) = first {
            let last = self
                .streams
                .iter()
                .filter_map(|stream| stream.tally.last_received)
                .max();
            let elapsed = last.map_or(0, |last| last.saturating_sub(first)) as f64 / 1e9;
            seconds = seconds.min(elapsed - start_s);
        }
        if seconds <= 0.0 {
            return None;
        }
        Some(Interval {
            start_s,
            seconds,
            packets: open.packets,
            bytes: open.bytes,
            kb_per_s: open.bytes as f64 / 1e3 / seconds,
            missing: open.missing,
            duplicates: open.duplicates,
            reordered: open.reordered,
            latency_p50_ns: open.latencies.actual.percentile(50.0),
            latency_p99_ns: open.latencies.actual.percentile(99.0),
            latency_max_ns: open.latencies.actual.percentile(100.0),
        })
    }

    /// All latencies of the intervals that were complete.
    pub(super) fn into_latencies(self) -> Latencies {
        self.latencies
    }
}

impl Open {
    fn new(owner: usize, latencies: Box<Latencies>) -> Self {
        Self {
            packets: 0,
            bytes: 0,
            missing: 0,
            duplicates: 0,
            reordered: 0,
            latencies,
            owner,
        }
    }

    fn add(&mut self, before: &Tally, after: &Tally) {
        let packets = |tally: &Tally| tally.unique + tally.duplicates;
        let missing = |tally: &Tally| tally.next as i64 - tally.unique as i64;
        self.packets += packets(after) - packets(before);
        self.bytes += after.bytes - before.bytes;
        self.missing += missing(after) - missing(before);
        self.duplicates += after.duplicates - before.duplicates;
        self.reordered += after.reordered - before.reordered;
    }
}

fn emptied(stream: usize, mut latencies: Box<Latencies>) -> Spare {
    latencies.clear();
    (stream, latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn cut(stream: usize, index: u64, unique: u64, last: bool) -> Cut {
        let tally = Tally {
            unique,
            bytes: unique * 10,
            next: unique,
            last_received: Some(index * SECOND + SECOND / 2),
            ..Tally::default()
        };
        let mut latencies: Box<Latencies> = Box::default();
        latencies.actual.record(unique);
        Cut {
            stream,
            index,
            tally,
            latencies,
            last,
        }
    }

    fn rows(intervals: &mut Intervals) -> Vec<Interval> {
        std::iter::from_fn(|| intervals.complete(0))
            .filter_map(|(row, _)| row)
            .collect()
    }

    #[test]
    fn an_interval_is_complete_when_every_stream_has_ended_it() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 2);
        assert!(intervals.cut(cut(0, 0, 5, false)).is_none());
        assert!(rows(&mut intervals).is_empty());
        assert!(
            intervals
                .cut(cut(1, 0, 7, false))
                .is_some_and(|(stream, _)| stream == 1)
        );
        let row = rows(&mut intervals).remove(0);
        assert_eq!(
            (row.start_s, row.seconds, row.packets, row.bytes),
            (0.0, 1.0, 12, 120)
        );
        assert_eq!(row.latency_max_ns, Some(7));
    }

    #[test]
    fn the_last_row_ends_with_the_last_datagram_and_holds_what_is_new() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1);
        intervals.cut(cut(0, 0, 5, false));
        intervals.cut(cut(0, 1, 8, true));
        let rows = rows(&mut intervals);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[1].start_s, rows[1].seconds, rows[1].packets),
            (1.0, 0.5, 3)
        );
        assert_eq!(intervals.into_latencies().actual.count(), 2);
    }

    #[test]
    fn what_was_ended_late_is_one_longer_row() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1);
        intervals.cut(cut(0, 2, 9, false));
        let row = rows(&mut intervals).remove(0);
        assert_eq!((row.start_s, row.seconds, row.packets), (0.0, 3.0, 9));
    }

    #[test]
    fn nothing_received_is_no_row() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1);
        let nothing = Cut {
            tally: Tally::default(),
            ..cut(0, 0, 0, true)
        };
        intervals.cut(nothing);
        assert!(rows(&mut intervals).is_empty());
    }
}
