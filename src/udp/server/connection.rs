//! One control connection at the server: a greeting, a session and the end. A session outlives its connection.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use std::{io, mem};

use mio::net::TcpStream;
use mio::{Registry, Token};

use super::ports::Knock;
use super::session::{Place, Session};
use super::{Room, SessionReport};
use crate::sys::shared_port::canonical;
use crate::udp::control::connection::{Link, LinkError};
use crate::udp::control::greeting::{ServerGreeting, ServerStep};
use crate::udp::control::key::Key;
use crate::udp::result::Ended;
use crate::udp::wire::control::{ALIVE, Alive, Hello, Reply, Request, Resume};

/// How long a client may take to close a connection on which it was refused.
const REFUSED: Duration = Duration::from_secs(2);

/// A client sends something every second; one that is silent for less than this is not gone.
const LEAST_PATIENCE: Duration = Duration::from_secs(4);

/// A connection that was reset is most often that of a program that was killed. It is waited for no longer than this without a datagram.
const RESET: Duration = Duration::from_secs(10);

/// More bytes than this unacknowledged: the result pauses until the client has read some.
const WINDOW: usize = 1 << 20;

/// Whether a connection goes on.
#[derive(Debug)]
pub(super) enum Verdict {
    Goes,
    Over,
    /// It takes another connection's session up again.
    Resumes(Resume),
}

enum Phase {
    Greeting(ServerGreeting),
    Session(Box<Session>),
    /// All is said: the client is to read it and close.
    Parting,
    Over,
}

