//! The I/O interface of a thread that forwards datagrams or serves associations.
//!
//! A pass of the loop is one [`Backend::wait`], at a high rate a [`Backend::collect`], and for each batch a [`Backend::receive`],
//! a [`Backend::send`] and a [`Backend::release`]. The batch stays in the slots in which it was received until it is released.
//! `epoll` attempts receives when sockets are ready. `uring` has a receive in flight on each socket, and sends all runs by one
//! call. The worker has the [sockets](Sockets), and decides on messages and on where runs are sent ([`Path::socket`]).
//!
//! The CPU times below were measured before forwarding and associations shared these backends. Since then, by callgrind over `epoll`,
//! a single datagram takes 4 to 6 % fewer instructions in user space, and one in a burst of 32 takes 6 to 10 % more.
//!
//! CPU time of a forwarded datagram of 1,000 B in us (one thread, loopback, Linux 6.18, release build without LTO, medians of 2 interleaved
//! rounds of 1 s; all programs in real time, the sender on one core, the proxy and the receiver on the other). About 5 % of the
//! time is this program's own. The rest is the kernel's: below 100,000/s mostly to wake up and to sleep, from there on datagrams are
//! [collected](super::pace). With 10,000 flows the kernel finds less of its sockets in the cache.
//!
//! | | `epoll` | `uring` |
//! |---|---|---|
//! | 800,000/s in runs of 60, 1 client | 0.42 | 0.42 |
//! | 60,000/s, 1 client | 12.0 | 12.4 |
//! | 60,000/s, 10,000 clients in turn | 14.0 | 13.8 |
//! | 150,000/s in groups of 32, 1,000 clients | 2.4 | 2.5 |
//! | 150,000/s, 1 client | 3.5 | 3.6 |
//! | 200,000/s, 1 client | 2.6 | 2.7 |
//! | 300,000/s, 1 client | 2.0 | 2.0 |
//!
//! io_uring takes up to 4 % more for single datagrams of one client: its receive selects a buffer and posts a completion for each
//! datagram, about 3 % of the time, which recvmmsg(2) does not.
//!
//! CPU time of a datagram of 1,000 B from the client of an association in us: medians of 6 interleaved rounds of 1 s, one thread, loopback, 2 cores that
//! other programs kept busy, Linux 6.18, release build without LTO. Figures of another series differed by up to two thirds.
//!
//! | | `epoll` | `uring` |
//! |---|---|---|
//! | 400,000/s in runs of 60 | 0.81 | 0.84 |
//! | 800,000/s in runs of 60 | 0.40 | 0.47 |
//! | 60,000/s | 6.6 | 6.2 |
//! | 120,000/s | 3.1 | 2.4 |
//!
//! [`Path::socket`]: super::runs::Path::socket

mod epoll;
mod uring;

pub(in crate::proxy) use epoll::Epoll;
pub(in crate::proxy) use uring::Uring;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::record::{DropCause, Drops};
use super::sends::{Payloads, Sends};
use super::sockets::{End, Socket, SocketId, Sockets};
use super::transmit::Transmitter;
use crate::sys::datagrams::{Arrival, Arrivals};
use crate::sys::eventfd::EventFd;
use crate::sys::socket;

/// Messages of a batch while they are long runs: they stay in the cache between receiving and sending.
const LONG_SLOTS: usize = 8;

/// Mean bytes of the messages of a batch from which the next one has [`LONG_SLOTS`].
const LONG: usize = 8_192;

/// Most batches of one pass of the loop: with io_uring in all, as each send may receive the next one, and with epoll of each
/// [`Group`].
const BATCHES: usize = 8;

/// Most messages of a closed socket that are received, to be counted: more than its receive buffer of 8 MiB has, as each takes 768 B.
const MOST_LEFT: usize = 16_384;

/// The sender of a message. Each group has its own buffers or batches, so that clients that send much do not delay servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Clients,
    Servers,
}

impl Group {
    fn of(socket: SocketId) -> Self {
        match socket.end {
            End::Client => Self::Clients,
            End::Server | End::ServerV6 => Self::Servers,
        }
    }
}

