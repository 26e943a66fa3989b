//! Received messages in the buffers that the kernel filled.
//!
//! A buffer has room for a message of any length, of which only the pages that were filled occupy memory. It goes to the
//! kernel again when its batch is sent, so there are as many buffers again as the kernel may fill meanwhile. The one that
//! was used last is provided first.

use std::io;

use super::super::{Group, LONG, LONG_SLOTS, Slots};
use crate::proxy::datagrams::sends::Payloads;
use crate::sys::datagrams::{Arrival, MAX_MESSAGE};
use crate::uring::buffers::BufferRing;
use crate::uring::recvmsg::{BEFORE, Output};
use crate::uring::ring::{Leak, Ring};

/// Bytes of a buffer: room for a message, and an odd number of cache lines, so that short messages of successive buffers do
/// not compete for the same sets of the cache.
const STRIDE: usize = (BEFORE + MAX_MESSAGE).next_multiple_of(64) + 17 * 64;

impl Group {
    /// The buffer group of the ring.
    pub(super) fn number(self) -> u16 {
        self as u16
    }

    /// Most buffers that the kernel may fill.
    fn target(self) -> usize {
        match self {
            // As many as make the longest run of datagrams that arrive singly.
            Self::Clients => 64,
            Self::Servers => 128,
        }
    }
}

/// A buffer that the kernel filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    pub(super) group: Group,
    pub(super) buffer: u16,
    /// Bytes.
    pub(super) length: usize,
}

/// The buffers of a thread, and the messages of the batch.
pub(in crate::proxy) struct Messages {
    clients: Pool,
    servers: Pool,
    batch: Vec<Filled>,
}

struct Pool {
    buffers: BufferRing,
    reserve: Vec<u16>,
    /// Buffers that the kernel may fill.
    provided: usize,
    /// How many should be provided.
    target: usize,
    group: Group,
}

impl Messages {
    /// # Errors
    /// As io_uring_register(2), and out of memory.
    pub(super) fn new(ring: &Ring) -> io::Result<Self> {
        Ok(Self {
            clients: Pool::new(ring, Group::Clients)?,
            servers: Pool::new(ring, Group::Servers)?,
            batch: Vec::new(),
        })
    }

    /// The kernel has filled a buffer.
    pub(super) fn take(&mut self, filled: Filled) {
        let pool = self.pool_mut(filled.group);
        pool.provided = pool.provided.saturating_sub(1);
    }

    /// Adds a message to the batch. Returns its slot.
    pub(super) fn add(&mut self, filled: Filled) -> usize {
        self.batch.push(filled);
        self.batch.len() - 1
    }

    /// Frees the buffer of a message that is in no batch. Returns the number of its datagrams.
    pub(super) fn discard(&mut self, filled: Filled) -> usize {
        let slot = self.add(filled);
        let datagrams = self.arrival(slot).map_or(0, |arrival| arrival.datagrams());
        self.batch.pop();
        let pool = self.pool_mut(filled.group);
        pool.reserve.push(filled.buffer);
        pool.provide();
        datagrams
    }

    /// The batch is sent.
    pub(super) fn release(&mut self) {
        let (mut counts, mut bytes) = ([0; 2], [0; 2]);
        while let Some(filled) = self.batch.pop() {
            let group = usize::from(filled.group.number());
            if let (Some(count), Some(bytes)) = (counts.get_mut(group), bytes.get_mut(group)) {
                *count += 1;
                *bytes += filled.length;
            }
            self.pool_mut(filled.group).reserve.push(filled.buffer);
        }
        let pools = [&mut self.clients, &mut self.servers].into_iter();
        for (pool, (count, bytes)) in pools.zip(counts.into_iter().zip(bytes)) {
            if count > 0 {
                pool.target = match bytes > LONG * count {
                    true => LONG_SLOTS,
                    false => pool.group.target(),
                };
                pool.provide();
            }
        }
    }

    fn pool(&self, group: Group) -> &Pool {
        match group {
            Group::Clients => &self.clients,
            Group::Servers => &self.servers,
        }
    }

    fn pool_mut(&mut self, group: Group) -> &mut Pool {
        match group {
            Group::Clients => &mut self.clients,
            Group::Servers => &mut self.servers,
        }
    }

    /// Whether each buffer is in the reserve or may be filled by the kernel.
    #[cfg(test)]
    pub(super) fn is_whole(&self) -> bool {
        let mut pools = [&self.clients, &self.servers].into_iter();
        pools.all(|pool| pool.reserve.len() + pool.provided == 2 * pool.group.target())
    }

    fn filled(&self, slot: usize) -> Option<&[u8]> {
        let Filled {
            group,
            buffer,
            length,
        } = *self.batch.get(slot)?;
        Some(self.pool(group).buffers.filled(buffer, length))
    }
}

impl Payloads for Messages {
    fn bytes(&self, slot: usize) -> &[u8] {
        let filled = self.filled(slot).unwrap_or_default();
        filled.get(BEFORE..).unwrap_or_default()
    }
}

impl Slots for Messages {
    fn arrival(&self, slot: usize) -> Option<Arrival<'_>> {
        let output = Output::parse(self.filled(slot)?)?;
        Some(Arrival::new(
            output.payload,
            output.name,
            output.control,
            output.flags,
        ))
    }
}

impl Leak for Messages {
    fn leak(self) {
        self.clients.buffers.leak();
        self.servers.buffers.leak();
    }
}

impl Pool {
    fn new(ring: &Ring, group: Group) -> io::Result<Self> {
        let count = 2 * group.target();
        let mut pool = Self {
            buffers: BufferRing::new_empty(ring, group.number(), count, STRIDE)?,
            reserve: (0..count as u16).rev().collect(),
            provided: 0,
            target: group.target(),
            group,
        };
        pool.provide();
        Ok(pool)
    }

    fn provide(&mut self) {
        while self.provided < self.target
            && let Some(buffer) = self.reserve.pop()
        {
            self.buffers.provide(buffer);
            self.provided += 1;
        }
    }
}
