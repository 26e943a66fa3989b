//! The client's event loop: the control connection and its replacement, the clock, its own threads, and the user who may cancel.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use thiserror::Error;

use super::clock_flow::ClockFlow;
use super::dial::Dial;
use super::{Cancel, RunError, Setup};
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::small_tcp;
use crate::udp::control::connection::{Link, LinkError};
use crate::udp::control::greeting::{ClientGreeting, ClientStep, GreetingError};
use crate::udp::receive::receivers::{Notify, Receivers};
use crate::udp::result::Interval;
use crate::udp::send::senders::{self, Senders};
use crate::udp::wire::control::{
    ALIVE, Alive, Hello, RECONNECT, Reply, Request, Resume, VERSION, Welcome,
};

pub(super) const LINK: Token = Token(0);
const ATTEMPT: Token = Token(1);
const THREADS: Token = Token(2);
const CANCEL: Token = Token(3);
const CLOCK: Token = Token(4);
/// The streams' sockets while they are being opened.
pub(super) const FLOWS: usize = 5;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long a new connection may take at least, before another one is tried.
const ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// Time between two tries for a new connection.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

/// A server that refuses connections and has been silent over UDP for this long is gone.
const REFUSED: Duration = Duration::from_secs(2);

/// What happens next in a session.
#[derive(Debug)]
pub(super) enum Event {
    Reply(Reply),
    Sender(senders::Event),
    /// Intervals of the local receivers.
    Rows(Vec<Interval>),
    /// Datagrams at a stream that is being opened.
    Flows,
    /// Happens at most once.
    Cancelled,
    /// The time that was given has come.
    Time,
}

/// Why a session cannot go on.
#[derive(Debug, Error)]
pub enum Lost {
    /// The control connection is of no more use.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Neither TCP nor UDP brought anything.
    #[error("no answer for {} s (--peer-timeout)", .0.as_secs_f64())]
    Silent(Duration),
    /// The server is there and its result does not come.
    #[error("no result for {} s (--peer-timeout)", .0.as_secs_f64())]
    NoResult(Duration),
    /// The server is there and sends no data.
    #[error("no datagram came for {} s (--peer-timeout)", .0.as_secs_f64())]
    NoData(Duration),
    /// Another connection was answered, and refused.
    #[error("{0}")]
    Refused(GreetingError),
    /// Another connection was refused by the kernel there.
    #[error("it accepts no connection any more")]
    Gone,
}

pub(super) struct Conversation<'a> {
    pub(super) senders: Option<Senders>,
    pub(super) receivers: Option<Receivers>,
    pub(super) clock: Option<ClockFlow>,
    /// The address that answered.
    pub(super) server: SocketAddr,
    setup: &'a Setup,
    poll: Poll,
    events: Events,
    link: Link,
    /// The session's secret name, once it is set up.
    session: Option<u64>,
    /// How long the server took for its first answer.
    round_trip: Duration,
    attempt: Option<Attempt>,
    attempted: Instant,
    /// When a new connection was last seen to be made, whether it is answered or not.
    connected: Instant,
    /// The connection that is being replaced: closing it would end the session.
    retired: Option<TcpStream>,
    alive_at: Instant,
    kept_open_at: Instant,
    wake: EventFd,
    flows_ready: bool,
    /// When the server last reported that it got on.
    progress: Instant,
    datagrams: u64,
    /// The wait for the result began.
    waiting: Option<Instant>,
    /// How much longer than the peer timeout data and the result may take to come.
    slack: Duration,
    cancel: &'a Cancel,
    cancelled: bool,
}

/// A new connection for a session that lost its own.
struct Attempt {
    link: Link,
    greeting: ClientGreeting,
    began: Instant,
}

impl<'a> Conversation<'a> {
    /// Connects to the first of the server's addresses that answers, and sets a session up.
    pub(super) fn begin(
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
        let mut failed = Vec::new();
        for &server in &setup.servers {
            let mut dial = Dial {
                poll,
                server,
                setup,
                cancel,
            };
            match dial.welcome(&hello) {
                Err(RunError::Unreachable(errors)) => failed.extend(errors),
                Err(error) => return Err(error),
                Ok((link, welcome, round_trip)) => {
                    let conversation = Self {
                        senders: None,
                        receivers: None,
                        clock: None,
                        server,
                        setup,
                        poll: dial.poll,
                        events: Events::with_capacity(64),
                        link,
                        session: Some(welcome.session),
                        round_trip,
                        attempt: None,
                        attempted: Instant::now(),
                        connected: Instant::now(),
                        retired: None,
                        alive_at: Instant::now(),
                        kept_open_at: Instant::now(),
                        wake,
                        flows_ready: false,
                        progress: Instant::now(),
                        datagrams: 0,
                        waiting: None,
                        slack: hello.plan.longest_gap().saturating_mul(2) + 2 * round_trip,
                        cancel,
                        cancelled: false,
                    };
                    return Ok((conversation, welcome));
                }
            }
            poll = dial.poll;
        }
        Err(RunError::Unreachable(failed))
    }

