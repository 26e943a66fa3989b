//! The receiving process: takes control connections and runs a session for each.
//!
//! One event loop serves every connection and opens every stream; the data of each stream has a thread of its own. A control
//! connection (`connection`) is a greeting, a `session` and the end. Streams are opened by datagrams at the `ports`.

mod clock;
mod connection;
mod ports;
mod record;
mod sending;
mod session;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::sys::small_tcp;
use crate::udp::control::key::Key;
use crate::udp::plan::Plan;
use crate::udp::receive::receivers::Notify;
use crate::udp::result::Measured;
use crate::udp::wire::control::Resume;
use connection::{Connection, Verdict};
use ports::{Knock, Ports};
use session::Place;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_PORT: usize = 2;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long sessions have to bring back their results once the server is to stop.
const GRACE: Duration = Duration::from_secs(3);

/// A connection that has not said hello for this long makes room for another one where there is none left.
const SLOW: Duration = Duration::from_secs(3);

/// Tries to find a port that is free for both TCP and UDP, where the kernel chooses it.
const TRIES: usize = 32;

/// What a server grants its clients at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Control connections at once, those without a session among them.
    pub connections: usize,
    /// Sessions at once.
    pub sessions: usize,
    /// Sessions at once of one client address.
    pub sessions_per_client: usize,
    /// Streams at once, over all sessions: each is a thread and about 2 MB.
    pub streams: usize,
    /// Of a client, from its connection to its plan.
    pub greeting: Duration,
    /// Of a session, from its first message to its result.
    pub duration: Duration,
    /// Without a datagram, from when the session is set up; and of a client without a message.
    pub idle: Duration,
    /// Rows a packet that a session may keep on this host's disk, 24 bytes each.
    pub packet_rows: u64,
    /// Receive or send buffer that a client may ask for, a stream, in bytes: it is this host's memory.
    pub buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_024,
            sessions: 64,
            sessions_per_client: 32,
            streams: 256,
            greeting: Duration::from_secs(15),
            duration: Duration::from_secs(3_600),
            idle: Duration::from_secs(30),
            packet_rows: 50_000_000,
            buffer: 64 << 20,
        }
    }
}

impl Limits {
    /// No limit on time, space or numbers: of a server whose only client is its own process.
    pub fn none() -> Self {
        Self {
            sessions_per_client: usize::MAX,
            duration: Duration::MAX,
            idle: Duration::MAX,
            packet_rows: u64::MAX,
            buffer: usize::MAX,
            ..Self::default()
        }
    }
}

/// How a server is set up, beside its limits.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where threads are kept; as [`crate::udp::placement::Choice::List`] for the only end here.
    pub cpus: Option<Vec<usize>>,
    /// The key that clients must have.
    pub key: Option<Key>,
    /// UDP ports for the streams; `None` is the one that the control port has.
    pub data_ports: Option<RangeInclusive<u16>>,
}

/// What a session measured, and whether the client has it.
#[derive(Debug)]
pub struct SessionReport {
    /// The client.
    pub client: SocketAddr,
    /// What was received here; the sender's CPU and pacing are the client's to report. `None` when nothing was to be.
    pub measured: Option<Measured>,
    /// Whether the server has sent.
    pub sent: bool,
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

/// A server with its sockets bound.
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    ports: Ports,
    poll: Poll,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    limits: Limits,
    options: Options,
    connections: HashMap<Token, Connection>,
    next_token: usize,
    /// Accepting failed, for want of descriptors perhaps: try again at the next tick.
    accept_again: bool,
    /// Ports with more datagrams than were taken.
    unread: Vec<usize>,
    swept: Instant,
}

