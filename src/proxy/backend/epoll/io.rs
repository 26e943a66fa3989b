//! The sockets of one connection over epoll(7).

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use mio::net::TcpStream;

use super::pump::Pump;
use super::resources::{End, Epoll, Ready};
use super::servers::Servers;
use crate::proxy::backend::{ConnectionIo, IoContext, Next, Received, close_all};
use crate::proxy::relay::{Direction, Forwarding};
use crate::sys::tcp::{self, Unread};

/// The sockets of one connection.
pub(in crate::proxy) struct EpollIo {
    client: TcpStream,
    /// An event that may mean that the client hung up.
    hang_up: Option<Unread>,
    servers: Servers,
    /// Acknowledgements to the server are delayed.
    is_ack_delayed: bool,
    to_server: Pump,
    to_client: Pump,
}

impl ConnectionIo<Epoll> for EpollIo {
    fn new(mut client: TcpStream, context: &mut IoContext<'_, Epoll>) -> io::Result<Self> {
        let IoContext { key, backend, .. } = context;
        backend.register(&mut client, *key, End::Client)?;
        Ok(Self {
            client,
            hang_up: None,
            servers: Servers::Connecting(Vec::new()),
            is_ack_delayed: false,
            to_server: Pump::default(),
            to_client: Pump::default(),
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
        ready: Ready,
        _relaying: bool,
        context: &mut IoContext<'_, Epoll>,
    ) -> Next<usize> {
        let (from, to) = match ready.end {
            End::Client => (Direction::ToServer, Direction::ToClient),
            End::Server(slot) if self.servers.on_ready(slot, ready) => {
                (Direction::ToClient, Direction::ToServer)
            }
            End::Server(_) => return Next::Schedule,
        };
        if let Some(what) = ready.readable {
            context.relay.flow(from).readable(what);
        }
        if ready.is_writable || ready.is_error {
            context.relay.flow(to).writable();
        }
        if ready.end == End::Client && (ready.is_error || ready.is_read_closed) {
            self.hang_up = Some(match ready.is_error {
                true => Unread::Broken,
                false => Unread::End,
            });
            // The client is no longer read from, and may disconnect before its answer is complete.
            if ready.is_error && context.relay.to_server.is_shut() {
                context.relay.source_failed(Direction::ToServer);
            }
        }
        Next::Schedule
    }

    fn resume(&mut self) {}

    fn receive(
        &mut self,
        most: usize,
        context: &mut IoContext<'_, Epoll>,
    ) -> Option<Received<usize>> {
        let IoContext { relay, backend, .. } = context;
        let buffer = backend.buffer.get_mut(..most).unwrap_or_default();
        while relay.to_server.is_readable() {
            match self.client.read(buffer) {
                Ok(0) => return Some(Received::End),
                Ok(bytes) => {
                    if bytes < buffer.len() {
                        relay.to_server.source_drained();
                    }
                    return Some(Received::Bytes(bytes));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => relay.to_server.source_empty(),
                    ErrorKind::Interrupted => {}
                    _ => return Some(Received::Failed),
                },
            }
        }
        None
    }

    fn queue(&mut self, direction: Direction, bytes: &[u8]) {
        match direction {
            Direction::ToServer => self.to_server.queue(bytes),
            Direction::ToClient => self.to_client.queue(bytes),
        }
    }

    fn pump(&mut self, direction: Direction, context: &mut IoContext<'_, Epoll>) -> bool {
        let (client, server) = (Some(&self.client), self.servers.connected());
        let (pump, ends) = match direction {
            Direction::ToServer => (&mut self.to_server, (client, server)),
            Direction::ToClient => (&mut self.to_client, (server, client)),
        };
        let can_continue = pump.run(direction, ends, context);
        if self.is_ack_delayed && context.relay.to_server.counts().drained > 0 {
            self.is_ack_delayed = false;
            if let Some(server) = server {
                // This fails only if the server is gone, which its next read finds out.
                let _ = tcp::acknowledge_at_once(server);
            }
        }
        can_continue
    }

    fn connect(
        &mut self,
        address: SocketAddr,
        sends_first: bool,
        context: &mut IoContext<'_, Epoll>,
    ) -> io::Result<()> {
        self.is_ack_delayed |= sends_first;
        self.servers.connect(address, sends_first, context)
    }

    fn is_connecting_to(&self, address: SocketAddr) -> bool {
        self.servers.is_connecting_to(address)
    }

    fn give_up(&mut self, address: SocketAddr, _context: &mut IoContext<'_, Epoll>) {
        self.servers.give_up(address);
    }

    fn next_connected(&mut self) -> Option<(SocketAddr, io::Result<SocketAddr>)> {
        self.servers.next_connected()
    }

    fn start_relaying(&mut self, _forwarding: Forwarding, context: &mut IoContext<'_, Epoll>) {
        if let Some(what) = self.servers.readable() {
            context.relay.to_client.readable(what);
        }
    }

    fn close_server(&mut self, _context: &mut IoContext<'_, Epoll>) {
        self.servers = Servers::Closed;
    }

    fn hang_up(&mut self, _context: &mut IoContext<'_, Epoll>) -> Option<Unread> {
        self.hang_up.take().map(|unread| match unread {
            Unread::Broken => unread,
            _ => tcp::unread(&self.client),
        })
    }

    fn watch_reset(&mut self, _context: &mut IoContext<'_, Epoll>) {
        // Every event of the client reports it.
    }

    fn cancel(&mut self, _context: &mut IoContext<'_, Epoll>) {}

    fn is_busy(&self) -> bool {
        false
    }

    fn close(mut self, reset: bool, [to_server, to_client]: [usize; 2], backend: &mut Epoll) {
        self.to_server.release(to_server, backend);
        self.to_client.release(to_client, backend);
        let server = self.servers.into_connected();
        close_all([Some(self.client), server].into_iter().flatten(), reset);
    }
}
