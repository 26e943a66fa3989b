//! The session's talk: with the server over the control connection, with its own sender threads, and with
//! whoever may cancel it. One event loop for all three.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::streams::{Streams, Told};
use super::{Cancel, RunError, Setup};
use crate::sys::socket;
use crate::udp::control::{ALIVE, Reply, Request};
use crate::udp::link::{Link, LinkError};
use crate::udp::setup::SetupError;

const LINK: Token = Token(0);
const STREAMS: Token = Token(1);
const CANCEL: Token = Token(2);

/// How often the server is checked for life.
const TICK: Duration = Duration::from_millis(100);

/// How long the server may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(4);

/// What happens next in a session.
pub(super) enum Event {
    Reply(Reply),
    Told(Told),
    /// Happens at most once.
    Cancelled,
}

pub(super) struct Dialogue<'a> {
    pub(super) streams: Streams,
    /// Whether data is being sent: from then on a refusal is the end, and not an answer.
    pub(super) begun: bool,
    link: Link,
    poll: Poll,
    events: Events,
    alive_at: Instant,
    cancel: &'a Cancel,
    cancelled: bool,
}

impl<'a> Dialogue<'a> {
    /// Connects to the server.
    pub(super) fn begin(setup: &Setup, cancel: &'a Cancel) -> Result<Self, RunError> {
        let stream = connect(setup)?;
        let poll = Poll::new().map_err(RunError::Start)?;
        let link = Link::new(mio::net::TcpStream::from_std(stream), poll.registry(), LINK)
            .map_err(RunError::Start)?;
        let streams = Streams::new().map_err(RunError::Start)?;
        for (wake, token) in [(streams.wake(), STREAMS), (&cancel.wake, CANCEL)] {
            let fd = wake.as_fd().as_raw_fd();
            poll.registry()
                .register(&mut SourceFd(&fd), token, Interest::READABLE)
                .map_err(RunError::Start)?;
        }
        Ok(Self {
            streams,
            begun: false,
            link,
            poll,
            events: Events::with_capacity(8),
            alive_at: Instant::now(),
            cancel,
            cancelled: false,
        })
    }

    /// Our end of the control connection.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.link.stream().local_addr()
    }

    pub(super) fn send(&mut self, request: &Request) -> Result<(), LinkError> {
        self.link.send(request)
    }

    /// Waits for what happens next, showing the server that we are alive.
    pub(super) fn next(&mut self) -> Result<Event, LinkError> {
        loop {
            if let Some(told) = self.streams.told() {
                return Ok(Event::Told(told));
            }
            if let Some(reply) = self.link.next_message()? {
                return match reply {
                    Reply::Refused { reason } if self.begun => {
                        Err(LinkError::Io(io::Error::other(reason)))
                    }
                    reply => Ok(Event::Reply(reply)),
                };
            }
            if self.cancel.is_cancelled() && !self.cancelled {
                self.cancelled = true;
                return Ok(Event::Cancelled);
            }
            self.link.check_alive()?;
            if self.alive_at.elapsed() > ALIVE {
                self.alive_at = Instant::now();
                self.link.send(&Request::Alive)?;
            }
            match self.poll.poll(&mut self.events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            self.link.flush()?;
            self.link.fill()?;
        }
    }
}

fn connect(setup: &Setup) -> Result<TcpStream, RunError> {
    let unreachable = |error| RunError::Unreachable(setup.server, error);
    let stream = match setup.bind {
        None => TcpStream::connect_timeout(&setup.server, CONNECT).map_err(unreachable)?,
        // From the address that the data will come from: the server reports it as the client's.
        Some(local) => {
            let socket =
                socket::bind_tcp(local).map_err(|cause| SetupError::Bind { local, cause })?;
            socket
                .connect_timeout(&setup.server.into(), CONNECT)
                .map_err(unreachable)?;
            socket.into()
        }
    };
    stream.set_nonblocking(true).map_err(unreachable)?;
    Ok(stream)
}
