//! Sends that the kernel copies and stamps.

use std::io;
use std::os::fd::BorrowedFd;

use super::{Filled, SendMethod};
use crate::sys::mmsg::SendBatch;
use crate::sys::tx_timestamp::TxStamp;
use crate::udp::engine::stamps::{StampPolicy, Stamping};

/// Sends with sendmmsg(2) and requests timestamps.
pub struct StampedSend {
    batch: SendBatch,
    stamping: Stamping,
    /// The datagrams of each message of a call.
    offered: Vec<(u64, u64)>,
}

impl StampedSend {
    /// Sends up to `messages` per call. The socket must report stamps.
    pub fn new(messages: usize, policy: StampPolicy) -> Self {
        Self {
            batch: SendBatch::new(messages),
            stamping: Stamping::new(policy),
            offered: Vec::with_capacity(messages),
        }
    }
}

impl SendMethod for StampedSend {
    const STAMPS: bool = true;

    fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = Filled<'a>>,
    ) -> io::Result<usize> {
        self.offered.clear();
        let (offered, stamping) = (&mut self.offered, &self.stamping);
        let messages = slots.map(|slot| {
            offered.push((slot.first, slot.end));
            (slot.pages.bytes(), stamping.control(slot.first, slot.end))
        });
        let outcome = self.batch.send_stamped(socket, messages);
        let taken = *outcome.as_ref().unwrap_or(&0);
        for &(first, end) in self.offered.iter().take(taken) {
            self.stamping.taken(first, end);
        }
        if taken < self.offered.len() {
            self.stamping.failed();
        }
        outcome
    }

    fn free(&mut self, resolved: u64) -> u64 {
        resolved
    }

    fn expect(&mut self, messages: usize) {
        self.batch.grow(messages);
        self.stamping.stop();
    }

    fn translate(&self, stamp: TxStamp) -> Option<TxStamp> {
        self.stamping.translate(stamp)
    }
}
