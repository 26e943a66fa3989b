//! A sender: a request a slot.
//!
//! Requests that wait for room in the send buffer are tried again by the kernel in any order, which would reorder
//! datagrams at the source. So no more are submitted at once than the buffer is sure to take; where it may not take even
//! one, that one waits alone. A send that fails for want of memory, or because an ICMP error was pending, is overtaken by
//! those submitted with it; after that sends are submitted one by one for a while, since more are likely to fail.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::opcode;

use super::buffers::{Buffers, GROUP};
use super::outbox::Outbox;
use super::owner;
use super::ring::{Abandon, Completion, Kept, Ring, SOCKET};
use crate::engine::choice::{EngineChoice, ZeroCopy};
use crate::engine::errors::{PendingErrors, Refusal, is_of_segments};
use crate::engine::offload;
use crate::engine::stats::{SendStats, ZeroCopyStats};
use crate::engine::{Flow, Layout, Path, Tx, Until};
use crate::sys::clock::monotonic_ns;
use crate::sys::region::Region;
use crate::sys::wake::Wake;
use crate::sys::{error_queue, socket};

/// Answers that may have come before they are looked at. Each is 32 bytes; anything longer is none, and being cut
/// off shows it.
const ANSWERS: usize = 32;
const ANSWER_BYTES: usize = 64;

/// How long to wait for sends that were cancelled, in ns. They answer at once.
const SETTLE_NS: u64 = 1_000_000_000;

/// Asks for a report of zero-copy sends that were copied (`IORING_SEND_ZC_REPORT_USAGE`).
pub(in crate::engine) const REPORT_USAGE: u16 = 1 << 3;

/// The report that one was (`IORING_NOTIF_USAGE_ZC_COPIED`).
pub(in crate::engine) const COPIED: u32 = 1 << 31;

/// Sends under way at once, at least, when a slot becomes several.
const DEPTH: usize = 64;

/// Sends in a row that are submitted one by one after one that was overtaken.
const ALONE: u32 = 1_000;

/// A sender on a connected socket.
pub struct UringTx {
    kept: Kept<Memory>,
    socket: UdpSocket,
    _wake: Wake,
    /// Bytes of a full datagram, and how many of them a slot holds.
    datagram: usize,
    segments: usize,
    fragments: bool,
    /// Sends under way at once, at most.
    depth: usize,
    zerocopy: bool,
    slots: Vec<Slot>,
    /// Slots that may be filled; the last one is next.
    free: Vec<usize>,
    /// Slots to be submitted, in order.
    queued: VecDeque<usize>,
    /// Slots whose send has not completed.
    sending: usize,
    /// Datagrams queued or in flight.
    unresolved: u64,
    /// What will never be sent, and why, until it is told.
    refusals: Vec<(u64, i32)>,
    /// Bytes of send buffer that are still sure to be free.
    room: usize,
    /// What the sends under way may yet take of it.
    charged: usize,
    /// Slots queued so far.
    sequence: u64,
    /// A kernel thread takes submissions, some time after they were made.
    sqpoll: bool,
    /// Answers taken off the ring and not handed over: buffer and length.
    answers: VecDeque<(u16, usize)>,
    answers_armed: bool,
    errors: PendingErrors,
    short: bool,
    /// Sends that are to be submitted one by one.
    alone: u32,
    /// A send failed for a reason that is gone, and goes again at once.
    again: bool,
    /// The errno of a segmented send that was refused. Nothing is sent until the kernel is done with all slots, which are
    /// then cut into single datagrams.
    refused_segments: Option<i32>,
    stats: SendStats,
}

struct Memory {
    payloads: Region,
    /// A `msghdr` and its vector a slot.
    headers: Region,
    answers: Buffers,
    outbox: Outbox,
}

#[repr(C)]
struct Header {
    message: libc::msghdr,
    vector: libc::iovec,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    length: usize,
    datagrams: u64,
    /// Its place in the order of sending.
    sequence: u64,
    /// What it takes of the send buffer at most.
    charge: usize,
    /// It failed for the moment, and is to be sent once more when its memory is free.
    again: bool,
}

