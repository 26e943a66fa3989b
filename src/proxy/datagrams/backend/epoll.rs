//! Datagrams over epoll(7): recvmmsg(2) from sockets that are ready, sendmmsg(2).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::{Backend, Received, Sends, Slots};
use crate::proxy::datagrams::record::DropCause;
use crate::proxy::datagrams::table::FlowTable;
use crate::proxy::datagrams::transmit::Transmitter;
use crate::proxy::slab::Key;
use crate::sys::clock::monotonic_ns;
use crate::sys::datagrams::{Arrival, Arrivals};
use crate::sys::eventfd::EventFd;
use crate::sys::timer_slack;

// Tokens of no flow: they would be those of the last slot in the last generation.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Most events of one call.
const EVENTS: usize = 1_024;

/// Most messages of a batch.
const SLOTS: usize = 64;

/// Messages of a batch while they are long runs: they stay in the cache between receiving and sending.
const LONG_SLOTS: usize = 8;

/// Mean bytes of the messages of a batch from which the next one has [`LONG_SLOTS`].
const LONG: usize = 8_192;

/// Most batches of clients, and of servers, in one pass of the loop.
const BATCHES: usize = 8;

/// Most messages that a flow receives from its server in its turn, if other flows wait.
const FLOW_QUANTUM: usize = 16;

/// Fewest messages for which a receive from clients and from a server has room. It has room for twice as many as the
/// previous one found: room costs time, but a receive that has room left needs no second one to find the queue empty.
const FEWEST: [usize; 2] = [16, 2];

/// The backend of a thread.
pub(in crate::proxy) struct Epoll {
    poll: Poll,
    events: Events,
    listener: UdpSocket,
    is_v6: bool,
    arrivals: Arrivals,
    transmitter: Transmitter,
    /// Clients are received from.
    listens: bool,
    /// The listener may have datagrams.
    has_clients: bool,
    /// The previous pass has not received all.
    has_backlog: bool,
    /// Flows whose servers may have sent datagrams.
    ready: VecDeque<Key>,
    /// Slots of the next batch of clients.
    slots: usize,
    /// Batches of clients, and of servers, that are left in this pass.
    left: [usize; 2],
}

/// The socket of a flow.
#[derive(Debug)]
pub(in crate::proxy) struct FlowSocket {
    socket: UdpSocket,
    /// It may have datagrams, and is in the queue of its thread.
    is_ready: bool,
    /// Messages for which its next receive has room: at most [`SLOTS`].
    quantum: u8,
}

impl Epoll {
    fn readable(&self, fd: i32, token: Token) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    fn has_clients(&self) -> bool {
        self.listens && self.has_clients
    }

    fn receive_from_clients(&mut self, batch: &mut Vec<Received>) -> io::Result<()> {
        let count = match self.arrivals.receive(self.listener.as_fd(), 0, self.slots) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        };
        self.has_clients = count == self.slots;
        let slots = 0..count;
        let bytes: usize = slots
            .clone()
            .map(|slot| self.arrivals.bytes(slot).len())
            .sum();
        let most = match bytes > LONG * count.max(1) {
            true => LONG_SLOTS,
            false => SLOTS,
        };
        self.slots = (2 * count).clamp(FEWEST[0].min(most), most);
        batch.extend(slots.map(Received::OfClient));
        Ok(())
    }

    /// One turn for each flow that is ready, until the slots are used.
    fn receive_from_servers(
        &mut self,
        flows: &mut FlowTable<FlowSocket>,
        batch: &mut Vec<Received>,
    ) {
        let mut used = 0;
        for _ in 0..self.ready.len() {
            if used == SLOTS {
                break;
            }
            let Some(key) = self.ready.pop_front() else {
                break;
            };
            let Some(flow) = flows.get_mut(key) else {
                continue;
            };
            used += self.receive_from_server(key, &mut flow.socket, used, batch);
        }
    }

    /// Receives from a flow's server into slots from `first` on. Returns their number.
    fn receive_from_server(
        &mut self,
        key: Key,
        socket: &mut FlowSocket,
        first: usize,
        batch: &mut Vec<Received>,
    ) -> usize {
        // A flow without competitors gets a whole batch, whose datagrams form longer runs.
        let quantum = (SLOTS / (self.ready.len() + 1)).max(FLOW_QUANTUM);
        let most = usize::from(socket.quantum).min(quantum).min(SLOTS - first);
        let count = match self.arrivals.receive(socket.socket.as_fd(), first, most) {
            Ok(count) => {
                socket.is_ready = count == most;
                count
            }
            Err(error) => {
                // An error of an earlier datagram is reported once; behind it there may be datagrams.
                match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                    _ => {
                        let cause = DropCause::of_errno(error.raw_os_error());
                        batch.push(Received::Failed(key, cause));
                    }
                }
                socket.is_ready = error.kind() != ErrorKind::WouldBlock;
                0
            }
        };
        if socket.is_ready {
            self.ready.push_back(key);
        }
        socket.quantum = (2 * count).clamp(FEWEST[1], SLOTS) as u8;
        batch.extend((first..first + count).map(|slot| Received::OfServer(key, slot)));
        count
    }
}

