//! Sender: one request per slot.
//!
//! The kernel retries requests that wait for send buffer in any order, which would reorder datagrams. So the sender
//! submits only as many as the buffer certainly holds; if a single one may not fit, it waits serial. A send that fails
//! for lack of memory or on a pending ICMP error is overtaken by later ones of its batch. Since more failures are
//! likely, the following sends are submitted one at a time.
//!
//! Only a sender with `STAMPED` requests timestamps and has state for them.

mod completions;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::AsFd;

use io_uring::opcode;

use super::control_sends::ControlSends;
use super::port::Port;
use super::slots::SlotMemory;
use super::tag;
use crate::engine::{EngineChoice, ZeroCopy};
use crate::sys::clock::monotonic_ns;
use crate::sys::socket;
use crate::sys::tx_timestamp::TxStamp;
use crate::udp::engine::endpoint::TxEndpoint;
use crate::udp::engine::errors::PendingErrors;
use crate::udp::engine::offload;
use crate::udp::engine::stamps::Stamping;
use crate::udp::engine::stats::{SendStats, ZeroCopyStats};
use crate::udp::engine::{Path, Submit, Tx, Until};
use crate::uring::buffers::{BufferRing, GROUP};
use crate::uring::ring::{Leak, REPORT_USAGE, Ring, RingWithMemory, SOCKET};

/// Received control datagrams that can wait in buffers. Each has 32 bytes. A longer datagram is truncated and thereby
/// recognised as foreign.
const CONTROL_BUFFERS: usize = 32;
const CONTROL_BYTES: usize = 64;

/// Longest wait for cancelled sends, in ns. They complete at once.
const CANCEL_NS: u64 = 1_000_000_000;

/// Minimum of concurrent sends after slots are split.
const MIN_DEPTH: usize = 64;

/// Sends submitted one at a time after an overtaken one.
const SERIAL_SENDS: u32 = 1_000;

/// A sender on a connected socket.
pub struct UringTx<const STAMPED: bool> {
    uring: RingWithMemory<Memory>,
    port: Port,
    /// Bytes of a full datagram, and datagrams per slot.
    datagram: usize,
    segments: usize,
    fragments: bool,
    /// Most concurrent sends.
    depth: usize,
    zerocopy: bool,
    slots: Vec<Slot>,
    /// Free slots. The last is used next.
    free: Vec<usize>,
    /// Queued slots in sending order.
    queued: VecDeque<usize>,
    /// Sends without a completion.
    sending: usize,
    /// Datagrams queued or in flight.
    in_flight: u64,
    /// Refused datagrams and errnos, not yet reported.
    refusals: Vec<(u64, i32)>,
    /// Bytes of send buffer that are certainly free.
    room: usize,
    /// Bytes that concurrent sends may still charge to the send buffer.
    charged: usize,
    /// Slots queued so far.
    sequence: u64,
    /// A kernel thread submits requests with a delay.
    sqpoll: bool,
    /// Reaped control datagrams: buffer and length.
    control: VecDeque<(u16, usize)>,
    control_armed: bool,
    no_memory: bool,
    /// Remaining sends to submit one at a time.
    serial: u32,
    /// A send failed for a reason that no longer applies, and is retried at once.
    retry: bool,
    /// The errno of a refused segmented send. Sending pauses until the kernel has completed all slots, which are then
    /// split into single datagrams.
    refused_segments: Option<i32>,
    /// The stamps; `None` unless `STAMPED`.
    stamps: Option<Stamps>,
    stats: SendStats,
}

/// The timestamps of sends.
struct Stamps {
    stamping: Stamping,
    /// Datagrams before each slot, and up to its end.
    datagrams: Vec<(u64, u64)>,
    /// Datagrams queued.
    queued: u64,
}

struct Memory {
    slots: SlotMemory,
    control: BufferRing,
    control_sends: ControlSends,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    length: usize,
    datagrams: u64,
    /// Position in the sending order.
    sequence: u64,
    /// Most bytes the slot charges to the send buffer.
    charge: usize,
    /// Failed temporarily. The slot is sent again when its memory is free.
    retry: bool,
}

