//! What the connections of a thread share over epoll(7), and how an event identifies its socket.

use std::io;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use super::scheduler::Scheduler;
use crate::proxy::buffers::BufferPool;
use crate::proxy::handshake::MAX_ATTEMPTS;
use crate::proxy::pipes::PipePool;
use crate::proxy::relay::Readable;
use crate::proxy::slab::Key;

/// The sockets of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    /// The server or one that is being connected to, by its slot, which is less than [`MAX_SLOTS`].
    Server(u8),
}

/// Most sockets of servers that tokens can distinguish.
const MAX_SLOTS: usize = (1 << END_BITS) - 1;

/// Bits of a token that identify the socket of a connection.
const END_BITS: u32 = 8;

const _: () = assert!(MAX_ATTEMPTS <= MAX_SLOTS);

impl End {
    pub(super) fn token(self, key: Key) -> Token {
        let end = match self {
            Self::Client => 0,
            Self::Server(slot) => usize::from(slot) + 1,
        };
        Token(key.number() << END_BITS | end & MAX_SLOTS)
    }

    pub(super) fn from_token(token: Token) -> (Key, Self) {
        let end = match token.0 & MAX_SLOTS {
            0 => Self::Client,
            server => Self::Server((server - 1) as u8),
        };
        (Key::from_number(token.0 >> END_BITS), end)
    }
}

/// The readiness of one socket.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Ready {
    pub(super) end: End,
    pub(super) readable: Option<Readable>,
    pub(super) is_writable: bool,
    pub(super) is_error: bool,
    pub(super) is_read_closed: bool,
}

impl Ready {
    pub(super) fn new(end: End, event: &Event) -> Self {
        let is_error = event.is_error();
        Self {
            end,
            // The kernel reports urgent data and the end of the stream in every event as long as they last.
            readable: match () {
                () if event.is_priority() || is_error => Some(Readable::Doubtful),
                () if event.is_read_closed() => Some(Readable::Last),
                () if event.is_readable() => Some(Readable::Open),
                () => None,
            },
            is_writable: event.is_writable(),
            is_error,
            is_read_closed: event.is_read_closed(),
        }
    }
}

/// The backend of a thread.
pub(in crate::proxy) struct Epoll {
    pub(super) poll: Poll,
    pub(super) registry: Registry,
    pub(super) events: Events,
    /// `None` once it is closed.
    pub(super) listener: Option<TcpListener>,
    pub(super) listens_on_path: bool,
    /// Clients may be waiting to be accepted.
    pub(super) has_clients: bool,
    pub(super) scheduler: Scheduler,
    /// Received bytes of the connection that has its turn; unused between turns.
    pub(super) buffer: Box<[u8]>,
    pub(super) pipes: PipePool,
    pub(super) buffers: BufferPool,
}

impl Epoll {
    /// # Errors
    /// As epoll_ctl(2).
    pub(super) fn register(&self, stream: &mut TcpStream, key: Key, end: End) -> io::Result<()> {
        // Edge-triggered, and a stream becomes writable only after it was full: this interest costs nothing.
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.registry.register(stream, end.token(key), interest)
    }
}