pub(super) struct Connection {
    link: Link,
    client: SocketAddr,
    /// Where the client reached the server.
    local: SocketAddr,
    phase: Phase,
    /// Since this phase began.
    since: Instant,
    alive_at: Instant,
    readable: bool,
    /// The client will not come back: the session is only waited for.
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
            link: Link::new(stream, registry, token)?,
            client,
            local,
            phase: Phase::Greeting(ServerGreeting::new(key)),
            since: Instant::now(),
            alive_at: Instant::now(),
            readable: true,
            is_lost: false,
            report: None,
        })
    }

    /// Streams that this connection's session has.
    pub(super) fn streams(&self) -> usize {
        match &self.phase {
            Phase::Session(session) => session.streams(),
            _ => 0,
        }
    }

    /// For how long its client has not said hello; `None` once it has.
    pub(super) fn greets_for(&self) -> Option<Duration> {
        matches!(self.phase, Phase::Greeting(_)).then(|| self.since.elapsed())
    }

    /// The client's address.
    pub(super) fn client_ip(&self) -> IpAddr {
        self.client.ip().to_canonical()
    }

    /// Whether its session has this secret name.
    pub(super) fn is_session(&self, name: u64) -> bool {
        matches!(&self.phase, Phase::Session(session) if session.welcome().session == name)
    }

    /// The socket has something, or room for something.
    pub(super) fn ready(&mut self) {
        self.readable = true;
    }

    /// A datagram came for a flow of its session.
    pub(super) fn knock(&mut self, knock: &Knock, registry: &Registry) {
        if let Phase::Session(session) = &mut self.phase {
            session.knock(knock, registry);
        }
    }

    /// Ends whatever it is doing, for a reason.
    pub(super) fn stop(&mut self, reason: &str) {
        match &mut self.phase {
            Phase::Session(session) => session.end(Ended::Limited(reason.to_owned())),
            Phase::Greeting(_) => self.part(),
            Phase::Parting | Phase::Over => {}
        }
    }

    /// The connection is over: what its session measured, if there was one.
    pub(super) fn close(mut self) -> Option<SessionReport> {
        match self.phase {
            Phase::Session(session) => Some(session.into_report(self.client, false)),
            Phase::Greeting(_) | Phase::Parting | Phase::Over => self.report.take(),
        }
    }

    /// Takes the session up again over the connection that `other` had, whose client received `count` messages.
    pub(super) fn resume(
        &mut self,
        mut other: Self,
        count: u64,
        registry: &Registry,
        token: Token,
    ) {
        let resumed = Reply::Resumed {
            received: self.link.received(),
        };
        self.readable = true;
        let outcome = other
            .link
            .send(&resumed)
            .and_then(|()| self.link.adopt(other.link, count, registry, token));
        if let Err(error) = outcome {
            self.lose(error, registry);
        }
    }

    /// Tells a client that its session is not here.
    pub(super) fn refuse_resume(&mut self) {
        self.refuse("the session is over, or was never of this server".to_owned());
    }

    /// Does whatever can be done now.
    pub(super) fn drive(
        &mut self,
        room: &mut Room,
        place: &mut Place<'_>,
        registry: &Registry,
    ) -> Verdict {
        if self.is_lost {
            return self.wind_up();
        }
        match self.step(room, place) {
            Ok(verdict) => verdict,
            Err(error) => self.lose(error, registry),
        }
    }

    fn step(&mut self, room: &mut Room, place: &mut Place<'_>) -> Result<Verdict, LinkError> {
        if self.readable {
            self.readable = match self.phase {
                // Closing while the client's last messages lie unread would reset the connection, and
                // take from it what it has not read yet. So they are read, and it is the client that closes.
                Phase::Parting => self.link.discard()?,
                _ => self.link.fill()?,
            };
            self.link.flush()?;
        }
        if let Some(resume) = self.listen(room, place)? {
            return Ok(Verdict::Resumes(resume));
        }
        match &mut self.phase {
            Phase::Greeting(_) if self.since.elapsed() > room.limits.greeting => Ok(Verdict::Over),
            Phase::Parting if self.since.elapsed() > REFUSED => Ok(Verdict::Over),
            Phase::Greeting(_) | Phase::Parting => Ok(Verdict::Goes),
            Phase::Over => Ok(Verdict::Over),
            Phase::Session(_) => self.session(room),
        }
    }

    fn session(&mut self, room: &Room) -> Result<Verdict, LinkError> {
        let Phase::Session(session) = &mut self.phase else {
            return Ok(Verdict::Over);
        };
        let mut patience = room.limits.idle.max(LEAST_PATIENCE);
        if !self.link.is_connected() {
            patience = patience.min(RESET);
        }
        let mut silent = self.link.heard().elapsed();
        if !session.is_done() {
            silent = silent.min(session.heard());
        }
        if silent > patience {
            return Err(LinkError::Silent(patience));
        }
        if self.link.unread_for() > patience {
            return Err(LinkError::Unread);
        }
        session.attend(&room.limits);
        while self.link.unacknowledged() < WINDOW
            && let Some(reply) = session.next_reply()
        {
            self.link.send(&reply)?;
        }
        if session.is_over() && self.link.unacknowledged() == 0 && self.link.waiting() == 0 {
            self.deliver();
            return Ok(Verdict::Goes);
        }
        if self.alive_at.elapsed() > ALIVE || self.link.owes_acknowledgement() {
            self.alive_at = Instant::now();
            let alive = Alive {
                received: self.link.received(),
                datagrams: session.datagrams(),
            };
            self.link.send(&Reply::Alive(alive))?;
        }
        Ok(Verdict::Goes)
    }

    /// Takes in the client's messages; gives the one that takes another connection's session up again.
    fn listen(
        &mut self,
        room: &mut Room,
        place: &mut Place<'_>,
    ) -> Result<Option<Resume>, LinkError> {
        loop {
            match &mut self.phase {
                Phase::Greeting(greeting) => {
                    let Some(json) = self.link.next_json()? else {
                        return Ok(None);
                    };
                    let outcome = match greeting.receive(json) {
                        Ok(ServerStep::Send(reply)) => {
                            self.link.send(&reply)?;
                            Ok(())
                        }
                        Ok(ServerStep::Hello(hello)) => self.welcome(&hello, room, place),
                        Ok(ServerStep::Resume(resume)) => return Ok(Some(resume)),
                        Err(reason) => Err(reason),
                    };
                    if let Err(reason) = outcome {
                        self.refuse(reason);
                    }
                }
                Phase::Session(session) => match self.link.next_message::<Request>()? {
                    None => return Ok(None),
                    Some(request) => session.receive(request),
                },
                Phase::Parting | Phase::Over => return Ok(None),
            }
        }
    }

    fn welcome(
        &mut self,
        hello: &Hello,
        room: &mut Room,
        place: &mut Place<'_>,
    ) -> Result<(), String> {
        hello.plan.validate().map_err(|error| error.to_string())?;
        room.allow(&hello.plan)?;
        room.take(hello.plan.all_streams(), self.client_ip())?;
        let session = match Session::start(hello, self.local, self.client.ip(), place) {
            Ok(session) => session,
            Err(reason) => {
                place.ports.withdraw(place.token);
                return Err(reason);
            }
        };
        self.link
            .send(&Reply::Welcome(session.welcome().clone()))
            .map_err(|error| error.to_string())?;
        self.phase = Phase::Session(Box::new(session));
        self.since = Instant::now();
        Ok(())
    }

    /// Says why not, and parts.
    fn refuse(&mut self, reason: String) {
        let _ = self.link.send(&Reply::Refused { reason });
        if matches!(self.phase, Phase::Greeting(_)) {
            self.part();
        }
    }

    fn part(&mut self) {
        self.phase = Phase::Parting;
        self.since = Instant::now();
    }

    /// The client has everything.
    fn deliver(&mut self) {
        if let Phase::Session(session) = mem::replace(&mut self.phase, Phase::Over) {
            self.report = Some(session.into_report(self.client, true));
        }
        self.part();
    }

    /// The connection is of no more use. A greeting ends with it; a session waits for another connection, unless
    /// the client closed this one, broke the rules or was silent for too long.
    fn lose(&mut self, error: LinkError, registry: &Registry) -> Verdict {
        let Phase::Session(session) = &mut self.phase else {
            return self.refuse_bytes(&error);
        };
        let all_sent = session.is_over() && self.link.waiting() == 0;
        if error.is_resumable() && !session.is_ending() {
            self.link.disconnect(registry);
            return Verdict::Goes;
        }
        if matches!(error, LinkError::Closed) && all_sent {
            // It has read all and hangs up: the last acknowledgement may not have come.
            self.deliver();
            return Verdict::Over;
        }
        let reason = match &error {
            LinkError::Frame(cause) => {
                let reason = format!("this is a wirebench server, and {cause}");
                let _ = self.link.send(&Reply::Refused { reason });
                "the client sent bytes that are no message".to_owned()
            }
            error => format!("the client is gone: {error}"),
        };
        session.end(Ended::PeerLost(reason));
        self.link.disconnect(registry);
        self.is_lost = true;
        self.wind_up()
    }

    /// Waits for the threads of a session whose client is lost.
    fn wind_up(&mut self) -> Verdict {
        let Phase::Session(session) = &mut self.phase else {
            return Verdict::Over;
        };
        session.attend(&super::Limits::none());
        if session.is_done() {
            Verdict::Over
        } else {
            Verdict::Goes
        }
    }

    /// Bytes that are no message get an answer before there is a session.
    fn refuse_bytes(&mut self, error: &LinkError) -> Verdict {
        if let (LinkError::Frame(cause), Phase::Greeting(_)) = (error, &self.phase) {
            self.refuse(format!("this is a wirebench server, and {cause}"));
            return Verdict::Goes;
        }
        Verdict::Over
    }
}
