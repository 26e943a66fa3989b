//! A small HTTP server for those who look after a proxy: one thread, a page a connection, and no client that could queue up another.
//!
//! A client has 5 s for all of it, and a head and a rest that are bounded. One too many pushes the one out that came
//! first: who asks at once is answered also while others only sit there.

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

/// Clients at once.
const CLIENTS: usize = 32;

/// How long a client has from when it is accepted, in ns.
const PATIENCE: u64 = 5_000_000_000;

/// Bytes that are read and forgotten behind a request. Closed with bytes unread, a connection would be reset, and the answer
/// perhaps lost.
const REST: usize = 64 << 10;

/// How long until accepting is tried again after it failed, for want of file descriptors perhaps, in ns.
const PAUSE: u64 = 100_000_000;

// Tokens of no connection.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// A server that listens.
pub struct AdminServer {
    poll: Poll,
    listener: TcpListener,
    local: SocketAddr,
    waker: Arc<Waker>,
    clients: Slab<Client>,
    /// In ns; only tests have less.
    patience: u64,
    /// Who came when, and may be gone.
    arrivals: VecDeque<(u64, Key)>,
}

struct Client {
    stream: TcpStream,
    phase: Phase,
}

enum Phase {
    Asking(Request),
    Told {
        answer: Vec<u8>,
        written: usize,
    },
    /// Until the client hangs up, or has said so many bytes more.
    Leaving(usize),
}

impl AdminServer {
    /// Listens on `address`, where port 0 lets the kernel choose.
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
            patience: PATIENCE,
            arrivals: VecDeque::new(),
        })
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What ends it, from another thread.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Answers until it is woken. `page` tells what is at a path.
    ///
    /// # Errors
    /// As epoll_wait(2). Whatever a client does is no error.
    pub fn run(mut self, page: impl Fn(&str) -> Option<Page>) -> io::Result<()> {
        let mut events = Events::with_capacity(2 * CLIENTS);
        let mut accept = None;
        loop {
            let due = self.arrivals.front().map(|&(at, _)| at + self.patience);
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
                && at + self.patience <= now
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

    /// Takes some of those who wait; when to take others, if any are left.
    fn accept(&mut self, now: u64) -> Option<u64> {
        for _ in 0..CLIENTS {
            match self.listener.accept() {
                // One that cannot be registered is dropped.
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
                phase: Phase::Asking(Request::default()),
            })
        })?;
        self.arrivals.push_back((now, key));
        Ok(())
    }
}

impl Client {
    /// Does what can be done; an error is its end, unless it has to wait.
    fn turn(&mut self, page: &impl Fn(&str) -> Option<Page>) -> io::Result<()> {
        let mut buffer = [0; 4_096];
        loop {
            let turn = match &mut self.phase {
                Phase::Asking(request) => match self.stream.read(&mut buffer) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(bytes) => {
                        let said = buffer.get(..bytes).unwrap_or_default();
                        if let Some(answer) = request.push(said, page) {
                            self.phase = Phase::Told { answer, written: 0 };
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Phase::Told { answer, written } => match answer.get(*written..) {
                    Some(rest @ [_, ..]) => self.stream.write(rest).map(|bytes| *written += bytes),
                    _ => {
                        self.stream.shutdown(Shutdown::Write)?;
                        self.phase = Phase::Leaving(REST);
                        Ok(())
                    }
                },
                Phase::Leaving(left) => match self.stream.read(&mut buffer) {
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
