//! A sender: slots in a ring, each filled, handed over, and free again in the order of the ring.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::{SOCKET, TIMER, WAKE, poll, receive_batch};
use crate::engine::errors::{PendingErrors, Refusal, is_of_segments};
use crate::engine::offload;
use crate::engine::stats::{SendStats, ZeroCopyStats};
use crate::engine::{Flow, Layout, Path, Tx, Until};
use crate::sys::error_queue;
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::region::{PAGE, Pages, Region};
use crate::sys::timer::Timer;
use crate::sys::wake::Wake;
use crate::sys::zerocopy::Done;

/// Answers are 32 bytes; anything longer is not one, and being cut off shows it.
const ANSWER_BYTES: usize = 64;

/// Answers taken a call: a sender that asks is rarely more than a few behind.
const ANSWERS: usize = 16;

/// A message as it is handed over: a slot, or a datagram of one where the path takes no segmented sends.
#[derive(Debug, Clone, Copy)]
pub struct Filled<'a> {
    /// Which slot it is in, counted over the whole run.
    pub number: u64,
    /// How many datagrams had been queued with that slot.
    pub end: u64,
    /// Datagrams, end to end.
    pub pages: Pages<'a>,
}

/// How slots get to the socket, and when their memory may be written to again.
pub trait Handover {
    /// Whether the pages themselves are handed over, so that slots should begin with one.
    const BY_PAGE: bool = false;

    /// Whether the kernel reports on the error queue when it is done with a send.
    const COMPLETES: bool = false;

    /// Hands messages to the kernel, in order, and says how many it took.
    ///
    /// # Errors
    /// As sendmsg(2), and only when not even the first was taken.
    fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = Filled<'a>>,
    ) -> io::Result<usize>;

    /// The kernel is done with these sends.
    fn done(&mut self, _sends: Done) {}

    /// Whether completions are missing.
    fn is_waiting(&self) -> bool {
        false
    }

    /// All slots below this number are free again, when those below `resolved` were taken or refused.
    fn free(&mut self, resolved: u64) -> u64;

    /// From now on up to `messages` are handed over at once.
    fn expect(&mut self, _messages: usize) {}

    /// The receiver is done with the first `seen` datagrams.
    fn acknowledge(&mut self, _seen: u64) {}

    /// What it counted, if it saves copies.
    fn stats(&self) -> Option<ZeroCopyStats> {
        None
    }
}

/// A sender on a connected socket.
pub struct MioTx<H> {
    socket: UdpSocket,
    poll: Poll,
    events: Events,
    timer: Timer,
    handover: H,
    memory: Region,
    slots: Box<[Slot]>,
    /// Bytes from one slot to the next, and of a slot.
    stride: usize,
    slot_bytes: usize,
    /// Bytes of a full datagram, and of a message at most: a slot, or one datagram.
    datagram: usize,
    message: usize,
    fragments: bool,
    /// Bytes of the first unresolved slot that are resolved, which are whole messages.
    offset: usize,
    /// Slots free again, taken or refused, and queued, each since the start.
    free: u64,
    resolved: u64,
    queued: u64,
    /// Datagrams queued, and of those the ones in resolved slots.
    datagrams: u64,
    datagrams_resolved: u64,
    answers: ReceiveBatch,
    errors: PendingErrors,
    stats: SendStats,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    length: usize,
    /// Datagrams in it that are not resolved.
    datagrams: u64,
    end: u64,
}

/// Times that a control datagram is sent again when an ICMP error is pending.
const SAY_AGAIN: u32 = 4;

