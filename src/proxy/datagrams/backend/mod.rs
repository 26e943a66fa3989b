//! The I/O interface of a thread that forwards datagrams.
//!
//! A pass of the loop is one [`Backend::wait`], at a high rate a [`Backend::collect`], and for each batch a [`Backend::receive`],
//! a [`Backend::send`] and a [`Backend::release`]. The batch stays in the slots in which it was received until it is released.
//! `epoll` attempts receives when sockets are ready. `uring` has a receive in flight on each socket, and sends all runs by one
//! call.
//!
//! CPU time of a datagram of 1,000 B in us (one thread, loopback, Linux 6.18, release build without LTO, medians of 2 interleaved
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

mod epoll;
pub(in crate::proxy) mod uring;

pub(in crate::proxy) use epoll::Epoll;
pub(in crate::proxy) use uring::Uring;

use std::io;
use std::net::UdpSocket;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::record::DropCause;
use super::runs::{Piece, Run};
use super::table::FlowTable;
use super::transmit::{Outcome, Payloads, Transmitter};
use crate::proxy::slab::Key;
use crate::sys::datagrams::Arrival;
use crate::sys::eventfd::EventFd;

/// The direction of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Way {
    ToServer,
    ToClient,
}

/// A part of a received batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Received {
    /// A message of a client, in this slot.
    OfClient(usize),
    /// A message of a flow's server, in this slot.
    OfServer(Key, usize),
    /// Receiving from a flow's server failed, in most cases by an ICMP error of an earlier datagram.
    Failed(Key, DropCause),
}

/// The runs of a batch in one direction, in which those of a flow follow each other, and what became of them.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Sends {
    pub(in crate::proxy) pieces: Vec<Piece>,
    pub(in crate::proxy) runs: Vec<Run>,
    /// Of each run, once it is sent.
    pub(in crate::proxy) outcomes: Vec<Outcome>,
}

impl Sends {
    pub(in crate::proxy) fn clear(&mut self) {
        self.pieces.clear();
        self.runs.clear();
        self.outcomes.clear();
    }

    /// Pieces, runs, and what adds an outcome to that of a run. The outcomes of earlier runs are added first.
    pub(in crate::proxy) fn split(&mut self) -> (&[Piece], &[Run], impl FnMut(&Run, Outcome)) {
        let Self {
            pieces,
            runs,
            outcomes,
        } = self;
        outcomes.resize(runs.len(), Outcome::default());
        let mut rows = runs.iter().zip(outcomes).peekable();
        let add = move |run: &Run, outcome| {
            while rows
                .next_if(|(other, _)| other.pieces.start < run.pieces.start)
                .is_some()
            {}
            if let Some((_, all)) = rows.peek_mut() {
                **all = all.and(outcome);
            }
        };
        (pieces, runs, add)
    }
}

/// The messages of a batch.
pub(in crate::proxy) trait Slots: Payloads {
    /// The message in a slot; `None` if it is malformed.
    fn arrival(&self, slot: usize) -> Option<Arrival<'_>>;
}

/// The I/O of one thread.
pub(in crate::proxy) trait Backend: Sized {
    /// The socket of a flow.
    type Socket;
    /// The messages of a batch.
    type Slots: Slots;

    /// The backend of a thread that receives from `listener` and that `wake` wakes.
    ///
    /// # Errors
    /// As epoll_create1(2) and epoll_ctl(2), or io_uring_setup(2).
    fn new(listener: UdpSocket, wake: &EventFd) -> io::Result<Self>;

    /// Called once, by the thread that uses the backend from then on.
    ///
    /// # Errors
    /// As io_uring_register(2).
    fn start(&mut self) -> io::Result<()>;

    /// The socket of the listener.
    fn listener(&self) -> BorrowedFd<'_>;

    /// The descriptor of a flow's socket.
    fn descriptor(socket: &Self::Socket) -> BorrowedFd<'_>;

    /// Starts to receive from the server of a flow.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    fn open(&mut self, key: Key, socket: UdpSocket) -> io::Result<Self::Socket>;

    /// Closes the socket of a flow, after the operations on it have ended.
    fn close(&mut self, key: Key, socket: Self::Socket);

    /// Receives from clients from now on. Called again, the next pass also receives what has no event yet.
    fn receive_clients(&mut self);

    /// Waits for datagrams, at most until `deadline` in ns. Whether another thread woke this one.
    ///
    /// # Errors
    /// As epoll_wait(2), or io_uring_enter(2).
    fn wait(&mut self, deadline: u64, flows: &mut FlowTable<Self::Socket>) -> io::Result<bool>;

    /// Called after [`Self::wait`]: waits this long for more datagrams, unless many have arrived.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn collect(&mut self, pause: Duration) -> io::Result<()>;