impl<const STAMPED: bool> UringTx<STAMPED> {
    /// Opens a sender and fills its slots.
    ///
    /// # Errors
    /// As io_uring_setup(2) and io_uring_register(2); out of file descriptors or memory.
    pub fn new(endpoint: TxEndpoint<'_>, choice: &EngineChoice) -> io::Result<Self> {
        let layout = endpoint.layout;
        let mut port = Port::new(endpoint.socket, endpoint.wake);
        if STAMPED {
            port.errors = PendingErrors::with_stamps();
        }
        let zerocopy = choice.zerocopy == ZeroCopy::Msg;
        let (count, segments) = (layout.messages, layout.segments());
        let datagram = layout.bytes / segments;
        let depth = if segments > 1 {
            count.max(MIN_DEPTH)
        } else {
            count
        };
        let requests = depth as u32 + 8;
        let completions = 2 * depth + CONTROL_BUFFERS + 8;
        let ring = Ring::new(&choice.uring, requests, completions as u32, &port.files())?;
        let control = BufferRing::new(&ring, CONTROL_BUFFERS, CONTROL_BYTES)?;
        let memory = Memory {
            slots: SlotMemory::new(count, layout.bytes, segments, endpoint.fill, STAMPED)?,
            control,
            control_sends: ControlSends::new()?,
        };
        Ok(Self {
            uring: RingWithMemory::new(ring, memory),
            port,
            datagram,
            segments,
            fragments: layout.fragments,
            depth,
            zerocopy,
            slots: vec![Slot::default(); count],
            free: (0..count).rev().collect(),
            queued: VecDeque::with_capacity(count),
            sending: 0,
            in_flight: 0,
            refusals: Vec::with_capacity(count),
            room: 0,
            charged: 0,
            sequence: 0,
            sqpoll: choice.uring.sqpoll,
            control: VecDeque::with_capacity(CONTROL_BUFFERS),
            control_armed: false,
            no_memory: false,
            serial: 0,
            retry: false,
            refused_segments: None,
            stamps: endpoint.stamps.filter(|_| STAMPED).map(|policy| Stamps {
                stamping: Stamping::new(policy),
                datagrams: vec![(0, 0); count],
                queued: 0,
            }),
            stats: SendStats {
                zerocopy: zerocopy.then(ZeroCopyStats::default),
                ..SendStats::default()
            },
        })
    }

    /// Re-arms requests that have ended.
    fn arm(&mut self) -> io::Result<()> {
        // With all buffers full, the request would only fail.
        if self.control.len() < CONTROL_BUFFERS && !mem::replace(&mut self.control_armed, true) {
            let request = opcode::RecvMulti::new(SOCKET, GROUP)
                .build()
                .user_data(tag::RECEIVE);
            // SAFETY: the request contains no pointer. The buffers outlive the ring.
            unsafe { self.uring.ring.push(&request)? };
        }
        self.uring.ring.arm_wake()?;
        Ok(())
    }

    /// Queues the send of a slot.
    fn send(&mut self, number: usize) -> io::Result<()> {
        let Slot { length, .. } = self.slots[number];
        let start = number * self.slot_bytes();
        // SAFETY: there is a header per datagram, hence per slot, and `slot_bytes` bytes of payload per slot. The kernel
        // does not use this header, since the slot was free.
        let header = unsafe { self.uring.memory.slots.header(number, start, length) };
        if STAMPED && let Some(stamps) = &mut self.stamps {
            let (first, end) = stamps.datagrams.get(number).copied().unwrap_or_default();
            let control = stamps.stamping.control(first, end);
            // SAFETY: as above.
            unsafe { self.uring.memory.slots.stamp(number, control) };
            stamps.stamping.taken(first, end);
        }
        let flags = libc::MSG_NOSIGNAL as u32;
        let request = if self.zerocopy {
            opcode::SendMsgZc::new(SOCKET, header)
                .ioprio(REPORT_USAGE)
                .flags(flags)
                .build()
        } else {
            opcode::SendMsg::new(SOCKET, header).flags(flags).build()
        };
        // SAFETY: header and payload are not accessed before the last completion frees the slot, and outlive the ring.
        unsafe {
            self.uring
                .ring
                .push(&request.user_data(tag::SLOT | number as u64))?;
        }
        self.sending += 1;
        Ok(())
    }

