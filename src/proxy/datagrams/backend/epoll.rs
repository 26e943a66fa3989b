//! Datagrams over epoll(7): recvmmsg(2) from sockets that are ready, sendmmsg(2).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{BATCHES, Backend, Group, LONG, LONG_SLOTS, Left, Received, Slots, discard};
use crate::proxy::datagrams::sends::Sends;
use crate::proxy::datagrams::sockets::{Socket, SocketId, Sockets};
use crate::proxy::datagrams::transmit::Transmitter;
use crate::sys::clock::monotonic_ns;
use crate::sys::datagrams::{Arrival, Arrivals};
use crate::sys::eventfd::EventFd;

/// A token of no socket.
const WAKER: Token = Token(usize::MAX);

/// Most events of one call.
const EVENTS: usize = 1_024;

/// Most messages of a batch.
const SLOTS: usize = 64;

/// Most messages that a socket receives in its turn, if others wait.
const QUANTUM: usize = 16;

/// The backend of a thread.
pub(in crate::proxy) struct Epoll {
    poll: Poll,
    events: Events,
    arrivals: Arrivals,
    transmitter: Transmitter,
    clients: Queue,
    servers: Queue,
    /// The previous pass has not received all.
    has_backlog: bool,
}

/// The sockets of a group that may have datagrams.
struct Queue {
    ready: VecDeque<SocketId>,
    /// Slots of the next batch.
    slots: usize,
    /// Batches that are left in this pass.
    left: usize,
    /// Fewest messages for which a receive has room. It has room for twice as many as the previous one of the socket found: room
    /// costs time, but a receive that has room left needs no second one to find the queue empty.
    fewest: usize,
}

impl Queue {
    fn new(fewest: usize) -> Self {
        Self {
            ready: VecDeque::new(),
            slots: SLOTS,
            left: 0,
            fewest,
        }
    }

    fn add(&mut self, id: SocketId, socket: &mut Socket) {
        if !mem::replace(&mut socket.is_ready, true) {
            self.ready.push_back(id);
        }
    }

    /// The number of batches that are left, if there are sockets.
    fn turns(&self) -> usize {
        match self.ready.is_empty() {
            true => 0,
            false => self.left,
        }
    }

    /// One turn for each socket, until the slots of a batch are used.
    fn receive(
        &mut self,
        arrivals: &mut Arrivals,
        sockets: &mut impl Sockets,
        batch: &mut Vec<Received>,
    ) {
        self.left -= 1;
        let mut used = 0;
        for _ in 0..self.ready.len() {
            if used >= self.slots {
                break;
            }
            let Some(id) = self.ready.pop_front() else {
                break;
            };
            let Some(socket) = sockets.get_mut(id) else {
                continue;
            };
            used += self.receive_from(id, socket, used, arrivals, batch);
        }
        let slots = 0..used;
        let bytes: usize = slots.map(|slot| arrivals.bytes(slot).len()).sum();
        self.slots = match bytes > LONG * used.max(1) {
            true => LONG_SLOTS,
            false => SLOTS,
        };
    }

    /// Receives from a socket into slots from `first` on. Returns their number.
    fn receive_from(
        &mut self,
        id: SocketId,
        socket: &mut Socket,
        first: usize,
        arrivals: &mut Arrivals,
        batch: &mut Vec<Received>,
    ) -> usize {
        // A socket without competitors gets a whole batch, whose datagrams form longer runs.
        let quantum = (self.slots / (self.ready.len() + 1)).max(QUANTUM);
        let most = usize::from(socket.quantum).max(self.fewest);
        let most = most.min(quantum).min(self.slots - first);
        let count = match arrivals.receive(socket.as_fd(), first, most) {
            Ok(count) => {
                socket.is_ready = count == most;
                count
            }
            Err(error) => {
                // An error of an earlier datagram is reported once; behind it there may be datagrams.
                socket.is_ready = error.kind() != ErrorKind::WouldBlock;
                if socket.is_ready && error.kind() != ErrorKind::Interrupted {
                    let message = Err(error.raw_os_error().unwrap_or(libc::EIO));
                    batch.push(Received {
                        socket: id,
                        message,
                    });
                }
                0
            }
        };
        if socket.is_ready {
            self.ready.push_back(id);
        }
        socket.quantum = (2 * count).min(SLOTS) as u8;
        batch.extend((first..first + count).map(|slot| Received {
            socket: id,
            message: Ok(slot),
        }));
        count
    }
}

