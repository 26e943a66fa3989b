//! The sockets of a connection's server: those that are being connected, then the one that is connected.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::resources::{End, Epoll, Ready};
use crate::proxy::backend::IoContext;
use crate::proxy::relay::Readable;
use crate::sys::tcp;

/// The progress of a connect(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Pending,
    /// The socket is writable, and perhaps readable: it is connected.
    Connected {
        is_readable: bool,
    },
    /// It may have failed.
    Unclear,
}

/// A socket that is being connected.
#[derive(Debug)]
pub(super) struct Attempt {
    address: SocketAddr,
    stream: TcpStream,
    progress: Progress,
}

/// The server.
#[derive(Debug)]
pub(super) struct Server {
    stream: TcpStream,
    /// Events of the socket carry this.
    slot: u8,
    /// Whether it was readable when it was connected.
    readable: Option<Readable>,
}

/// The sockets of a connection's server.
#[derive(Debug)]
pub(super) enum Servers {
    /// Attempts by their slot; none before the request.
    Connecting(Vec<Option<Attempt>>),
    /// One attempt succeeded; the others are closed.
    Connected(Server),
    /// No server is needed any more.
    Closed,
}

impl Servers {
    /// The server, once it is connected.
    pub(super) fn connected(&self) -> Option<&TcpStream> {
        match self {
            Self::Connected(server) => Some(&server.stream),
            Self::Connecting(_) | Self::Closed => None,
        }
    }

    /// The server, to be closed.
    pub(super) fn into_connected(self) -> Option<TcpStream> {
        match self {
            Self::Connected(server) => Some(server.stream),
            Self::Connecting(_) | Self::Closed => None,
        }
    }

    /// Whether the server was readable when it was connected.
    pub(super) fn readable(&self) -> Option<Readable> {
        match self {
            Self::Connected(server) => server.readable,
            Self::Connecting(_) | Self::Closed => None,
        }
    }

    /// Whether an attempt to connect to this address is in progress.
    pub(super) fn is_connecting_to(&self, address: SocketAddr) -> bool {
        match self {
            Self::Connecting(attempts) => {
                attempts.iter().flatten().any(|one| one.address == address)
            }
            Self::Connected(_) | Self::Closed => false,
        }
    }

    /// Starts to connect.
    ///
    /// # Errors
    /// As [`tcp::connect`], and epoll_ctl(2).
    pub(super) fn connect(
        &mut self,
        address: SocketAddr,
        sends_first: bool,
        context: &IoContext<'_, Epoll>,
    ) -> io::Result<()> {
        let Self::Connecting(attempts) = self else {
            return Ok(());
        };
        let free = attempts.iter().position(Option::is_none);
        let slot = free.unwrap_or(attempts.len());
        let end = End::Server(u8::try_from(slot).unwrap_or(u8::MAX));
        let mut stream = TcpStream::from_std(tcp::connect(address, sends_first)?);
        context.backend.register(&mut stream, context.key, end)?;
        if free.is_none() {
            attempts.push(None);
        }
        if let Some(free) = attempts.get_mut(slot) {
            *free = Some(Attempt {
                address,
                stream,
                progress: Progress::Pending,
            });
        }
        Ok(())
    }

    /// Closes the socket that is being connected to this address.
    pub(super) fn give_up(&mut self, address: SocketAddr) {
        if let Self::Connecting(attempts) = self {
            for attempt in attempts {
                attempt.take_if(|attempt| attempt.address == address);
            }
        }
    }

    /// Records the readiness of a socket. Whether it is that of the server.
    pub(super) fn on_ready(&mut self, slot: u8, ready: Ready) -> bool {
        match self {
            Self::Connected(server) => server.slot == slot,
            Self::Connecting(attempts) => {
                if let Some(Some(attempt)) = attempts.get_mut(usize::from(slot)) {
                    attempt.on_ready(ready);
                }
                false
            }
            Self::Closed => false,
        }
    }

    /// The next completed attempt: its address, and the local address if it succeeded. The first that succeeds becomes the
    /// server, and the other sockets are closed.
    pub(super) fn next_connected(&mut self) -> Option<(SocketAddr, io::Result<SocketAddr>)> {
        let Self::Connecting(attempts) = self else {
            return None;
        };
        for (slot, place) in attempts.iter_mut().enumerate() {
            let outcome = place.as_mut().and_then(Attempt::outcome);
            if let Some(outcome) = outcome
                && let Some(Attempt {
                    address, stream, ..
                }) = place.take()
            {
                let outcome = outcome.map(|(local, readable)| {
                    let slot = u8::try_from(slot).unwrap_or(u8::MAX);
                    *self = Self::Connected(Server {
                        stream,
                        slot,
                        readable,
                    });
                    local
                });
                return Some((address, outcome));
            }
        }
        None
    }
}

impl Attempt {
    fn on_ready(&mut self, ready: Ready) {
        self.progress = match (ready.is_writable, ready.readable) {
            (true, None | Some(Readable::Open)) => Progress::Connected {
                is_readable: ready.readable.is_some(),
            },
            _ => Progress::Unclear,
        };
    }

    /// The local address and whether the server is readable, or the error; `None` while the attempt is pending.
    fn outcome(&mut self) -> Option<io::Result<(SocketAddr, Option<Readable>)>> {
        let readable = match self.progress {
            Progress::Pending => return None,
            Progress::Connected { is_readable } => is_readable.then_some(Readable::Open),
            Progress::Unclear => {
                let outcome = match self.stream.take_error() {
                    Ok(None) => self.stream.peer_addr().map(drop),
                    Ok(Some(error)) | Err(error) => Err(error),
                };
                match outcome {
                    Ok(()) => Some(Readable::Doubtful),
                    Err(error) if error.kind() == ErrorKind::NotConnected => {
                        self.progress = Progress::Pending;
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
