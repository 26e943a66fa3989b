//! The backend of a thread over epoll(7): its listener and its events.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::io::EpollIo;
use super::resources::{End, Epoll, Ready};
use super::scheduler::Scheduler;
use crate::proxy::backend::{Accepted, Backend, Event};
use crate::proxy::buffers::BufferPool;
use crate::proxy::chunk::CHUNK_SIZE;
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

impl Epoll {
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
