//! The clock of a stream's intervals.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::sys::clock::monotonic_ns;
use crate::udp::receive::UNKNOWN;
use crate::udp::receive::accounting::StreamAccounting;

/// The server's clock now, in ns.
#[inline]
pub(super) fn server_ns(offset: &AtomicI64) -> u64 {
    monotonic_ns().wrapping_add_signed(offset.load(Ordering::Relaxed))
}

/// When an interval ends and the next one begins.
pub(super) struct IntervalClock {
    pub(super) epoch: Arc<AtomicU64>,
    pub(super) offset: Arc<AtomicI64>,
    pub(super) length: u64,
    pub(super) index: u64,
}

impl IntervalClock {
    /// Sets the session's epoch to the send stamp of the first datagram of any stream.
    #[inline]
    pub(super) fn begin(&self, accounting: &StreamAccounting) {
        if self.epoch.load(Ordering::Relaxed) == UNKNOWN
            && let Some(first) = accounting.counts().first_sent
        {
            let _ =
                self.epoch
                    .compare_exchange(UNKNOWN, first, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// When the interval ends, in ns of this host's clock.
    #[inline]
    pub(super) fn next_at(&self) -> u64 {
        let epoch = self.epoch.load(Ordering::Relaxed);
        // A stream without a datagram may wait without a deadline: its first datagram wakes it.
        if epoch == UNKNOWN {
            u64::MAX
        } else {
            let offset = self.offset.load(Ordering::Relaxed);
            epoch
                .saturating_add(self.length.saturating_mul(self.index + 1))
                .wrapping_add_signed(offset.wrapping_neg())
        }
    }

    #[inline]
    pub(super) fn is_over(&self) -> bool {
        let next_at = self.next_at();
        next_at != u64::MAX && monotonic_ns() >= next_at
    }

    /// Ends the interval and returns its index. Intervals that ended unnoticed before are part of it.
    pub(super) fn advance(&mut self) -> u64 {
        let elapsed = server_ns(&self.offset).saturating_sub(self.epoch.load(Ordering::Relaxed));
        let index = (elapsed / self.length).max(self.index + 1);
        self.index = index;
        index - 1
    }
}
