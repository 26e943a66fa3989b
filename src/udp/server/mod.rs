//! The server: accepts control connections, and runs a session for each.
//!
//! One event loop serves all connections and opens all streams; the data of each stream has its own thread. A control connection
//! (`connection`) consists of a greeting, a `session` within the server's `capacity`, and a close. Streams are opened by datagrams at
//! the `ports`; a session has a `clock_flow`, receivers, and `senders`. Its result is sent to the client, and is the server's `record`
//! if the client is lost.

mod capacity;
mod clock_flow;
mod connection;
mod ports;
mod probe;
mod record;
mod senders;
mod session;
mod wakeups;
mod welcome;

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::control::key::Key;
use super::fleet::hub::Hub;
use super::result::Measured;
use super::shared_loops::SharedLoops;
use super::wire::control::Resume;
use crate::sys::small_tcp;
use capacity::Capacity;
pub use capacity::Limits;
use connection::{Connection, Status};
use ports::{PortDatagram, Ports};
use wakeups::Wakeups;
use welcome::SessionContext;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_PORT: usize = 2;

/// How often deadlines are checked.
const TICK: Duration = Duration::from_millis(100);

/// How long sessions may send their results after the server was stopped.
const GRACE: Duration = Duration::from_secs(3);

/// A connection without a hello for this long is closed if the limit of connections is reached.
const SLOW: Duration = Duration::from_secs(3);

/// Attempts to find a port that is free for TCP and UDP, if the kernel chooses the port.
const TRIES: usize = 32;

/// The settings of a server besides its limits.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The CPUs that threads are pinned to; as [`Choice::List`](super::placement::Choice::List) for the only end in this process.
    pub cpus: Option<Vec<usize>>,
    /// The key that clients must have.
    pub key: Option<Key>,
    /// UDP ports of the streams; `None` is the control port.
    pub data_ports: Option<RangeInclusive<u16>>,
}

/// The outcome of a session.
#[derive(Debug)]
pub struct SessionReport {
    /// The client.
    pub client: SocketAddr,
    /// The result of the server's receivers, without the sender's CPU and pacing; `None` unless the client sends.
    pub measured: Option<Measured>,
    /// Whether the server has sent.
    pub sent: bool,
    /// Requests of round trips that the server has answered; `None` in other sessions.
    pub answered: Option<u64>,
    /// Whether the client has the result. Otherwise this is the only copy.
    pub delivered: bool,
}

/// Stops a server from another thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Stops the server: sessions are ended and reported, then [`Server::run`] returns.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.waker.wake();
    }
}

/// A server with bound sockets.
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    ports: Ports,
    poll: Poll,
    waker: Arc<Waker>,
    wakeups: Arc<Wakeups>,
    /// The loops of paced sessions.
    loops: Arc<SharedLoops>,
    /// The fleets of the clients.
    fleets: Hub,
    stop: Arc<AtomicBool>,
    limits: Limits,
    options: Options,
    connections: HashMap<Token, Connection>,
    next_token: usize,
    /// Whether accepting failed, perhaps for lack of file descriptors, and is repeated at the next tick.
    accept_again: bool,
    /// Ports that may have more datagrams.
    unread: Vec<usize>,
    /// Connections with more messages than fit their turn.
    unserved: Vec<Token>,
    /// When all connections were last polled.
    polled_all: Instant,
}

