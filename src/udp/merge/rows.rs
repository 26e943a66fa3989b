//! Interval rows of several ranks as one list. Each row belongs as a whole to the slot that its start is nearest to, so that the rows
//! add up to the counts of the run, as those of each rank do.

use std::collections::BTreeMap;

use crate::udp::result::{Interval, MAX_INTERVALS};

/// The rows of the merged run, by slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// Length of a slot in seconds, from the first rank with two rows.
    slot_s: Option<f64>,
    slots: BTreeMap<usize, (Interval, usize)>,
    /// Start in seconds and row of ranks with one row, until the length of a slot is known.
    pending: Vec<(f64, Interval)>,
    omitted: u64,
}

impl Rows {
    /// Adds the rows of a rank whose run began `offset_s` seconds after the common start.
    pub(super) fn add(&mut self, rows: &[Interval], omitted: u64, offset_s: f64) {
        self.omitted = self.omitted.saturating_add(omitted);
        if self.slot_s.is_none()
            && let [first, second, ..] = rows
        {
            let length = second.start_s - first.start_s;
            // The last row of a run is short.
            self.slot_s = Some(length).filter(|length| length.is_finite() && *length > 0.0);
        }
        for row in rows {
            let start_s = offset_s + row.start_s;
            match (self.slot_s, rows.len()) {
                (Some(length), _) => self.put(start_s / length, row),
                // Without a length, the rows have no order.
                (None, 1) => self.pending.push((start_s, row.clone())),
                (None, _) => self.omitted = self.omitted.saturating_add(1),
            }
        }
    }

    fn put(&mut self, slot: f64, row: &Interval) {
        let slot = slot.round().max(0.0);
        if !slot.is_finite() || slot >= MAX_INTERVALS as f64 {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        let (sum, ranks) = self.slots.entry(slot as usize).or_default();
        *ranks += 1;
        sum.seconds = sum.seconds.max(row.seconds);
        sum.packets = sum.packets.saturating_add(row.packets);
        sum.bytes = sum.bytes.saturating_add(row.bytes);
        sum.missing = sum.missing.saturating_add(row.missing);
        sum.duplicates = sum.duplicates.saturating_add(row.duplicates);
        sum.reordered = sum.reordered.saturating_add(row.reordered);
        sum.ce = [sum.ce, row.ce]
            .into_iter()
            .flatten()
            .reduce(u64::saturating_add);
        sum.latency_max_ns = sum.latency_max_ns.max(row.latency_max_ns);
        // Percentiles of several ranks need their histograms, which rows lack.
        let alone = *ranks == 1;
        sum.latency_p50_ns = row.latency_p50_ns.filter(|_| alone);
        sum.latency_p99_ns = row.latency_p99_ns.filter(|_| alone);
    }

    /// The merged rows, and the number of rows without a place.
    pub(super) fn finish(mut self) -> (Vec<Interval>, u64) {
        let pending = std::mem::take(&mut self.pending);
        let lengths = pending.iter().map(|(_, row)| row.seconds);
        let longest = lengths.filter(|length| *length > 0.0).fold(0.0, f64::max);
        let length = self.slot_s.unwrap_or(longest);
        for (start_s, row) in &pending {
            let slot = if length > 0.0 { start_s / length } else { 0.0 };
            self.put(slot, row);
        }
        let rows = self.slots.into_iter().map(|(slot, (row, _))| Interval {
            start_s: slot as f64 * length,
            kb_per_s: match row.seconds > 0.0 {
                true => row.bytes as f64 / 1e3 / row.seconds,
                false => 0.0,
            },
            ..row
        });
        (rows.collect(), self.omitted)
    }
}
