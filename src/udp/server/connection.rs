//! A control connection at the server: a greeting, a session and the close. A session outlives its connection.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use std::{io, mem};

use mio::net::TcpStream;
use mio::{Registry, Token};

use super::capacity::Capacity;
use super::ports::PortDatagram;
use super::session::Session;
use super::welcome::SessionContext;
use super::{Limits, SessionReport};
use crate::sys::clock::monotonic_ns;
use crate::sys::shared_port::canonical;
use crate::udp::control::connection::{ConnectionError, ControlConnection};
use crate::udp::control::greeting::{ServerGreeting, ServerStep};
use crate::udp::control::key::Key;
use crate::udp::fleet::hub::Now;
use crate::udp::plan::Plan;
use crate::udp::result::Ended;
use crate::udp::wire::control::{ALIVE, Alive, Hello, Reply, Request, Resume};

/// Time for a client to close a connection after a refusal or the result.
const CLOSE: Duration = Duration::from_secs(2);

/// Least time after which a silent client counts as lost: a client sends a message every second.
const MIN_TIMEOUT: Duration = Duration::from_secs(4);

/// Longest wait for a new connection without a datagram, after a reset. In most cases the program was killed.
const RESET: Duration = Duration::from_secs(10);

/// With more unacknowledged bytes than this, the upload of the result pauses.
const WINDOW: usize = 1 << 20;

/// With more bytes than this that are not sent, the messages to a rank wait in its fleet.
const FLEET_WINDOW: usize = 64 << 10;

/// Most messages of a rank before the other connections are served.
const READ_TURN: usize = 64;

/// Most messages to a rank before the other connections are served.
const SEND_TURN: usize = 256;

/// The status of a connection after a poll.
#[derive(Debug)]
pub(super) enum Status {
    Open,
    Closed,
    /// The connection resumes the session of another connection.
    Resumes(Resume),
}

enum Phase {
    Greeting(ServerGreeting),
    Session(Box<Session>),
    /// A rank of a fleet.
    Fleet,
    /// The last message is sent; the client is to read it and close the connection.
    Closing,
    Closed,
}

