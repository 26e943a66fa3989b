//! The answering server: to each client it says `RESPONSE || ` and then all that the client says, be it nothing; unless the
//! client begins with an [`order`](super::order).
//!
//! One thread and one event loop. What a client says is taken only when all before went back to it, so one that does not
//! listen costs a buffer at most.

mod client;
mod telling;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::pattern::Pattern;
use crate::proxy::slab::{Key, Slab};
use crate::sys::endpoint::{Endpoint, Peer};
use crate::sys::unix::SocketFile;
use crate::sys::{tcp, unix};
use client::{Client, Fate, Means};

/// What an answer begins with.
pub const PREFIX: &[u8] = b"RESPONSE || ";

// Tokens of no connection.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Bytes taken at once: a whole segment of loopback.
const READ: usize = 64 << 10;

/// Clients accepted before others have their turn.
const ACCEPTS: usize = 64;

/// How long until accepting is tried again after it failed, for want of file descriptors perhaps.
const PAUSE: Duration = Duration::from_millis(100);

/// An answering server that listens.
pub struct Origin {
    poll: Poll,
    listener: TcpListener,
    local: Endpoint,
    /// Removed at the end.
    _file: Option<SocketFile>,
    waker: Arc<Waker>,
    clients: Slab<Client>,
    means: Means,
}

/// What has come of accepting.
#[derive(Clone, Copy, PartialEq)]
enum Waiting {
    Nobody,
    Perhaps,
    /// Somebody who cannot be taken now.
    Somebody,
}

impl Origin {
    /// Listens on `endpoint`, where port 0 lets the kernel choose.
    ///
    /// # Errors
    /// As bind(2) and listen(2): in use, not of this host, not permitted.
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
            means: Means {
                buffer: buffer.into(),
                pattern: Pattern::new(READ),
            },
        })
    }

    /// Where it listens.
    pub fn local(&self) -> &Endpoint {
        &self.local
    }

    /// What ends it, from another thread.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Answers until it is woken. `heard` is given what comes as it comes, and from whom: in such pieces as the network
    /// makes of it, but no character of UTF-8 is cut in two.
    ///
    /// # Errors
    /// As epoll_wait(2). Whatever a client does is no error.
    pub fn run(mut self, mut heard: impl FnMut(Peer, &[u8])) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let (mut ready, mut turns) = (Vec::new(), Vec::new());
        let mut waiting = Waiting::Nobody;
        loop {
            let wait = match waiting {
                _ if !ready.is_empty() => Some(Duration::ZERO),
                Waiting::Nobody => None,
                Waiting::Perhaps => Some(Duration::ZERO),
                Waiting::Somebody => Some(PAUSE),
            };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => return Ok(()),
                    LISTENER => waiting = Waiting::Perhaps,
                    token => {
                        let key = Key::from_number(token.0);
                        if let Some(client) = self.clients.get_mut(key) {
                            client.happened(event);
                            ready.push(key);
                        }
                    }
                }
            }
            std::mem::swap(&mut ready, &mut turns);
            for key in turns.drain(..) {
                let Some(client) = self.clients.get_mut(key) else {
                    continue;
                };
                match client.serve(&mut self.means, &mut heard) {
                    Fate::Waits => {}
                    Fate::More => ready.push(key),
                    Fate::Over => drop(self.clients.remove(key)),
                }
            }
            if waiting != Waiting::Nobody {
                waiting = self.accept();
            }
        }
    }

    fn accept(&mut self) -> Waiting {
        for _ in 0..ACCEPTS {
            let accepted = match self.local {
                Endpoint::Ip(_) => self
                    .listener
                    .accept()
                    .map(|(stream, from)| (stream, Peer::Ip(from))),
                Endpoint::Unix(_) => unix::accept(&self.listener)
                    .map(|stream| (TcpStream::from_std(stream), Peer::Unix)),
            };
            match accepted {
                // One that cannot be registered is dropped.
                Ok((stream, from)) => drop(self.admit(stream, from)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Waiting::Nobody,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return Waiting::Somebody,
                },
            }
        }
        Waiting::Perhaps
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
