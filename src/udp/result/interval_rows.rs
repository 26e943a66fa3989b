//! The interval rows of a run as they arrive, and their totals.

use super::interval::Interval;
use super::run::{MAX_INTERVALS, Run};
use crate::udp::wire::results::{self, StreamReceived};

/// Interval rows: the first [`MAX_INTERVALS`] are kept, and all are added up.
#[derive(Debug, Clone, Default)]
pub struct IntervalRows {
    /// The first rows.
    pub kept: Vec<Interval>,
    /// Number of further rows.
    pub omitted: u64,
    /// Totals of all rows: the only counts if the result is lost.
    pub total: StreamReceived,
    /// The sum of `ce` of all rows.
    pub ce: u64,
    /// The sum of `missing` of all rows.
    pub missing: i64,
    /// End of the last row, in seconds from the first datagram.
    pub end_s: f64,
}

impl IntervalRows {
    /// Adds a row.
    pub fn push(&mut self, row: Interval) {
        let total = &mut self.total;
        total.unique = total
            .unique
            .saturating_add(row.packets.saturating_sub(row.duplicates));
        total.duplicates = total.duplicates.saturating_add(row.duplicates);
        total.reordered = total.reordered.saturating_add(row.reordered);
        total.bytes = total.bytes.saturating_add(row.bytes);
        self.ce = self.ce.saturating_add(row.ce.unwrap_or(0));
        self.missing = self.missing.saturating_add(row.missing);
        self.end_s = self.end_s.max(row.start_s + row.seconds);
        if self.kept.len() < MAX_INTERVALS {
            self.kept.push(row);
        } else {
            self.omitted += 1;
        }
    }

    /// The row that makes all rows add up to `run`, mostly for datagrams sent after the last arrival and lost. `None` if the rows
    /// add up without it. The row starts at the end of the last row and ends at `sending_s`, when the sender stopped, in seconds
    /// from the first datagram; its length is 0 if that is unknown or earlier.
    pub(super) fn closing(&self, run: &Run, sending_s: Option<f64>) -> Option<Interval> {
        let (seen, all) = (&self.total, &run.received);
        let unique = all.unique.saturating_sub(seen.unique);
        let duplicates = all.duplicates.saturating_sub(seen.duplicates);
        let lost = i64::try_from(run.lost.packets).unwrap_or(i64::MAX);
        let start_s = Some(self.end_s).filter(|end| end.is_finite());
        let start_s = start_s.unwrap_or(0.0);
        let seconds = sending_s.map_or(0.0, |end| (end - start_s).max(0.0));
        let bytes = all.bytes.saturating_sub(seen.bytes);
        let row = Interval {
            start_s,
            seconds,
            packets: unique.saturating_add(duplicates),
            bytes,
            kb_per_s: match seconds > 0.0 {
                true => bytes as f64 / 1e3 / seconds,
                false => 0.0,
            },
            missing: lost.saturating_sub(self.missing),
            duplicates,
            reordered: all.reordered.saturating_sub(seen.reordered),
            ce: self.counts_ce().then(|| {
                let all = run.marks.as_ref().map_or(0, |marks| marks.ce);
                all.saturating_sub(self.ce)
            }),
            ..Interval::default()
        };
        let is_empty = row.packets == 0 && row.bytes == 0 && row.missing == 0 && row.reordered == 0;
        (!is_empty).then_some(row)
    }

    /// Whether the rows have counts of CE. The rows of an older server lack them.
    fn counts_ce(&self) -> bool {
        self.kept.first().is_some_and(|row| row.ce.is_some())
    }
}

impl From<&Interval> for results::Interval {
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
            ce: row.ce,
        }
    }
}

impl From<results::Interval> for Interval {
    fn from(row: results::Interval) -> Self {
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
            ce: row.ce,
        }
    }
}