impl Epoll {
    fn readable(&self, fd: &impl AsFd, token: Token) -> io::Result<()> {
        let fd = fd.as_fd().as_raw_fd();
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    fn queue(&mut self, id: SocketId) -> &mut Queue {
        match Group::of(id) {
            Group::Clients => &mut self.clients,
            Group::Servers => &mut self.servers,
        }
    }

    fn has_ready(&self) -> bool {
        !self.clients.ready.is_empty() || !self.servers.ready.is_empty()
    }
}

impl Slots for Arrivals {
    fn arrival(&self, slot: usize) -> Option<Arrival<'_>> {
        self.get(slot)
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
            clients: Queue::new(16),
            servers: Queue::new(2),
            has_backlog: false,
        };
        backend.readable(wake, WAKER)?;
        Ok(backend)
    }

    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn open(&mut self, id: SocketId, socket: &Socket) -> io::Result<()> {
        self.readable(socket, Token(id.number() as usize))
    }

    fn close(&mut self, _id: SocketId, socket: Socket) -> Left {
        discard(socket, &mut self.arrivals)
    }

    fn receive_again(&mut self, id: SocketId, sockets: &mut impl Sockets) {
        if let Some(socket) = sockets.get_mut(id) {
            self.queue(id).add(id, socket);
        }
    }

    fn has_arrived(&self, _id: SocketId) -> bool {
        false
    }

    fn wait(&mut self, deadline: u64, sockets: &mut impl Sockets) -> io::Result<bool> {
        self.has_backlog = self.has_ready();
        let timeout = match deadline {
            _ if self.has_backlog => Some(Duration::ZERO),
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
            let Token(number) = event.token();
            if event.token() == WAKER {
                woken = true;
            } else if let Some(id) = SocketId::from_number(number as u64)
                && let Some(socket) = sockets.get_mut(id)
            {
                let queue = match Group::of(id) {
                    Group::Clients => &mut self.clients,
                    Group::Servers => &mut self.servers,
                };
                queue.add(id, socket);
            }
        }
        (self.clients.left, self.servers.left) = (BATCHES, BATCHES);
        Ok(woken)
    }

    fn collect(&mut self, pause: Duration) -> io::Result<()> {
        // The queue was not empty after the previous pass.
        if !self.has_backlog {
            thread::sleep(pause);
        }
        Ok(())
    }

    /// A batch of clients, then one of servers, and so on.
    fn receive(&mut self, sockets: &mut impl Sockets, batch: &mut Vec<Received>) -> bool {
        let queue = match (self.clients.turns(), self.servers.turns()) {
            (0, 0) => return false,
            (clients, servers) if clients >= servers => &mut self.clients,
            _ => &mut self.servers,
        };
        queue.receive(&mut self.arrivals, sockets, batch);
        true
    }

    fn slots(&mut self) -> (&Arrivals, &mut Transmitter) {
        (&self.arrivals, &mut self.transmitter)
    }

    fn send(&mut self, sockets: &impl Sockets, batch: &mut [Sends; 2]) -> io::Result<()> {
        for sends in batch {
            let (contents, runs, mut add) = sends.split();
            for of_socket in runs.chunk_by(|one, other| one.path.socket == other.path.socket) {
                let id = of_socket.first().map(|run| run.path.socket);
                if let Some(socket) = id.and_then(|id| sockets.get(id)) {
                    let runs = (contents, of_socket);
                    self.transmitter
                        .send(None, socket.as_fd(), &self.arrivals, runs, &mut add);
                }
            }
        }
        Ok(())
    }

    fn release(&mut self) {}
}
