//! The I/O interface of a thread that serves associations.
//!
//! A pass of the loop is one [`Backend::wait`], and for each batch a [`Backend::receive`], a [`Backend::send`] and a
//! [`Backend::release`]. A batch has messages of any sockets, in order for each of them, and stays in its slots until it is
//! released. `epoll` attempts receives when sockets are ready. `uring` has a receive in flight on each socket, into the buffers
//! that forwarding uses too ([`super::super::datagrams::backend`]), and sends all runs of a batch by one call.
//!
//! CPU time of a datagram of 1,000 B from a client in us: medians of 6 interleaved rounds of 1 s, one thread, loopback, 2 cores that
//! other programs kept busy, Linux 6.18, release build without LTO. Figures of another series differed by up to two thirds.
//!
//! | | `epoll` | `uring` |
//! |---|---|---|
//! | 400,000/s in runs of 60 | 0.81 | 0.84 |
//! | 800,000/s in runs of 60 | 0.40 | 0.47 |
//! | 60,000/s | 6.6 | 6.2 |
//! | 120,000/s | 3.1 | 2.4 |

mod epoll;
mod uring;

pub(super) use epoll::Epoll;
pub(super) use uring::Uring;

use std::io;
use std::net::UdpSocket;

use super::association::{Association, End};
use super::forward::{Source, Target};
use crate::proxy::datagrams::backend::{Sends, Slots};
use crate::proxy::datagrams::record::DropCause;
use crate::proxy::datagrams::transmit::Transmitter;
use crate::proxy::slab::{Key, Slab};
use crate::sys::eventfd::EventFd;

/// A part of a received batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Received {
    /// The association.
    pub(super) key: Key,
    /// Its socket.
    pub(super) end: End,
    /// The slot of a message, or why receiving failed, in most cases by an ICMP error of an earlier datagram.
    pub(super) message: Result<usize, DropCause>,
}

/// Where the runs of a batch are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paths<'a> {
    /// By the key of a run to a destination.
    pub(super) targets: &'a [Target],
    /// By the key of a run to a client.
    pub(super) sources: &'a [Source],
}

impl<'a> Paths<'a> {
    pub(super) fn target(&self, key: Key) -> Option<&'a Target> {
        self.targets.get(key.number())
    }

    pub(super) fn source(&self, key: Key) -> Option<&'a Source> {
        self.sources.get(key.number())
    }

    /// The header in front of a datagram to a client.
    pub(super) fn header(&self, key: Key) -> &'a [u8] {
        self.source(key).map_or(&[], |source| source.header.bytes())
    }
}

/// The I/O of one thread.
pub(super) trait Backend: Sized {
    /// The messages of a batch.
    type Slots: Slots;

    /// The backend of a thread that `wake` wakes.
    ///
    /// # Errors
    /// As epoll_create1(2) and epoll_ctl(2), or io_uring_setup(2).
    fn new(wake: &EventFd) -> io::Result<Self>;

    /// Called once, by the thread that uses the backend from then on.
    ///
    /// # Errors
    /// As io_uring_register(2).
    fn start(&mut self) -> io::Result<()>;

    /// Starts to receive from a socket of an association.
    ///
    /// # Errors
    /// As epoll_ctl(2), or io_uring_enter(2).
    fn open(&mut self, end: End, key: Key, socket: &UdpSocket) -> io::Result<()>;

    /// Closes a socket of an association that was removed, after the operations on it have ended.
    fn close(&mut self, end: End, key: Key, socket: UdpSocket);

    /// The next pass also receives what the client's socket of an association has, without an event.
    fn receive_again(&mut self, key: Key, associations: &mut Slab<Association>);

    /// Whether messages of the client's socket have left the kernel, and are in no batch yet.
    fn has_arrived(&self, key: Key) -> bool;

    /// Waits for datagrams, at most until `deadline` in ns. Whether another thread woke this one.
    ///
    /// # Errors
    /// As epoll_wait(2), or io_uring_enter(2).
    fn wait(&mut self, deadline: u64, associations: &mut Slab<Association>) -> io::Result<bool>;

    /// Receives the next batch of the pass. `false` if the pass is over.
    fn receive(&mut self, associations: &mut Slab<Association>, batch: &mut Vec<Received>) -> bool;

    /// The messages of the batch, and the sender of single runs.
    fn slots(&mut self) -> (&Self::Slots, &mut Transmitter);

    /// Sends runs to destinations and to clients, and sets their outcomes.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn send(
        &mut self,
        associations: &Slab<Association>,
        paths: Paths<'_>,
        to_servers: &mut Sends,
        to_clients: &mut Sends,
    ) -> io::Result<()>;

    /// The batch is sent: its slots are free.
    fn release(&mut self);
}
