//! The receiving process: takes control connections and runs a session for each.
//!
//! One event loop serves every connection, so idle ones cost a descriptor and nothing more; the data
//! of each stream has a thread of its own. A connection is a greeting, a
//! session, a report and the end, each in a file of its own below this one.

mod connection;
mod intervals;
mod report;
mod session;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::report::record::Measured;
use connection::{Connection, Verdict};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CONNECTION: usize = 2;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long sessions have to bring back their results once the server is to stop.
const GRACE: Duration = Duration::from_secs(3);

/// What a server grants its clients at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Control connections at once, those without a session among them.
    pub connections: usize,
    /// Sessions at once.
    pub sessions: usize,
    /// Streams at once, over all sessions: each is a thread and about 2 MB.
    pub streams: usize,
    /// Of a session, from its first message to its result.
    pub duration: Duration,
    /// Without a datagram, from when the session is set up.
    pub idle: Duration,
    /// Rows a packet that a session may keep on this host's disk, 24 bytes each.
    pub packet_rows: u64,
    /// Receive buffer that a client may ask for, a stream, in bytes: it is this host's memory.
    pub receive_buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            sessions: 64,
            streams: 256,
            duration: Duration::from_secs(3_600),
            idle: Duration::from_secs(30),
            packet_rows: 50_000_000,
            receive_buffer: 64 << 20,
        }
    }
}

/// What a session measured, and whether the client has it.
#[derive(Debug)]
pub struct SessionReport {
    /// The client.
    pub client: SocketAddr,
    /// As the receiver alone can tell it: the sender's CPU and pacing are the client's to report.
    pub measured: Measured,
    /// The result was brought back. Otherwise this is the only copy.
    pub delivered: bool,
}

/// Ends a server from another thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Ends it: sessions are ended and reported, then [`Server::run`] returns.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
    }
}

/// A server with its socket bound.
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    poll: Poll,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    limits: Limits,
    /// Where receiver threads are kept; as [`super::placement::Choice::List`] for the only end here.
    cpus: Option<Vec<usize>>,
    connections: HashMap<Token, Connection>,
    next_token: usize,
    /// Accepting failed, for want of descriptors perhaps: try again at the next tick.
    accept_again: bool,
}

impl Server {
    /// Binds the control port. Receiver threads are kept on `cpus`, where given, one after the other.
    ///
    /// # Errors
    /// As bind(2) and listen(2).
    pub fn bind(bind: SocketAddr, limits: Limits, cpus: Option<Vec<usize>>) -> io::Result<Self> {
        let mut listener = TcpListener::bind(bind)?;
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            local: listener.local_addr()?,
            listener,
            poll,
            waker,
            stop: Arc::default(),
            limits,
            cpus,
            connections: HashMap::new(),
            next_token: FIRST_CONNECTION,
            accept_again: false,
        })
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// A handle that ends it.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            stop: self.stop.clone(),
            waker: self.waker.clone(),
        }
    }

    /// Serves until it is stopped. `told` is given what each session has measured when it is over.
    ///
    /// # Errors
    /// As epoll_wait(2). Whatever a client does is no error.
    pub fn run(mut self, mut told: impl FnMut(SessionReport)) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut stopping: Option<Instant> = None;
        loop {
            let wait = if self.connections.is_empty() && !self.accept_again {
                None
            } else {
                Some(TICK)
            };
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if self.accept_again || events.iter().any(|event| event.token() == LISTENER) {
                self.accept();
            }
            if stopping.is_none() && self.stop.load(Ordering::Relaxed) {
                stopping = Some(Instant::now() + GRACE);
                for connection in self.connections.values_mut() {
                    connection.stop("the server was stopped");
                }
            }
            let ready: Vec<Token> = events.iter().map(|event| event.token()).collect();
            self.serve(&ready, &mut told);
            if let Some(deadline) = stopping
                && (self.connections.is_empty() || Instant::now() >= deadline)
            {
                for (_, connection) in self.connections.drain() {
                    connection.close().into_iter().for_each(&mut told);
                }
                return Ok(());
            }
        }
    }

    /// Lets every connection do what it can, and takes out those that are over.
    fn serve(&mut self, ready: &[Token], told: &mut impl FnMut(SessionReport)) {
        let mut room = Room::new(self.limits, self.cpus.clone(), &self.connections);
        let mut over = Vec::new();
        for (&token, connection) in &mut self.connections {
            if ready.contains(&token) {
                connection.ready();
            }
            if connection.drive(&mut room, &self.waker) == Verdict::Over {
                over.push(token);
            }
        }
        for token in over {
            if let Some(connection) = self.connections.remove(&token) {
                connection.close().into_iter().for_each(&mut *told);
            }
        }
    }

    fn accept(&mut self) {
        self.accept_again = false;
        loop {
            match self.listener.accept() {
                Ok((stream, client)) => self.admit(stream, client),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.accept_again = true;
                    return;
                }
            }
        }
    }

    /// Takes a connection in, or drops it when there are too many: it costs nothing to try again.
    fn admit(&mut self, stream: TcpStream, client: SocketAddr) {
        if self.connections.len() >= self.limits.connections || self.stop.load(Ordering::Relaxed) {
            return;
        }
        let token = Token(self.next_token);
        self.next_token += 1;
        if let Ok(connection) = Connection::new(stream, client, self.poll.registry(), token) {
            self.connections.insert(token, connection);
        }
    }
}

/// What is left of the limits.
struct Room {
    limits: Limits,
    cpus: Option<Vec<usize>>,
    sessions: usize,
    streams: usize,
}

impl Room {
    fn new(
        limits: Limits,
        cpus: Option<Vec<usize>>,
        connections: &HashMap<Token, Connection>,
    ) -> Self {
        let sessions = connections
            .values()
            .filter(|connection| connection.streams() > 0)
            .count();
        let streams = connections.values().map(Connection::streams).sum();
        Self {
            limits,
            cpus,
            sessions,
            streams,
        }
    }

    /// Takes a place for a session of so many streams.
    ///
    /// # Errors
    /// A sentence on which limit is in the way.
    fn take(&mut self, streams: usize) -> Result<(), String> {
        let Limits {
            sessions,
            streams: most,
            ..
        } = self.limits;
        if self.sessions >= sessions {
            return Err(format!(
                "the server is busy with {sessions} sessions, as many as it takes at once; try again later"
            ));
        }
        if self.streams + streams > most {
            return Err(format!(
                "the server takes {most} streams at once and has {}; use fewer with --streams or try again later",
                self.streams
            ));
        }
        self.sessions += 1;
        self.streams += streams;
        Ok(())
    }
}
