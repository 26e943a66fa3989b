//! Associations over epoll(7): recvmmsg(2) from sockets that are ready, sendmmsg(2).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{Backend, Paths, Received};
use crate::proxy::associations::association::{Association, End};
use crate::proxy::datagrams::backend::Sends;
use crate::proxy::datagrams::record::DropCause;
use crate::proxy::datagrams::runs::Run;
use crate::proxy::datagrams::transmit::Transmitter;
use crate::proxy::slab::{Key, Slab};
use crate::sys::clock::monotonic_ns;
use crate::sys::datagrams::Arrivals;
use crate::sys::eventfd::EventFd;

/// A token of no socket.
const WAKER: Token = Token(usize::MAX);

/// Most events of one call.
const EVENTS: usize = 1_024;

/// Most receives between two looks at events.
const TURNS: usize = 64;

/// Messages of a batch.
const SLOTS: usize = 64;

/// Messages of a batch while they are long runs: they stay in the cache between receiving and sending.
const LONG_SLOTS: usize = 8;

/// Mean bytes of the messages of a batch from which the next one has [`LONG_SLOTS`].
const LONG: usize = 8_192;

/// Messages of a receive while other sockets are ready too.
const QUANTUM: usize = 16;

/// The backend of a thread.
pub(in crate::proxy::associations) struct Epoll {
    poll: Poll,
    events: Events,
    arrivals: Arrivals,
    transmitter: Transmitter,
    /// Sockets that may have datagrams.
    ready: VecDeque<(End, Key)>,
    /// Receives that are left in this pass.
    left: usize,
    /// Slots of the next batch.
    slots: usize,
}

/// The token of a socket of an association. The number of a key is below 2^56.
fn token(end: End, key: Key) -> Token {
    Token(key.number() | (end as usize) << 56)
}

fn of_token(Token(token): Token) -> Option<(End, Key)> {
    let end = End::ALL.get(token >> 56)?;
    Some((*end, Key::from_number(token & ((1 << 56) - 1))))
}

impl Epoll {
    fn readable(&self, fd: &impl AsFd, token: Token) -> io::Result<()> {
        let fd = fd.as_fd().as_raw_fd();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// One receive from a socket that is ready, into slots from `first` on. Returns their number.
    fn receive_from(
        &mut self,
        (end, key): (End, Key),
        first: usize,
        associations: &mut Slab<Association>,
        batch: &mut Vec<Received>,
    ) -> usize {
        let Some(association) = associations.get_mut(key) else {
            return 0;
        };
        association.set_ready(end, false);
        let Some(socket) = association.socket(end) else {
            return 0;
        };
        // A socket without competitors gets a whole batch, whose datagrams form longer runs.
        let quantum = match self.ready.is_empty() {
            true => self.slots,
            false => self.slots.min(QUANTUM),
        };
        let most = quantum.min(SLOTS - first);
        let (count, has_more) = match self.arrivals.receive(socket.as_fd(), first, most) {
            Ok(count) => (count, count == most),
            // Behind an error of an earlier datagram, which is reported once, there may be datagrams.
            Err(error) => {
                let failed = |cause| Received {
                    key,
                    end,
                    message: Err(cause),
                };
                match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                    _ => batch.push(failed(DropCause::of_errno(error.raw_os_error()))),
                }
                (0, error.kind() != ErrorKind::WouldBlock)
            }
        };
        batch.extend((first..first + count).map(|slot| Received {
            key,
            end,
            message: Ok(slot),
        }));
        if has_more {
            association.set_ready(end, true);
            self.ready.push_back((end, key));
        }
        count
    }
}

impl Backend for Epoll {
    type Slots = Arrivals;

