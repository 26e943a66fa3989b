//! One control connection at the server: a greeting, a session, a report, the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Registry, Token, Waker};

use super::report::Report;
use super::session::Session;
use super::{Room, SessionReport};
use crate::udp::control::{ALIVE, Hello, Preface, Reply, Request, SILENCE, VERSION};
use crate::udp::link::{Link, LinkError};
use crate::udp::outcome::Ended;

/// How long a client may take to read its result and close the connection.
const DELIVERED: Duration = Duration::from_secs(30);

/// How long one that was refused may.
const REFUSED: Duration = Duration::from_secs(2);

/// More waiting than this, in bytes: the report pauses until the client has read some.
const ENOUGH_WAITING: usize = 1 << 18;

/// Whether a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Goes,
    Over,
}

enum Phase {
    /// Nothing has been said yet, or only part of it.
    Greeting,
    /// Receivers are running.
    Running(Box<Session>),
    /// They are done, and the result is on its way.
    Reporting(Box<Report>),
    /// All is said: the client is to read it and close.
    Parting { patience: Duration },
}

pub(super) struct Connection {
    link: Link,
    client: SocketAddr,
    /// Where the client reached us.
    local: SocketAddr,
    phase: Phase,
    /// Since this phase began.
    since: Instant,
    alive_at: Instant,
    readable: bool,
    report: Option<SessionReport>,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        client: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let local = canonical(stream.local_addr()?);
        Ok(Self {
            link: Link::new(stream, registry, token)?,
            client,
            local,
            phase: Phase::Greeting,
            since: Instant::now(),
            alive_at: Instant::now(),
            readable: true,
            report: None,
        })
    }

    /// Streams that this connection has running.
    pub(super) fn streams(&self) -> usize {
        match &self.phase {
            Phase::Running(session) => session.streams(),
            _ => 0,
        }
    }

    /// The socket has something, or room for something.
    pub(super) fn ready(&mut self) {
        self.readable = true;
    }

    /// Ends whatever it is doing, for a reason.
    pub(super) fn stop(&mut self, reason: &str) {
        match &mut self.phase {
            Phase::Running(session) => session.end(Ended::Limited(reason.to_owned())),
            Phase::Greeting => self.part(REFUSED),
            Phase::Reporting(_) | Phase::Parting { .. } => {}
        }
    }

    /// The connection is over: what its session measured, if there was one.
    pub(super) fn close(mut self) -> Option<SessionReport> {
        match self.phase {
            Phase::Running(session) => {
                Some(Report::new(session.abandon()).into_session(self.client, false))
            }
            Phase::Reporting(report) => Some(report.into_session(self.client, false)),
            Phase::Greeting | Phase::Parting { .. } => self.report.take(),
        }
    }

    /// Does whatever can be done now.
    pub(super) fn drive(&mut self, room: &mut Room, waker: &Arc<Waker>) -> Verdict {
        match self.step(room, waker) {
            Ok(verdict) => verdict,
            Err(LinkError::Frame(error)) => {
                if !self.is_ending() {
                    self.refuse(format!("this is a wirebench server, and {error}"));
                }
                match self.phase {
                    Phase::Parting { .. } => Verdict::Goes,
                    _ => self.lose("the client sent what is no message"),
                }
            }
            Err(error) => self.lose(&format!("the client is gone: {error}")),
        }
    }

    fn step(&mut self, room: &mut Room, waker: &Arc<Waker>) -> Result<Verdict, LinkError> {
        if self.readable {
            self.readable = match self.phase {
                // Closing while the client's last messages lie unread would reset the connection, and
                // take from it what it has not read yet. So they are read, and it is the client that closes.
                Phase::Parting { .. } => self.link.discard()?,
                _ => self.link.fill()?,
            };
            self.link.flush()?;
        }
        self.listen(room, waker)?;
        let next = match &mut self.phase {
            Phase::Greeting if self.since.elapsed() > SILENCE => return Ok(Verdict::Over),
            Phase::Greeting => None,
            Phase::Running(session) => {
                self.link.check_alive()?;
                for row in session.attend(&room.limits) {
                    self.link.send(&Reply::Interval(row))?;
                }
                session.finished()
            }
            Phase::Reporting(report) => {
                self.link.check_alive()?;
                while self.link.waiting() < ENOUGH_WAITING
                    && let Some(reply) = report.next()
                {
                    self.link.send(&reply)?;
                }
                if report.is_over() && self.link.waiting() == 0 {
                    self.part(DELIVERED);
                }
                None
            }
            Phase::Parting { patience } => {
                let over = self.since.elapsed() > *patience;
                return Ok(if over { Verdict::Over } else { Verdict::Goes });
            }
        };
        if let Some(finished) = next {
            self.phase = Phase::Reporting(Box::new(Report::new(finished)));
            self.since = Instant::now();
            return self.step(room, waker);
        }
        if matches!(self.phase, Phase::Running(_) | Phase::Reporting(_))
            && self.alive_at.elapsed() > ALIVE
        {
            self.alive_at = Instant::now();
            self.link.send(&Reply::Alive)?;
        }
        Ok(Verdict::Goes)
    }

    /// Takes in the client's messages.
    fn listen(&mut self, room: &mut Room, waker: &Arc<Waker>) -> Result<(), LinkError> {
        loop {
            match &mut self.phase {
                Phase::Greeting => {
                    let Some(json) = self.link.next_json()? else {
                        return Ok(());
                    };
                    let hello = greet(json);
                    match hello.and_then(|hello| self.welcome(&hello, room, waker)) {
                        Ok(()) => {}
                        Err(reason) => self.refuse(reason),
                    }
                }
                Phase::Running(session) => match self.link.next_message()? {
                    None => return Ok(()),
                    Some(Request::Alive) => {}
                    Some(Request::Finish { streams }) => session.finish(streams),
                    Some(Request::Hello(_)) => {
                        session.end(Ended::Failed("the client said hello twice".to_owned()));
                        return Ok(());
                    }
                },
                // Whatever a client still says then is of no interest, but its silence is.
                Phase::Reporting(_) => {
                    if self.link.next_json()?.is_none() {
                        return Ok(());
                    }
                }
                Phase::Parting { .. } => return Ok(()),
            }
        }
    }

    fn welcome(
        &mut self,
        hello: &Hello,
        room: &mut Room,
        waker: &Arc<Waker>,
    ) -> Result<(), String> {
        hello.plan.validate().map_err(|error| error.to_string())?;
        if let Some(bytes) = hello.plan.receive_buffer
            && bytes > room.limits.receive_buffer
        {
            let most = room.limits.receive_buffer;
            return Err(format!(
                "a receive buffer of {bytes} bytes is more than the {most} this server gives; ask for less with --rcvbuf, or restart the server with --max-rcvbuf"
            ));
        }
        if let Some(time) = hello.plan.expected_time()
            && time > room.limits.duration
        {
            let most = room.limits.duration.as_secs_f64();
            return Err(format!(
                "the run would take {:.0} s and this server allows {most:.0} s; shorten it, or restart the server with --max-duration",
                time.as_secs_f64()
            ));
        }
        room.take(hello.plan.streams)?;
        let session = Session::start(hello, self.local, self.client.ip(), room, waker)?;
        self.link
            .send(&Reply::Welcome(session.welcome().clone()))
            .map_err(|error| error.to_string())?;
        self.phase = Phase::Running(Box::new(session));
        self.since = Instant::now();
        Ok(())
    }

    /// Says why not, and parts.
    fn refuse(&mut self, reason: String) {
        let _ = self.link.send(&Reply::Refused { reason });
        if matches!(self.phase, Phase::Greeting) {
            self.part(REFUSED);
        }
    }

    fn part(&mut self, patience: Duration) {
        let phase = std::mem::replace(&mut self.phase, Phase::Parting { patience });
        self.since = Instant::now();
        if let Phase::Reporting(report) = phase {
            self.report = Some(report.into_session(self.client, true));
        }
    }

    /// Whether a session's receivers have been told to stop already.
    fn is_ending(&self) -> bool {
        matches!(&self.phase, Phase::Running(session) if session.is_ending())
    }

    /// The client is lost: a running session is ended and waited for, anything else is over at once.
    fn lose(&mut self, reason: &str) -> Verdict {
        match &mut self.phase {
            Phase::Running(session) => {
                session.end(Ended::PeerLost(reason.to_owned()));
                session.attend_quietly();
                if session.is_done() {
                    Verdict::Over
                } else {
                    Verdict::Goes
                }
            }
            _ => Verdict::Over,
        }
    }
}

/// An IPv4 address as itself, also where an IPv6 socket took the connection. What is truly IPv6 keeps its scope.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// Reads the first message.
fn greet(json: &[u8]) -> Result<Hello, String> {
    let nonsense = |error| {
        format!("this is a wirebench server, and the first message makes no sense: {error}")
    };
    let preface: Preface = serde_json::from_slice(json).map_err(nonsense)?;
    if preface.version != VERSION {
        return Err(format!(
            "the client speaks version {} and the server version {VERSION}; install the same wirebench on both",
            preface.version
        ));
    }
    match serde_json::from_slice(json).map_err(nonsense)? {
        Request::Hello(hello) => Ok(hello),
        _ => Err("this is a wirebench server, and the first message must be a hello".to_owned()),
    }
}