impl UringTx {
    /// `fill` is repeated through the slots once, as the message that is sent.
    ///
    /// # Errors
    /// As io_uring_setup(2) and io_uring_register(2); out of file descriptors or memory.
    pub fn new(
        socket: UdpSocket,
        layout: Layout,
        choice: &EngineChoice,
        fill: &[u8],
        wake: &Wake,
    ) -> io::Result<Self> {
        let zerocopy = choice.zerocopy == ZeroCopy::Msg;
        // Without the option ICMP errors are passed over all the same, and not counted.
        let _ = error_queue::enable(&socket);
        let (count, segments) = (layout.messages, layout.segments());
        let datagram = layout.bytes / segments;
        let depth = if segments > 1 {
            count.max(DEPTH)
        } else {
            count
        };
        let files = [socket.as_raw_fd(), wake.as_fd().as_raw_fd()];
        let requests = depth as u32 + 8;
        let completions = 2 * depth + ANSWERS + 8;
        let ring = Ring::new(&choice.uring, requests, completions as u32, &files)?;
        let answers = Buffers::new(&ring, ANSWERS, ANSWER_BYTES)?;
        let mut payloads = Region::new(count * layout.bytes)?;
        let message = fill.iter().copied().cycle();
        if let Some(bytes) = payloads.part_mut(0, count * layout.bytes) {
            bytes
                .iter_mut()
                .zip(message)
                .for_each(|(byte, fill)| *byte = fill);
        }
        let memory = Memory {
            payloads,
            headers: Region::new(count * segments * size_of::<Header>())?,
            answers,
            outbox: Outbox::new()?,
        };
        Ok(Self {
            kept: Kept::new(ring, memory),
            socket,
            _wake: wake.clone(),
            datagram,
            segments,
            fragments: layout.fragments,
            depth,
            zerocopy,
            slots: vec![Slot::default(); count],
            free: (0..count).rev().collect(),
            queued: VecDeque::with_capacity(count),
            sending: 0,
            unresolved: 0,
            refusals: Vec::with_capacity(count),
            room: 0,
            charged: 0,
            sequence: 0,
            sqpoll: choice.uring.sqpoll,
            answers: VecDeque::with_capacity(ANSWERS),
            answers_armed: false,
            errors: PendingErrors::default(),
            short: false,
            alone: 0,
            again: false,
            refused_segments: None,
            stats: SendStats {
                zerocopy: zerocopy.then(ZeroCopyStats::default),
                ..SendStats::default()
            },
        })
    }

    /// Queues the requests that go on, where they have ended.
    fn arm(&mut self) -> io::Result<()> {
        // With all buffers full of answers that nobody asks for, it would only fail.
        if self.answers.len() < ANSWERS && !mem::replace(&mut self.answers_armed, true) {
            let request = opcode::RecvMulti::new(SOCKET, GROUP)
                .build()
                .user_data(owner::RECEIVE);
            // SAFETY: it points to nothing; the buffers outlive the ring.
            unsafe { self.kept.ring.push(&request)? };
        }
        self.kept.ring.watch_wake()?;
        Ok(())
    }

    /// Queues the send of a slot.
    fn send(&mut self, number: usize) -> io::Result<()> {
        let Slot { length, .. } = self.slots[number];
        // SAFETY: the region holds a header a datagram, and so one a slot, aligned, for which all zero is valid; the kernel
        // is done with this one, since the slot was free.
        let header = unsafe {
            &mut *self
                .kept
                .memory
                .headers
                .as_ptr()
                .cast::<Header>()
                .add(number)
        };
        // SAFETY: the region holds `slot_bytes` a slot, however many datagrams that is.
        let payload = unsafe {
            self.kept
                .memory
                .payloads
                .as_ptr()
                .add(number * self.segments * self.datagram)
        };
        header.vector.iov_base = payload.cast();
        header.vector.iov_len = length;
        header.message.msg_iov = &raw mut header.vector;
        header.message.msg_iovlen = 1;
        let flags = libc::MSG_NOSIGNAL as u32;
        let request = if self.zerocopy {
            opcode::SendMsgZc::new(SOCKET, &raw const header.message)
                .ioprio(REPORT_USAGE)
                .flags(flags)
                .build()
        } else {
            opcode::SendMsg::new(SOCKET, &raw const header.message)
                .flags(flags)
                .build()
        };
        // SAFETY: header and payload are not touched before the slot is free again, which is at its last
        // completion, and outlive the ring.
        unsafe {
            self.kept
                .ring
                .push(&request.user_data(owner::SLOT | number as u64))?;
        }
        self.sending += 1;
        Ok(())
    }

    /// Bytes of a slot.
    fn slot_bytes(&self) -> usize {
        self.segments * self.datagram
    }

