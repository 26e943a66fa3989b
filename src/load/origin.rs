//! The origin server: answers each client `RESPONSE || ` and then everything that the client sends, unless the client begins
//! with a [`command`](super::command).
//!
//! One thread runs one event loop. The server reads from a client only when all earlier bytes are echoed, so a client that does
//! not read costs one buffer at most.

mod client;
mod utf8_chunker;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::payload::Payload;
use crate::proxy::slab::{Key, Slab};
use crate::sys::endpoint::{Endpoint, Peer};
use crate::sys::unix::SocketFile;
use crate::sys::{tcp, unix};
use client::{Client, Resources, Status};

/// The prefix of every answer.
pub const PREFIX: &[u8] = b"RESPONSE || ";

// Tokens that no connection has.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Bytes of one read: a segment of loopback.
const READ: usize = 64 << 10;

/// Clients accepted before connections have their turn.
const ACCEPT_BATCH: usize = 64;

/// Delay before accept is retried after an error such as EMFILE.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A listening origin server.
pub struct Origin {
    poll: Poll,
    listener: TcpListener,
    local: Endpoint,
    /// Removes the socket file on drop.
    _file: Option<SocketFile>,
    waker: Arc<Waker>,
    clients: Slab<Client>,
    resources: Resources,
}

/// The accept queue, as far as known.
#[derive(Clone, Copy, PartialEq)]
enum Backlog {
    Empty,
    Unknown,
    /// Not empty, but accept failed.
    Stalled,
}

impl Origin {
    /// Listens on `endpoint`; with port 0 the kernel chooses the port.
    ///
    /// # Errors
    /// As bind(2) and listen(2).
    pub fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        let (listener, file) = match endpoint {
            Endpoint::Ip(address) => (tcp::listen(*address, false)?, None),
            Endpoint::Unix(path) => {
                let (listener, file) = unix::listen(path, None)?;
                (listener, Some(file))
            }
        };
        let local = match endpoint {
            Endpoint::Ip(_) => Endpoint::Ip(listener.local_addr()?),
            Endpoint::Unix(_) => endpoint.clone(),
        };
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut buffer = PREFIX.to_vec();
        buffer.resize(PREFIX.len() + READ, 0);
        Ok(Self {
            local,
            _file: file,
            listener,
            waker: Arc::new(Waker::new(poll.registry(), WAKER)?),
            poll,
            clients: Slab::new(),
            resources: Resources {
                buffer: buffer.into(),
                payload: Payload::new(READ),
            },
        })
    }

    /// The address that it listens on.
    pub fn local(&self) -> &Endpoint {
        &self.local
    }

    /// Stops the server from another thread.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Serves until it is woken. `on_message` gets each client's bytes as they arrive, never with a UTF-8 character split.
    ///
    /// # Errors
    /// As epoll_wait(2). Errors of clients only close their connections.
    pub fn run(mut self, mut on_message: impl FnMut(Peer, &[u8])) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let (mut ready, mut runnable) = (Vec::new(), Vec::new());
        let mut backlog = Backlog::Empty;
        loop {
            let wait = match backlog {
                _ if !ready.is_empty() => Some(Duration::ZERO),
                Backlog::Empty => None,
                Backlog::Unknown => Some(Duration::ZERO),
                Backlog::Stalled => Some(ACCEPT_RETRY),
            };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => return Ok(()),
                    LISTENER => backlog = Backlog::Unknown,
                    token => {
                        let key = Key::from_number(token.0);
                        if let Some(client) = self.clients.get_mut(key) {
                            client.on_event(event);
                            ready.push(key);
                        }
                    }
                }
            }
            std::mem::swap(&mut ready, &mut runnable);
            for key in runnable.drain(..) {
                let Some(client) = self.clients.get_mut(key) else {
                    continue;
                };
                match client.serve(&mut self.resources, &mut on_message) {
                    Status::Blocked => {}
                    Status::Ready => ready.push(key),
                    Status::Closed => drop(self.clients.remove(key)),
                }
            }
            if backlog != Backlog::Empty {
                backlog = self.accept();
            }
        }
    }

    fn accept(&mut self) -> Backlog {
        for _ in 0..ACCEPT_BATCH {
            let accepted = match self.local {
                Endpoint::Ip(_) => self
                    .listener
                    .accept()
                    .map(|(stream, from)| (stream, Peer::Ip(from))),
                Endpoint::Unix(_) => unix::accept(&self.listener)
                    .map(|stream| (TcpStream::from_std(stream), Peer::Unix)),
            };
            match accepted {
                // A connection that cannot be registered is closed.
                Ok((stream, from)) => drop(self.admit(stream, from)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Backlog::Empty,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return Backlog::Stalled,
                },
            }
        }
        Backlog::Unknown
    }

    fn admit(&mut self, mut stream: TcpStream, from: Peer) -> io::Result<()> {
        let registry = self.poll.registry();
        self.clients.insert(|key| {
            let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
            registry.register(&mut stream, Token(key.number()), interest)?;
            Ok::<_, io::Error>(Client::new(stream, from))
        })?;
        Ok(())
    }
}
