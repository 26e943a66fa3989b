//! Sender: a ring of slots, freed in order.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::receive_batch;
use super::waits::Waits;
use crate::sys::error_queue;
use crate::sys::mmap::{Mmap, PAGE, Pages};
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::tx_timestamp::TxStamp;
use crate::sys::zerocopy::Done;
use crate::udp::engine::endpoint::TxEndpoint;
use crate::udp::engine::errors::{PendingErrors, Refusal, is_segmentation_errno};
use crate::udp::engine::offload;
use crate::udp::engine::stats::{SendStats, ZeroCopyStats};
use crate::udp::engine::{Layout, Path, Submit, Tx, Until, repeat};

/// Control datagrams have 32 bytes. A longer datagram is truncated and thereby recognised as foreign.
const CONTROL_BYTES: usize = 64;

/// Control datagrams received per system call. A sender is rarely more than a few behind.
const CONTROL_BATCH: usize = 16;

/// A message to send: a slot, or one datagram of a slot if segmented sends are refused.
#[derive(Debug, Clone, Copy)]
pub struct Filled<'a> {
    /// Number of the slot, counted from the start of the run.
    pub number: u64,
    /// Datagrams queued before the slot, and up to its end.
    pub first: u64,
    /// See [`Self::first`].
    pub end: u64,
    /// Datagrams, end to end.
    pub pages: Pages<'a>,
}

/// How slots reach the socket, and when they are free again.
pub trait SendMethod {
    /// Whether the socket receives the pages themselves, so that each slot starts on a page.
    const BY_PAGE: bool = false;

    /// Whether the kernel reports the completion of a send on the error queue.
    const COMPLETES: bool = false;

    /// As [`Tx::STAMPS`].
    const STAMPS: bool = false;

    /// Sends messages in order and returns the number accepted.
    ///
    /// # Errors
    /// As sendmsg(2), only if the first message was refused.
    fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = Filled<'a>>,
    ) -> io::Result<usize>;

    /// The kernel has completed these sends.
    fn done(&mut self, _sends: Done) {}

    /// Whether completions are outstanding.
    fn is_waiting(&self) -> bool {
        false
    }

    /// The number of the first slot in use. Slots before `resolved` were accepted or refused.
    fn free(&mut self, resolved: u64) -> u64;

    /// Prepares for batches of up to `messages`.
    fn expect(&mut self, _messages: usize) {}

    /// The receiver has read the first `seen` datagrams.
    fn acknowledge(&mut self, _seen: u64) {}

    /// The stamp with the sequence number as its key; `None` if the number is unknown.
    fn translate(&self, _stamp: TxStamp) -> Option<TxStamp> {
        None
    }

    /// Counters, if the method avoids copies.
    fn stats(&self) -> Option<ZeroCopyStats> {
        None
    }
}

/// A sender on a connected socket.
pub struct MioTx<H> {
    socket: UdpSocket,
    /// `None` if an event loop waits for this sender.
    waits: Option<Waits>,
    method: H,
    memory: Mmap,
    slots: Box<[Slot]>,
    /// Distance between slots, and size of a slot, in bytes.
    stride: usize,
    slot_bytes: usize,
    /// Bytes of a full datagram, and of the longest message: a slot, or one datagram.
    datagram: usize,
    message: usize,
    fragments: bool,
    /// Bytes of the first queued slot that are already resolved, in whole messages.
    offset: usize,
    /// Slots freed, resolved (accepted or refused), and queued, since the start.
    free: u64,
    resolved: u64,
    queued: u64,
    /// Datagrams queued, and datagrams resolved.
    datagrams: u64,
    datagrams_resolved: u64,
    control: ReceiveBatch,
    errors: PendingErrors,
    stats: SendStats,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    length: usize,
    /// Datagrams in the slot that are not resolved yet.
    datagrams: u64,
    end: u64,
}

/// Most tries of a control send while ICMP errors are pending.
const CONTROL_TRIES: u32 = 4;

impl<H: SendMethod> MioTx<H> {
    /// Opens a sender and fills its slots.
    ///
    /// # Errors
    /// Out of file descriptors or memory.
    pub fn new(endpoint: TxEndpoint<'_>, method: H) -> io::Result<Self> {
        let TxEndpoint {
            socket,
            layout,
            fill,
            wake,
            ..
        } = endpoint;
        let waits = Waits::new(&socket, wake)?;
        Self::with(socket, layout, fill, Some(waits), method)
    }

    /// Opens a sender that never waits, for an event loop.
    ///
    /// # Errors
    /// Out of memory.
    pub fn shared(socket: UdpSocket, layout: Layout, fill: &[u8], method: H) -> io::Result<Self> {
        Self::with(socket, layout, fill, None, method)
    }

