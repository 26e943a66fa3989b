//! Associations over io_uring(7): a multishot receive on each socket, and all runs of a batch sent by one call.
//!
//! Buffers, headers of messages and results are those of forwarding ([`crate::proxy::datagrams`]). The runs to one destination
//! of an association in a batch are a chain (`IOSQE_IO_LINK`), and so are those to its client: if one fails, those behind it are
//! cancelled, and all are sent anew in order by sendmmsg(2), which handles the error as `epoll` does.

#![allow(
    unsafe_code,
    reason = "requests carry pointers to memory that the ring owns"
)]

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use io_uring::opcode;
use io_uring::types::Fd;

use super::{Backend, Paths, Received};
use crate::engine::UringSettings;
use crate::proxy::associations::association::{Association, End};
use crate::proxy::associations::destinations::Header;
use crate::proxy::datagrams::backend::Sends;
use crate::proxy::datagrams::backend::uring::messages::{Filled, Group, Messages};
use crate::proxy::datagrams::backend::uring::send::{Queues, Results, chains, push_chains};
use crate::proxy::datagrams::backend::uring::{COMPLETIONS, MOST_SENDS, SUBMISSIONS};
use crate::proxy::datagrams::record::DropCause;
use crate::proxy::datagrams::runs::Run;
use crate::proxy::datagrams::transmit::{Outcome, Transmitter, departure, payload};
use crate::proxy::slab::{Key, Slab};
use crate::sys::datagrams::QueuedDepartures;
use crate::sys::eventfd::EventFd;
use crate::uring::recvmsg::Shape;
use crate::uring::ring::{Completion, Leak, Ring, RingWithMemory};

/// Most batches of one pass of the loop: each send may receive the next one.
const BATCHES: usize = 8;

/// Bits of `user_data` that identify an operation; the others are the key of an association, or the place of a run.
const OPERATION_BITS: u32 = 8;

/// The operation of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Receive(End, Key),
    /// The run at this place.
    Send(usize),
}

impl Operation {
    fn user_data(self) -> u64 {
        let (number, operation) = match self {
            Self::Receive(end, key) => (key.number(), end as u64),
            Self::Send(place) => (place, End::ALL.len() as u64),
        };
        (number as u64) << OPERATION_BITS | operation
    }

    fn from_user_data(user_data: u64) -> Option<Self> {
        let number = (user_data >> OPERATION_BITS) as usize;
        let operation = (user_data & ((1 << OPERATION_BITS) - 1)) as usize;
        match End::ALL.get(operation) {
            Some(end) => Some(Self::Receive(*end, Key::from_number(number))),
            None if operation == End::ALL.len() => Some(Self::Send(number)),
            None => None,
        }
    }
}

/// The buffers for messages of a socket.
fn group(end: End) -> Group {
    match end {
        End::Client => Group::Clients,
        End::V4 | End::V6 => Group::Servers,
    }
}

/// The backend of a thread.
pub(in crate::proxy::associations) struct Uring {
    ring: RingWithMemory<Memory>,
    /// Batches that are left in this pass.
    left: usize,
    /// Received since the last batch.
    arrived: Vec<(End, Key, Result<Filled, DropCause>)>,
    /// Sockets whose receive has ended.
    ended: Vec<(End, Key)>,
    /// Likewise, without a message, as no buffer was free.
    starved: Vec<(End, Key)>,
    /// Sockets of removed associations whose receive has not ended.
    closing: BTreeMap<(Key, usize), UdpSocket>,
    results: Results,
    transmitter: Transmitter,
    /// The error of an operation that could not be submitted. It ends the loop.
    failure: Option<io::Error>,
}

/// Memory that requests point to.
struct Memory {
    messages: Messages,
    shape: Shape,
    queues: Queues,
    /// The headers of datagrams to clients.
    headers: Vec<Header>,
}

impl Uring {
    /// # Errors
    /// As io_uring_enter(2).
    fn receive_from(&mut self, end: End, key: Key, socket: RawFd) -> io::Result<()> {
        let RingWithMemory { ring, memory } = &mut self.ring;
        let group = group(end).number();
        let request = opcode::RecvMsgMulti::new(Fd(socket), memory.shape.header(), group)
            .build()
            .user_data(Operation::Receive(end, key).user_data());
        // SAFETY: the header is never written again, and the header and the buffers outlive the ring.
        unsafe { ring.push(&request) }
    }

