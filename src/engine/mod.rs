//! Datagram engines: how datagrams get into the kernel and out of it.
//!
//! The seam is completion-shaped, so that an engine may be one of readiness ([`mio`]) or of completions ([`uring`]).
//! A sender fills a vacant slot, queues it, submits what is queued, and learns later what
//! the kernel refused; a slot in flight is not touched. With GSO a slot holds several datagrams end to end,
//! nothing else changes. Engines count ([`stats`]) and decide nothing. What they can use here is found out by [`probe`].

pub mod choice;
mod errors;
pub mod mio;
pub mod offload;
pub mod probe;
pub mod stats;
pub mod uring;

use std::io;
use std::net::{SocketAddr, UdpSocket};

use crate::sys::message::Message;
use crate::sys::socket;
use stats::{ReceiveStats, SendStats};

/// How one stream's messages are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Messages a system call.
    pub messages: usize,
    /// Bytes a message at most.
    pub bytes: usize,
    /// Bytes of a full datagram, of which a message may hold several.
    pub datagram: usize,
    /// Whether a sender may fragment datagrams that do not fit the path, once segmented sends are refused.
    pub fragments: bool,
}

impl Layout {
    /// Datagrams a message at most.
    fn segments(self) -> usize {
        (self.bytes / self.datagram.max(1)).max(1)
    }
}

/// What is known of the path at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Path MTU in bytes of IP packet, as far as the kernel knows it.
    pub mtu: Option<usize>,
    /// Bytes of the IP and UDP headers.
    pub headers: usize,
}

impl Path {
    /// Of a connected socket. Makes a system call.
    pub fn of(socket: &UdpSocket) -> Self {
        Self {
            mtu: socket::path_mtu(socket).ok(),
            headers: socket::headers(socket),
        }
    }
}

/// Whether more can be submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// All that was queued is with the kernel.
    Open,
    /// The send buffer is full: wait until it is writable.
    Full,
    /// All slots are with the kernel or the receiver still: wait for an answer or for word that one is free.
    Held,
    /// The kernel or the device is short of memory, and will not say when it is over: wait a little.
    Short,
}

/// What ends a sender's sleep besides a datagram for it or being woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// About this time, in ns; some ms late is fine.
    About(u64),
    /// This time, in ns, as exactly as the kernel can.
    Exactly(u64),
    /// Room in the send buffer, or about this time.
    WritableOr(u64),
}

/// The sending end of a stream: a connected UDP socket.
pub trait Tx {
    /// The next free slot, to be filled with datagrams end to end; `None` when all are in use.
    /// What is not overwritten in it is what was there before.
    fn vacant(&mut self) -> Option<&mut [u8]>;

    /// Queues the slot that [`Self::vacant`] gave: its first `length` bytes, which are `datagrams` datagrams.
    fn queue(&mut self, length: usize, datagrams: u64);

    /// Hands what is queued to the kernel. `refused` is told of each slot that it will never send.
    ///
    /// # Errors
    /// Only what makes the socket useless.
    fn submit(&mut self, refused: impl FnMut(u64, &io::Error)) -> io::Result<Flow>;

    /// The receiver is done with the first `seen` datagrams queued: the memory they were lent from is free again.
    fn acknowledge(&mut self, _seen: u64) {}

    /// Sends a short datagram at once, past all slots; when there is no room it is lost, as it may be on the way.
    fn say(&mut self, datagram: &[u8]);

    /// Takes back what is in flight and not sent, so that [`Self::unresolved`] is what never will be.
    ///
    /// # Errors
    /// Only what makes the socket useless.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Datagrams a message at most. Segmented sends that are refused with `EMSGSIZE`, `EINVAL` or `EIO` are sent again as
    /// single datagrams, in order, and so is all that follows: from then on this is 1.
    fn segments(&self) -> usize;

    /// What the kernel knows of the path now. Makes a system call.
    fn path(&self) -> Path;

    /// Datagrams queued or in flight, of which nothing is known yet.
    fn unresolved(&self) -> u64;

    /// Hands over what the receiver has answered, without waiting.
    ///
    /// # Errors
    /// Only what makes the socket useless.
    fn answers(&mut self, each: impl FnMut(&[u8])) -> io::Result<()>;

    /// Sleeps until there is an answer, or what `until` says, or the sender is woken.
    ///
    /// # Errors
    /// As epoll_wait(2) or its like.
    fn wait(&mut self, until: Until) -> io::Result<()>;

    /// What it has cost so far.
    fn stats(&self) -> SendStats;
}

/// The receiving end of a stream: a bound UDP socket.
pub trait Rx {
    /// Hands over what has arrived, at most one batch, without waiting, and says how many messages that was.
    ///
    /// # Errors
    /// Only what makes the socket useless.
    fn receive(&mut self, each: impl FnMut(Message<'_>)) -> io::Result<usize>;

    /// Sends one datagram back; when there is no room it is lost, as it may be on the way.
    fn answer(&mut self, datagram: &[u8], to: SocketAddr);

    /// Sleeps until something arrives, or about `deadline` in ns, or the receiver is woken.
    ///
    /// # Errors
    /// As epoll_wait(2) or its like.
    fn wait(&mut self, deadline: u64) -> io::Result<()>;

    /// Datagrams dropped at the socket so far, as the kernel counts them.
    fn drops(&self) -> u64;

    /// What it has cost so far.
    fn stats(&self) -> ReceiveStats;
}
