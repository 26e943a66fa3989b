//! The interval rows of a session, merged from the snapshots of its streams. Pure: snapshots in, rows out.
//!
//! The intervals of all streams have the same boundaries, counted from the session's first datagram, but each stream takes its
//! snapshot at another moment. An interval therefore stays open until every stream has ended it.
//!
//! The rows add up to the session's counts. A datagram is missing in the row in which a later datagram arrived; datagrams sent
//! after the last arrival are missing in the last row.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;
use std::time::Duration;

use crate::udp::latencies::Latencies;
use crate::udp::receive::accounting::StreamCounts;
use crate::udp::receive::receiver::IntervalSnapshot;
use crate::udp::result::Interval;

/// An interval that every stream has ended.
#[derive(Debug)]
pub struct CompletedInterval {
    /// The counts.
    pub row: Interval,
    /// The latencies, if they are kept.
    pub latencies: Option<Box<Latencies>>,
}

/// A stream, and emptied histograms for its receiver.
pub(super) type Recycled = (usize, Box<Latencies>);

pub(super) struct Intervals {
    length: Duration,
    streams: Vec<Progress>,
    /// Intervals that not every stream has ended yet.
    open: BTreeMap<u64, Open>,
    /// The interval after the last row.
    next: u64,
    /// Latencies of all completed intervals.
    latencies: Latencies,
    /// Whether completed intervals have latencies of their own.
    keeps_latencies: bool,
}

/// The progress of a stream.
#[derive(Default)]
struct Progress {
    counts: StreamCounts,
    /// Datagrams with the mark CE.
    ce: u64,
    /// The interval that the stream ends next; `None` once the stream has ended.
    next: Option<u64>,
    /// Datagrams that the stream's sender has sent, once the count is known.
    sent: Option<u64>,
}

impl Progress {
    /// Datagrams sent after the highest sequence number received, which are missing too. Negative if the sender's count is below
    /// that number; the count is taken to be at least the number of first arrivals.
    fn overdue(&self) -> i64 {
        let sent = self.sent.map(|sent| sent.max(self.counts.unique));
        sent.map_or(0, |sent| {
            signed(sent).saturating_sub(signed(self.counts.next))
        })
    }
}

/// The counts of an interval, from the streams that have ended it.
struct Open {
    packets: u64,
    bytes: u64,
    missing: i64,
    duplicates: u64,
    reordered: u64,
    /// Datagrams with the mark CE, if marks are counted.
    ce: Option<u64>,
    latencies: Box<Latencies>,
    /// The stream that `latencies` is returned to.
    owner: usize,
}

impl Intervals {
    pub(super) fn new(length: Duration, streams: usize, keeps_latencies: bool) -> Self {
        Self {
            length,
            streams: (0..streams)
                .map(|_| Progress {
                    counts: StreamCounts::default(),
                    ce: 0,
                    next: Some(0),
                    sent: None,
                })
                .collect(),
            open: BTreeMap::new(),
            next: 0,
            latencies: Latencies::small(),
            keeps_latencies,
        }
    }

    /// Adds a snapshot, and returns its histograms unless they are needed.
    pub(super) fn add(&mut self, snapshot: IntervalSnapshot) -> Option<Recycled> {
        let stream = self.streams.get_mut(snapshot.stream)?;
        let before = mem::replace(&mut stream.counts, snapshot.counts);
        let ce = snapshot
            .ce
            .map(|ce| ce.saturating_sub(mem::replace(&mut stream.ce, ce)));
        stream.next = if snapshot.last {
            None
        } else {
            Some(snapshot.index + 1)
        };
        let (open, recycled) = match self.open.entry(snapshot.index) {
            Entry::Vacant(place) => (
                place.insert(Open::new(snapshot.stream, snapshot.latencies)),
                None,
            ),
            Entry::Occupied(place) => {
                let open = place.into_mut();
                open.latencies.merge(&snapshot.latencies);
                (open, Some(emptied(snapshot.stream, snapshot.latencies)))
            }
        };
        open.add(&before, &snapshot.counts);
        open.ce = ce.map(|ce| ce.saturating_add(open.ce.unwrap_or(0)));
        recycled
    }

    /// Sets how many datagrams each stream's sender has sent in all.
    pub(super) fn set_sent(&mut self, sent: impl IntoIterator<Item = u64>) {
        for (stream, sent) in self.streams.iter_mut().zip(sent) {
            stream.sent = Some(sent);
        }
    }