    /// Starts the receives again that have ended, in most cases as no buffer was free, and closes sockets whose receive has
    /// ended.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn resume(&mut self, associations: &Slab<Association>) -> io::Result<()> {
        // Those that found no buffer first, and the others in order, so that clients that send much do not delay others.
        let (mut starved, mut ended) = (mem::take(&mut self.starved), mem::take(&mut self.ended));
        for (end, key) in starved.drain(..).chain(ended.drain(..)) {
            let association = associations.get(key);
            match association.and_then(|association| association.socket(end)) {
                Some(socket) => self.receive_from(end, key, socket.as_raw_fd())?,
                None => drop(self.closing.remove(&(key, end as usize))),
            }
        }
        (self.starved, self.ended) = (starved, ended);
        Ok(())
    }

    /// Takes all completions.
    fn reap(&mut self) {
        while let Some(completion) = self.ring.ring.next() {
            match Operation::from_user_data(completion.user_data) {
                Some(Operation::Receive(end, key)) => self.on_received(end, key, completion),
                Some(Operation::Send(place)) => self.results.set(place, completion.result),
                None => {}
            }
        }
    }

    fn on_received(&mut self, end: End, key: Key, completion: Completion) {
        if !completion.more() {
            let mut arrived = self.arrived.iter();
            let has_received = arrived.any(|(of, other, _)| *of == end && *other == key);
            match has_received || completion.errno() != Some(libc::ENOBUFS) {
                true => self.ended.push((end, key)),
                false => self.starved.push((end, key)),
            }
            self.ring.ring.count_rearm();
        }
        let message = match completion.errno() {
            None => {
                let Some(buffer) = completion.buffer() else {
                    return;
                };
                let filled = Filled {
                    group: group(end),
                    buffer,
                    length: usize::try_from(completion.result).unwrap_or(0),
                };
                self.ring.memory.messages.take(filled);
                Ok(filled)
            }
            Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::ECANCELED) => return,
            // An error of an earlier datagram is reported once.
            errno => Err(DropCause::of_errno(errno)),
        };
        self.arrived.push((end, key, message));
    }

    /// Queues the sends of both directions.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    fn queue(
        &mut self,
        associations: &Slab<Association>,
        paths: Paths<'_>,
        to_servers: &Sends,
        to_clients: &Sends,
    ) -> io::Result<()> {
        let RingWithMemory { ring, memory } = &mut self.ring;
        let Memory {
            messages,
            queues: [server_queue, client_queue],
            headers,
            ..
        } = &mut **memory;
        let (messages, headers) = (&*messages, &*headers);
        let socket = |key, end| {
            let association = associations.get(key);
            let socket = association.and_then(|association| association.socket(end));
            socket.map_or(-1, UdpSocket::as_raw_fd)
        };
        let user_data = |first| (first..).map(|place| Operation::Send(place).user_data());
        let departures = to_servers.runs.iter().map(|run| {
            let parts = to_servers.pieces.get(run.pieces.clone());
            let parts = parts.unwrap_or_default().iter();
            departure(run, parts.map(|piece| payload(messages, piece)))
        });
        // Each has its address.
        let queued = server_queue.set(|_| false, departures);
        let sockets = to_servers.runs.iter().map(|run| {
            let target = paths.target(run.key);
            let fd = target.map(|target| socket(target.association, End::of(target.to)));
            (run.key.number(), fd.unwrap_or(-1))
        });
        // SAFETY: the headers point to arrays of the queue, which does not change, and to received messages, which are
        // released after the sends have completed. Both outlive the ring.
        unsafe { push_chains(ring, queued.zip(sockets), user_data(0))? };
        let departures = to_clients.runs.iter().map(|run| {
            let parts = to_clients.pieces.get(run.pieces.clone());
            let parts = parts.unwrap_or_default().iter().flat_map(|piece| {
                let header = headers.get(piece.key.number());
                let header = header.map(Header::bytes).unwrap_or_default();
                [header, payload(messages, piece)]
            });
            departure(run, parts)
        });
        let client = |run: &Run| {
            let source = paths.source(run.key)?;
            Some((source.association, associations.get(source.association)?))
        };
        let is_v6 = |place: usize| {
            let client = to_clients.runs.get(place).and_then(client);
            client.is_some_and(|(_, association)| association.has_v6_client())
        };
        let queued = client_queue.set(is_v6, departures);
        let sockets = to_clients.runs.iter().map(|run| match client(run) {
            Some((key, _)) => (key.number(), socket(key, End::Client)),
            None => (usize::MAX, -1),
        });
        // SAFETY: as above, and the headers of datagrams are memory of the ring too, which does not change before the next batch.
        unsafe { push_chains(ring, queued.zip(sockets), user_data(to_servers.runs.len())) }
    }
}

