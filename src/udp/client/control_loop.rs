//! The client's event loop: the control connection, the clock exchanges, the client's own threads, and cancellation.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use thiserror::Error;

use super::association::Association;
use super::clock_flow::ClockFlow;
use super::dial::Dial;
use super::reconnect::Reconnect;
use super::{Cancel, RunError, Setup};
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::udp::Notify;
use crate::udp::control::connection::{ConnectionError, ControlConnection};
use crate::udp::control::greeting::GreetingError;
use crate::udp::plan::Plan;
use crate::udp::receive::intervals::CompletedInterval;
use crate::udp::receive::receivers::Receivers;
use crate::udp::round_trip::requester::{self, Requester};
use crate::udp::send::senders::{self, Senders};
use crate::udp::wire::control::{ALIVE, Alive, Hello, Reply, Request, Welcome};

const THREADS: Token = Token(2);
const CANCEL: Token = Token(3);
const CLOCK: Token = Token(4);
/// The first token of the streams' sockets while they are being opened.
const FLOWS: usize = 5;
/// The first token of the connections of UDP associations.
const ASSOCIATIONS: usize = 1 << 16;

/// How often deadlines are checked.
const TICK: Duration = Duration::from_millis(100);

/// An event of a session.
#[derive(Debug)]
pub(super) enum Event {
    /// A message of the server.
    Reply(Reply),
    /// An event of a local sender.
    Sender(senders::Event),
    /// Rows of the local receivers; empty if the receivers have ended.
    Intervals(Vec<CompletedInterval>),
    /// An event of the local requester.
    RoundTrip(requester::Event),
    /// A flow that is being opened is readable.
    FlowReadable,
    /// The SOCKS5 proxy at this address has ended a UDP association. Occurs at most once.
    RelayLost(SocketAddr),
    /// The user has cancelled the run. Occurs at most once.
    Cancelled,
    /// The given time is reached.
    Timeout,
}

/// Why a session is lost.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The control connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The server is silent over TCP and UDP.
    #[error("no answer for {} s (--peer-timeout)", .0.as_secs_f64())]
    Silent(Duration),
    /// The server is alive, but sends no result.
    #[error("no result for {} s (--peer-timeout)", .0.as_secs_f64())]
    NoResult(Duration),
    /// The server is alive, but sends no data.
    #[error("no datagram for {} s (--peer-timeout)", .0.as_secs_f64())]
    NoData(Duration),
    /// The server refused a new connection for the session.
    #[error("{0}")]
    Refused(GreetingError),
    /// The server's host refused a new connection for the session.
    #[error("it accepts no connection any more")]
    Gone,
}

/// The event loop of a session.
pub(super) struct ControlLoop<'a> {
    pub(super) senders: Option<Senders>,
    pub(super) receivers: Option<Receivers>,
    pub(super) requester: Option<Requester>,
    pub(super) clock: Option<ClockFlow>,
    /// The address of the server that answered.
    pub(super) server: SocketAddr,
    pub(super) setup: &'a Setup,
    pub(super) poll: Poll,
    events: Events,
    pub(super) connection: ControlConnection,
    /// The session's secret name.
    pub(super) session: u64,
    pub(super) round_trip: Duration,
    /// A new connection that is being opened.
    pub(super) reconnect: Option<Reconnect>,
    /// When the last new connection was opened.
    pub(super) reconnected_at: Instant,
    /// When a new connection last succeeded, whether the server answered it or not.
    pub(super) connected_at: Instant,
    /// The connection that is being replaced. Closing it would end the session.
    pub(super) retired: Option<TcpStream>,
    alive_at: Instant,
    keepalive_at: Instant,
    wake: EventFd,
    flow_readable: bool,
    /// The connections of UDP associations, until one of them ends.
    associations: Vec<TcpStream>,
    is_relay_lost: bool,
    /// When the server last reported progress.
    last_progress: Instant,
    /// Datagrams that the server has reported.
    datagrams: u64,
    /// When the wait for the result began.
    awaiting_result: Option<Instant>,
    /// Extra time on top of the peer timeout for data and for the result.
    slack: Duration,
    cancel: &'a Cancel,
    cancelled: bool,
}