/// A control connection, with its session if there is one.
pub(super) struct Connection {
    connection: ControlConnection,
    client: SocketAddr,
    /// The server's address that the client connected to.
    local: SocketAddr,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    alive_at: Instant,
    readable: bool,
    /// Whether a rank has more messages than fit its turn.
    has_more: bool,
    /// The client will not reconnect; the session's threads are ending.
    is_lost: bool,
    report: Option<SessionReport>,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        client: SocketAddr,
        key: Option<Key>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let local = canonical(stream.local_addr()?);
        Ok(Self {
            connection: ControlConnection::new(stream, registry, token)?,
            client,
            local,
            phase: Phase::Greeting(ServerGreeting::new(key)),
            since: Instant::now(),
            alive_at: Instant::now(),
            readable: true,
            has_more: false,
            is_lost: false,
            report: None,
        })
    }

    /// Streams of the session; 0 without a session.
    pub(super) fn streams(&self) -> usize {
        match &self.phase {
            Phase::Session(session) => session.streams(),
            _ => 0,
        }
    }

    /// Time since the greeting began; `None` after the greeting.
    pub(super) fn greeting_age(&self) -> Option<Duration> {
        matches!(self.phase, Phase::Greeting(_)).then(|| self.since.elapsed())
    }

    /// The client's address.
    pub(super) fn client_ip(&self) -> IpAddr {
        self.client.ip().to_canonical()
    }

    /// Whether the session has this secret name.
    pub(super) fn is_session(&self, name: u64) -> bool {
        matches!(&self.phase, Phase::Session(session) if session.welcome().session == name)
    }

    /// The socket is readable or writable.
    pub(super) fn set_ready(&mut self) {
        self.readable = true;
    }

    /// Whether the connection is to be polled again without an event.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Processes a datagram of a flow of the session.
    pub(super) fn on_datagram(&mut self, datagram: &PortDatagram, registry: &Registry) {
        if let Phase::Session(session) = &mut self.phase {
            session.on_datagram(datagram, registry);
        }
    }

    /// Ends the session or the greeting.
    pub(super) fn stop(&mut self, reason: &str) {
        match &mut self.phase {
            Phase::Session(session) => session.end(Ended::Limited(reason.to_owned())),
            Phase::Greeting(_) | Phase::Fleet => self.begin_close(),
            Phase::Closing | Phase::Closed => {}
        }
    }

    /// The outcome of the session, if there was one, when the connection is removed.
    pub(super) fn close(mut self) -> Option<SessionReport> {
        match self.phase {
            Phase::Session(session) => Some(session.into_report(self.client, false)),
            Phase::Greeting(_) | Phase::Fleet | Phase::Closing | Phase::Closed => {
                self.report.take()
            }
        }
    }

    /// Resumes the session over the connection of `other`, whose client received `count` numbered messages.
    pub(super) fn resume(
        &mut self,
        mut other: Self,
        count: u64,
        registry: &Registry,
        token: Token,
    ) {
        let resumed = Reply::Resumed {
            received: self.connection.received(),
        };
        self.readable = true;
        let outcome = other.connection.send(&resumed).and_then(|()| {
            self.connection
                .continue_over(other.connection, count, registry, token)
        });
        if let Err(error) = outcome {
            self.on_error(error, registry);
        }
    }

    /// Refuses to resume a session that this server does not have.
    pub(super) fn refuse_resume(&mut self) {
        self.refuse("this server has no such session, or the session is over".to_owned());
    }

    /// Reads, processes and writes messages.
    pub(super) fn poll(
        &mut self,
        capacity: &mut Capacity,
        context: &mut SessionContext<'_>,
        registry: &Registry,
    ) -> Status {
        if self.is_lost {
            return self.await_threads();
        }
        match self.step(capacity, context) {
            Ok(status) => status,
            Err(error) => self.on_error(error, registry),
        }
    }

    /// Sends the messages that other ranks have caused, and reads none.
    pub(super) fn poll_woken(
        &mut self,
        context: &mut SessionContext<'_>,
        registry: &Registry,
    ) -> Status {
        match self.phase {
            Phase::Fleet => self
                .poll_fleet(context)
                .unwrap_or_else(|error| self.on_error(error, registry)),
            _ => Status::Open,
        }
    }

    fn step(
        &mut self,
        capacity: &mut Capacity,
        context: &mut SessionContext<'_>,
    ) -> Result<Status, ConnectionError> {
        // The results of ranks are not read faster than their collector reads them.
        let is_congested =
            matches!(self.phase, Phase::Fleet) && context.fleets.is_congested(context.token.0);
        if self.readable && !is_congested && !self.has_more {
            self.readable = match self.phase {
                // Closing with unread messages would reset the connection, and drop the bytes that the client has not read yet.
                // The messages are therefore read, and the client closes the connection.
                Phase::Closing => self.connection.discard()?,
                _ => self.connection.fill()?,
            };
            self.connection.flush()?;
        }
        self.has_more = false;
        if let Some(resume) = self.read_messages(capacity, context)? {
            return Ok(Status::Resumes(resume));
        }
        let limits = capacity.limits;
        match &mut self.phase {
            Phase::Greeting(_) if self.since.elapsed() > limits.greeting => Ok(Status::Closed),
            Phase::Closing if self.since.elapsed() > CLOSE => Ok(Status::Closed),
            Phase::Greeting(_) | Phase::Closing => Ok(Status::Open),
            Phase::Closed => Ok(Status::Closed),
            Phase::Session(_) => self.poll_session(&limits),
            Phase::Fleet => self.poll_fleet(context),
        }
    }

    /// Sends the messages to a rank of a fleet.
    fn poll_fleet(&mut self, context: &mut SessionContext<'_>) -> Result<Status, ConnectionError> {
        // Until the socket is full, as only then an event follows.
        self.connection.flush()?;
        let mut sent = 0;
        while self.connection.waiting() < FLEET_WINDOW
            && let Some(reply) = context.fleets.next_reply(context.token.0)
        {
            self.connection.send(&Reply::Fleet(reply))?;
            sent += 1;
            if sent == SEND_TURN {
                self.has_more = true;
                break;
            }
        }
        match self.connection.unread_for() > context.limits.idle.max(MIN_TIMEOUT) {
            true => Err(ConnectionError::Unread),
            false => Ok(Status::Open),
        }
    }

    fn poll_session(&mut self, limits: &Limits) -> Result<Status, ConnectionError> {
        let Phase::Session(session) = &mut self.phase else {
            return Ok(Status::Closed);
        };
        let mut timeout = limits.idle.max(MIN_TIMEOUT);
        if !self.connection.is_connected() {
            timeout = timeout.min(RESET);
        }
        let mut silence = self.connection.last_received().elapsed();
        if !session.is_done() {
            silence = silence.min(session.udp_silence());
        }
        if silence > timeout {
            return Err(ConnectionError::Silent(timeout));
        }
        if self.connection.unread_for() > timeout {
            return Err(ConnectionError::Unread);
        }
        session.poll(limits);
        while self.connection.unacknowledged() < WINDOW
            && let Some(reply) = session.next_reply()
        {
            self.connection.send(&reply)?;
        }
        if session.is_over()
            && self.connection.unacknowledged() == 0
            && self.connection.waiting() == 0
        {
            self.on_delivered();
            return Ok(Status::Open);
        }
        if self.alive_at.elapsed() > ALIVE || self.connection.owes_acknowledgement() {
            self.alive_at = Instant::now();
            let alive = Alive {
                received: self.connection.received(),
                datagrams: session.datagrams(),
            };
            self.connection.send(&Reply::Alive(alive))?;
        }
        Ok(Status::Open)
    }

    /// Processes the client's messages. Returns the message that resumes the session of another connection.
    fn read_messages(
        &mut self,
        capacity: &mut Capacity,
        context: &mut SessionContext<'_>,
    ) -> Result<Option<Resume>, ConnectionError> {
        let mut of_rank = 0;
        loop {
            match &mut self.phase {
                Phase::Greeting(greeting) => {
                    let Some(json) = self.connection.next_json()? else {
                        return Ok(None);
                    };
                    let outcome = match greeting.receive(json) {
                        Ok(ServerStep::Send(reply)) => {
                            self.connection.send(&reply)?;
                            Ok(())
                        }
                        Ok(ServerStep::Hello(hello)) => self.welcome(&hello, capacity, context),
                        Ok(ServerStep::Resume(resume)) => return Ok(Some(resume)),
                        Ok(ServerStep::Fleet(join)) => {
                            let joined = context.fleets.join(context.token.0, join, now());
                            joined.map(|()| self.phase = Phase::Fleet)
                        }
                        Err(reason) => Err(reason),
                    };
                    if let Err(reason) = outcome {
                        self.refuse(reason);
                    }
                }
                Phase::Session(session) => match self.connection.next_message::<Request>()? {
                    None => return Ok(None),
                    Some(request) => session.on_request(request),
                },
                Phase::Fleet if context.fleets.is_congested(context.token.0) => return Ok(None),
                Phase::Fleet if of_rank == READ_TURN => {
                    self.has_more = true;
                    return Ok(None);
                }
                Phase::Fleet => match self.connection.next_message::<Request>()? {
                    None => return Ok(None),
                    Some(Request::Fleet(request)) => {
                        of_rank += 1;
                        let token = context.token.0;
                        if let Err(reason) = context.fleets.on_request(token, request, now()) {
                            context.fleets.closed(token, now());
                            self.refuse(reason);
                            self.begin_close();
                        }
                    }
                    Some(_) => return Err(ConnectionError::Closed),
                },
                Phase::Closing | Phase::Closed => return Ok(None),
            }
        }
    }

    fn welcome(
        &mut self,
        hello: &Hello,
        capacity: &mut Capacity,
        context: &mut SessionContext<'_>,
    ) -> Result<(), String> {
        let plan = Plan::from(hello.plan.clone());
        plan.validate().map_err(|error| error.to_string())?;
        capacity.check(&plan)?;
        capacity.take(plan.all_streams(), self.client_ip())?;
        context.streams = capacity.streams();
        let session = match Session::start(hello, plan, self.local, self.client, context) {
            Ok(session) => session,
            Err(reason) => {
                context.ports.withdraw(context.token);
                return Err(reason);
            }
        };
        self.connection
            .send(&Reply::Welcome(session.welcome().clone()))
            .map_err(|error| error.to_string())?;
        self.phase = Phase::Session(Box::new(session));
        self.since = Instant::now();
        Ok(())
    }

    /// Sends a refusal, and closes the connection unless it has a session.
    fn refuse(&mut self, reason: String) {
        let _ = self.connection.send(&Reply::Refused { reason });
        if matches!(self.phase, Phase::Greeting(_)) {
            self.begin_close();
        }
    }

    fn begin_close(&mut self) {
        self.phase = Phase::Closing;
        self.since = Instant::now();
    }

    /// The client has received all messages.
    fn on_delivered(&mut self) {
        if let Phase::Session(session) = mem::replace(&mut self.phase, Phase::Closed) {
            self.report = Some(session.into_report(self.client, true));
        }
        self.begin_close();
    }

    /// Handles a failed connection. A greeting ends with its connection. A session waits for a new connection, unless the client closed
    /// the connection, sent an invalid message or was silent for too long.
    fn on_error(&mut self, error: ConnectionError, registry: &Registry) -> Status {
        let Phase::Session(session) = &mut self.phase else {
            return self.refuse_invalid(&error);
        };
        let all_sent = session.is_over() && self.connection.waiting() == 0;
        if error.is_resumable() && !session.is_ending() {
            self.connection.disconnect(registry);
            return Status::Open;
        }
        if matches!(error, ConnectionError::Closed) && all_sent {
            // The client has read all messages and closed the connection; its last acknowledgement may be lost.
            self.on_delivered();
            return Status::Closed;
        }
        let reason = match &error {
            ConnectionError::Frame(cause) => {
                let reason = format!("this is a wirebench server, and {cause}");
                let _ = self.connection.send(&Reply::Refused { reason });
                "the client sent an invalid message".to_owned()
            }
            error => format!("the client is lost: {error}"),
        };
        session.end(Ended::PeerLost(reason));
        self.connection.disconnect(registry);
        self.is_lost = true;
        self.await_threads()
    }

    /// Waits for the threads of a session whose client is lost.
    fn await_threads(&mut self) -> Status {
        let Phase::Session(session) = &mut self.phase else {
            return Status::Closed;
        };
        session.poll(&Limits::none());
        if session.is_done() {
            Status::Closed
        } else {
            Status::Open
        }
    }

    /// Refuses an invalid message before there is a session.
    fn refuse_invalid(&mut self, error: &ConnectionError) -> Status {
        if let (ConnectionError::Frame(cause), Phase::Greeting(_)) = (error, &self.phase) {
            self.refuse(format!("this is a wirebench server, and {cause}"));
            return Status::Open;
        }
        Status::Closed
    }
}

/// The present, for fleets.
pub(super) fn now() -> Now {
    Now {
        instant: Instant::now(),
        ns: monotonic_ns(),
    }
}