/// The runs of a chain that are to be sent anew, with the error of the first one unless it was not attempted. Adds the outcomes
/// of those that were sent.
fn unsent<'a>(
    runs: &'a [Run],
    results: &[i32],
    add: &mut impl FnMut(&Run, Outcome),
) -> Option<(&'a [Run], Option<io::Error>)> {
    let failed = results.iter().position(|result| *result < 0);
    let (sent, rest) = runs.split_at(failed.unwrap_or(runs.len()));
    for run in sent {
        add(run, Outcome::sent(run.datagrams, run.bytes));
    }
    let errno = failed.and_then(|at| results.get(at))?;
    let error = (*errno != -libc::ECANCELED).then(|| io::Error::from_raw_os_error(-errno));
    Some((rest, error))
}

impl Backend for Uring {
    type Slots = Messages;

    fn new(wake: &EventFd) -> io::Result<Self> {
        let files = [-1, wake.as_fd().as_raw_fd()];
        let settings = UringSettings::default();
        let ring = Ring::new_disabled(&settings, SUBMISSIONS, COMPLETIONS, &files)?;
        let memory = Memory {
            messages: Messages::new(&ring)?,
            shape: Shape::new()?,
            queues: [QueuedDepartures::new(), QueuedDepartures::new()],
            headers: Vec::new(),
        };
        Ok(Self {
            ring: RingWithMemory::new(ring, memory),
            left: 0,
            arrived: Vec::new(),
            ended: Vec::new(),
            starved: Vec::new(),
            closing: BTreeMap::new(),
            results: Results::default(),
            transmitter: Transmitter::new(64),
            failure: None,
        })
    }

    fn start(&mut self) -> io::Result<()> {
        self.ring.ring.enable()
    }

    fn open(&mut self, end: End, key: Key, socket: &UdpSocket) -> io::Result<()> {
        // A receive of a socket that does not wait would end when no datagram is queued.
        socket.set_nonblocking(false)?;
        self.receive_from(end, key, socket.as_raw_fd())
    }

    /// The socket stays open until its receive has ended.
    fn close(&mut self, end: End, key: Key, socket: UdpSocket) {
        let receive = Operation::Receive(end, key).user_data();
        if let Err(error) = self.ring.ring.cancel_one(receive) {
            self.failure.get_or_insert(error);
        }
        self.closing.insert((key, end as usize), socket);
    }

    fn receive_again(&mut self, _key: Key, _associations: &mut Slab<Association>) {}

    fn has_arrived(&self, key: Key) -> bool {
        let mut each = self.arrived.iter();
        each.any(|(end, other, _)| *end == End::Client && *other == key)
    }

