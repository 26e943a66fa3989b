//! A session's streams put together, interval by interval. Pure: cuts in, rows out.
//!
//! Every stream ends its intervals at the same times, counted from the session's first datagram, but not at the same
//! moment. So an interval stays open until every stream has ended it.
//!
//! The rows add up to the session's figures. A datagram is missing in the row in which a later one arrived; what was sent
//! after the last arrival is missing in the last row.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::mem;
use std::time::Duration;

use crate::udp::receive::accounting::{Latencies, Tally};
use crate::udp::receive::receiver::Cut;
use crate::udp::result::Interval;

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
    /// Datagrams that its sender sent, once that is known.
    sent: Option<u64>,
}

impl Progress {
    /// Datagrams that were sent after the highest number seen, and are missing too. Below 0 where the sender says that it
    /// sent fewer than that; only first arrivals it cannot deny.
    fn overdue(&self) -> i64 {
        let sent = self.sent.map(|sent| sent.max(self.tally.unique));
        sent.map_or(0, |sent| {
            signed(sent).saturating_sub(signed(self.tally.next))
        })
    }
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
                    sent: None,
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

    /// Takes in how many datagrams each stream's sender has sent in all.
    pub(super) fn announce(&mut self, sent: impl IntoIterator<Item = u64>) {
        for (stream, sent) in self.streams.iter_mut().zip(sent) {
            stream.sent = Some(sent);
        }
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
        // Silence once everything is sent is the wait for stragglers: no row, and part of the next if one comes after all.
        let waiting = open.packets == 0 && self.streams.iter().all(|stream| stream.sent.is_some());
        let row = match waiting {
            true => None,
            false => self.row(index, &open, over.then_some(first)),
        };
        if !waiting {
            self.next = index + 1;
        }
        Some((row, emptied(open.owner, open.latencies)))
    }

    /// The row of an interval. The last of a session, which began at `first`, ends with the last first arrival, and is
    /// no row where nothing arrived in it.
    fn row(&self, index: u64, open: &Open, first: Option<u64>) -> Option<Interval> {
        let one = self.length.as_secs_f64();
        // An interval that no stream found the time to end is part of the next.
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
                .filter_map(|stream| stream.tally.last_received)
                .max();
            let elapsed = last.map_or(0, |last| last.saturating_sub(first)) as f64 / 1e9;
            // A row of duplicates alone keeps the whole interval.
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
        let missing = |tally: &Tally| signed(tally.next) - signed(tally.unique);
        self.packets += packets(after) - packets(before);
        self.bytes += after.bytes - before.bytes;
        self.missing += missing(after) - missing(before);
        self.duplicates += after.duplicates - before.duplicates;
        self.reordered += after.reordered - before.reordered;
    }
}