impl Server {
    /// Binds the control port and the UDP ports. With port 0, one that is free for both is chosen.
    ///
    /// # Errors
    /// As bind(2) and listen(2), with the address that cannot be had.
    pub fn bind(
        bind: SocketAddr,
        limits: Limits,
        options: Options,
    ) -> Result<Self, (io::Error, SocketAddr)> {
        let at = |error| (error, bind);
        let (mut listener, ports) = both(bind, &options)?;
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
            waker,
            stop: Arc::default(),
            limits,
            options,
            connections: HashMap::new(),
            accept_again: false,
            unread: Vec::new(),
            swept: Instant::now(),
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
            let wait = if !self.unread.is_empty() {
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
            if stopping.is_none() && self.stop.load(Ordering::Relaxed) {
                stopping = Some(Instant::now() + GRACE);
                for connection in self.connections.values_mut() {
                    connection.stop("the server was stopped");
                }
            }
            let ready: Vec<Token> = events.iter().map(|event| event.token()).collect();
            self.open(&ready);
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

    /// Takes the datagrams that came to the ports.
    fn open(&mut self, ready: &[Token]) {
        let first = FIRST_PORT..FIRST_PORT + self.ports.len();
        let mut numbers = std::mem::take(&mut self.unread);
        for Token(token) in ready {
            if first.contains(token) && !numbers.contains(&(token - FIRST_PORT)) {
                numbers.push(token - FIRST_PORT);
            }
        }
        for number in numbers {
            let (connections, registry) = (&mut self.connections, self.poll.registry());
            let more = self.ports.receive(number, |knock: Knock| {
                if let Some(connection) = connections.get_mut(&knock.flow.session) {
                    connection.knock(&knock, registry);
                }
            });
            if more {
                self.unread.push(number);
            }
        }
    }

    /// Lets every connection do what it can that has something to do, and takes out those that are over.
    fn serve(&mut self, ready: &[Token], told: &mut impl FnMut(SessionReport)) {
        let mut room = Room::new(self.limits, &self.connections);
        // Threads wake the loop for any of the sessions, and deadlines are everywhere.
        let all = ready.contains(&WAKER)
            || self.swept.elapsed() >= TICK
            || self.stop.load(Ordering::Relaxed);
        let due: Vec<Token> = if all {
            self.swept = Instant::now();
            self.connections.keys().copied().collect()
        } else {
            ready.to_vec()
        };
        let waker = self.waker.clone();
        let notify: Notify = Arc::new(move || drop(waker.wake()));
        let (mut over, mut resumes) = (Vec::new(), Vec::new());
        for token in due {
            let Some(connection) = self.connections.get_mut(&token) else {
                continue;
            };
            if ready.contains(&token) {
                connection.ready();
            }
            let mut place = Place {
                ports: &mut self.ports,
                limits: self.limits,
                cpus: self.options.cpus.clone(),
                notify: notify.clone(),
                token,
            };
            match connection.drive(&mut room, &mut place, self.poll.registry()) {
                Verdict::Goes => {}
                Verdict::Over => over.push(token),
                Verdict::Resumes(resume) => resumes.push((token, resume)),
            }
        }
        for (token, resume) in resumes {
            self.resume(token, &resume);
        }
        for token in over {
            self.ports.withdraw(token);
            if let Some(connection) = self.connections.remove(&token) {
                connection.close().into_iter().for_each(&mut *told);
            }
        }
    }

    /// Gives a session the connection with this token in place of the one that it had.
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
                Ok((stream, client)) => self.admit(stream, client),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
                        && self.make_room() => {}
                Err(_) => {
                    self.accept_again = true;
                    return;
                }
            }
        }
    }

    /// Drops the connection that has been slow to say hello for the longest time, if there is one.
    fn make_room(&mut self) -> bool {
        let greetings = self.connections.iter();
        let slowest = greetings
            .filter_map(|(token, connection)| Some((connection.greets_for()?, *token)))
            .max_by_key(|(time, _)| *time);
        match slowest {
            Some((time, token)) if time > SLOW => self.connections.remove(&token).is_some(),
            _ => false,
        }
    }

    /// Takes a connection in, or drops it when there are too many: it costs nothing to try again.
    fn admit(&mut self, stream: TcpStream, client: SocketAddr) {
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        if self.connections.len() >= self.limits.connections && !self.make_room() {
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

/// Binds the control port, and the UDP ports.
fn both(
    bind: SocketAddr,
    options: &Options,
) -> Result<(TcpListener, Ports), (io::Error, SocketAddr)> {
    let mut tries = 0;
    loop {
        let listener = small_tcp::listen(bind).map_err(|error| (error, bind))?;
        let local = listener.local_addr().map_err(|error| (error, bind))?;
        match Ports::bind(local, options.data_ports.clone()) {
            Ok(ports) => return Ok((TcpListener::from_std(listener), ports)),
            // The kernel chose a port that only TCP has free.
            Err((error, at))
                if bind.port() == 0
                    && options.data_ports.is_none()
                    && error.kind() == ErrorKind::AddrInUse
                    && tries < TRIES =>
            {
                let _ = at;
                tries += 1;
            }
            Err(failed) => return Err(failed),
        }
    }
}

/// What is left of the limits.
struct Room {
    limits: Limits,
    sessions: usize,
    streams: usize,
    clients: HashMap<IpAddr, usize>,
}

impl Room {
    fn new(limits: Limits, connections: &HashMap<Token, Connection>) -> Self {
        let mut room = Self {
            limits,
            sessions: 0,
            streams: 0,
            clients: HashMap::new(),
        };
        for connection in connections.values() {
            let streams = connection.streams();
            if streams > 0 {
                room.sessions += 1;
                room.streams += streams;
                *room.clients.entry(connection.client_ip()).or_default() += 1;
            }
        }
        room
    }

    /// Whether a plan asks for no more than any session gets.
    ///
    /// # Errors
    /// A sentence on what is too much.
    fn allow(&self, plan: &Plan) -> Result<(), String> {
        for (name, short, bytes) in [
            ("receive", "rcvbuf", plan.receive_buffer),
            ("send", "sndbuf", plan.send_buffer),
        ] {
            let most = self.limits.buffer;
            let here = match name {
                "receive" => plan.direction.client_sends(),
                _ => plan.direction.server_sends(),
            };
            if let Some(bytes) = bytes
                && here
                && bytes > most
            {
                return Err(format!(
                    "a {name} buffer of {bytes} bytes is more than the {most} this server gives; ask for less with --{short}, or restart the server with --max-rcvbuf"
                ));
            }
        }
        if let Some(time) = plan.expected_time()
            && time > self.limits.duration
        {
            let most = self.limits.duration.as_secs_f64();
            return Err(format!(
                "the run would take {:.0} s and this server allows {most:.0} s; shorten it, or restart the server with --max-duration",
                time.as_secs_f64()
            ));
        }
        Ok(())
    }

    /// Takes a place for a session of so many streams.
    ///
    /// # Errors
    /// A sentence on which limit is in the way.
    fn take(&mut self, streams: usize, client: IpAddr) -> Result<(), String> {
        let Limits {
            sessions,
            sessions_per_client,
            streams: most,
            ..
        } = self.limits;
        if self.sessions >= sessions {
            return Err(format!(
                "the server is busy with {sessions} sessions, as many as it takes at once; try again later"
            ));
        }
        let of_client = self.clients.entry(client).or_default();
        if *of_client >= sessions_per_client {
            return Err(format!(
                "the server has {sessions_per_client} sessions of {client}, as many as it takes of one address; try again later, or restart it with --max-sessions-per-client"
            ));
        }
        if self.streams + streams > most {
            return Err(format!(
                "the server takes {most} streams at once and has {}; use fewer with --streams or try again later",
                self.streams
            ));
        }
        *of_client += 1;
        self.sessions += 1;
        self.streams += streams;
        Ok(())
    }
}