    fn wait(&mut self, deadline: u64, associations: &mut Slab<Association>) -> io::Result<bool> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        self.transmitter.start_pass();
        self.left = BATCHES;
        self.resume(associations)?;
        self.ring.ring.arm_wake()?;
        // A batch or a wake-up may have arrived while the previous batch was sent.
        if self.arrived.is_empty() {
            let deadline = match self.ring.ring.is_woken() {
                true => 0,
                false => deadline,
            };
            self.ring.ring.wait(deadline)?;
            self.reap();
        }
        Ok(self.ring.ring.was_woken())
    }

    fn receive(
        &mut self,
        _associations: &mut Slab<Association>,
        batch: &mut Vec<Received>,
    ) -> bool {
        if self.arrived.is_empty() || self.left == 0 {
            return false;
        }
        self.left -= 1;
        let messages = &mut self.ring.memory.messages;
        batch.extend(self.arrived.drain(..).map(|(end, key, message)| Received {
            key,
            end,
            message: message.map(|filled| messages.add(filled)),
        }));
        true
    }

    fn slots(&mut self) -> (&Messages, &mut Transmitter) {
        (&self.ring.memory.messages, &mut self.transmitter)
    }

    fn send(
        &mut self,
        associations: &Slab<Association>,
        paths: Paths<'_>,
        to_servers: &mut Sends,
        to_clients: &mut Sends,
    ) -> io::Result<()> {
        let first_to_client = to_servers.runs.len();
        let count = first_to_client + to_clients.runs.len();
        if count == 0 {
            return Ok(());
        }
        let headers = &mut self.ring.memory.headers;
        headers.clear();
        headers.extend(paths.sources.iter().map(|source| source.header));
        // More than the ring has room for: long datagrams on a path that refuses runs of them, or many destinations.
        let is_queued = count <= MOST_SENDS;
        self.results.start(count);
        if !is_queued {
            self.results.in_flight = 0;
        } else {
            // A chain must not be submitted in two parts.
            if self.ring.ring.room() < count {
                self.ring.ring.enter()?;
            }
            self.queue(associations, paths, to_servers, to_clients)?;
        }
        while self.results.in_flight > 0 {
            let sends = self.results.in_flight;
            self.ring.ring.submit_and_wait(sends, u64::MAX)?;
            self.reap();
        }
        let messages = &self.ring.memory.messages;
        let results = self.results.of_runs.get(..first_to_client);
        let (pieces, runs, mut add) = to_servers.split();
        for (of_target, results) in chains(runs, results.unwrap_or_default()) {
            if let Some((rest, error)) = unsent(of_target, results, &mut add)
                && let Some(target) = of_target.first().and_then(|run| paths.target(run.key))
                && let Some(association) = associations.get(target.association)
                && let Some(socket) = association.socket(End::of(target.to))
            {
                let (socket, is_v6) = (socket.as_fd(), target.to.is_ipv6());
                let runs = (pieces, rest);
                self.transmitter
                    .send_after(error, socket, is_v6, messages, runs, &mut add);
            }
        }
        mem::drop(add);
        let mut results = self
            .results
            .of_runs
            .get(first_to_client..)
            .unwrap_or_default();
        let (pieces, runs, mut add) = to_clients.split();
        let client_of = |run: &Run| paths.source(run.key).map(|source| source.association);
        for of_client in runs.chunk_by(|one, other| client_of(one) == client_of(other)) {
            let (some, others) = results
                .split_at_checked(of_client.len())
                .unwrap_or_default();
            results = others;
            if let Some((rest, error)) = unsent(of_client, some, &mut add)
                && let Some(association) = of_client
                    .first()
                    .and_then(client_of)
                    .and_then(|key| associations.get(key))
                && let Some(socket) = association.socket(End::Client)
            {
                self.transmitter.send_with_headers(
                    error,
                    (socket.as_fd(), association.has_v6_client()),
                    messages,
                    (pieces, rest),
                    |key| paths.header(key),
                    &mut add,
                );
            }
        }
        Ok(())
    }

    fn release(&mut self) {
        self.ring.memory.messages.release();
    }
}

impl Leak for Memory {
    fn leak(self) {
        self.messages.leak();
        self.shape.leak();
        mem::forget((self.queues, self.headers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completion_identifies_its_operation() {
        let mut slab = Slab::new();
        for place in 0..3 {
            let key = slab.insert(Ok::<_, ()>).unwrap();
            let receives = End::ALL.map(|end| Operation::Receive(end, key));
            for operation in receives.into_iter().chain([Operation::Send(place)]) {
                let user_data = operation.user_data();
                assert_eq!(Operation::from_user_data(user_data), Some(operation));
            }
        }
        assert_eq!(Operation::from_user_data(u64::MAX), None);
    }
}
