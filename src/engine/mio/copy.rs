//! Slots that the kernel copies: many in one call, and free as soon as it returns.

use std::io;
use std::os::fd::BorrowedFd;

use super::{Filled, Handover};
use crate::sys::mmsg::SendBatch;

/// By sendmmsg(2).
pub struct Copying {
    batch: SendBatch,
}

impl Copying {
    /// Up to `messages` a call.
    pub fn new(messages: usize) -> Self {
        Self {
            batch: SendBatch::new(messages),
        }
    }
}

impl Handover for Copying {
    fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = Filled<'a>>,
    ) -> io::Result<usize> {
        self.batch
            .send(socket, slots.map(|slot| slot.pages.bytes()))
    }

    fn free(&mut self, resolved: u64) -> u64 {
        resolved
    }

    fn expect(&mut self, messages: usize) {
        self.batch.grow(messages);
    }
}