    /// Bytes of a slot.
    fn slot_bytes(&self) -> usize {
        self.segments * self.datagram
    }

    /// Splits each slot into one per datagram once the kernel has completed all slots. Queued datagrams stay in order.
    fn split_when_done(&mut self) -> io::Result<()> {
        let Some(errno) = self.refused_segments else {
            return Ok(());
        };
        if self.free.len() + self.queued.len() < self.slots.len() {
            return Ok(());
        }
        offload::disable_segments(&self.port.socket, self.fragments)?;
        self.refused_segments = None;
        if STAMPED && let Some(stamps) = &mut self.stamps {
            stamps.stamping.stop();
        }
        self.stats.fallbacks += 1;
        self.stats.fallback_error = Some(errno);
        let each = mem::replace(&mut self.segments, 1);
        let datagrams = vec![Slot::default(); self.slots.len() * each];
        let slots = mem::replace(&mut self.slots, datagrams);
        let free = mem::take(&mut self.free);
        let queued = mem::take(&mut self.queued);
        self.free
            .extend(free.iter().flat_map(|slot| slot * each..(slot + 1) * each));
        self.sequence = 0;
        for slot in queued {
            let mut left = slots[slot].length;
            for number in slot * each..(slot + 1) * each {
                let length = left.min(self.datagram);
                left -= length;
                if length == 0 {
                    self.free.push(number);
                    continue;
                }
                self.slots[number] = self.filled(length, 1);
                self.queued.push_back(number);
            }
        }
        Ok(())
    }

    /// A slot with the next sequence number.
    fn filled(&mut self, length: usize, datagrams: u64) -> Slot {
        let sequence = self.sequence;
        self.sequence += 1;
        Slot {
            length,
            datagrams,
            sequence,
            charge: socket::send_charge(length, self.zerocopy),
            retry: false,
        }
    }

    /// Queues sends that the socket certainly accepts. Returns whether all queued slots fit.
    fn send_what_fits(&mut self) -> io::Result<bool> {
        if self.refused_segments.is_some() {
            return Ok(false);
        }
        while let Some(&number) = self.queued.front() {
            let depth = if self.serial > 0 { 1 } else { self.depth };
            if self.sending >= depth {
                return Ok(false);
            }
            let charge = self.slots[number].charge;
            if self.room < charge {
                // Submitted sends that the kernel has not processed are not in its figure.
                let free = socket::send_room(self.port.socket.as_fd())?;
                self.room = free.saturating_sub(self.charged);
            }
            if self.room < charge && self.sending > 0 {
                return Ok(false);
            }
            self.room = self.room.saturating_sub(charge);
            self.charged += charge;
            self.send(number)?;
            self.queued.pop_front();
        }
        Ok(true)
    }
}

impl<const STAMPED: bool> Tx for UringTx<STAMPED> {
    const STAMPS: bool = STAMPED;

    fn next_slot(&mut self) -> Option<&mut [u8]> {
        let number = *self.free.last()?;
        let bytes = self.slot_bytes();
        self.uring.memory.slots.payload_mut(number * bytes, bytes)
    }

    fn queue(&mut self, length: usize, datagrams: u64) {
        let Some(number) = self.free.pop() else {
            return;
        };
        self.slots[number] = self.filled(length.min(self.slot_bytes()), datagrams);
        if STAMPED && let Some(stamps) = &mut self.stamps {
            let first = stamps.queued;
            stamps.queued += datagrams;
            if let Some(place) = stamps.datagrams.get_mut(number) {
                *place = (first, stamps.queued);
            }
        }
        self.in_flight += datagrams;
        self.queued.push_back(number);
    }