impl<H: Handover> MioTx<H> {
    /// As many slots as `layout` says. `fill` is repeated through each once, as the message that is sent.
    ///
    /// # Errors
    /// Out of file descriptors or memory.
    pub fn new(
        socket: UdpSocket,
        layout: Layout,
        handover: H,
        fill: &[u8],
        wake: &Wake,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new()?;
        // Without the option ICMP errors are passed over all the same, and not counted.
        let _ = error_queue::enable(&socket);
        let register = |fd, token| {
            poll.registry()
                .register(&mut SourceFd(&fd), token, Interest::READABLE)
        };
        register(socket.as_raw_fd(), SOCKET)?;
        register(timer.as_fd().as_raw_fd(), TIMER)?;
        register(wake.as_fd().as_raw_fd(), WAKE)?;
        let (mut memory, stride) = if H::BY_PAGE {
            let stride = layout.bytes.next_multiple_of(PAGE);
            (Region::huge(layout.messages * stride)?, stride)
        } else {
            (Region::new(layout.messages * layout.bytes)?, layout.bytes)
        };
        for number in 0..layout.messages {
            let message = fill.iter().copied().cycle();
            let slot = memory
                .part_mut(number * stride, layout.bytes)
                .unwrap_or_default();
            slot.iter_mut()
                .zip(message)
                .for_each(|(byte, fill)| *byte = fill);
        }
        Ok(Self {
            socket,
            poll,
            events: Events::with_capacity(4),
            timer,
            handover,
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
            answers: ReceiveBatch::new(ANSWERS, ANSWER_BYTES),
            errors: PendingErrors::default(),
            stats: SendStats::default(),
        })
    }

    fn place(&self, number: u64) -> usize {
        (number % self.slots.len() as u64) as usize
    }

    fn is_full(&self) -> bool {
        self.queued - self.free == self.slots.len() as u64
    }