    fn with(
        socket: UdpSocket,
        layout: Layout,
        fill: &[u8],
        waits: Option<Waits>,
        method: H,
    ) -> io::Result<Self> {
        // If the option is refused, ICMP errors are skipped without being counted.
        let _ = error_queue::enable(&socket);
        let (mut memory, stride) = if H::BY_PAGE {
            let stride = layout.bytes.next_multiple_of(PAGE);
            (Mmap::huge(layout.messages * stride)?, stride)
        } else {
            (Mmap::new(layout.messages * layout.bytes)?, layout.bytes)
        };
        for number in 0..layout.messages {
            let slot = memory.part_mut(number * stride, layout.bytes);
            repeat(fill, slot.unwrap_or_default());
        }
        Ok(Self {
            socket,
            waits,
            method,
            memory,
            slots: vec![Slot::default(); layout.messages.max(1)].into_boxed_slice(),
            stride,
            slot_bytes: layout.bytes,
            datagram: layout.datagram.max(1),
            message: layout.bytes.max(1),
            fragments: layout.fragments,
            offset: 0,
            free: 0,
            resolved: 0,
            queued: 0,
            datagrams: 0,
            datagrams_resolved: 0,
            control: ReceiveBatch::new(CONTROL_BATCH, CONTROL_BYTES),
            errors: match H::STAMPS {
                true => PendingErrors::with_stamps(),
                false => PendingErrors::default(),
            },
            stats: SendStats::default(),
        })
    }

    fn index(&self, number: u64) -> usize {
        (number % self.slots.len() as u64) as usize
    }

    fn is_full(&self) -> bool {
        self.queued - self.free == self.slots.len() as u64
    }

    /// Marks the next `count` messages as accepted or refused, and returns the number of their datagrams.
    #[inline]
    fn resolve(&mut self, count: usize) -> u64 {
        let before = self.datagrams_resolved;
        for _ in 0..count {
            let index = self.index(self.resolved);
            let slot = &mut self.slots[index];
            self.offset += self.message.min(slot.length - self.offset);
            if self.offset < slot.length {
                let datagrams = (self.message / self.datagram) as u64;
                self.datagrams_resolved += datagrams;
                slot.datagrams -= datagrams;
            } else {
                self.datagrams_resolved += slot.datagrams;
                self.resolved += 1;
                self.offset = 0;
            }
        }
        self.datagrams_resolved - before
    }

    /// Marks the next message as refused.
    fn refuse(&mut self, error: &io::Error, refused: &mut impl FnMut(u64, &io::Error)) {
        self.errors.resolved();
        self.stats.errors += 1;
        self.stats.last_error = error.raw_os_error();
        let datagrams = self.resolve(1);
        refused(datagrams, error);
    }

    /// Sends the queued messages and returns the number accepted.
    #[inline]
    fn send_queued(&mut self) -> io::Result<usize> {
        let messages = (self.resolved..self.queued).filter_map(|number| {
            let index = (number % self.slots.len() as u64) as usize;
            let Slot {
                length,
                datagrams,
                end,
            } = self.slots[index];
            let first = end - datagrams;
            let past = if number == self.resolved {
                self.offset
            } else {
                0
            };
            let pages = self
                .memory
                .pages(index * self.stride + past, length - past)?;
            let of_slot = pages.pieces(self.message);
            Some(of_slot.map(move |pages| Filled {
                number,
                first,
                end,
                pages,
            }))
        });
        self.method.send(self.socket.as_fd(), messages.flatten())
    }

    /// Sends each datagram as its own message from now on, starting with the queued ones.
    fn stop_segmenting(&mut self, errno: i32) -> io::Result<()> {
        offload::disable_segments(&self.socket, self.fragments)?;
        self.stats.fallbacks += 1;
        self.stats.fallback_error = Some(errno);
        self.method
            .expect(self.slots.len() * (self.slot_bytes / self.datagram).max(1));
        self.message = self.datagram;
        Ok(())
    }

    /// Whether an ICMP error caused the failure, so that the call should be retried.
    fn is_explained(&mut self, errno: i32) -> bool {
        let method = &mut self.method;
        self.errors
            .explain(self.socket.as_fd(), errno, |sends| method.done(sends))
    }

    /// Reads completions of zero-copy sends.
    fn collect(&mut self) {
        let method = &mut self.method;
        self.errors
            .collect(self.socket.as_fd(), |sends| method.done(sends));
    }

    fn release(&mut self) {
        if H::COMPLETES && self.method.is_waiting() {
            self.collect();
        }
        self.free = self.method.free(self.resolved);
    }

