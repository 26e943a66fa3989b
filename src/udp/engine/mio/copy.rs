//! Sends that the kernel copies. A slot is free as soon as the call returns.

use std::io;
use std::os::fd::BorrowedFd;

use super::{Filled, SendMethod};
use crate::sys::mmsg::SendBatch;

/// Sends with sendmmsg(2).
pub struct CopySend {
    batch: SendBatch,
}

impl CopySend {
    /// Sends up to `messages` per call.
    pub fn new(messages: usize) -> Self {
        Self {
            batch: SendBatch::new(messages),
        }
    }
}

impl SendMethod for CopySend {
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