    /// Takes note that the kernel has taken the next `count` messages, or will not, and says how many datagrams they hold.
    #[inline]
    fn resolve(&mut self, count: usize) -> u64 {
        let before = self.datagrams_resolved;
        for _ in 0..count {
            let place = self.place(self.resolved);
            let slot = &mut self.slots[place];
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

    /// Takes note that the kernel will not send the next message.
    fn refuse(&mut self, error: &io::Error, refused: &mut impl FnMut(u64, &io::Error)) {
        self.errors.resolved();
        self.stats.errors += 1;
        self.stats.last_error = error.raw_os_error();
        let datagrams = self.resolve(1);
        refused(datagrams, error);
    }

    /// Hands all unresolved messages to the kernel and says how many it took.
    #[inline]
    fn hand_over(&mut self) -> io::Result<usize> {
        let messages = (self.resolved..self.queued).filter_map(|number| {
            let place = (number % self.slots.len() as u64) as usize;
            let Slot { length, end, .. } = self.slots[place];
            let past = if number == self.resolved {
                self.offset
            } else {
                0
            };
            let pages = self
                .memory
                .pages(place * self.stride + past, length - past)?;
            let of_slot = pages.pieces(self.message);
            Some(of_slot.map(move |pages| Filled { number, end, pages }))
        });
        self.handover.send(self.socket.as_fd(), messages.flatten())
    }

    /// Sends every datagram as a message of its own from now on, the unresolved ones first.
    fn stop_segmenting(&mut self, errno: i32) -> io::Result<()> {
        offload::stop_segments(&self.socket, self.fragments)?;
        self.stats.fallbacks += 1;
        self.stats.fallback_error = Some(errno);
        self.handover
            .expect(self.slots.len() * (self.slot_bytes / self.datagram).max(1));
        self.message = self.datagram;
        Ok(())
    }

    /// Whether a call failed because of an ICMP error, so that it should be made again.
    fn is_explained(&mut self, errno: i32) -> bool {
        let handover = &mut self.handover;
        self.errors
            .explain(self.socket.as_fd(), errno, |sends| handover.done(sends))
    }

    /// Takes in completions of zero-copy sends.
    fn collect(&mut self) {
        let handover = &mut self.handover;
        self.errors
            .collect(self.socket.as_fd(), |sends| handover.done(sends));
    }

    fn release(&mut self) {
        if H::COMPLETES && self.handover.is_waiting() {
            self.collect();
        }
        self.free = self.handover.free(self.resolved);
    }

    fn flow(&mut self) -> Flow {
        self.release();
        if self.is_full() {
            Flow::Held
        } else {
            Flow::Open
        }
    }
}

impl<H: Handover> Tx for MioTx<H> {
    fn vacant(&mut self) -> Option<&mut [u8]> {
        if self.is_full() {
            return None;
        }
        let start = self.place(self.queued) * self.stride;
        self.memory.part_mut(start, self.slot_bytes)
    }

    fn queue(&mut self, length: usize, datagrams: u64) {
        self.datagrams += datagrams;
        self.slots[self.place(self.queued)] = Slot {
            length: length.min(self.slot_bytes),
            datagrams,
            end: self.datagrams,
        };
        self.queued += 1;
    }

    fn submit(&mut self, mut refused: impl FnMut(u64, &io::Error)) -> io::Result<Flow> {
        while self.resolved < self.queued {
            self.stats.syscalls += 1;
            let outcome = self.hand_over();
            if let Ok(taken) = outcome {
                self.resolve(taken);
                self.errors.resolved();
                self.stats.messages += taken as u64;
                self.stats.partial += u64::from(self.resolved < self.queued);
            }
            if H::COMPLETES && self.resolved < self.queued {
                // The message that failed may have had a number: that must be known before the next gets one.
                self.collect();
            }
            let Err(error) = outcome else { continue };
            let errno = error.raw_os_error().unwrap_or(0);
            match Refusal::of(errno) {
                Refusal::Full => {
                    self.stats.eagain += 1;
                    return Ok(Flow::Full);
                }
                Refusal::NoMemory => {
                    self.stats.enobufs += 1;
                    self.release();
                    return Ok(Flow::Short);
                }
                Refusal::Interrupted => {}
                Refusal::Useless => return Err(error),
                Refusal::Message if self.is_explained(errno) => {}
                Refusal::Message if is_of_segments(errno) && self.segments() > 1 => {
                    self.stop_segmenting(errno)?;
                }
                Refusal::Message => self.refuse(&error, &mut refused),
            }
        }
        Ok(self.flow())
    }

    fn segments(&self) -> usize {
        self.message / self.datagram
    }

    fn path(&self) -> Path {
        Path::of(&self.socket)
    }

    fn unresolved(&self) -> u64 {
        self.datagrams - self.datagrams_resolved
    }

    fn acknowledge(&mut self, seen: u64) {
        self.handover.acknowledge(seen);
    }

    fn say(&mut self, datagram: &[u8]) {
        for _ in 0..SAY_AGAIN {
            match self.socket.send(datagram) {
                Err(error) if self.is_explained(error.raw_os_error().unwrap_or(0)) => {}
                _ => break,
            }
        }
        self.errors.resolved();
    }

    fn settle(&mut self) -> io::Result<()> {
        self.collect();
        Ok(())
    }

    fn answers(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let handover = &mut self.handover;
            let batch = &mut self.answers;
            match receive_batch(batch, &self.socket, &mut self.errors, |sends| {
                handover.done(sends);
            })? {
                None => return Ok(()),
                Some(count) => {
                    self.answers
                        .messages(count)
                        .for_each(|message| each(message.bytes));
                    if count < self.answers.capacity() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn wait(&mut self, until: Until) -> io::Result<()> {
        self.stats.waits += 1;
        let fd = self.socket.as_raw_fd();
        match until {
            Until::About(deadline) => poll(&mut self.poll, &mut self.events, Some(deadline)),
            Until::Exactly(deadline) => {
                self.timer.arm(deadline)?;
                poll(&mut self.poll, &mut self.events, None)
            }
            Until::WritableOr(deadline) => {
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll
                    .registry()
                    .reregister(&mut SourceFd(&fd), SOCKET, both)?;
                let waited = poll(&mut self.poll, &mut self.events, Some(deadline));
                self.poll
                    .registry()
                    .reregister(&mut SourceFd(&fd), SOCKET, Interest::READABLE)?;
                waited
            }
        }
    }

    fn stats(&self) -> SendStats {
        SendStats {
            zerocopy: self.handover.stats(),
            icmp: self.errors.icmp,
            ..self.stats
        }
    }
}