    /// The row of the next interval that every stream has ended, if the interval has one, and histograms to return. `first` is the
    /// send stamp of the session's first datagram, in ns.
    pub(super) fn next_row(&mut self, first: u64) -> Option<(Option<CompletedInterval>, Recycled)> {
        let ended = self.streams.iter().filter_map(|stream| stream.next).min();
        let entry = self.open.first_entry()?;
        if ended.is_some_and(|ended| *entry.key() >= ended) {
            return None;
        }
        let (index, open) = entry.remove_entry();
        self.latencies.merge(&open.latencies);
        let over = ended.is_none() && self.open.is_empty();
        // An interval without a datagram after the end of sending is the wait for stragglers: no row of its own, but part of the
        // next one.
        let waiting = open.packets == 0 && self.streams.iter().all(|stream| stream.sent.is_some());
        let row = match waiting {
            true => None,
            false => self.row(index, &open, over.then_some(first)),
        };
        if !waiting {
            self.next = index + 1;
        }
        let completed = row.map(|row| CompletedInterval {
            row,
            latencies: self.keeps_latencies.then(|| open.latencies.clone()),
        });
        Some((completed, emptied(open.owner, open.latencies)))
    }

    /// The row of an interval. `first` is set for the last interval of a session, which ends with the last first arrival and has
    /// no row if it has no datagram.
    fn row(&self, index: u64, open: &Open, first: Option<u64>) -> Option<Interval> {
        let one = self.length.as_secs_f64();
        // An interval that no stream ended in time is part of the next one.
        let start_s = self.next.min(index) as f64 * one;
        let mut seconds = (index + 1) as f64 * one - start_s;
        let mut missing = open.missing;
        if let Some(first) = first {
            if open.packets == 0 {
                return None;
            }
            let last = self
                .streams
                .iter()
                .filter_map(|stream| stream.counts.last_received)
                .max();
            let elapsed = last.map_or(0, |last| last.saturating_sub(first)) as f64 / 1e9;
            // A row with duplicates only has the length of the whole interval.
            if elapsed > start_s {
                seconds = elapsed - start_s;
            }
            for stream in &self.streams {
                missing = missing.saturating_add(stream.overdue());
            }
        }
        Some(Interval {
            start_s,
            seconds,
            packets: open.packets,
            bytes: open.bytes,
            kb_per_s: open.bytes as f64 / 1e3 / seconds,
            missing,
            duplicates: open.duplicates,
            reordered: open.reordered,
            latency_p50_ns: open.latencies.actual.percentile(50.0),
            latency_p99_ns: open.latencies.actual.percentile(99.0),
            latency_max_ns: open.latencies.actual.percentile(100.0),
            ce: open.ce,
        })
    }

    /// The latencies of all completed intervals.
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
            ce: None,
            latencies,
            owner,
        }
    }

    fn add(&mut self, before: &StreamCounts, after: &StreamCounts) {
        let packets = |counts: &StreamCounts| counts.unique + counts.duplicates;
        let missing = |counts: &StreamCounts| signed(counts.next) - signed(counts.unique);
        self.packets += packets(after) - packets(before);
        self.bytes += after.bytes - before.bytes;
        self.missing += missing(after) - missing(before);
        self.duplicates += after.duplicates - before.duplicates;
        self.reordered += after.reordered - before.reordered;
    }
}