    /// Wakes this loop from another thread.
    pub(super) fn notify(&self) -> Notify {
        let wake = self.wake.clone();
        Arc::new(move || wake.wake())
    }

    /// How long the server took for its first answer.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Watches a socket; the event is [`Event::Flows`].
    pub(super) fn watch(&mut self, socket: &impl AsRawFd, number: usize) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        self.poll.registry().register(
            &mut SourceFd(&fd),
            Token(FLOWS + number),
            Interest::READABLE,
        )
    }

    /// Watches a socket no longer.
    pub(super) fn unwatch(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        let fd = socket.as_raw_fd();
        self.poll.registry().deregister(&mut SourceFd(&fd))
    }

    /// Exchanges clocks from now on.
    pub(super) fn watch_clock(&mut self, clock: ClockFlow) -> io::Result<()> {
        let fd = clock.socket().as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&fd), CLOCK, Interest::READABLE)?;
        self.clock = Some(clock);
        Ok(())
    }

    pub(super) fn send(&mut self, request: &Request) -> Result<(), Lost> {
        let sent = self.link.send(request);
        self.survive(sent)
    }

    /// From now on the result is awaited.
    pub(super) fn await_result(&mut self) {
        self.waiting = Some(Instant::now());
    }

    /// Waits for what happens next, until a time at most.
    pub(super) fn next(&mut self, until: Option<Instant>) -> Result<Event, Lost> {
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
                return Ok(Event::Time);
            }
            self.check_alive()?;
            self.mend()?;
            self.wait(until)?;
        }
    }

    fn local_event(&mut self) -> Option<Event> {
        if let Some(event) = self.senders.as_ref().and_then(Senders::event) {
            return Some(Event::Sender(event));
        }
        if let Some(receivers) = &mut self.receivers {
            let rows = receivers.attend();
            if !rows.is_empty() || receivers.is_done() {
                return Some(Event::Rows(rows));
            }
        }
        std::mem::take(&mut self.flows_ready).then_some(Event::Flows)
    }

    /// The next message of the server, but for those that only keep the session alive.
    fn reply(&mut self) -> Result<Option<Reply>, Lost> {
        loop {
            match self.link.next_message::<Reply>() {
                Ok(None) => return Ok(None),
                Ok(Some(Reply::Alive(alive))) => {
                    if alive.datagrams > self.datagrams {
                        self.datagrams = alive.datagrams;
                        self.progress = Instant::now();
                    }
                }
                Ok(Some(reply)) => {
                    self.progress = Instant::now();
                    return Ok(Some(reply));
                }
                Err(error) => {
                    self.survive(Err(error))?;
                    return Ok(None);
                }
            }
        }
    }

    /// A failed connection is replaced; anything else that is wrong with it ends the session.
    fn survive(&mut self, outcome: Result<(), LinkError>) -> Result<(), Lost> {
        match outcome {
            Err(error) if error.is_resumable() => {
                self.link.disconnect(self.poll.registry());
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Sends what keeps the session alive, and ends it when the server has been silent for too long.
    fn check_alive(&mut self) -> Result<(), Lost> {
        if self.kept_open_at.elapsed() > ALIVE {
            self.kept_open_at = Instant::now();
            self.receivers.iter().for_each(Receivers::keep_open);
        }
        if self.alive_at.elapsed() > ALIVE || self.link.owes_acknowledgement() {
            self.alive_at = Instant::now();
            let alive = Request::Alive(Alive {
                received: self.link.received(),
                datagrams: self.receivers.as_ref().map_or(0, Receivers::datagrams),
            });
            self.send(&alive)?;
        }
        let patience = self.setup.peer_timeout;
        if self.link.heard().elapsed().min(self.heard()) > patience {
            return Err(Lost::Silent(patience));
        }
        let most = patience.saturating_add(self.slack);
        if self.waiting.is_none() && self.receivers.is_some() && self.data_heard() > most {
            return Err(Lost::NoData(patience));
        }
        let progress = self.progress.elapsed().min(self.data_heard());
        if let Some(waiting) = self.waiting
            && waiting.elapsed().min(progress) > most
        {
            return Err(Lost::NoResult(patience));
        }
        Ok(())
    }

    /// Whether the server has sent nothing over TCP for longer than it does on a path that works.
    pub(super) fn is_silent(&self) -> bool {
        self.link.heard().elapsed() > self.lull()
    }

    /// Whether the server's host has not even accepted a connection meanwhile.
    pub(super) fn is_cut_off(&self) -> bool {
        self.is_silent() && self.connected.elapsed() > self.lull()
    }

    fn lull(&self) -> Duration {
        2 * ALIVE + 2 * self.round_trip
    }

    /// How long ago the server last showed itself over UDP.
    fn heard(&self) -> Duration {
        let clock = self.clock.as_ref().and_then(ClockFlow::heard);
        let clock = clock.map_or(Duration::MAX, |heard| heard.elapsed());
        clock.min(self.data_heard())
    }

    fn data_heard(&self) -> Duration {
        let heard = self.receivers.as_ref().and_then(Receivers::heard);
        heard.map_or(Duration::MAX, |heard| {
            Duration::from_nanos(monotonic_ns().saturating_sub(heard))
        })
    }

    /// Replaces a connection that failed, or that has been silent for longer than one does.
    fn mend(&mut self) -> Result<(), Lost> {
        let Some(session) = self.session else {
            return Ok(());
        };
        if let Some(attempt) = &self.attempt {
            let limit = ATTEMPT_TIME.max(4 * self.round_trip);
            if attempt.began.elapsed() > limit {
                self.give_up_attempt();
            }
            return Ok(());
        }
        let limit = RECONNECT.max(2 * self.round_trip);
        let is_broken = !self.link.is_connected()
            || self.link.heard().elapsed() > limit
            || self.link.unread_for() > limit;
        if !is_broken || self.attempted.elapsed() < ATTEMPT_PAUSE {
            return Ok(());
        }
        self.attempted = Instant::now();
        // What the old connection still brings would be counted twice. It stays open all the same, since the end of it
        // would be the end of the session.
        if let Some(stream) = self.link.retire(self.poll.registry()) {
            self.retired = Some(stream);
        }
        let resume = Request::Resume(Resume {
            version: VERSION,
            session,
            received: self.link.received(),
        });
        // Whatever is missing for it now may be there the next time.
        if let Ok(attempt) = self.attempt_with(resume) {
            self.attempt = Some(attempt);
        }
        Ok(())
    }

    fn attempt_with(&self, resume: Request) -> io::Result<Attempt> {
        let setup = self.setup;
        let stream = small_tcp::connect(self.server, setup.bind, setup.bind_device.as_deref())?;
        let greeting = ClientGreeting::new(setup.key.as_ref(), resume)?;
        let stream = TcpStream::from_std(stream);
        let mut link = Link::new(stream, self.poll.registry(), ATTEMPT)?;
        link.send(&greeting.first()).map_err(io::Error::other)?;
        Ok(Attempt {
            link,
            greeting,
            began: Instant::now(),
        })
    }

    /// The server may have taken the session up over this connection, with its answer still on the way.
    fn give_up_attempt(&mut self) {
        if let Some(mut attempt) = self.attempt.take() {
            attempt.link.reset(self.poll.registry());
        }
    }

    /// Sleeps until something happens, and moves what can be moved.
    fn wait(&mut self, until: Option<Instant>) -> Result<(), Lost> {
        let mut limit = Instant::now() + TICK;
        if let Some(clock) = &self.clock {
            limit = limit.min(clock.due());
        }
        limit = until.map_or(limit, |until| until.min(limit));
        let timeout = limit.saturating_duration_since(Instant::now());
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(LinkError::Io(error).into());
            }
            _ => {}
        }
        self.flows_ready |= self.events.iter().any(|event| event.token().0 >= FLOWS);
        if let Some(clock) = &mut self.clock {
            clock.attend();
            clock.tick();
        }
        let moved = self
            .link
            .flush()
            .and_then(|()| self.link.fill().map(|_| ()));
        self.survive(moved)?;
        self.attend_attempt()
    }

    /// Goes on with a new connection.
    fn attend_attempt(&mut self) -> Result<(), Lost> {
        let Some(attempt) = &mut self.attempt else {
            return Ok(());
        };
        if attempt.is_connected() {
            self.connected = Instant::now();
        }
        match attempt.step() {
            Ok(None) => Ok(()),
            Ok(Some(count)) => {
                let Some(Attempt { link, .. }) = self.attempt.take() else {
                    return Ok(());
                };
                self.link.adopt(link, count, self.poll.registry(), LINK)?;
                self.retired = None;
                Ok(())
            }
            Err(Failed::Greeting(error)) => Err(Lost::Refused(error)),
            Err(Failed::Link(LinkError::Io(error))) => {
                self.give_up_attempt();
                let is_gone = error.kind() == ErrorKind::ConnectionRefused
                    && self.heard().min(self.link.heard().elapsed()) > REFUSED;
                if is_gone { Err(Lost::Gone) } else { Ok(()) }
            }
            Err(Failed::Link(_)) => {
                self.give_up_attempt();
                Ok(())
            }
        }
    }
}

/// Why a new connection is of no use.
enum Failed {
    Greeting(GreetingError),
    Link(LinkError),
}

impl From<LinkError> for Failed {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl Attempt {
    fn is_connected(&self) -> bool {
        let stream = self.link.stream();
        stream.is_some_and(|stream| stream.peer_addr().is_ok())
    }

    /// Moves the greeting on. When it is over: how many messages the server received.
    fn step(&mut self) -> Result<Option<u64>, Failed> {
        self.link.flush()?;
        self.link.fill()?;
        while let Some(reply) = self.link.next_message::<Reply>()? {
            match self.greeting.receive(reply).map_err(Failed::Greeting)? {
                ClientStep::Send(requests) => {
                    for request in requests {
                        self.link.send(&request)?;
                    }
                }
                ClientStep::Wait => {}
                ClientStep::Over(Reply::Resumed { received }) => return Ok(Some(received)),
                ClientStep::Over(_) => return Err(Failed::Greeting(GreetingError::OutOfTurn)),
            }
        }
        Ok(None)
    }
}
