//! The first connection of a session: to one of the server's addresses, through the greeting, to the welcome.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll};

use super::conversation::LINK;
use super::{Cancel, RunError, Setup};
use crate::sys::clock::monotonic_ns;
use crate::sys::small_tcp;
use crate::udp::control::connection::{Link, LinkError};
use crate::udp::control::greeting::{ClientGreeting, ClientStep, GreetingError};
use crate::udp::setup::SetupError;
use crate::udp::wire::control::{Hello, Reply, Request, Welcome};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How long one address may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a server may take to answer a greeting, over all connections, at least.
const GREETING: Duration = Duration::from_secs(10);

/// How long the first connection may take to bring the answer, at least; each later one has twice the time of the one
/// before. After losses TCP sends again so late that a new connection is faster.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// The first connection to one address.
pub(super) struct Dial<'a> {
    pub(super) poll: Poll,
    pub(super) server: SocketAddr,
    pub(super) setup: &'a Setup,
    pub(super) cancel: &'a Cancel,
}

impl Dial<'_> {
    /// Sets a session up, and says how long a round trip took.
    pub(super) fn welcome(&mut self, hello: &Hello) -> Result<(Link, Welcome, Duration), RunError> {
        let most = self.setup.peer_timeout.min(GREETING);
        let (mut waited, mut patience) = (Duration::ZERO, FIRST_ANSWER);
        loop {
            match self.attempt(hello, patience.min(most.saturating_sub(waited))) {
                Err(RunError::Control(server, LinkError::Silent(limit))) => {
                    waited += limit;
                    patience *= 2;
                    if waited >= most {
                        return Err(RunError::Control(server, LinkError::Silent(waited)));
                    }
                }
                result => return result,
            }
        }
    }

    /// Does so over one connection, whose answer may take `patience`, or longer where the connection took long. The welcome
    /// claims one clock only where its stamp allows it: two hosts may have the same name for their clocks, as copies of one
    /// machine do.
    fn attempt(
        &mut self,
        hello: &Hello,
        patience: Duration,
    ) -> Result<(Link, Welcome, Duration), RunError> {
        let began_ns = monotonic_ns();
        let server = self.server;
        let unreachable = |error| RunError::Unreachable(vec![(server, error)]);
        let lost = |error| RunError::Control(server, error);
        let setup = self.setup;
        let stream = small_tcp::connect(server, setup.bind, setup.bind_device.as_deref())
            .map_err(|error| local(setup, error).unwrap_or_else(unreachable))?;
        let mut link = Link::new(TcpStream::from_std(stream), self.poll.registry(), LINK)
            .map_err(RunError::Start)?;
        let mut greeting = ClientGreeting::new(setup.key.as_ref(), Request::Hello(hello.clone()))
            .map_err(RunError::Start)?;
        let mut events = Events::with_capacity(8);
        let began = Instant::now();
        self.connected(&link, &mut events, began)
            .map_err(|error| match error {
                Some(error) => unreachable(error),
                None => RunError::Cancelled,
            })?;
        let handshake = began.elapsed();
        link.send(&greeting.first()).map_err(lost)?;
        let limit = setup.peer_timeout.min(patience.max(4 * handshake));
        let asked = Instant::now();
        loop {
            if let Some(reply) = link.next_message::<Reply>().map_err(lost)? {
                let step = greeting
                    .receive(reply)
                    .map_err(|error| RunError::Greeting(server, error))?;
                match step {
                    ClientStep::Send(requests) => {
                        for request in requests {
                            link.send(&request).map_err(lost)?;
                        }
                    }
                    ClientStep::Wait => {}
                    ClientStep::Over(Reply::Welcome(mut welcome)) => {
                        welcome.same_clock &=
                            (began_ns..=monotonic_ns()).contains(&welcome.clock_ns);
                        // TCP sends again after a second and more: the shorter one is nearer to the path's.
                        return Ok((link, welcome, handshake.min(asked.elapsed())));
                    }
                    ClientStep::Over(_) => {
                        return Err(RunError::Greeting(server, GreetingError::OutOfTurn));
                    }
                }
                continue;
            }
            if self.cancel.is_cancelled() {
                return Err(RunError::Cancelled);
            }
            if asked.elapsed() > limit {
                return Err(lost(LinkError::Silent(limit)));
            }
            self.sleep(&mut events)?;
            link.flush().map_err(lost)?;
            link.fill().map_err(lost)?;
        }
    }

    /// Waits until the connection is made. `None` stands for the user, who cancelled.
    fn connected(
        &mut self,
        link: &Link,
        events: &mut Events,
        began: Instant,
    ) -> Result<(), Option<io::Error>> {
        let limit = self.setup.peer_timeout.min(CONNECT);
        let Some(stream) = link.stream() else {
            return Err(Some(ErrorKind::NotConnected.into()));
        };
        loop {
            if let Some(error) = stream.take_error().map_err(Some)? {
                return Err(Some(error));
            }
            match stream.peer_addr() {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotConnected => {}
                Err(error) => return Err(Some(error)),
            }
            if self.cancel.is_cancelled() {
                return Err(None);
            }
            if began.elapsed() > limit {
                return Err(Some(ErrorKind::TimedOut.into()));
            }
            match self.poll.poll(events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(Some(error)),
                _ => {}
            }
        }
    }

    fn sleep(&mut self, events: &mut Events) -> Result<(), RunError> {
        match self.poll.poll(events, Some(TICK)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(RunError::Start(error)),
            _ => Ok(()),
        }
    }
}

/// What is wrong at this end, where that is what an error says.
fn local(setup: &Setup, cause: io::Error) -> Result<RunError, io::Error> {
    match (cause.raw_os_error(), setup.bind, &setup.bind_device) {
        (Some(libc::EADDRNOTAVAIL), Some(local), _) => Ok(SetupError::Bind { local, cause }.into()),
        (Some(libc::ENODEV | libc::EPERM), _, Some(device)) => Ok(SetupError::Device {
            device: device.clone(),
            cause,
        }
        .into()),
        _ => Err(cause),
    }
}