    fn submit(&mut self, mut refused: impl FnMut(u64, &io::Error)) -> io::Result<Submit> {
        // Reaps a noticed pending error before it can fail the next send.
        if self.uring.ring.has_work() {
            self.uring.ring.enter()?;
        }
        self.reap()?;
        let mut fits;
        loop {
            self.split_when_done()?;
            self.retry = false;
            let before = self.queued.len();
            fits = self.send_what_fits()?;
            if self.uring.ring.has_work() {
                self.uring.ring.enter()?;
            }
            self.reap()?;
            // Sends in flight make room when they complete. Temporary failures are retried by a later call.
            let stuck = self.queued.len() >= before && !self.retry;
            if self.no_memory || self.sending > 0 || self.queued.is_empty() || stuck {
                break;
            }
        }
        for (datagrams, errno) in self.refusals.drain(..) {
            refused(datagrams, &io::Error::from_raw_os_error(errno));
        }
        if mem::take(&mut self.no_memory) {
            return Ok(Submit::NoMemory);
        }
        // A send that did not complete on submission waits for room. With a submission thread it may only be delayed.
        if !fits || !self.queued.is_empty() || (self.sending > 0 && !self.sqpoll) {
            self.stats.eagain += 1;
            return Ok(Submit::WouldBlock);
        }
        Ok(if self.free.is_empty() {
            Submit::NoFreeSlot
        } else {
            Submit::Ready
        })
    }

    fn queued_messages(&mut self, mut each: impl FnMut(&mut [u8])) {
        let bytes = self.slot_bytes();
        for &number in &self.queued {
            let Slot { length, .. } = self.slots[number];
            let slots = &mut self.uring.memory.slots;
            if let Some(message) = slots.payload_mut(number * bytes, length) {
                each(message);
            }
        }
    }

    fn give_up(&mut self, error: &io::Error, mut refused: impl FnMut(u64, &io::Error)) {
        let Some(number) = self.queued.pop_front() else {
            return;
        };
        let Slot { datagrams, .. } = self.slots[number];
        self.in_flight -= datagrams;
        self.free.push(number);
        self.stats.errors += 1;
        self.stats.last_error = error.raw_os_error();
        refused(datagrams, error);
    }

    fn send_control(&mut self, datagram: &[u8]) {
        self.uring
            .memory
            .control_sends
            .send(&mut self.uring.ring, datagram, None);
        // If the ring is unusable, the next submit reports it.
        let _ = self.uring.ring.enter();
    }

    fn cancel_pending(&mut self) -> io::Result<()> {
        let deadline = monotonic_ns() + CANCEL_NS;
        self.reap()?;
        if self.sending > 0 {
            self.uring.ring.cancel()?;
        }
        while self.sending > 0 && monotonic_ns() < deadline {
            self.uring.ring.wait(deadline)?;
            self.reap()?;
        }
        self.port.collect_errors();
        Ok(())
    }

    fn segments(&self) -> usize {
        self.segments
    }

    fn path(&self) -> Path {
        Path::of(&self.port.socket)
    }

    fn in_flight(&self) -> u64 {
        self.in_flight
    }

    fn poll_control(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        if self.uring.ring.has_work() {
            self.uring.ring.enter()?;
        }
        self.reap()?;
        while let Some((buffer, length)) = self.control.pop_front() {
            each(self.uring.memory.control.filled(buffer, length));
            self.uring.memory.control.provide(buffer);
        }
        self.arm()
    }

    fn take_stamps(&mut self, each: impl FnMut(TxStamp)) {
        self.port.collect_errors();
        let Some(stamps) = &self.stamps else { return };
        let taken = self.port.errors.stamps.drain(..);
        taken
            .filter_map(|stamp| stamps.stamping.translate(stamp))
            .for_each(each);
    }

    fn wait(&mut self, until: Until) -> io::Result<()> {
        self.stats.waits += 1;
        self.arm()?;
        // The completion of a send ends the wait, like a control datagram. The deadline is exact up to the timer slack.
        let (Until::About(deadline) | Until::Exactly(deadline) | Until::WritableOr(deadline)) =
            until;
        self.uring.ring.wait(deadline)
    }

    fn stats(&self) -> SendStats {
        let ring = self.uring.ring.stats();
        SendStats {
            syscalls: ring.enters,
            icmp: self.port.errors.icmp,
            ring: Some(ring),
            ..self.stats
        }
    }
}

impl Leak for Memory {
    fn leak(self) {
        self.slots.leak();
        self.control.leak();
        self.control_sends.leak();
    }
}