impl Server {
    /// Binds the control port and the UDP ports. Port 0 selects a port that is free for TCP and UDP.
    ///
    /// # Errors
    /// As bind(2) and listen(2), with the address.
    pub fn bind(
        bind: SocketAddr,
        limits: Limits,
        options: Options,
    ) -> Result<Self, (io::Error, SocketAddr)> {
        let at = |error| (error, bind);
        let (mut listener, ports) = bind_both(bind, &options)?;
        let local = listener.local_addr().map_err(at)?;
        let poll = Poll::new().map_err(at)?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(at)?;
        ports.register(poll.registry(), FIRST_PORT).map_err(at)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(at)?);
        Ok(Self {
            local,
            listener,
            next_token: FIRST_PORT + ports.len(),
            ports,
            poll,
            wakeups: Arc::new(Wakeups::new(waker.clone())),
            waker,
            loops: Arc::default(),
            fleets: Hub::default(),
            stop: Arc::default(),
            limits,
            options,
            connections: HashMap::new(),
            accept_again: false,
            unread: Vec::new(),
            unserved: Vec::new(),
            polled_all: Instant::now(),
        })
    }

    /// The address of the control port.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// A handle that stops the server.
    pub fn stopper(&self) -> Stopper {
        Stopper {
            stop: self.stop.clone(),
            waker: self.waker.clone(),
        }
    }

    /// Serves until the server is stopped. `on_report` receives the outcome of each session.
    ///
    /// # Errors
    /// As epoll_wait(2). Errors of a client end its session only.
    pub fn run(mut self, mut on_report: impl FnMut(SessionReport)) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut deadline: Option<Instant> = None;
        loop {
            let wait = if !self.unread.is_empty() || !self.unserved.is_empty() {
                Some(Duration::ZERO)
            } else if self.connections.is_empty() && !self.accept_again {
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
            if deadline.is_none() && self.stop.load(Ordering::Relaxed) {
                deadline = Some(Instant::now() + GRACE);
                for connection in self.connections.values_mut() {
                    connection.stop("the server was stopped");
                }
            }
            let ready: Vec<Token> = events.iter().map(|event| event.token()).collect();
            self.read_ports(&ready);
            // After the wait, as the loop is woken for the first of them only.
            let woken = self.wakeups.take();
            self.poll_connections(&ready, woken, &mut on_report);
            if let Some(deadline) = deadline
                && (self.connections.is_empty() || Instant::now() >= deadline)
            {
                for (_, connection) in self.connections.drain() {
                    connection.close().into_iter().for_each(&mut on_report);
                }
                return Ok(());
            }
        }
    }

    /// Passes the datagrams at the ports to their sessions.
    fn read_ports(&mut self, ready: &[Token]) {
        let tokens = FIRST_PORT..FIRST_PORT + self.ports.len();
        let mut numbers = std::mem::take(&mut self.unread);
        for Token(token) in ready {
            if tokens.contains(token) && !numbers.contains(&(token - FIRST_PORT)) {
                numbers.push(token - FIRST_PORT);
            }
        }
        for number in numbers {
            let (connections, registry) = (&mut self.connections, self.poll.registry());
            let more = self.ports.receive(number, |datagram: PortDatagram| {
                if let Some(connection) = connections.get_mut(&datagram.flow.session) {
                    connection.on_datagram(&datagram, registry);
                }
            });
            if more {
                self.unread.push(number);
            }
        }
    }

    /// Polls the connections that are ready or due, and removes those that have ended.
    fn poll_connections(
        &mut self,
        ready: &[Token],
        woken: Vec<Token>,
        on_report: &mut impl FnMut(SessionReport),
    ) {
        // Any connection may have reached a deadline.
        let all = self.polled_all.elapsed() >= TICK || self.stop.load(Ordering::Relaxed);
        let mut due = woken;
        due.append(&mut self.unserved);
        if all {
            self.polled_all = Instant::now();
            due = self.connections.keys().copied().collect();
            self.fleets.tick(connection::now());
        } else {
            due.extend(ready);
            due.sort_unstable();
            due.dedup();
        }
        let mut capacity = self.capacity(&due);
        let ready: HashSet<Token> = ready.iter().copied().collect();
        let (mut closed, mut resumes) = (Vec::new(), Vec::new());
        for token in due {
            if ready.contains(&token)
                && let Some(connection) = self.connections.get_mut(&token)
            {
                connection.set_ready();
            }
            match self.poll_connection(token, &mut capacity) {
                Status::Open => {}
                Status::Closed => closed.push(token),
                Status::Resumes(resume) => resumes.push((token, resume)),
            }
            self.poll_woken(&mut closed);
        }
        for (token, resume) in resumes {
            self.resume(token, &resume);
        }
        while !closed.is_empty() {
            for token in std::mem::take(&mut closed) {
                self.fleets.closed(token.0, connection::now());
                self.ports.withdraw(token);
                if let Some(connection) = self.connections.remove(&token) {
                    connection.close().into_iter().for_each(&mut *on_report);
                }
            }
            self.poll_woken(&mut closed);
        }
    }

    /// A connection, with what a poll of it needs.
    fn with_context(
        &mut self,
        token: Token,
    ) -> Option<(&mut Connection, SessionContext<'_>, &Registry)> {
        let connection = self.connections.get_mut(&token)?;
        let context = SessionContext {
            ports: &mut self.ports,
            limits: self.limits,
            cpus: self.options.cpus.clone(),
            wakeups: &self.wakeups,
            loops: &self.loops,
            fleets: &mut self.fleets,
            streams: 0,
            token,
        };
        Some((connection, context, self.poll.registry()))
    }

    fn poll_connection(&mut self, token: Token, capacity: &mut Capacity) -> Status {
        let Some((connection, mut context, registry)) = self.with_context(token) else {
            return Status::Open;
        };
        let status = connection.poll(capacity, &mut context, registry);
        if connection.has_more() {
            self.unserved.push(token);
        }
        status
    }

    /// Sends the messages that the message or the loss of a rank has caused. Other ranks may wait for them.
    fn poll_woken(&mut self, closed: &mut Vec<Token>) {
        for token in self.fleets.take_woken().into_iter().map(Token) {
            let Some((connection, mut context, registry)) = self.with_context(token) else {
                continue;
            };
            if let Status::Closed = connection.poll_woken(&mut context, registry) {
                closed.push(token);
            } else if connection.has_more() {
                self.unserved.push(token);
            }
        }
    }

    /// The capacity in use, if one of the connections may open a session. Otherwise it is not needed.
    fn capacity(&self, due: &[Token]) -> Capacity {
        let mut connections = due.iter().filter_map(|token| self.connections.get(token));
        let is_needed = connections.any(|connection| connection.greeting_age().is_some());
        let sessions = self.connections.values();
        let sessions = sessions
            .filter(|_| is_needed)
            .map(|connection| (connection.client_ip(), connection.streams()))
            .filter(|(_, streams)| *streams > 0);
        Capacity::used_by(sessions, self.limits)
    }

    /// Replaces the connection of a session by the connection with this token.
    fn resume(&mut self, token: Token, resume: &Resume) {
        let session = self
            .connections
            .iter()
            .find(|(_, connection)| connection.is_session(resume.session));
        let Some(session) = session.map(|(session, _)| *session) else {
            if let Some(connection) = self.connections.get_mut(&token) {
                connection.refuse_resume();
            }
            return;
        };
        let Some(new) = self.connections.remove(&token) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(&session) {
            connection.resume(new, resume.received, self.poll.registry(), session);
        }
    }

    fn accept(&mut self) {
        self.accept_again = false;
        loop {
            match self.listener.accept() {
                Ok((stream, client)) => self.add_connection(stream, client),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
                        && self.close_slowest() => {}
                Err(_) => {
                    self.accept_again = true;
                    return;
                }
            }
        }
    }

    /// Closes the connection that has been without a hello for the longest time. `false` if there is none.
    fn close_slowest(&mut self) -> bool {
        let greetings = self.connections.iter();
        let slowest = greetings
            .filter_map(|(token, connection)| Some((connection.greeting_age()?, *token)))
            .max_by_key(|(age, _)| *age);
        match slowest {
            Some((age, token)) if age > SLOW => self.connections.remove(&token).is_some(),
            _ => false,
        }
    }

    /// Adds a connection, or closes it if the limit of connections is reached.
    fn add_connection(&mut self, stream: TcpStream, client: SocketAddr) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        if self.connections.len() >= self.limits.connections && !self.close_slowest() {
            return;
        }
        let token = Token(self.next_token);
        self.next_token += 1;
        let key = self.options.key.clone();
        if let Ok(connection) = Connection::new(stream, client, key, self.poll.registry(), token) {
            self.connections.insert(token, connection);
        }
    }
}

/// Binds the control port and the UDP ports.
fn bind_both(
    bind: SocketAddr,
    options: &Options,
) -> Result<(TcpListener, Ports), (io::Error, SocketAddr)> {
    let mut tries = 0;
    loop {
        let listener = small_tcp::listen(bind).map_err(|error| (error, bind))?;
        let local = listener.local_addr().map_err(|error| (error, bind))?;
        match Ports::bind(local, options.data_ports.clone()) {
            Ok(ports) => return Ok((TcpListener::from_std(listener), ports)),
            // The kernel chose a port that is free for TCP only.
            Err((error, _))
                if bind.port() == 0
                    && options.data_ports.is_none()
                    && error.kind() == ErrorKind::AddrInUse
                    && tries < TRIES =>
            {
                tries += 1;
            }
            Err(failed) => return Err(failed),
        }
    }
}
