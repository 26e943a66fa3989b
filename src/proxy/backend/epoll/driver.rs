//! The backend of a thread over epoll(7): its listener, its events, and what its connections share.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use super::io::{EpollIo, Ready};
use super::scheduler::Scheduler;
use crate::proxy::backend::{Accepted, Backend, Event};
use crate::proxy::buffers::BufferPool;
use crate::proxy::chunk::CHUNK_SIZE;
use crate::proxy::handshake::MAX_ATTEMPTS;
use crate::proxy::listeners::Listener;
use crate::proxy::pipes::PipePool;
use crate::proxy::slab::Key;
use crate::sys::clock::monotonic_ns;
use crate::sys::endpoint::Peer;
use crate::sys::eventfd::EventFd;
use crate::sys::tcp;
use crate::sys::unix;

// Tokens of no connection: they would be those of the last slot in the last generation.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Most events of one call.
const EVENTS: usize = 1_024;

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
    fn token(self, key: Key) -> Token {
        let end = match self {
            Self::Client => 0,
            Self::Server(slot) => usize::from(slot) + 1,
        };
        Token(key.number() << END_BITS | end & MAX_SLOTS)
    }

    fn from_token(token: Token) -> (Key, Self) {
        let end = match token.0 & MAX_SLOTS {
            0 => Self::Client,
            server => Self::Server((server - 1) as u8),
        };
        (Key::from_number(token.0 >> END_BITS), end)
    }
}

/// The backend of a thread.
pub(in crate::proxy) struct Epoll {
    poll: Poll,
    registry: Registry,
    events: Events,
    /// `None` once it is closed.
    listener: Option<TcpListener>,
    listens_on_path: bool,
    /// Clients may be waiting to be accepted.
    has_clients: bool,
    scheduler: Scheduler,
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

    /// # Errors
    /// As accept(2).
    fn accept_from(&self, listener: &TcpListener) -> io::Result<Accepted<TcpStream>> {
        let (stream, peer) = match self.listens_on_path {
            true => (TcpStream::from_std(unix::accept(listener)?), Peer::Unix),
            false => {
                let (stream, peer) = listener.accept()?;
                (stream, Peer::Ip(tcp::canonical(peer)))
            }
        };
        let peer = Some(peer);
        Ok(Accepted { stream, peer })
    }
}

impl Backend for Epoll {
    type Io = EpollIo;
    type Stream = TcpStream;
    type Progress = Ready;
    /// Bytes in the shared buffer.
    type Chunk = usize;

    const READS_AT_ONCE: bool = true;

    fn new(listener: Listener, wake: &EventFd, pipes: usize) -> io::Result<Self> {
        let Listener { socket, local } = listener;
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let mut listener = TcpListener::from_std(socket);
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut waker = SourceFd(&wake.as_fd().as_raw_fd());
        registry.register(&mut waker, WAKER, Interest::READABLE)?;
        Ok(Self {
            poll,
            registry,
            events: Events::with_capacity(EVENTS),
            listener: Some(listener),
            listens_on_path: local.ip().is_none(),
            has_clients: false,
            scheduler: Scheduler::default(),
            buffer: vec![0; CHUNK_SIZE].into(),
            pipes: PipePool::new(pipes),
            buffers: BufferPool::default(),
        })
    }

    fn start(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, deadline: u64, events: &mut Vec<Event<Self>>) -> io::Result<()> {
        let timeout = match (self.scheduler.is_idle(), deadline) {
            (false, _) | (_, 0) => Some(Duration::ZERO),
            (_, u64::MAX) => None,
            (_, deadline) => Some(Duration::from_nanos(
                deadline.saturating_sub(monotonic_ns()),
            )),
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.scheduler.start_round();
        for event in &self.events {
            match event.token() {
                LISTENER => self.has_clients = true,
                WAKER => events.push(Event::Woken),
                token => {
                    let (key, end) = End::from_token(token);
                    events.push(Event::Progress(key, Ready::new(end, event)));
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, _multishot: bool) -> Option<io::Result<Accepted<TcpStream>>> {
        let listener = self.listener.as_ref().filter(|_| self.has_clients)?;
        let accepted = self.accept_from(listener);
        if let Err(error) = &accepted
            && error.kind() == ErrorKind::WouldBlock
        {
            self.has_clients = false;
            return None;
        }
        Some(accepted)
    }

    fn cancel_accept(&mut self) {}

    fn is_accepting(&self) -> bool {
        false
    }

    fn accept_backlog_only(&mut self) -> io::Result<()> {
        // The event of a client that connected just now may not have been taken yet.
        self.has_clients = true;
        Ok(())
    }

    fn close_listener(&mut self) {
        self.listener = None;
    }

    fn schedule(&mut self, key: Key) {
        self.scheduler.schedule(key);
    }

    fn next_turn(&mut self) -> Option<Key> {
        self.scheduler.next_turn()
    }

    fn end_turn(&mut self, can_continue: bool) {
        self.scheduler.end_turn(can_continue);
    }

    fn bytes(&self, chunk: &usize) -> &[u8] {
        self.buffer.get(..*chunk).unwrap_or_default()
    }

    fn release(&mut self, _chunk: usize) {}

    fn pipes(&mut self) -> &mut PipePool {
        &mut self.pipes
    }

    fn close(&mut self) -> bool {
        true
    }
}