    fn new(wake: &EventFd) -> io::Result<Self> {
        let backend = Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            arrivals: Arrivals::new(SLOTS),
            transmitter: Transmitter::new(SLOTS),
            ready: VecDeque::new(),
            left: 0,
            slots: SLOTS,
        };
        backend.readable(wake, WAKER)?;
        Ok(backend)
    }

    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn open(&mut self, end: End, key: Key, socket: &UdpSocket) -> io::Result<()> {
        self.readable(socket, token(end, key))
    }

    fn close(&mut self, _end: End, _key: Key, socket: UdpSocket) {
        drop(socket);
    }

    fn receive_again(&mut self, key: Key, associations: &mut Slab<Association>) {
        if let Some(association) = associations.get_mut(key)
            && !association.set_ready(End::Client, true)
        {
            self.ready.push_back((End::Client, key));
        }
    }

    fn has_arrived(&self, _key: Key) -> bool {
        false
    }

    fn wait(&mut self, deadline: u64, associations: &mut Slab<Association>) -> io::Result<bool> {
        let timeout = match deadline {
            _ if !self.ready.is_empty() => Some(Duration::ZERO),
            u64::MAX => None,
            _ => Some(Duration::from_nanos(
                deadline.saturating_sub(monotonic_ns()),
            )),
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.transmitter.start_pass();
        let mut woken = false;
        for event in &self.events {
            if event.token() == WAKER {
                woken = true;
            } else if let Some((end, key)) = of_token(event.token())
                && let Some(association) = associations.get_mut(key)
                && !association.set_ready(end, true)
            {
                self.ready.push_back((end, key));
            }
        }
        self.left = self.ready.len().min(TURNS);
        Ok(woken)
    }

    fn receive(&mut self, associations: &mut Slab<Association>, batch: &mut Vec<Received>) -> bool {
        if self.left == 0 {
            return false;
        }
        let (mut used, mut bytes) = (0, 0);
        while self.left > 0 && used < self.slots.min(SLOTS) {
            self.left -= 1;
            let Some(socket) = self.ready.pop_front() else {
                break;
            };
            let count = self.receive_from(socket, used, associations, batch);
            let slots = used..used + count;
            bytes += slots
                .map(|slot| self.arrivals.bytes(slot).len())
                .sum::<usize>();
            used += count;
        }
        self.slots = match bytes > LONG * used.max(1) {
            true => LONG_SLOTS,
            false => SLOTS,
        };
        true
    }

    fn slots(&mut self) -> (&Arrivals, &mut Transmitter) {
        (&self.arrivals, &mut self.transmitter)
    }

    fn send(
        &mut self,
        associations: &Slab<Association>,
        paths: Paths<'_>,
        to_servers: &mut Sends,
        to_clients: &mut Sends,
    ) -> io::Result<()> {
        let (pieces, runs, mut add) = to_servers.split();
        let socket_of = |run: &Run| {
            let target = paths.target(run.key)?;
            Some((target.association, End::of(target.to)))
        };
        for of_socket in runs.chunk_by(|one, other| socket_of(one) == socket_of(other)) {
            if let Some((key, end)) = of_socket.first().and_then(socket_of)
                && let Some(association) = associations.get(key)
                && let Some(socket) = association.socket(end)
            {
                let runs = (pieces, of_socket);
                let (socket, is_v6) = (socket.as_fd(), end == End::V6);
                self.transmitter
                    .send(socket, is_v6, &self.arrivals, runs, &mut add);
            }
        }
        mem::drop(add);
        let (pieces, runs, mut add) = to_clients.split();
        let client_of = |run: &Run| paths.source(run.key).map(|source| source.association);
        for of_client in runs.chunk_by(|one, other| client_of(one) == client_of(other)) {
            if let Some(association) = of_client
                .first()
                .and_then(client_of)
                .and_then(|key| associations.get(key))
                && let Some(socket) = association.socket(End::Client)
            {
                self.transmitter.send_with_headers(
                    None,
                    (socket.as_fd(), association.has_v6_client()),
                    &self.arrivals,
                    (pieces, of_client),
                    |key| paths.header(key),
                    &mut add,
                );
            }
        }
        Ok(())
    }

    fn release(&mut self) {}
}
