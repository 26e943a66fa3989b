//! The readiness engine: sendmmsg(2) and recvmmsg(2) on a mio event loop.
//!
//! mio is edge-triggered: a socket is read until it is empty before the next sleep. It also rounds
//! timeouts up to whole ms, so exact deadlines go through a timerfd. Writability is asked for only
//! while the send buffer is full; a standing interest would cost a wake-up for every datagram sent.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::stats::{ReceiveStats, SendStats};
use super::{Flow, Layout, Rx, Tx, Until};
use crate::sys::clock::monotonic_ns;
use crate::sys::message::Message;
use crate::sys::mmsg::{ReceiveBatch, SendBatch};
use crate::sys::socket;
use crate::sys::timer::Timer;
use crate::sys::wake::Wake;

const SOCKET: Token = Token(0);
const TIMER: Token = Token(1);
const WAKE: Token = Token(2);

/// Answers are 32 bytes; anything longer is not one, and being cut off shows it.
const ANSWER_BYTES: usize = 64;

/// Answers taken a call: a sender that asks is rarely more than a few behind.
const ANSWERS: usize = 16;

/// A sender on a connected socket.
pub struct MioTx {
    socket: UdpSocket,
    poll: Poll,
    events: Events,
    timer: Timer,
    batch: SendBatch,
    /// The slots' memory, end to end.
    memory: Box<[u8]>,
    slot_bytes: usize,
    /// Length and datagrams of each queued slot, in the order of the slots.
    queued: Vec<(usize, u64)>,
    /// How many of them the kernel has taken or refused already.
    resolved: usize,
    answers: ReceiveBatch,
    stats: SendStats,
}

impl MioTx {
    /// `fill` is repeated through the slots once, as the message that is sent.
    ///
    /// # Errors
    /// Out of file descriptors or memory.
    pub fn new(socket: UdpSocket, layout: Layout, fill: &[u8], wake: &Wake) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new()?;
        let register = |fd, token| {
            poll.registry()
                .register(&mut SourceFd(&fd), token, Interest::READABLE)
        };
        register(socket.as_raw_fd(), SOCKET)?;
        register(timer.as_fd().as_raw_fd(), TIMER)?;
        register(wake.as_fd().as_raw_fd(), WAKE)?;
        let total = layout.messages * layout.bytes;
        let memory: Vec<u8> = fill.iter().copied().cycle().take(total).collect();
        Ok(Self {
            socket,
            poll,
            events: Events::with_capacity(4),
            timer,
            batch: SendBatch::new(layout.messages),
            memory: memory.into_boxed_slice(),
            slot_bytes: layout.bytes,
            queued: Vec::with_capacity(layout.messages),
            resolved: 0,
            answers: ReceiveBatch::new(ANSWERS, ANSWER_BYTES),
            stats: SendStats::default(),
        })
    }

    /// Takes note that the kernel will not send the slot at the head of the queue.
    fn refuse(&mut self, error: &io::Error, refused: &mut impl FnMut(u64, &io::Error)) {
        self.stats.errors += 1;
        self.stats.last_error = error.raw_os_error();
        if let Some(&(_, datagrams)) = self.queued.get(self.resolved) {
            refused(datagrams, error);
        }
        self.resolved += 1;
    }
}

impl Tx for MioTx {
    fn vacant(&mut self) -> Option<&mut [u8]> {
        if self.resolved == self.queued.len() {
            self.queued.clear();
            self.resolved = 0;
        }
        self.memory
            .chunks_exact_mut(self.slot_bytes)
            .nth(self.queued.len())
    }

    fn queue(&mut self, length: usize, datagrams: u64) {
        self.queued.push((length.min(self.slot_bytes), datagrams));
    }

