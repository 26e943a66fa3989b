//! The sockets of one connection over io_uring(7).

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use super::hangup_poll::{HangUp, HangUpPoll};
use super::operation::Operation;
use super::provided_buffers::Filled;
use super::pump::Pump;
use super::resources::{Context, Uring};
use super::ring::Completion;
use super::servers::Servers;
use crate::proxy::backend::{ConnectionIo, Next, Received, close_all};
use crate::proxy::relay::{Direction, Forwarding, Readable, Relay};
use crate::sys::tcp::{self, Unread};

/// Progress of one connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) enum Progress {
    /// An operation has completed, or a multishot one has another completion.
    Completed(Operation, Completion),
    /// The connection has waited for its server for a whole pass of the loop.
    IsSlow,
}

/// The sockets of one connection.
pub(in crate::proxy) struct UringIo {
    client: TcpStream,
    servers: Servers,
    /// The server is connected, and the reply to the client is queued.
    is_relaying: bool,
    to_server: Pump,
    to_client: Pump,
    hang_up_poll: HangUpPoll,
    /// The last completion of the poll.
    hang_up: Option<HangUp>,
    /// The client ended its side while its server was not connected.
    client_ended: bool,
    /// The server is slow, so the client is polled.
    is_slow: bool,
}

impl UringIo {
    fn pump_of(&self, direction: Direction) -> &Pump {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn pump_of_mut(&mut self, direction: Direction) -> &mut Pump {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    fn is_in_flight(&self, operation: Operation) -> bool {
        match operation {
            Operation::Receive(direction) => self.pump_of(direction).is_receiving(),
            Operation::Send(direction) => self.pump_of(direction).is_sending(),
            Operation::HangUpPoll => self.hang_up_poll.is_in_flight(),
            Operation::Connect(_) => self.servers.is_busy(),
        }
    }

    fn on_hang_up(&mut self, hang_up: HangUp, relay: &mut Relay) {
        // Otherwise the receive in flight fails.
        if hang_up == HangUp::Broken && relay.to_server.is_shut() {
            relay.source_failed(Direction::ToServer);
        }
        self.hang_up = Some(hang_up);
    }

    /// Whether system calls on both sockets return at once instead of waiting, as splice(2) on this thread requires.
    fn set_nonblocking(&mut self, nonblocking: bool, relay: &mut Relay) {
        let sources = [
            (Direction::ToServer, Some(&self.client)),
            (Direction::ToClient, self.servers.connected()),
        ];
        for (direction, source) in sources {
            if source.is_some_and(|source| source.set_nonblocking(nonblocking).is_err()) {
                relay.source_failed(direction);
            }
        }
        self.to_server.set_nonblocking(nonblocking);
        self.to_client.set_nonblocking(nonblocking);
    }
}

impl ConnectionIo<Uring> for UringIo {
    fn new(client: TcpStream, context: &mut Context<'_>) -> io::Result<Self> {
        context.relay.to_client.writable();
        Ok(Self {
            client,
            servers: Servers::default(),
            is_relaying: false,
            to_server: Pump::new(true),
            to_client: Pump::new(false),
            hang_up_poll: HangUpPoll::default(),
            hang_up: None,
            client_ended: false,
            is_slow: false,
        })
    }

    fn client(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    fn server(&self) -> Option<BorrowedFd<'_>> {
        self.servers.connected().map(AsFd::as_fd)
    }

    fn on_event(
        &mut self,
        progress: Progress,
        relaying: bool,
        context: &mut Context<'_>,
    ) -> Next<Filled> {
        let (operation, completion) = match progress {
            Progress::Completed(operation, completion) => (operation, completion),
            Progress::IsSlow => {
                self.is_slow = true;
                return match relaying {
                    true => Next::Wait,
                    false => Next::Continue,
                };
            }
        };
        match operation {
            Operation::Receive(direction) if relaying => {
                let pump = self.pump_of_mut(direction);
                pump.on_relay_received(completion, direction, context);
            }
            Operation::Receive(direction) => {
                let pump = self.pump_of_mut(direction);
                if let Some(received) = pump.on_received(completion, context) {
                    return Next::Received(received);
                }
            }
            Operation::Send(direction) => {
                let pump = self.pump_of_mut(direction);
                pump.on_sent(completion, direction, context);
            }
            Operation::Connect(slot) => self.servers.on_completed(slot, completion),
            Operation::HangUpPoll => {
                if let Some(hang_up) = self.hang_up_poll.on_completed(completion) {
                    self.on_hang_up(hang_up, context.relay);
                }
            }
        }
        Next::Continue
    }

    fn resume(&mut self) {
        self.to_server.resume();
        self.to_client.resume();
    }

    fn receive(&mut self, most: usize, context: &mut Context<'_>) -> Option<Received<Filled>> {
        self.to_server
            .receive(Direction::ToServer, &self.client, most, context);
        None
    }

    fn queue(&mut self, direction: Direction, bytes: &[u8]) {
        self.pump_of_mut(direction).queue(bytes);
    }

    fn pump(&mut self, direction: Direction, context: &mut Context<'_>) -> bool {
        // A poll of the server that has just connected would delay the reply to the client, which is not queued yet.
        let is_spliced = self.is_relaying && context.relay.flow(direction).is_spliced();
        if is_spliced && !self.to_client.is_nonblocking() {
            self.set_nonblocking(true, context.relay);
        }
        let (client, server) = (Some(&self.client), self.servers.connected());
        let (pump, ends) = match direction {
            Direction::ToServer => (&mut self.to_server, (client, server)),
            Direction::ToClient => (&mut self.to_client, (server, client)),
        };
        pump.run(direction, ends, context);
        false
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        _sends_first: bool,
        context: &mut Context<'_>,
    ) -> io::Result<()> {
        self.servers.connect(address, context)
    }

    fn is_connecting_to(&self, address: SocketAddr) -> bool {
        self.servers.is_connecting_to(address)
    }

    fn give_up(&mut self, address: SocketAddr, context: &mut Context<'_>) {
        self.servers.give_up(address, context);
    }

    fn next_connected(&mut self) -> Option<(SocketAddr, io::Result<SocketAddr>)> {
        self.servers.next_connected()
    }

    fn start_relaying(&mut self, forwarding: Forwarding, context: &mut Context<'_>) {
        self.servers.give_up_all(context);
        self.is_relaying = true;
        match forwarding {
            Forwarding::Splice => {}
            // A receive waits in the kernel, so both sources count as readable. A short receive does not mean that its source is
            // empty; the flags of its completion do.
            Forwarding::Auto | Forwarding::Copy => {
                context.relay.to_server.readable(Readable::Doubtful);
                context.relay.to_client.readable(Readable::Doubtful);
            }
        }
    }

    fn close_server(&mut self, context: &mut Context<'_>) {
        self.servers.close(context);
        self.is_relaying = false;
        if self.to_client.is_nonblocking() {
            self.set_nonblocking(false, context.relay);
        }
    }

    fn hang_up(&mut self, context: &mut Context<'_>) -> Option<Unread> {
        if !self.is_slow {
            context.backend.waiting.add(context.key);
            return None;
        }
        let unread = self.hang_up.take().map(|hang_up| match hang_up {
            HangUp::Broken => Unread::Broken,
            HangUp::Ended => tcp::unread(&self.client),
        });
        self.client_ended |= unread.is_some();
        let until = match self.client_ended {
            true => HangUp::Broken,
            false => HangUp::Ended,
        };
        self.hang_up_poll.start(until, &self.client, context);
        unread
    }

    fn watch_reset(&mut self, context: &mut Context<'_>) {
        let until = HangUp::Broken;
        self.hang_up_poll.start(until, &self.client, context);
    }

    fn cancel(&mut self, context: &mut Context<'_>) {
        for operation in Operation::OF_CLIENT {
            if self.is_in_flight(operation) {
                context.backend.cancel(operation, context.key);
            }
        }
        self.servers.give_up_all(context);
    }

    fn is_busy(&self) -> bool {
        let mut operations = Operation::OF_CLIENT.into_iter();
        self.servers.is_busy() || operations.any(|operation| self.is_in_flight(operation))
    }

    fn close(mut self, reset: bool, [to_server, to_client]: [usize; 2], backend: &mut Uring) {
        self.to_server.release(to_server, backend);
        self.to_client.release(to_client, backend);
        let server = self.servers.into_connected();
        close_all([Some(self.client), server].into_iter().flatten(), reset);
    }
}