impl Slots for Arrivals {
    fn arrival(&self, slot: usize) -> Option<Arrival<'_>> {
        self.get(slot)
    }
}

impl Backend for Epoll {
    type Socket = FlowSocket;
    type Slots = Arrivals;

    fn new(listener: UdpSocket, wake: &EventFd) -> io::Result<Self> {
        let backend = Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            is_v6: listener.local_addr()?.is_ipv6(),
            listener,
            arrivals: Arrivals::new(SLOTS),
            transmitter: Transmitter::new(SLOTS),
            listens: false,
            has_clients: false,
            has_backlog: false,
            ready: VecDeque::new(),
            slots: FEWEST[0],
            left: [0; 2],
        };
        backend.readable(backend.listener.as_raw_fd(), LISTENER)?;
        backend.readable(wake.as_fd().as_raw_fd(), WAKER)?;
        Ok(backend)
    }

    fn start(&mut self) -> io::Result<()> {
        // A pause is shorter than the slack.
        timer_slack::tighten()
    }

    fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    fn descriptor(socket: &FlowSocket) -> BorrowedFd<'_> {
        socket.socket.as_fd()
    }

    fn open(&mut self, key: Key, socket: UdpSocket) -> io::Result<FlowSocket> {
        self.readable(socket.as_raw_fd(), Token(key.number()))?;
        Ok(FlowSocket {
            socket,
            is_ready: false,
            quantum: FEWEST[1] as u8,
        })
    }

    fn close(&mut self, _key: Key, socket: FlowSocket) {
        drop(socket);
    }

    fn receive_clients(&mut self) {
        self.listens = true;
        self.has_clients = true;
    }

    fn wait(&mut self, deadline: u64, flows: &mut FlowTable<FlowSocket>) -> io::Result<bool> {
        let timeout = match deadline {
            _ if self.has_clients() || !self.ready.is_empty() => Some(Duration::ZERO),
            u64::MAX => None,
            _ => Some(Duration::from_nanos(
                deadline.saturating_sub(monotonic_ns()),
            )),
        };
        self.has_backlog = timeout == Some(Duration::ZERO);
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.transmitter.start_pass();
        self.left = [BATCHES; 2];
        let mut woken = false;
        for event in &self.events {
            match event.token() {
                LISTENER => self.has_clients = true,
                WAKER => woken = true,
                Token(number) => {
                    let key = Key::from_number(number);
                    if let Some(flow) = flows.get_mut(key)
                        && !mem::replace(&mut flow.socket.is_ready, true)
                    {
                        self.ready.push_back(key);
                    }
                }
            }
        }
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
    fn receive(
        &mut self,
        flows: &mut FlowTable<FlowSocket>,
        batch: &mut Vec<Received>,
    ) -> io::Result<bool> {
        let [clients, servers] = self.left;
        let (has_clients, has_servers) = (
            clients > 0 && self.has_clients(),
            servers > 0 && !self.ready.is_empty(),
        );
        if has_clients && (clients >= servers || !has_servers) {
            self.left = [clients - 1, servers];
            self.receive_from_clients(batch)?;
        } else if has_servers {
            self.left = [clients, servers - 1];
            self.receive_from_servers(flows, batch);
        }
        Ok(has_clients || has_servers)
    }

    fn slots(&mut self) -> (&Arrivals, &mut Transmitter) {
        (&self.arrivals, &mut self.transmitter)
    }

    fn send(
        &mut self,
        flows: &FlowTable<FlowSocket>,
        to_servers: &mut Sends,
        to_clients: &mut Sends,
    ) -> io::Result<()> {
        let (pieces, runs, mut add) = to_servers.split();
        for of_flow in runs.chunk_by(|one, other| one.key == other.key) {
            if let Some(flow) = of_flow.first().and_then(|run| flows.get(run.key)) {
                let socket = flow.socket.socket.as_fd();
                let is_v6 = flow.server.is_ipv6();
                let runs = (pieces, of_flow);
                self.transmitter
                    .send(socket, is_v6, &self.arrivals, runs, &mut add);
            }
        }
        drop(add);
        let (pieces, runs, mut add) = to_clients.split();
        let runs = (pieces, runs);
        let socket = self.listener.as_fd();
        self.transmitter
            .send(socket, self.is_v6, &self.arrivals, runs, &mut add);
        Ok(())
    }

    fn release(&mut self) {}
}