/// A count as a signed number. Counts of a receiver are far below the limit: sequence numbers have 48 bits.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn emptied(stream: usize, mut latencies: Box<Latencies>) -> Recycled {
    latencies.clear();
    (stream, latencies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn snapshot(stream: usize, index: u64, unique: u64, last: bool) -> IntervalSnapshot {
        let counts = StreamCounts {
            unique,
            bytes: unique * 10,
            next: unique,
            last_received: Some(index * SECOND + SECOND / 2),
            ..StreamCounts::default()
        };
        let mut latencies: Box<Latencies> = Box::default();
        latencies.actual.record(unique);
        IntervalSnapshot {
            stream,
            index,
            counts,
            latencies,
            ce: Some(unique / 2),
            last,
        }
    }

    fn rows(intervals: &mut Intervals) -> Vec<Interval> {
        std::iter::from_fn(|| intervals.next_row(0))
            .filter_map(|(completed, _)| completed.map(|completed| completed.row))
            .collect()
    }

    #[test]
    fn an_interval_completes_when_every_stream_has_ended_it() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 2, false);
        assert!(intervals.add(snapshot(0, 0, 5, false)).is_none());
        assert!(rows(&mut intervals).is_empty());
        assert!(
            intervals
                .add(snapshot(1, 0, 7, false))
                .is_some_and(|(stream, _)| stream == 1)
        );
        let row = rows(&mut intervals).remove(0);
        assert_eq!(
            (row.start_s, row.seconds, row.packets, row.bytes),
            (0.0, 1.0, 12, 120)
        );
        assert_eq!(row.latency_max_ns, Some(7));
        assert_eq!(row.ce, Some(2 + 3));
    }

    #[test]
    fn the_last_row_ends_with_the_last_datagram() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1, false);
        intervals.add(snapshot(0, 0, 5, false));
        intervals.add(snapshot(0, 1, 8, true));
        let rows = rows(&mut intervals);
        assert_eq!(rows.len(), 2);
        assert_eq!(
            (rows[1].start_s, rows[1].seconds, rows[1].packets),
            (1.0, 0.5, 3)
        );
        assert_eq!([rows[0].ce, rows[1].ce], [Some(2), Some(2)]);
        assert_eq!(intervals.into_latencies().actual.count(), 2);
    }

    #[test]
    fn kept_latencies_of_all_rows_are_those_of_the_run() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 2, true);
        for (stream, index, unique, last) in [
            (0, 0, 5, false),
            (1, 0, 7, false),
            (1, 2, 9, true),
            (0, 3, 8, true),
        ] {
            intervals.add(snapshot(stream, index, unique, last));
        }
        let completed: Vec<_> = std::iter::from_fn(|| intervals.next_row(0))
            .filter_map(|(completed, _)| completed)
            .collect();
        let counts: Vec<_> = completed
            .iter()
            .map(|of| of.latencies.as_ref().unwrap().actual.count())
            .collect();
        assert_eq!(counts, [2, 1, 1]);
        let most = completed[0].latencies.as_ref().unwrap().actual.max();
        assert_eq!(most, completed[0].row.latency_max_ns);
        assert_eq!(intervals.into_latencies().actual.count(), 4);
    }

    #[test]
    fn intervals_ended_late_make_one_longer_row() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1, false);
        intervals.add(snapshot(0, 2, 9, false));
        let row = rows(&mut intervals).remove(0);
        assert_eq!((row.start_s, row.seconds, row.packets), (0.0, 3.0, 9));
    }

    #[test]
    fn a_run_without_a_datagram_has_no_row() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1, false);
        let nothing = IntervalSnapshot {
            counts: StreamCounts::default(),
            ..snapshot(0, 0, 0, true)
        };
        intervals.add(nothing);
        assert!(rows(&mut intervals).is_empty());
    }

    #[test]
    fn datagrams_lost_at_the_end_are_missing_in_the_last_row() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 2, false);
        intervals.add(snapshot(0, 0, 5, false));
        intervals.add(snapshot(1, 0, 5, false));
        intervals.set_sent([11, 5]);
        intervals.add(snapshot(0, 1, 8, true));
        intervals.add(snapshot(1, 1, 5, true));
        let missing: Vec<i64> = rows(&mut intervals).iter().map(|row| row.missing).collect();
        assert_eq!(missing, [0, 3]);
    }

    #[test]
    fn an_interval_without_a_datagram_has_a_row_without_latencies() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1, false);
        for index in 0..3 {
            let mut silent = snapshot(0, index, 5, false);
            if index > 0 {
                silent.latencies = Box::default();
            }
            intervals.add(silent);
        }
        let rows = rows(&mut intervals);
        assert_eq!(rows.len(), 3);
        for (row, start_s) in rows.iter().skip(1).zip([1.0, 2.0]) {
            assert_eq!((row.start_s, row.seconds, row.packets), (start_s, 1.0, 0));
            assert_eq!((row.latency_p50_ns, row.latency_max_ns), (None, None));
        }
    }

    #[test]
    fn an_idle_interval_after_the_end_of_sending_has_no_row() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1, false);
        intervals.set_sent([9]);
        for index in 0..3 {
            intervals.add(snapshot(0, index, 5, false));
        }
        assert_eq!(rows(&mut intervals).len(), 1);
        intervals.add(snapshot(0, 3, 6, true));
        let straggler = rows(&mut intervals).remove(0);
        assert_eq!(
            (straggler.start_s, straggler.seconds, straggler.missing),
            (1.0, 2.5, 3)
        );
    }

    #[test]
    fn a_last_row_of_duplicates_is_kept() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1, false);
        intervals.add(snapshot(0, 0, 5, false));
        let first = snapshot(0, 0, 5, true);
        let counts = StreamCounts {
            duplicates: 2,
            ..first.counts
        };
        intervals.add(IntervalSnapshot {
            index: 1,
            counts,
            ..first
        });
        let rows = rows(&mut intervals);
        assert_eq!((rows[1].packets, rows[1].duplicates), (2, 2));
    }

    /// The progress of a stream from one snapshot to the next: intervals, losses, first arrivals, duplicates and reordered datagrams.
    type Stretch = (u64, u64, u64, u64, u64);

    fn stretches() -> impl Strategy<Value = Vec<Stretch>> {
        prop::collection::vec((0u64..3, 0u64..9, 0u64..9, 0u64..3, 0u64..3), 1..20)
    }

    proptest! {
        /// The rows add up for any progress of the streams and any delay of their snapshots.
        #[test]
        fn rows_add_up(
            streams in prop::collection::vec((stretches(), 0u64..20), 1..4),
            turns in prop::collection::vec(any::<prop::sample::Index>(), 80),
            announced_at in 0usize..80,
        ) {
            let mut snapshots: Vec<Vec<IntervalSnapshot>> = Vec::new();
            for (stream, (stretches, _)) in streams.iter().enumerate() {
                let (mut counts, mut index) = (StreamCounts::default(), 0);
                let last = stretches.len() - 1;
                let mut all = Vec::new();
                for (number, &(passed, lost, unique, duplicates, reordered)) in stretches.iter().enumerate() {
                    index += passed;
                    counts.unique += unique;
                    // A datagram counts as missing when a higher sequence number arrives.
                    counts.next += unique + if unique > 0 { lost } else { 0 };
                    counts.bytes += unique * 7;
                    counts.duplicates += duplicates;
                    counts.reordered += reordered.min(unique);
                    if unique > 0 {
                        counts.last_received = Some(index * SECOND + SECOND / 2);
                    }
                    all.push(IntervalSnapshot { stream, index, counts, latencies: Box::default(), ce: None, last: number == last });
                    index += 1;
                }
                all.reverse();
                snapshots.push(all);
            }
            let total = |of: fn(&StreamCounts) -> u64| snapshots.iter().map(|all| of(&all[0].counts)).sum::<u64>();
            let unique = total(|counts| counts.unique);
            let (bytes, duplicates) = (total(|counts| counts.bytes), total(|counts| counts.duplicates));
            let (reordered, next) = (total(|counts| counts.reordered), total(|counts| counts.next));
            let sent: Vec<u64> = snapshots.iter().zip(&streams).map(|(all, (_, tail))| all[0].counts.next + tail).collect();

            let mut intervals = Intervals::new(Duration::from_secs(1), streams.len(), false);
            let mut found = Vec::new();
            for (number, turn) in turns.into_iter().enumerate() {
                if number == announced_at {
                    intervals.set_sent(sent.iter().copied());
                }
                let left: Vec<usize> = (0..snapshots.len()).filter(|&stream| !snapshots[stream].is_empty()).collect();
                if left.is_empty() {
                    break;
                }
                let stream = left[turn.index(left.len())];
                let next_snapshot = snapshots[stream].pop().unwrap();
                intervals.add(next_snapshot);
                found.extend(rows(&mut intervals));
            }
            prop_assert_eq!(found.iter().map(|row| row.packets).sum::<u64>(), unique + duplicates);
            prop_assert_eq!(found.iter().map(|row| row.bytes).sum::<u64>(), bytes);
            prop_assert_eq!(found.iter().map(|row| row.duplicates).sum::<u64>(), duplicates);
            prop_assert_eq!(found.iter().map(|row| row.reordered).sum::<u64>(), reordered);
            // If the last interval has no datagram, the closing row of the record holds the tail.
            let missing: i64 = found.iter().map(|row| row.missing).sum();
            let tail = sent.iter().sum::<u64>() - next;
            let seen = i64::try_from(next - unique).unwrap();
            prop_assert!(missing == seen || missing == seen + i64::try_from(tail).unwrap());
            for (row, after) in found.iter().zip(found.iter().skip(1)) {
                prop_assert_eq!(row.start_s + row.seconds, after.start_s);
            }
            prop_assert!(found.iter().all(|row| row.seconds > 0.0 && row.kb_per_s.is_finite()));
        }
    }
}
