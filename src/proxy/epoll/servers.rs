//! The sockets of a connection's server: those that are being connected to, or the one that is connected.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::TcpStream;

use super::connection::{End, register, token};
use super::means::Means;
use crate::proxy::slab::Key;
use crate::sys::tcp;

/// How a connect(2) goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    /// The socket is writable, and perhaps readable too: it is connected.
    Done {
        readable: bool,
    },
    /// It may have failed.
    Doubtful,
}

/// A server that is being connected to.
#[derive(Debug)]
pub(super) struct Attempt {
    address: SocketAddr,
    stream: TcpStream,
    state: State,
}

/// A server that is connected.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) stream: TcpStream,
    pub(super) local: SocketAddr,
    /// Events of the socket carry this.
    slot: u8,
    /// The server has something to say, as far as is known; `Some(true)` where that is doubtful.
    pub(super) readable: Option<bool>,
}

/// What there is of a server.
#[derive(Debug)]
pub(super) enum Servers {
    /// Attempts by their slot; none before the request.
    Tried(Vec<Option<Attempt>>),
    /// The server.
    Connected(Connected),
    /// There was or will be none.
    Gone,
}

impl Servers {
    /// The server, once it is connected.
    pub(super) fn connected(&self) -> Option<&TcpStream> {
        match self {
            Self::Connected(server) => Some(&server.stream),
            Self::Tried(_) | Self::Gone => None,
        }
    }

    /// A socket is being connected to this address.
    pub(super) fn is_tried(&self, address: SocketAddr) -> bool {
        match self {
            Self::Tried(attempts) => attempts.iter().flatten().any(|one| one.address == address),
            Self::Connected(_) | Self::Gone => false,
        }
    }

    /// Begins to connect; with the first bytes at hand where the proxy `speaks` first.
    ///
    /// # Errors
    /// As [`tcp::connect`], and epoll_ctl(2).
    pub(super) fn begin(
        &mut self,
        address: SocketAddr,
        speaks: bool,
        key: Key,
        means: &Means,
    ) -> io::Result<()> {
        let Self::Tried(attempts) = self else {
            return Ok(());
        };
        let free = attempts.iter().position(Option::is_none);
        let slot = free.unwrap_or(attempts.len());
        let end = End::Server(u8::try_from(slot).unwrap_or(u8::MAX));
        let mut stream = TcpStream::from_std(tcp::connect(address, speaks)?);
        register(&means.registry, &mut stream, token(key, end))?;
        let attempt = Some(Attempt {
            address,
            stream,
            state: State::Waits,
        });
        match attempts.get_mut(slot) {
            Some(place) => *place = attempt,
            None => attempts.push(attempt),
        }
        Ok(())
    }

    /// Closes the socket that is being connected to this address.
    pub(super) fn give_up(&mut self, address: SocketAddr) {
        if let Self::Tried(attempts) = self {
            for place in attempts {
                place.take_if(|attempt| attempt.address == address);
            }
        }
    }

    /// Takes note of what a socket is ready for. Whether it is the one of the server.
    pub(super) fn ready(&mut self, slot: u8, event: &Event) -> bool {
        match self {
            Self::Connected(server) => server.slot == slot,
            Self::Tried(attempts) => {
                if let Some(Some(attempt)) = attempts.get_mut(usize::from(slot)) {
                    attempt.ready(event);
                }
                false
            }
            Self::Gone => false,
        }
    }

    /// An attempt that is over, which is none any more: to where, and what came of it.
    pub(super) fn settled(&mut self) -> Option<(SocketAddr, io::Result<Connected>)> {
        let Self::Tried(attempts) = self else {
            return None;
        };
        for (slot, place) in attempts.iter_mut().enumerate() {
            let outcome = place.as_mut().and_then(Attempt::outcome);
            if let Some(outcome) = outcome
                && let Some(attempt) = place.take()
            {
                let connected = outcome.map(|(local, readable)| Connected {
                    stream: attempt.stream,
                    local,
                    slot: u8::try_from(slot).unwrap_or(u8::MAX),
                    readable,
                });
                return Some((attempt.address, connected));
            }
        }
        None
    }
}

impl Attempt {
    fn ready(&mut self, event: &Event) {
        let sound = !(event.is_priority() || event.is_error() || event.is_read_closed());
        self.state = match event.is_writable() && sound {
            true => State::Done {
                readable: event.is_readable(),
            },
            false => State::Doubtful,
        };
    }

    /// What came of it, with the local address and whether the server has spoken; nothing while it goes on.
    fn outcome(&mut self) -> Option<io::Result<(SocketAddr, Option<bool>)>> {
        let readable = match self.state {
            State::Waits => return None,
            State::Done { readable } => readable.then_some(false),
            State::Doubtful => {
                let outcome = match self.stream.take_error() {
                    Ok(None) => self.stream.peer_addr().map(drop),
                    Ok(Some(error)) | Err(error) => Err(error),
                };
                match outcome {
                    Ok(()) => Some(true),
                    Err(error) if error.kind() == ErrorKind::NotConnected => {
                        self.state = State::Waits;
                        return None;
                    }
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        let local = tcp::connected_from(&self.stream, self.address);
        Some(local.map(|local| (local, readable)))
    }
}
