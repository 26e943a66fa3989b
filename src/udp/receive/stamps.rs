//! The kernel's stamps of a stream's datagrams at the receiver: the receiver's stage, and the sample for the wire.

use crate::stats::latency::Latency;
use crate::sys::clock::StampClock;
use crate::sys::cmsg::Message;
use crate::udp::plan::Plan;
use crate::udp::stages::{MOST_ROWS, Sample};

/// The stamps of a stream.
#[derive(Debug)]
pub struct ReceivedStamps {
    /// First arrivals with a stamp, of those sampled.
    pub stamped: u64,
    /// First arrivals without one.
    pub unstamped: u64,
    /// Steps of wall time.
    pub clock_steps: u64,
    /// From the kernel's stamp to the receiver's.
    pub receiver: Latency,
    /// Sequence numbers and the kernel's stamps, in ns of the server's clock; empty unless the plan requests stages.
    pub rows: Vec<(u64, u64)>,
}

/// Takes the stamps of a stream.
#[derive(Debug)]
pub struct RxStamps {
    clock: StampClock,
    /// Wall time stepped, so that the stamps of this batch may be from before the step.
    is_uncertain: bool,
    /// Whether the kernel's stamp is the receive stamp.
    is_latency: bool,
    /// Datagrams from one sampled datagram to the next; `None` unless the plan requests stages.
    every: Option<u64>,
    sample: Sample,
    stamped: u64,
    unstamped: u64,
    receiver: Latency,
}

impl RxStamps {
    /// The stamps that the plan requests; `None` without any.
    pub fn of(plan: &Plan) -> Option<Self> {
        (plan.kernel_latency || plan.stages).then(|| Self {
            clock: StampClock::new(),
            is_uncertain: false,
            is_latency: plan.kernel_latency,
            every: plan.stages.then(|| plan.stamped_every()),
            sample: Sample::new(plan.stamped_every(), MOST_ROWS),
            stamped: 0,
            unstamped: 0,
            receiver: Latency::small(),
        })
    }

    /// A batch is about to be received.
    pub(super) fn begin_batch(&mut self) {
        self.is_uncertain = self.clock.read();
    }

    /// The kernel's stamp of a message, in ns of a clock that is `offset` ns ahead of this host's.
    pub(super) fn stamp(&self, message: &Message<'_>, offset: i64) -> Option<u64> {
        let realtime = message.stamp().filter(|_| !self.is_uncertain)?;
        Some(self.clock.monotonic(realtime).wrapping_add_signed(offset))
    }

    /// The receive stamp of a message that the kernel stamped at `stamp` and that was read at `read`.
    pub(super) fn received(&self, stamp: Option<u64>, read: u64) -> u64 {
        stamp.filter(|_| self.is_latency).unwrap_or(read)
    }

    /// A datagram has arrived for the first time.
    pub(super) fn add(&mut self, sequence: u64, stamp: Option<u64>, read: u64) {
        let is_sampled = self
            .every
            .is_some_and(|every| sequence.is_multiple_of(every));
        if !is_sampled && !self.is_latency {
            return;
        }
        let Some(stamp) = stamp else {
            self.unstamped += 1;
            return;
        };
        self.stamped += 1;
        if is_sampled {
            self.receiver.record_between(stamp, read);
            self.sample.push(sequence, stamp);
        }
    }

    /// The stamps so far.
    pub(super) fn finish(self) -> ReceivedStamps {
        ReceivedStamps {
            stamped: self.stamped,
            unstamped: self.unstamped,
            clock_steps: self.clock.steps(),
            receiver: self.receiver,
            rows: self.sample.into_rows(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::Mode;
    use crate::udp::plan::tests::small_plan;

    #[test]
    fn stamps_are_taken_as_the_plan_requests() {
        assert!(RxStamps::of(&small_plan()).is_none());
        let plan = Plan {
            stages: true,
            mode: Mode::Paced(10.0),
            ..small_plan()
        };
        let mut stamps = RxStamps::of(&plan).unwrap();
        assert_eq!(stamps.received(Some(5), 9), 9);
        stamps.add(3, Some(5), 9);
        stamps.add(4, None, 9);
        let found = stamps.finish();
        assert_eq!((found.stamped, found.unstamped), (1, 1));
        assert_eq!(found.receiver.max(), Some(4));
        assert_eq!(found.rows, [(3, 5)]);
        let kernel = Plan {
            kernel_latency: true,
            ..small_plan()
        };
        let mut stamps = RxStamps::of(&kernel).unwrap();
        assert_eq!(
            (stamps.received(Some(5), 9), stamps.received(None, 9)),
            (5, 9)
        );
        stamps.add(3, Some(5), 9);
        let found = stamps.finish();
        assert_eq!((found.stamped, found.rows.len()), (1, 0));
    }
}
