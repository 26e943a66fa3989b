//! A small HTTP server for the administration of a proxy: one thread, one request a connection, and no client that delays
//! another.
//!
//! A client has 5 s, and the sizes of its request head and of the rest are bounded. A new client over the limit replaces
//! the oldest one, so a client that sends its request at once is answered although others are idle.

pub mod http;

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::slab::{Key, Slab};
use crate::sys::clock::monotonic_ns;
use crate::sys::tcp;
use http::{Page, Request};

/// Most clients.
const CLIENTS: usize = 32;

/// The longest time in ns from accept(2) to the close.
const TIMEOUT: u64 = 5_000_000_000;

/// Bytes that are discarded behind a request. A socket that is closed with unread bytes sends a reset, which may destroy
/// the response.
const MAX_REST: usize = 64 << 10;

/// The delay in ns after accepting failed, perhaps for lack of file descriptors.
const PAUSE: u64 = 100_000_000;

// Tokens of no client.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// A server that listens.
pub struct AdminServer {
    poll: Poll,
    listener: TcpListener,
    local: SocketAddr,
    waker: Arc<Waker>,
    clients: Slab<Client>,
    /// [`TIMEOUT`], except in tests.
    timeout: u64,
    /// Clients with the time of their arrival, the oldest first. They may be gone.
    arrivals: VecDeque<(u64, Key)>,
}

struct Client {
    stream: TcpStream,
    phase: Phase,
}

enum Phase {
    ReadingRequest(Request),
    Writing {
        answer: Vec<u8>,
        written: usize,
    },
    /// Waits for the client to close, and discards up to so many bytes.
    Draining(usize),
}

impl AdminServer {
    /// Listens on `address`; the kernel chooses if the port is 0.
    ///
    /// # Errors
    /// As bind(2) and listen(2): in use, not of this host, not permitted.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut listener = TcpListener::from_std(tcp::listen(address, false)?);
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            local: listener.local_addr()?,
            listener,
            waker: Arc::new(Waker::new(poll.registry(), WAKER)?),
            poll,
            clients: Slab::new(),
            timeout: TIMEOUT,
            arrivals: VecDeque::new(),
        })
    }

    /// The address on which it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Ends the server from another thread.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Responds until it is woken. `page` returns the page of a path.
    ///
    /// # Errors
    /// As epoll_wait(2). Failures of clients are no errors.
    pub fn run(mut self, page: impl Fn(&str) -> Option<Page>) -> io::Result<()> {
        let mut events = Events::with_capacity(2 * CLIENTS);
        let mut accept = None;
        loop {
            let due = self.arrivals.front().map(|&(at, _)| at + self.timeout);
            let next = [due, accept];
            let wait = next.into_iter().flatten().min().map(|next| {
                let ns = next.saturating_sub(monotonic_ns());
                Duration::from_nanos(ns)
            });
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = monotonic_ns();
            for event in &events {
                match event.token() {
                    WAKER => return Ok(()),
                    LISTENER => accept = Some(now),
                    token => self.serve(Key::from_number(token.0), &page),
                }
            }
            while let Some(&(at, key)) = self.arrivals.front()
                && at + self.timeout <= now
            {
                self.arrivals.pop_front();
                drop(self.clients.remove(key));
            }
            if accept.is_some_and(|at| at <= now) {
                accept = self.accept(now);
            }
        }
    }

    fn serve(&mut self, key: Key, page: &impl Fn(&str) -> Option<Page>) {
        if let Some(client) = self.clients.get_mut(key)
            && let Err(over) = client.turn(page)
            && over.kind() != ErrorKind::WouldBlock
        {
            drop(self.clients.remove(key));
        }
    }

    /// Accepts some clients. Returns when to accept the next, if any are left.
    fn accept(&mut self, now: u64) -> Option<u64> {
        for _ in 0..CLIENTS {
            match self.listener.accept() {
                // A client that cannot be registered is dropped.
                Ok((stream, _)) => drop(self.admit(stream, now)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return None,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return Some(now + PAUSE),
                },
            }
        }
        Some(now)
    }

    fn admit(&mut self, mut stream: TcpStream, now: u64) -> io::Result<()> {
        while self.clients.len() >= CLIENTS
            && let Some((_, first)) = self.arrivals.pop_front()
        {
            drop(self.clients.remove(first));
        }
        let registry = self.poll.registry();
        let key = self.clients.insert(|key| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Token(key.number()), interest)?;
            Ok::<_, io::Error>(Client {
                stream,
                phase: Phase::ReadingRequest(Request::default()),
            })
        })?;
        self.arrivals.push_back((now, key));
        Ok(())
    }
}

impl Client {
    /// Continues as far as possible. Any error but `WouldBlock` ends the client.
    fn turn(&mut self, page: &impl Fn(&str) -> Option<Page>) -> io::Result<()> {
        let mut buffer = [0; 4_096];
        loop {
            let turn = match &mut self.phase {
                Phase::ReadingRequest(request) => match self.stream.read(&mut buffer) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(bytes) => {
                        let bytes = buffer.get(..bytes).unwrap_or_default();
                        if let Some(answer) = request.push(bytes, page) {
                            self.phase = Phase::Writing { answer, written: 0 };
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Phase::Writing { answer, written } => match answer.get(*written..) {
                    Some(rest @ [_, ..]) => self.stream.write(rest).map(|bytes| *written += bytes),
                    _ => {
                        self.stream.shutdown(Shutdown::Write)?;
                        self.phase = Phase::Draining(MAX_REST);
                        Ok(())
                    }
                },
                Phase::Draining(left) => match self.stream.read(&mut buffer) {
                    Ok(bytes) if bytes > 0 && bytes < *left => {
                        *left -= bytes;
                        Ok(())
                    }
                    Ok(_) => return Err(ErrorKind::UnexpectedEof.into()),
                    Err(error) => Err(error),
                },
            };
            match turn {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                turn => turn?,
            }
        }
    }
}

#[cfg(test)]
mod tests;