    fn submit(&mut self, mut refused: impl FnMut(u64, &io::Error)) -> io::Result<Flow> {
        // A pending error of the socket (an ICMP message came back) is reported once instead of
        // sending: then the send is simply tried again.
        let mut forgiven = false;
        while self.resolved < self.queued.len() {
            let waiting = self
                .queued
                .iter()
                .zip(self.memory.chunks_exact(self.slot_bytes));
            let messages = waiting
                .skip(self.resolved)
                .map(|(&(length, _), slot)| &slot[..length]);
            self.stats.syscalls += 1;
            match self.batch.send(self.socket.as_fd(), messages) {
                Ok(taken) => {
                    self.resolved += taken;
                    self.stats.messages += taken as u64;
                    self.stats.partial += u64::from(self.resolved < self.queued.len());
                    forgiven = false;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => {
                        self.stats.eagain += 1;
                        return Ok(Flow::Full);
                    }
                    Some(libc::ENOBUFS | libc::ENOMEM) => {
                        self.stats.enobufs += 1;
                        return Ok(Flow::Short);
                    }
                    Some(libc::EINTR) => {}
                    Some(libc::ECONNREFUSED) if !forgiven => forgiven = true,
                    Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT) => return Err(error),
                    _ => self.refuse(&error, &mut refused),
                },
            }
        }
        Ok(Flow::Open)
    }

    fn unresolved(&self) -> u64 {
        self.queued
            .iter()
            .skip(self.resolved)
            .map(|&(_, datagrams)| datagrams)
            .sum()
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
        self.stats
    }
}

/// A receiver on a bound socket.
pub struct MioRx {
    socket: UdpSocket,
    poll: Poll,
    events: Events,
    batch: ReceiveBatch,
    stats: ReceiveStats,
}

impl MioRx {
    /// Whatever `layout` does not hold of a message is cut off, and the message counted as truncated.
    ///
    /// # Errors
    /// Out of file descriptors or memory.
    pub fn new(socket: UdpSocket, layout: Layout, wake: &Wake) -> io::Result<Self> {
        let poll = Poll::new()?;
        let register = |fd, token| {
            poll.registry()
                .register(&mut SourceFd(&fd), token, Interest::READABLE)
        };
        register(socket.as_raw_fd(), SOCKET)?;
        register(wake.as_fd().as_raw_fd(), WAKE)?;
        Ok(Self {
            socket,
            poll,
            events: Events::with_capacity(4),
            batch: ReceiveBatch::new(layout.messages, layout.bytes),
            stats: ReceiveStats::default(),
        })
    }
}

impl Rx for MioRx {
    fn receive(&mut self, mut each: impl FnMut(Message<'_>)) -> io::Result<usize> {
        self.stats.syscalls += 1;
        let Some(count) = receive_batch(&mut self.batch, &self.socket)? else {
            self.stats.eagain += 1;
            return Ok(0);
        };
        self.stats.messages += count as u64;
        for message in self.batch.messages(count) {
            self.stats.truncated += u64::from(message.truncated);
            each(message);
        }
        Ok(count)
    }

    fn answer(&mut self, datagram: &[u8], to: SocketAddr) {
        self.stats.answers += 1;
        let _ = self.socket.send_to(datagram, to);
    }

    fn wait(&mut self, deadline: u64) -> io::Result<()> {
        self.stats.waits += 1;
        poll(&mut self.poll, &mut self.events, Some(deadline))
    }

    fn drops(&self) -> u64 {
        socket::drops(self.socket.as_fd()).map_or(0, u64::from)
    }

    fn stats(&self) -> ReceiveStats {
        self.stats
    }
}

/// One batch, or `None` when there is nothing. Errors that only report what became of an earlier
/// send (ICMP) are passed over.
fn receive_batch(batch: &mut ReceiveBatch, socket: &UdpSocket) -> io::Result<Option<usize>> {
    loop {
        match batch.receive(socket.as_fd()) {
            Ok(count) => return Ok(Some(count)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => return Ok(None),
                Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::ENOMEM) => {
                    return Err(error);
                }
                _ => {}
            },
        }
    }
}

/// Sleeps until any event or about `deadline` in ns. A signal ends the sleep early, which is fine:
/// every caller looks again.
fn poll(poll: &mut Poll, events: &mut Events, deadline: Option<u64>) -> io::Result<()> {
    let timeout = deadline.map(|at| Duration::from_nanos(at.saturating_sub(monotonic_ns())));
    match poll.poll(events, timeout) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}
