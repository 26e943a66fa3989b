//! The interval rows of a round-trip run. Pure: time is an argument.

use super::exchanges::Counts;
use crate::udp::latencies::Latencies;
use crate::udp::plan::Plan;
use crate::udp::receive::intervals::CompletedInterval;
use crate::udp::result::Interval;

/// The intervals of the run.
pub(super) struct Rows {
    /// When the run started, in ns.
    pub(super) start: u64,
    length: u64,
    keeps_latencies: bool,
    chunk: u64,
    /// Bounds of the interval, in ns.
    pub(super) begins_at: u64,
    pub(super) ends_at: u64,
    /// The counts at the start of the interval.
    before: Counts,
    pub(super) latencies: Box<Latencies>,
    /// The latencies of all intervals.
    pub(super) total: Latencies,
}

impl Rows {
    pub(super) fn new(plan: &Plan, start: u64) -> Self {
        let length = u64::try_from(plan.interval.as_nanos()).unwrap_or(u64::MAX);
        Self {
            start,
            length,
            keeps_latencies: plan.interval_histograms,
            chunk: plan.chunk as u64,
            begins_at: start,
            ends_at: start.saturating_add(length),
            before: Counts::default(),
            latencies: Box::default(),
            total: Latencies::default(),
        }
    }

    /// Whether anything happened in the interval.
    pub(super) fn differ(&self, counts: Counts) -> bool {
        let settled = Counts {
            sent: self.before.sent,
            ..counts
        };
        settled != self.before
    }

    /// Ends the interval at `now`, in ns. Intervals that ended unnoticed before are part of it.
    pub(super) fn end(&mut self, counts: Counts, now: u64) -> CompletedInterval {
        let elapsed = now.saturating_sub(self.start);
        let end = match now < self.ends_at {
            true => now,
            false => self.start + elapsed / self.length * self.length,
        };
        let seconds = end.saturating_sub(self.begins_at) as f64 / 1e9;
        let before = self.before;
        let answered = counts.answered - before.answered;
        let duplicates = counts.duplicates - before.duplicates;
        let bytes = answered * self.chunk;
        let actual = &self.latencies.actual;
        let row = Interval {
            start_s: self.begins_at.saturating_sub(self.start) as f64 / 1e9,
            seconds,
            packets: answered + duplicates,
            bytes,
            kb_per_s: match seconds > 0.0 {
                true => bytes as f64 / 1e3 / seconds,
                false => 0.0,
            },
            missing: i64::try_from(counts.lost - before.lost).unwrap_or(i64::MAX),
            duplicates,
            reordered: counts.reordered - before.reordered,
            latency_p50_ns: actual.percentile(50.0),
            latency_p99_ns: actual.percentile(99.0),
            latency_max_ns: actual.percentile(100.0),
            ce: None,
        };
        self.before = counts;
        self.begins_at = end;
        self.ends_at = end.saturating_add(self.length);
        self.total.merge(&self.latencies);
        let latencies = match self.keeps_latencies {
            true => Some(std::mem::take(&mut self.latencies)),
            false => {
                self.latencies.clear();
                None
            }
        };
        CompletedInterval { row, latencies }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::tests::small_plan;

    #[test]
    fn rows_add_up_and_an_interval_that_ended_unnoticed_is_part_of_the_next_row() {
        let second = 1_000_000_000;
        let mut rows = Rows::new(&small_plan(), 7);
        let counts = |sent, answered, lost| Counts {
            sent,
            answered,
            lost,
            ..Counts::default()
        };
        rows.latencies.actual.record(500);
        let first = rows.end(counts(3, 2, 0), second + 8).row;
        assert_eq!((first.start_s, first.seconds, first.packets), (0.0, 1.0, 2));
        assert_eq!((first.bytes, first.latency_max_ns), (2_000, Some(500)));
        // Requests in flight alone make no row.
        assert!(!rows.differ(counts(4, 2, 0)));
        assert!(rows.differ(counts(4, 2, 1)));
        let second_row = rows.end(counts(5, 3, 2), 3 * second + 9).row;
        assert_eq!((second_row.start_s, second_row.seconds), (1.0, 2.0));
        assert_eq!((second_row.packets, second_row.missing), (1, 2));
        assert_eq!(second_row.latency_max_ns, None);
        // The last row ends early.
        let last = rows.end(counts(5, 4, 2), 3 * second + second / 2 + 7).row;
        assert_eq!((last.start_s, last.seconds), (3.0, 0.5));
        assert_eq!(rows.total.actual.count(), 1);
    }
}