/// A part of a received batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Received {
    pub(in crate::proxy) socket: SocketId,
    /// The slot of a message, or the errno of a receive that failed, in most cases by an ICMP error of an earlier datagram.
    pub(in crate::proxy) message: Result<usize, i32>,
}

/// Datagrams of a closed socket that were not received before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) struct Left {
    /// In its receive buffer, or in no batch yet.
    pub(in crate::proxy) datagrams: u64,
    /// Dropped by the kernel since the socket was opened, as its receive buffer was full.
    pub(in crate::proxy) queue_drops: Option<u32>,
}

impl Left {
    /// The drops by cause, of which `counted` drops of the kernel are counted already.
    pub(in crate::proxy) fn drops(self, counted: u32) -> Drops {
        let mut drops = Drops::default();
        drops.add(DropCause::Closed, self.datagrams);
        if let Some(all) = self.queue_drops {
            drops.add(DropCause::QueueFull, all.wrapping_sub(counted).into());
        }
        drops
    }
}

/// The messages of a batch.
pub(in crate::proxy) trait Slots: Payloads {
    /// The message in a slot; `None` if it is malformed.
    fn arrival(&self, slot: usize) -> Option<Arrival<'_>>;
}

/// The I/O of one thread.
pub(in crate::proxy) trait Backend: Sized {
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

    /// Starts to receive from a socket, which may have datagrams already.
    ///
    /// # Errors
    /// As epoll_ctl(2), or io_uring_enter(2).
    fn open(&mut self, id: SocketId, socket: &Socket) -> io::Result<()>;

    /// Closes a socket that is no longer one of the [`Sockets`]. Not called between [`Self::receive`] and [`Self::release`].
    fn close(&mut self, id: SocketId, socket: Socket) -> Left;

    /// The next pass receives what a socket has, without an event.
    fn receive_again(&mut self, id: SocketId, sockets: &mut impl Sockets);

    /// Whether messages of a socket have left the kernel, and are in no batch yet.
    fn has_arrived(&self, id: SocketId) -> bool;

    /// Waits for datagrams, at most until `deadline` in ns. Whether another thread woke this one.
    ///
    /// # Errors
    /// As epoll_wait(2), or io_uring_enter(2).
    fn wait(&mut self, deadline: u64, sockets: &mut impl Sockets) -> io::Result<bool>;

    /// Called after [`Self::wait`]: waits this long for more datagrams, unless many have arrived.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn collect(&mut self, pause: Duration) -> io::Result<()>;

    /// Receives the next batch of the pass. `false` if the pass is over.
    fn receive(&mut self, sockets: &mut impl Sockets, batch: &mut Vec<Received>) -> bool;

    /// The messages of the batch, and the sender of single runs.
    fn slots(&mut self) -> (&Self::Slots, &mut Transmitter);

    /// Sends the runs of both directions, and sets their outcomes.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn send(&mut self, sockets: &impl Sockets, batch: &mut [Sends; 2]) -> io::Result<()>;

    /// The batch is sent: its slots are free.
    fn release(&mut self);
}