impl<'a> ControlLoop<'a> {
    /// Connects to the first of the server's addresses that answers, and opens a session.
    pub(super) fn begin(
        plan: &Plan,
        setup: &'a Setup,
        hello: Hello,
        cancel: &'a Cancel,
    ) -> Result<(Self, Welcome), RunError> {
        let mut poll = Poll::new().map_err(RunError::Start)?;
        let wake = EventFd::new().map_err(RunError::Start)?;
        for (wake, token) in [(&wake, THREADS), (&cancel.wake, CANCEL)] {
            let fd = wake.as_fd().as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&fd), token, Interest::READABLE)
                .map_err(RunError::Start)?;
        }
        let mut unreachable = Vec::new();
        for &server in &setup.servers {
            let mut dial = Dial {
                poll,
                server,
                setup,
                cancel,
            };
            match dial.welcome(&hello) {
                Err(RunError::Unreachable(errors)) => unreachable.extend(errors),
                Err(error) => return Err(error),
                Ok((connection, welcome, round_trip)) => {
                    let control_loop = Self {
                        senders: None,
                        receivers: None,
                        requester: None,
                        clock: None,
                        server,
                        setup,
                        poll: dial.poll,
                        events: Events::with_capacity(64),
                        connection,
                        session: welcome.session,
                        round_trip,
                        reconnect: None,
                        reconnected_at: Instant::now(),
                        connected_at: Instant::now(),
                        retired: None,
                        alive_at: Instant::now(),
                        keepalive_at: Instant::now(),
                        wake,
                        flow_readable: false,
                        associations: Vec::new(),
                        is_relay_lost: false,
                        last_progress: Instant::now(),
                        datagrams: 0,
                        awaiting_result: None,
                        slack: plan.longest_gap().saturating_mul(2) + 2 * round_trip,
                        cancel,
                        cancelled: false,
                    };
                    return Ok((control_loop, welcome));
                }
            }
            poll = dial.poll;
        }
        Err(RunError::Unreachable(unreachable))
    }

    /// Wakes this loop from another thread.
    pub(super) fn notify(&self) -> Notify {
        let wake = self.wake.clone();
        Arc::new(move || wake.wake())
    }

    /// The round trip of the greeting.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Watches a socket of a flow; its event is [`Event::FlowReadable`].
    pub(super) fn watch(&mut self, socket: &impl AsRawFd, number: usize) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        self.poll.registry().register(
            &mut SourceFd(&fd),
            Token(FLOWS + number),
            Interest::READABLE,
        )
    }

    /// Stops watching a socket.
    pub(super) fn unwatch(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        self.poll.registry().deregister(&mut SourceFd(&fd))
    }

    /// Keeps the association of a flow until the end of the session, and watches it.
    pub(super) fn keep(&mut self, association: Association) -> io::Result<()> {
        let mut connection = TcpStream::from_std(association.connection);
        let token = Token(ASSOCIATIONS + self.associations.len());
        let registry = self.poll.registry();
        registry.register(&mut connection, token, Interest::READABLE)?;
        self.associations.push(connection);
        Ok(())
    }

    /// Starts clock exchanges.
    pub(super) fn watch_clock(&mut self, clock: ClockFlow) -> io::Result<()> {
        let fd = clock.socket().as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), CLOCK, Interest::READABLE)?;
        self.clock = Some(clock);
        Ok(())
    }

    /// Sends a message to the server.
    pub(super) fn send(&mut self, request: &Request) -> Result<(), SessionError> {
        let sent = self.connection.send(request);
        self.keep_resumable(sent)
    }

    /// Starts the timeout of the result.
    pub(super) fn await_result(&mut self) {
        self.awaiting_result = Some(Instant::now());
    }

    /// Waits for the next event, at most until a time.
    pub(super) fn next(&mut self, until: Option<Instant>) -> Result<Event, SessionError> {
        loop {
            if let Some(event) = self.local_event() {
                return Ok(event);
            }
            if let Some(reply) = self.reply()? {
                return Ok(Event::Reply(reply));
            }
            if self.cancel.is_cancelled() && !self.cancelled {
                self.cancelled = true;
                return Ok(Event::Cancelled);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(Event::Timeout);
            }
            self.check_timeouts()?;
            self.replace_connection()?;
            self.wait(until)?;
        }
    }

    fn local_event(&mut self) -> Option<Event> {
        if let Some(event) = self.senders.as_ref().and_then(Senders::event) {
            return Some(Event::Sender(event));
        }
        if let Some(receivers) = &mut self.receivers {
            let rows = receivers.poll();
            if !rows.is_empty() || receivers.is_done() {
                return Some(Event::Intervals(rows));
            }
        }
        if let Some(event) = self.requester.as_ref().and_then(Requester::event) {
            return Some(Event::RoundTrip(event));
        }
        if std::mem::take(&mut self.is_relay_lost)
            && let Some(via) = &self.setup.via
        {
            return Some(Event::RelayLost(via.address()));
        }
        std::mem::take(&mut self.flow_readable).then_some(Event::FlowReadable)
    }

    /// The server's next message, except those that keep the session alive.
    fn reply(&mut self) -> Result<Option<Reply>, SessionError> {
        loop {
            match self.connection.next_message::<Reply>() {
                Ok(None) => return Ok(None),
                Ok(Some(Reply::Alive(alive))) => {
                    if alive.datagrams > self.datagrams {
                        self.datagrams = alive.datagrams;
                        self.last_progress = Instant::now();
                    }
                }
                Ok(Some(reply)) => {
                    self.last_progress = Instant::now();
                    return Ok(Some(reply));
                }
                Err(error) => {
                    self.keep_resumable(Err(error))?;
                    return Ok(None);
                }
            }
        }
    }

    /// Drops a connection that failed, so that it is replaced. Other errors end the session.
    fn keep_resumable(&mut self, outcome: Result<(), ConnectionError>) -> Result<(), SessionError> {
        match outcome {
            Err(error) if error.is_resumable() => {
                self.connection.disconnect(self.poll.registry());
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Sends keepalives and acknowledgements, and ends the session if the server has been silent for too long.
    fn check_timeouts(&mut self) -> Result<(), SessionError> {
        if self.keepalive_at.elapsed() > ALIVE {
            self.keepalive_at = Instant::now();
            self.receivers.iter().for_each(Receivers::send_keepalives);
        }
        if self.alive_at.elapsed() > ALIVE || self.connection.owes_acknowledgement() {
            self.alive_at = Instant::now();
            let alive = Request::Alive(Alive {
                received: self.connection.received(),
                datagrams: self.receivers.as_ref().map_or(0, Receivers::datagrams),
            });
            self.send(&alive)?;
        }
        let timeout = self.setup.peer_timeout;
        if self.tcp_silence().min(self.udp_silence()) > timeout {
            return Err(SessionError::Silent(timeout));
        }
        let most = timeout.saturating_add(self.slack);
        if self.awaiting_result.is_none() && self.receivers.is_some() && self.data_silence() > most
        {
            return Err(SessionError::NoData(timeout));
        }
        let stalled = self.last_progress.elapsed().min(self.data_silence());
        if let Some(awaiting_result) = self.awaiting_result
            && awaiting_result.elapsed().min(stalled) > most
        {
            return Err(SessionError::NoResult(timeout));
        }
        Ok(())
    }

    /// Whether the server has been silent over TCP for longer than on a working path.
    pub(super) fn is_silent(&self) -> bool {
        self.tcp_silence() > self.longest_lull()
    }

    /// Whether the server's host has not accepted a new connection meanwhile either.
    pub(super) fn is_cut_off(&self) -> bool {
        self.is_silent() && self.connected_at.elapsed() > self.longest_lull()
    }

    fn longest_lull(&self) -> Duration {
        2 * ALIVE + 2 * self.round_trip
    }

    /// Time since the server last sent over TCP.
    pub(super) fn tcp_silence(&self) -> Duration {
        self.connection.last_received().elapsed()
    }

    /// Time since the server last sent over UDP.
    pub(super) fn udp_silence(&self) -> Duration {
        let clock = self.clock.as_ref().and_then(ClockFlow::last_pong);
        let clock = clock.map_or(Duration::MAX, |last| last.elapsed());
        clock.min(self.data_silence())
    }

    /// Time since data last arrived.
    fn data_silence(&self) -> Duration {
        let last = self.receivers.as_ref().and_then(Receivers::last_arrival);
        last.map_or(Duration::MAX, |last| {
            Duration::from_nanos(monotonic_ns().saturating_sub(last))
        })
    }

    /// Sleeps until an event or a deadline, and reads and writes the sockets.
    fn wait(&mut self, until: Option<Instant>) -> Result<(), SessionError> {
        let mut limit = Instant::now() + TICK;
        if let Some(clock) = &self.clock {
            limit = limit.min(clock.due());
        }
        limit = until.map_or(limit, |until| until.min(limit));
        let timeout = limit.saturating_duration_since(Instant::now());
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(ConnectionError::Io(error).into());
            }
            _ => {}
        }
        let mut is_relay_event = false;
        for event in self.events.iter() {
            is_relay_event |= event.token().0 >= ASSOCIATIONS;
            self.flow_readable |= (FLOWS..ASSOCIATIONS).contains(&event.token().0);
        }
        if is_relay_event && self.associations.iter().any(Association::is_closed) {
            // The others are of no use to a run.
            self.associations.clear();
            self.is_relay_lost = true;
        }
        if let Some(clock) = &mut self.clock {
            clock.read();
            clock.tick();
        }
        let moved = self
            .connection
            .flush()
            .and_then(|()| self.connection.fill().map(|_| ()));
        self.keep_resumable(moved)?;
        self.poll_reconnect()
    }
}