/// A count that can be subtracted from; those of a receiver are far below the largest (sequence numbers have 48 bits).
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn emptied(stream: usize, mut latencies: Box<Latencies>) -> Spare {
    latencies.clear();
    (stream, latencies)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn what_was_sent_last_and_lost_is_missing_in_the_last_row() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 2);
        intervals.cut(cut(0, 0, 5, false));
        intervals.cut(cut(1, 0, 5, false));
        intervals.announce([11, 5]);
        intervals.cut(cut(0, 1, 8, true));
        intervals.cut(cut(1, 1, 5, true));
        let missing: Vec<i64> = rows(&mut intervals).iter().map(|row| row.missing).collect();
        assert_eq!(missing, [0, 3]);
    }

    #[test]
    fn an_interval_without_a_datagram_is_a_row_of_its_own_without_latencies() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1);
        for index in 0..3 {
            let mut silent = cut(0, index, 5, false);
            if index > 0 {
                silent.latencies = Box::default();
            }
            intervals.cut(silent);
        }
        let rows = rows(&mut intervals);
        assert_eq!(rows.len(), 3);
        for (row, start_s) in rows.iter().skip(1).zip([1.0, 2.0]) {
            assert_eq!((row.start_s, row.seconds, row.packets), (start_s, 1.0, 0));
            assert_eq!((row.latency_p50_ns, row.latency_max_ns), (None, None));
        }
    }

    #[test]
    fn silence_after_the_sender_has_finished_is_no_row() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1);
        intervals.announce([9]);
        for index in 0..3 {
            intervals.cut(cut(0, index, 5, false));
        }
        assert_eq!(rows(&mut intervals).len(), 1);
        intervals.cut(cut(0, 3, 6, true));
        let straggler = rows(&mut intervals).remove(0);
        assert_eq!(
            (straggler.start_s, straggler.seconds, straggler.missing),
            (1.0, 2.5, 3)
        );
    }

    #[test]
    fn a_last_row_of_duplicates_is_kept() {
        let mut intervals = Intervals::new(Duration::from_secs(1), 1);
        intervals.cut(cut(0, 0, 5, false));
        let first = cut(0, 0, 5, true);
        let tally = Tally {
            duplicates: 2,
            ..first.tally
        };
        intervals.cut(Cut {
            index: 1,
            tally,
            ..first
        });
        let rows = rows(&mut intervals);
        assert_eq!((rows[1].packets, rows[1].duplicates), (2, 2));
    }

    /// What a stream does until a cut: intervals passed, lost, first arrivals, duplicates and reordered ones.
    type Stretch = (u64, u64, u64, u64, u64);

    fn stretches() -> impl Strategy<Value = Vec<Stretch>> {
        prop::collection::vec((0u64..3, 0u64..9, 0u64..9, 0u64..3, 0u64..3), 1..20)
    }

    proptest! {
        /// Whatever the streams see and however late they cut, nothing is lost between the rows.
        #[test]
        fn rows_add_up(
            streams in prop::collection::vec((stretches(), 0u64..20), 1..4),
            turns in prop::collection::vec(any::<prop::sample::Index>(), 80),
            announced_at in 0usize..80,
        ) {
            let mut cuts: Vec<Vec<Cut>> = Vec::new();
            for (stream, (stretches, _)) in streams.iter().enumerate() {
                let (mut tally, mut index) = (Tally::default(), 0);
                let last = stretches.len() - 1;
                let mut all = Vec::new();
                for (number, &(passed, lost, unique, duplicates, reordered)) in stretches.iter().enumerate() {
                    index += passed;
                    tally.unique += unique;
                    // A number is known to be missing when a higher one arrives.
                    tally.next += unique + if unique > 0 { lost } else { 0 };
                    tally.bytes += unique * 7;
                    tally.duplicates += duplicates;
                    tally.reordered += reordered.min(unique);
                    if unique > 0 {
                        tally.last_received = Some(index * SECOND + SECOND / 2);
                    }
                    all.push(Cut { stream, index, tally, latencies: Box::default(), last: number == last });
                    index += 1;
                }
                all.reverse();
                cuts.push(all);
            }
            let total = |of: fn(&Tally) -> u64| cuts.iter().map(|all| of(&all[0].tally)).sum::<u64>();
            let unique = total(|tally| tally.unique);
            let (bytes, duplicates) = (total(|tally| tally.bytes), total(|tally| tally.duplicates));
            let (reordered, next) = (total(|tally| tally.reordered), total(|tally| tally.next));
            let sent: Vec<u64> = cuts.iter().zip(&streams).map(|(all, (_, tail))| all[0].tally.next + tail).collect();

            let mut intervals = Intervals::new(Duration::from_secs(1), streams.len());
            let mut found = Vec::new();
            for (number, turn) in turns.into_iter().enumerate() {
                if number == announced_at {
                    intervals.announce(sent.iter().copied());
                }
                let left: Vec<usize> = (0..cuts.len()).filter(|&stream| !cuts[stream].is_empty()).collect();
                if left.is_empty() {
                    break;
                }
                let stream = left[turn.index(left.len())];
                let next_cut = cuts[stream].pop().unwrap();
                intervals.cut(next_cut);
                found.extend(rows(&mut intervals));
            }
            prop_assert_eq!(found.iter().map(|row| row.packets).sum::<u64>(), unique + duplicates);
            prop_assert_eq!(found.iter().map(|row| row.bytes).sum::<u64>(), bytes);
            prop_assert_eq!(found.iter().map(|row| row.duplicates).sum::<u64>(), duplicates);
            prop_assert_eq!(found.iter().map(|row| row.reordered).sum::<u64>(), reordered);
            // Where nothing arrived in the last interval, the tail is for the row that closes the record.
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