    /// Cuts every slot into one a datagram, once the kernel is done with all of them. What is queued stays in order.
    fn split_when_done(&mut self) -> io::Result<()> {
        let Some(errno) = self.refused_segments else {
            return Ok(());
        };
        if self.free.len() + self.queued.len() < self.slots.len() {
            return Ok(());
        }
        offload::stop_segments(&self.socket, self.fragments)?;
        self.refused_segments = None;
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

    /// The next slot in the order of sending.
    fn filled(&mut self, length: usize, datagrams: u64) -> Slot {
        let sequence = self.sequence;
        self.sequence += 1;
        Slot {
            length,
            datagrams,
            sequence,
            charge: socket::send_charge(length, self.zerocopy),
            again: false,
        }
    }

    /// Queues as many sends as the socket is sure to take, and says whether that was all.
    fn send_what_fits(&mut self) -> io::Result<bool> {
        if self.refused_segments.is_some() {
            return Ok(false);
        }
        while let Some(&number) = self.queued.front() {
            let depth = if self.alone > 0 { 1 } else { self.depth };
            if self.sending >= depth {
                return Ok(false);
            }
            let charge = self.slots[number].charge;
            if self.room < charge {
                // Those that the kernel has not looked at yet are not in what it says.
                let free = socket::send_room(self.socket.as_fd())?;
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

    /// Takes all completions there are.
    fn reap(&mut self) -> io::Result<()> {
        while let Some(completion) = self.kept.ring.next() {
            match owner::of(completion.user_data) {
                (owner::SLOT, number) => self.slot_done(number, completion)?,
                (owner::RECEIVE, _) => {
                    if !completion.more() {
                        self.answers_armed = false;
                        self.kept.ring.rearmed();
                    }
                    match (completion.errno(), completion.buffer()) {
                        (None, Some(buffer)) => {
                            self.answers.push_back((buffer, completion.result as usize));
                        }
                        // The buffers ran out.
                        (None, None) | (Some(libc::ENOBUFS | libc::ECANCELED), _) => {}
                        (Some(_), _) => self.errors.collect(self.socket.as_fd(), |_| ()),
                    }
                }
                (owner::LETTER, number) => {
                    let (socket, errors) = (self.socket.as_fd(), &mut self.errors);
                    let outbox = &mut self.kept.memory.outbox;
                    outbox.sent(
                        &mut self.kept.ring,
                        number,
                        completion.errno(),
                        socket,
                        errors,
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn slot_done(&mut self, number: usize, completion: Completion) -> io::Result<()> {
        if completion.is_notification() {
            let copied = completion.result as u32 & COPIED != 0;
            if let Some(zerocopy) = &mut self.stats.zerocopy {
                zerocopy.messages += 1;
                zerocopy.copied += u64::from(copied);
            }
        } else {
            self.sending -= 1;
            self.charged -= self.slots[number].charge;
            self.slots[number].again = self.outcome(number, completion.errno())?;
            // With a zero-copy send the memory is in use until the notification.
            if completion.more() {
                return Ok(());
            }
        }
        let Slot {
            again, sequence, ..
        } = self.slots[number];
        if again {
            // Among those that failed with it, in order.
            let slots = &self.slots;
            let place = self
                .queued
                .partition_point(|&other| slots[other].sequence < sequence);
            self.queued.insert(place, number);
        } else {
            self.free.push(number);
        }
        Ok(())
    }

    /// Takes note of what came of a send, and says whether it is to be tried again.
    fn outcome(&mut self, number: usize, errno: Option<i32>) -> io::Result<bool> {
        let Slot { datagrams, .. } = self.slots[number];
        let Some(errno) = errno else {
            self.unresolved -= datagrams;
            self.stats.messages += 1;
            self.alone = self.alone.saturating_sub(1);
            self.errors.resolved();
            return Ok(false);
        };
        // Was never sent, and stays unresolved.
        if errno == libc::ECANCELED {
            return Ok(false);
        }
        match Refusal::of(errno) {
            Refusal::NoMemory => {
                self.stats.enobufs += 1;
                self.alone = ALONE;
                self.short = true;
                Ok(true)
            }
            Refusal::Full | Refusal::Interrupted => Ok(true),
            Refusal::Useless => Err(io::Error::from_raw_os_error(errno)),
            Refusal::Message if self.errors.explain(self.socket.as_fd(), errno, |_| ()) => {
                self.alone = ALONE;
                self.again = true;
                Ok(true)
            }
            Refusal::Message if self.segments > 1 && is_of_segments(errno) => {
                self.refused_segments = Some(errno);
                self.again = true;
                Ok(true)
            }
            Refusal::Message => {
                self.errors.resolved();
                self.unresolved -= datagrams;
                self.stats.errors += 1;
                self.stats.last_error = Some(errno);
                self.refusals.push((datagrams, errno));
                Ok(false)
            }
        }
    }
}

impl Tx for UringTx {
    fn vacant(&mut self) -> Option<&mut [u8]> {
        let number = *self.free.last()?;
        let bytes = self.slot_bytes();
        self.kept.memory.payloads.part_mut(number * bytes, bytes)
    }

    fn queue(&mut self, length: usize, datagrams: u64) {
        let Some(number) = self.free.pop() else {
            return;
        };
        self.slots[number] = self.filled(length.min(self.slot_bytes()), datagrams);
        self.unresolved += datagrams;
        self.queued.push_back(number);
    }

    fn submit(&mut self, mut refused: impl FnMut(u64, &io::Error)) -> io::Result<Flow> {
        // A pending error that has been noticed is taken off the socket before the next send can fail by it.
        if self.kept.ring.has_work() {
            self.kept.ring.enter()?;
        }
        self.reap()?;
        let mut fits;
        loop {
            self.split_when_done()?;
            self.again = false;
            let before = self.queued.len();
            fits = self.send_what_fits()?;
            if self.kept.ring.has_work() {
                self.kept.ring.enter()?;
            }
            self.reap()?;
            // What is still under way makes room when it is done; what failed for the moment is tried again later.
            let stuck = self.queued.len() >= before && !self.again;
            if self.short || self.sending > 0 || self.queued.is_empty() || stuck {
                break;
            }
        }
        for (datagrams, errno) in self.refusals.drain(..) {
            refused(datagrams, &io::Error::from_raw_os_error(errno));
        }
        if mem::take(&mut self.short) {
            return Ok(Flow::Short);
        }
        // A send that did not complete as it was made waits for room; a submission thread may only not have seen it yet.
        if !fits || !self.queued.is_empty() || (self.sending > 0 && !self.sqpoll) {
            self.stats.eagain += 1;
            return Ok(Flow::Full);
        }
        Ok(if self.free.is_empty() {
            Flow::Held
        } else {
            Flow::Open
        })
    }

    fn say(&mut self, datagram: &[u8]) {
        self.kept
            .memory
            .outbox
            .send(&mut self.kept.ring, datagram, None);
        // If the ring is of no use any more, the next submit says so.
        let _ = self.kept.ring.enter();
    }

    fn settle(&mut self) -> io::Result<()> {
        let deadline = monotonic_ns() + SETTLE_NS;
        self.reap()?;
        if self.sending > 0 {
            self.kept.ring.cancel()?;
        }
        while self.sending > 0 && monotonic_ns() < deadline {
            self.kept.ring.wait(deadline)?;
            self.reap()?;
        }
        self.errors.collect(self.socket.as_fd(), |_| ());
        Ok(())
    }

    fn segments(&self) -> usize {
        self.segments
    }

    fn path(&self) -> Path {
        Path::of(&self.socket)
    }

    fn unresolved(&self) -> u64 {
        self.unresolved
    }

    fn answers(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        if self.kept.ring.has_work() {
            self.kept.ring.enter()?;
        }
        self.reap()?;
        while let Some((buffer, length)) = self.answers.pop_front() {
            each(self.kept.memory.answers.filled(buffer, length));
            self.kept.memory.answers.give_back(buffer);
        }
        self.arm()
    }

    fn wait(&mut self, until: Until) -> io::Result<()> {
        self.stats.waits += 1;
        self.arm()?;
        // A send that completes ends the sleep as an answer does. The deadline is exact to the ns, but for the
        // timer slack.
        let (Until::About(deadline) | Until::Exactly(deadline) | Until::WritableOr(deadline)) =
            until;
        self.kept.ring.wait(deadline)
    }

    fn stats(&self) -> SendStats {
        let ring = self.kept.ring.stats();
        SendStats {
            syscalls: ring.enters,
            icmp: self.errors.icmp,
            ring: Some(ring),
            ..self.stats
        }
    }
}

impl Abandon for Memory {
    fn abandon(self) {
        self.payloads.abandon();
        self.headers.abandon();
        self.answers.abandon();
        self.outbox.abandon();
    }
}
