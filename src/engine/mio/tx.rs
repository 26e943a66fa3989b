//! A sender: slots in a ring, each filled, handed over, and free again in the order of the ring.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::{SOCKET, TIMER, WAKE, poll, receive_batch};
use crate::engine::stats::{SendStats, ZeroCopyStats};
use crate::engine::{Flow, Layout, Tx, Until};
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::region::{PAGE, Region};
use crate::sys::timer::Timer;
use crate::sys::wake::Wake;

/// Answers are 32 bytes; anything longer is not one, and being cut off shows it.
const ANSWER_BYTES: usize = 64;

/// Answers taken a call: a sender that asks is rarely more than a few behind.
const ANSWERS: usize = 16;

/// A slot as it is handed over.
#[derive(Debug, Clone, Copy)]
pub struct Filled<'a> {
    /// Which it is, counted over the whole run.
    pub number: u64,
    /// How many datagrams had been queued with it.
    pub end: u64,
    /// Datagrams, end to end.
    pub bytes: &'a [u8],
}

/// How slots get to the socket, and when their memory may be written to again.
pub trait Handover {
    /// Whether the pages themselves are handed over, so that slots should begin with one.
    const BY_PAGE: bool = false;

    /// Hands slots to the kernel, in order, and says how many it took.
    ///
    /// # Errors
    /// As sendmsg(2), and only when not even the first was taken.
    fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: impl Iterator<Item = Filled<'a>>,
    ) -> io::Result<usize>;

    /// All slots below this number are free again, when those below `resolved` were taken or refused.
    ///
    /// # Errors
    /// Only what makes the socket useless.
    fn free(&mut self, socket: BorrowedFd<'_>, resolved: u64) -> io::Result<u64>;

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
    /// Slots free again, taken or refused, and queued, each since the start.
    free: u64,
    resolved: u64,
    queued: u64,
    /// Datagrams queued, and of those the ones in resolved slots.
    datagrams: u64,
    datagrams_resolved: u64,
    answers: ReceiveBatch,
    stats: SendStats,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    length: usize,
    datagrams: u64,
    end: u64,
}

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
            free: 0,
            resolved: 0,
            queued: 0,
            datagrams: 0,
            datagrams_resolved: 0,
            answers: ReceiveBatch::new(ANSWERS, ANSWER_BYTES),
            stats: SendStats::default(),
        })
    }

    fn place(&self, number: u64) -> usize {
        (number % self.slots.len() as u64) as usize
    }

    fn is_full(&self) -> bool {
        self.queued - self.free == self.slots.len() as u64
    }

    /// Takes note that the kernel has taken the next `count` slots, or will not.
    fn resolve(&mut self, count: usize) {
        for _ in 0..count {
            let Slot { datagrams, .. } = self.slots[self.place(self.resolved)];
            self.datagrams_resolved += datagrams;
            self.resolved += 1;
        }
    }

    /// Takes note that the kernel will not send the next slot.
    fn refuse(&mut self, error: &io::Error, refused: &mut impl FnMut(u64, &io::Error)) {
        self.stats.errors += 1;
        self.stats.last_error = error.raw_os_error();
        let Slot { datagrams, .. } = self.slots[self.place(self.resolved)];
        refused(datagrams, error);
        self.resolve(1);
    }

    fn release(&mut self) -> io::Result<()> {
        self.free = self.handover.free(self.socket.as_fd(), self.resolved)?;
        Ok(())
    }

    fn flow(&mut self) -> io::Result<Flow> {
        self.release()?;
        Ok(if self.is_full() {
            Flow::Held
        } else {
            Flow::Open
        })
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
        // A pending error of the socket (an ICMP message came back) is reported once instead of
        // sending: then the send is simply tried again.
        let mut forgiven = false;
        while self.resolved < self.queued {
            let slots = (self.resolved..self.queued).filter_map(|number| {
                let place = (number % self.slots.len() as u64) as usize;
                let Slot { length, end, .. } = self.slots[place];
                let bytes = self.memory.part(place * self.stride, length)?;
                Some(Filled { number, end, bytes })
            });
            self.stats.syscalls += 1;
            match self.handover.send(self.socket.as_fd(), slots) {
                Ok(taken) => {
                    self.resolve(taken);
                    self.stats.messages += taken as u64;
                    self.stats.partial += u64::from(self.resolved < self.queued);
                    forgiven = false;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        self.stats.eagain += 1;
                        return Ok(Flow::Full);
                    }
                    Some(libc::ENOBUFS | libc::ENOMEM) => {
                        self.stats.enobufs += 1;
                        self.release()?;
                        return Ok(Flow::Short);
                    }
                    Some(libc::EINTR) => {}
                    Some(libc::ECONNREFUSED) if !forgiven => forgiven = true,
                    Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT) => return Err(error),
                    _ => self.refuse(&error, &mut refused),
                },
            }
        }
        self.flow()
    }

    fn unresolved(&self) -> u64 {
        self.datagrams - self.datagrams_resolved
    }

    fn acknowledge(&mut self, seen: u64) {
        self.handover.acknowledge(seen);
    }

    fn say(&mut self, datagram: &[u8]) {
        let _ = self.socket.send(datagram);
    }

    fn answers(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            match receive_batch(&mut self.answers, &self.socket)? {
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
            ..self.stats
        }
    }
}
