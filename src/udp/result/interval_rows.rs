//! The interval rows of a run as they arrive, and their totals.

use super::run::{Interval, MOST_INTERVALS, Run};
use crate::udp::wire::control::StreamReceived;

/// Interval rows as they come: the first [`MOST_INTERVALS`] are kept, all are added up.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The first.
    pub kept: Vec<Interval>,
    /// How many more there were.
    pub omitted: u64,
    /// What they say all together: all that is known when the result itself is lost.
    pub total: StreamReceived,
    /// The sum of their `missing`.
    pub missing: i64,
    /// When the last of them ended, in seconds from the first datagram.
    pub end_s: f64,
}

impl Rows {
    /// Adds a row.
    pub fn push(&mut self, row: Interval) {
        let total = &mut self.total;
        total.unique = total
            .unique
            .saturating_add(row.packets.saturating_sub(row.duplicates));
        total.duplicates = total.duplicates.saturating_add(row.duplicates);
        total.reordered = total.reordered.saturating_add(row.reordered);
        total.bytes = total.bytes.saturating_add(row.bytes);
        self.missing = self.missing.saturating_add(row.missing);
        self.end_s = self.end_s.max(row.start_s + row.seconds);
        if self.kept.len() < MOST_INTERVALS {
            self.kept.push(row);
        } else {
            self.omitted += 1;
        }
    }

    /// The row that makes all rows add up to `run`: what was sent after the last arrival and lost, above all. `None`
    /// where they do. It starts where the last row ended and lasts until `sending_s`, when the sender stopped, in seconds
    /// from the first datagram; where that is not known or earlier, it has no length.
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
            ..Interval::default()
        };
        let is_empty = row.packets == 0 && row.bytes == 0 && row.missing == 0 && row.reordered == 0;
        (!is_empty).then_some(row)
    }
}