    /// Receives the next batch of the pass. `false` if the pass is over.
    ///
    /// # Errors
    /// As recvmmsg(2) on the listener.
    fn receive(
        &mut self,
        flows: &mut FlowTable<Self::Socket>,
        batch: &mut Vec<Received>,
    ) -> io::Result<bool>;

    /// The messages of the batch, and the sender of single runs.
    fn slots(&mut self) -> (&Self::Slots, &mut Transmitter);

    /// Sends runs to servers and to clients, and sets their outcomes.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn send(
        &mut self,
        flows: &FlowTable<Self::Socket>,
        to_servers: &mut Sends,
        to_clients: &mut Sends,
    ) -> io::Result<()>;

    /// The batch is sent: its slots are free.
    fn release(&mut self);
}

#[cfg(test)]
mod tests {
    use super::super::runs::{Path, join};
    use super::*;
    use crate::engine::UringSettings;
    use crate::sys::clock::monotonic_ns;
    use crate::sys::datagrams::{connect, listen};
    use crate::uring::available;
    use proptest::prelude::*;

    fn datagrams_that_arrive_meanwhile_are_in_the_batch<B: Backend>() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, false).unwrap();
        let sender = connect(listener.local_addr().unwrap()).unwrap();
        let mut backend = B::new(listener, &EventFd::new().unwrap()).unwrap();
        backend.start().unwrap();
        backend.receive_clients();
        let mut flows = FlowTable::new(1);
        for _ in 0..3 {
            sender.send(b"first").unwrap();
            let deadline = monotonic_ns() + 10_000_000_000;
            backend.wait(deadline, &mut flows).unwrap();
            sender.send(b"second").unwrap();
            backend.collect(Duration::from_millis(1)).unwrap();
            let mut batch = Vec::new();
            assert!(backend.receive(&mut flows, &mut batch).unwrap());
            assert_eq!(batch, [0, 1].map(Received::OfClient));
            assert_eq!(backend.slots().0.bytes(1), b"second");
            backend.release();
        }
    }

    fn wake_up_during_a_pass_ends_the_next_wait<B: Backend>() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false, false).unwrap();
        let sender = connect(listener.local_addr().unwrap()).unwrap();
        let wake = EventFd::new().unwrap();
        let mut backend = B::new(listener, &wake).unwrap();
        backend.start().unwrap();
        backend.receive_clients();
        let mut flows = FlowTable::new(1);
        for _ in 0..3 {
            let deadline = monotonic_ns() + 10_000_000_000;
            sender.send(b"first").unwrap();
            backend.wait(deadline, &mut flows).unwrap();
            wake.wake();
            backend.collect(Duration::from_millis(1)).unwrap();
            assert!(backend.receive(&mut flows, &mut Vec::new()).unwrap());
            backend.release();
            assert!(backend.wait(deadline, &mut flows).unwrap());
            assert!(monotonic_ns() < deadline);
        }
    }

    #[test]
    fn epoll_is_woken_during_a_pass() {
        wake_up_during_a_pass_ends_the_next_wait::<Epoll>();
    }

    #[test]
    fn uring_is_woken_during_a_pass() {
        match available(&UringSettings::default()) {
            Ok(()) => wake_up_during_a_pass_ends_the_next_wait::<Uring>(),
            Err(reason) => println!("skipped: {reason}"),
        }
    }

    #[test]
    fn epoll_collects_datagrams() {
        datagrams_that_arrive_meanwhile_are_in_the_batch::<Epoll>();
    }

    #[test]
    fn uring_collects_datagrams() {
        match available(&UringSettings::default()) {
            Ok(()) => datagrams_that_arrive_meanwhile_are_in_the_batch::<Uring>(),
            Err(reason) => println!("skipped: {reason}"),
        }
    }

    proptest! {
        #[test]
        fn outcomes_are_those_of_their_runs(adds in prop::collection::vec(0usize..3, 0..20)) {
            let pieces = (0..adds.len()).map(|flow| Piece {
                key: Key::from_number(flow),
                slot: 0,
                start: 0,
                end: 1,
                segment: 1,
                tos: 0,
            });
            let mut sends = Sends { pieces: pieces.collect(), ..Sends::default() };
            join(&sends.pieces, |_| Path::default(), &mut sends.runs);
            let (_, runs, mut add) = sends.split();
            for (run, &times) in runs.iter().zip(&adds) {
                for _ in 0..times {
                    add(run, Outcome::sent(1, 10));
                }
            }
            drop(add);
            let counts = sends.outcomes.iter().map(|outcome| outcome.sent.bytes as usize / 10);
            prop_assert_eq!(counts.collect::<Vec<_>>(), adds);
        }
    }
}