    fn free_slots(&mut self) -> Submit {
        self.release();
        if self.is_full() {
            Submit::NoFreeSlot
        } else {
            Submit::Ready
        }
    }
}

impl<H: SendMethod> Tx for MioTx<H> {
    const STAMPS: bool = H::STAMPS;

    fn next_slot(&mut self) -> Option<&mut [u8]> {
        if self.is_full() {
            return None;
        }
        let start = self.index(self.queued) * self.stride;
        self.memory.part_mut(start, self.slot_bytes)
    }

    fn queue(&mut self, length: usize, datagrams: u64) {
        self.datagrams += datagrams;
        self.slots[self.index(self.queued)] = Slot {
            length: length.min(self.slot_bytes),
            datagrams,
            end: self.datagrams,
        };
        self.queued += 1;
    }

    fn submit(&mut self, mut refused: impl FnMut(u64, &io::Error)) -> io::Result<Submit> {
        while self.resolved < self.queued {
            self.stats.syscalls += 1;
            let outcome = self.send_queued();
            if let Ok(taken) = outcome {
                self.resolve(taken);
                self.errors.resolved();
                self.stats.messages += taken as u64;
                self.stats.partial += u64::from(self.resolved < self.queued);
            }
            if H::COMPLETES && self.resolved < self.queued {
                // The failed message may have consumed a completion number. Read it before the next send gets one.
                self.collect();
            }
            let Err(error) = outcome else { continue };
            let errno = error.raw_os_error().unwrap_or(0);
            match Refusal::of(errno) {
                Refusal::WouldBlock => {
                    self.stats.eagain += 1;
                    return Ok(Submit::WouldBlock);
                }
                Refusal::NoMemory => {
                    self.stats.enobufs += 1;
                    self.release();
                    return Ok(Submit::NoMemory);
                }
                Refusal::Interrupted => {}
                Refusal::SocketUnusable => return Err(error),
                Refusal::Message if self.is_explained(errno) => {}
                Refusal::Message if is_segmentation_errno(errno) && self.segments() > 1 => {
                    self.stop_segmenting(errno)?;
                }
                Refusal::Message => self.refuse(&error, &mut refused),
            }
        }
        Ok(self.free_slots())
    }

    fn queued_messages(&mut self, mut each: impl FnMut(&mut [u8])) {
        let mut past = self.offset;
        for number in self.resolved..self.queued {
            let index = self.index(number);
            let Slot { length, .. } = self.slots[index];
            if let Some(message) = self
                .memory
                .part_mut(index * self.stride + past, length - past)
            {
                each(message);
            }
            past = 0;
        }
    }

    fn give_up(&mut self, error: &io::Error, mut refused: impl FnMut(u64, &io::Error)) {
        if self.resolved < self.queued {
            self.refuse(error, &mut refused);
        }
    }

    fn segments(&self) -> usize {
        self.message / self.datagram
    }

    fn path(&self) -> Path {
        Path::of(&self.socket)
    }

    fn in_flight(&self) -> u64 {
        self.datagrams - self.datagrams_resolved
    }

    fn acknowledge(&mut self, seen: u64) {
        self.method.acknowledge(seen);
    }

    fn send_control(&mut self, datagram: &[u8]) {
        for _ in 0..CONTROL_TRIES {
            match self.socket.send(datagram) {
                Err(error) if self.is_explained(error.raw_os_error().unwrap_or(0)) => {}
                _ => break,
            }
        }
        self.errors.resolved();
    }

    fn cancel_pending(&mut self) -> io::Result<()> {
        self.collect();
        Ok(())
    }

    fn poll_control(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let method = &mut self.method;
            let batch = &mut self.control;
            match receive_batch(batch, &self.socket, &mut self.errors, |sends| {
                method.done(sends);
            })? {
                None => return Ok(()),
                Some(count) => {
                    self.control
                        .messages(count)
                        .for_each(|message| each(message.bytes));
                    if count < self.control.capacity() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn take_stamps(&mut self, each: impl FnMut(TxStamp)) {
        self.collect();
        let (stamps, method) = (&mut self.errors.stamps, &self.method);
        stamps
            .drain(..)
            .filter_map(|stamp| method.translate(stamp))
            .for_each(each);
    }

    fn wait(&mut self, until: Until) -> io::Result<()> {
        self.stats.waits += 1;
        match &mut self.waits {
            Some(waits) => waits.wait(self.socket.as_raw_fd(), until),
            None => Ok(()),
        }
    }

    fn stats(&self) -> SendStats {
        SendStats {
            zerocopy: self.method.stats(),
            icmp: self.errors.icmp,
            ..self.stats
        }
    }
}