/// Receives what is in the receive buffer of a socket into free slots, closes it, and counts.
fn discard(socket: Socket, arrivals: &mut Arrivals) -> Left {
    let (mut left, mut messages) = (Left::default(), 0);
    let slots = arrivals.slots();
    // An error of an earlier datagram is reported once, and datagrams may follow it.
    let mut errors = 0;
    while messages < MOST_LEFT && errors < 2 {
        match arrivals.receive(socket.as_fd(), 0, slots) {
            Ok(count) => {
                let each = (0..count).filter_map(|slot| arrivals.get(slot));
                left.datagrams += each.map(|arrival| arrival.datagrams() as u64).sum::<u64>();
                messages += count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(_) => errors += 1,
        }
    }
    left.queue_drops = socket::drops(socket.as_fd()).ok();
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::UringSettings;
    use crate::sys::clock::monotonic_ns;
    use crate::sys::datagrams::{Departure, Departures, connect, listen};
    use crate::uring::available;
    use std::net::UdpSocket;

    const LISTENER: SocketId = SocketId::LISTENER;

    /// A worker that has a listener only.
    pub(super) struct Listener(pub(super) Socket);

    impl Sockets for Listener {
        fn get(&self, _: SocketId) -> Option<&Socket> {
            Some(&self.0)
        }

        fn get_mut(&mut self, _: SocketId) -> Option<&mut Socket> {
            Some(&mut self.0)
        }
    }

    fn opened<B: Backend>(wake: &EventFd) -> (B, Listener, UdpSocket) {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, false).unwrap();
        let sender = connect(listener.local_addr().unwrap()).unwrap();
        let mut backend = B::new(wake).unwrap();
        backend.start().unwrap();
        let listener = Listener(listener.into());
        backend.open(LISTENER, &listener.0).unwrap();
        (backend, listener, sender)
    }

    fn datagrams_that_arrive_meanwhile_are_in_the_batch<B: Backend>() {
        let (mut backend, mut sockets, sender) = opened::<B>(&EventFd::new().unwrap());
        for _ in 0..3 {
            sender.send(b"first").unwrap();
            let deadline = monotonic_ns() + 10_000_000_000;
            backend.wait(deadline, &mut sockets).unwrap();
            sender.send(b"second").unwrap();
            backend.collect(Duration::from_millis(1)).unwrap();
            let mut batch = Vec::new();
            assert!(backend.receive(&mut sockets, &mut batch));
            let messages: Vec<_> = batch.iter().map(|part| part.message).collect();
            assert_eq!(messages, [Ok(0), Ok(1)]);
            assert_eq!(backend.slots().0.bytes(1), b"second");
            backend.release();
        }
    }

    fn wake_up_during_a_pass_ends_the_next_wait<B: Backend>() {
        let wake = EventFd::new().unwrap();
        let (mut backend, mut sockets, sender) = opened::<B>(&wake);
        for _ in 0..3 {
            let deadline = monotonic_ns() + 10_000_000_000;
            sender.send(b"first").unwrap();
            backend.wait(deadline, &mut sockets).unwrap();
            wake.wake();
            backend.collect(Duration::from_millis(1)).unwrap();
            assert!(backend.receive(&mut sockets, &mut Vec::new()));
            backend.release();
            assert!(backend.wait(deadline, &mut sockets).unwrap());
            assert!(monotonic_ns() < deadline);
        }
    }

    fn datagrams_of_a_closed_socket_are_counted<B: Backend>() {
        for waits in [false, true] {
            let (mut backend, mut sockets, sender) = opened::<B>(&EventFd::new().unwrap());
            for _ in 0..200 {
                sender.send(b"one").unwrap();
            }
            let run = Departure {
                parts: [&[0; 1_050][..]].into_iter(),
                segment: 100,
                to: None,
                from: None,
                tos: 0,
            };
            let sent = Departures::new(1).send(sender.as_fd(), false, [run].into_iter());
            assert_eq!(sent.unwrap(), 1);
            if waits {
                backend.wait(u64::MAX, &mut sockets).unwrap();
            }
            let left = backend.close(LISTENER, sockets.0);
            assert_eq!((left.datagrams, left.queue_drops), (211, Some(0)));
            assert!(!backend.has_arrived(LISTENER));
            assert!(sender.send(b"late").and(sender.send(b"refused")).is_err());
        }
    }

    fn all<B: Backend>() {
        datagrams_that_arrive_meanwhile_are_in_the_batch::<B>();
        wake_up_during_a_pass_ends_the_next_wait::<B>();
        datagrams_of_a_closed_socket_are_counted::<B>();
    }

    #[test]
    fn epoll_collects_wakes_and_closes() {
        all::<Epoll>();
    }

    #[test]
    fn uring_collects_wakes_and_closes() {
        match available(&UringSettings::default()) {
            Ok(()) => all::<Uring>(),
            Err(reason) => println!("skipped: {reason}"),
        }
    }
}
