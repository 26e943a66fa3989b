//! The first connection of a session: to one address of the server, through the greeting, to the welcome.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Poll, Token};

use super::{Cancel, RunError, Setup};
use crate::sys::clock::monotonic_ns;
use crate::sys::small_tcp;
use crate::udp::control::connection::{ConnectionError, ControlConnection};
use crate::udp::control::greeting::{ClientGreeting, ClientStep, GreetingError};
use crate::udp::setup::SetupError;
use crate::udp::wire::control::{Hello, Reply, Request, Welcome};

/// The control connection in the event loop.
pub(super) const CONNECTION: Token = Token(0);

/// How often deadlines are checked.
const TICK: Duration = Duration::from_millis(100);

/// Longest time until an address accepts the connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest silence of a server before its welcome, over all connections.
const GREETING: Duration = Duration::from_secs(10);

/// Longest silence of a server on the first connection, at least; twice as much on each later connection. After losses, TCP
/// retransmits so late that a new connection is faster.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// A server that closes a connection sooner than this refuses it. A later close is that of a greeting limit, which passed while
/// datagrams of TCP were lost.
const REFUSED: Duration = Duration::from_secs(1);

/// Opens a session at one address of the server.
pub(super) struct Dial<'a> {
    pub(super) poll: Poll,
    pub(super) server: SocketAddr,
    pub(super) setup: &'a Setup,
    pub(super) cancel: &'a Cancel,
}

impl Dial<'_> {
    /// Opens a session, and returns its connection, the welcome and the round trip. Connects again if the server is silent, or closes
    /// the connection late.
    pub(super) fn welcome(
        &mut self,
        hello: &Hello,
    ) -> Result<(ControlConnection, Welcome, Duration), RunError> {
        let began = Instant::now();
        let most = self.setup.peer_timeout.min(GREETING);
        let (mut waited, mut patience) = (Duration::ZERO, FIRST_ANSWER);
        loop {
            let attempted = Instant::now();
            match self.attempt(hello, patience.min(most.saturating_sub(waited))) {
                Err(RunError::Control(server, ConnectionError::Silent(limit))) => {
                    waited += limit;
                    patience *= 2;
                    if waited >= most {
                        return Err(RunError::Control(server, ConnectionError::Silent(waited)));
                    }
                }
                Err(RunError::Control(_, ConnectionError::Closed | ConnectionError::Io(_)))
                    if attempted.elapsed() > REFUSED
                        && began.elapsed() < self.setup.peer_timeout => {}
                result => return result,
            }
        }
    }

    /// Opens a session over one connection. The server may be silent for `patience`, or longer if the connection took long. The
    /// welcome claims a common clock only if its stamp allows it: two hosts may have the same clock identity, as copies of one
    /// machine do.
    fn attempt(
        &mut self,
        hello: &Hello,
        patience: Duration,
    ) -> Result<(ControlConnection, Welcome, Duration), RunError> {
        let began_ns = monotonic_ns();
        let server = self.server;
        let unreachable = |error| RunError::Unreachable(vec![(server, error)]);
        let failed = |error| RunError::Control(server, error);
        let setup = self.setup;
        let stream = small_tcp::connect(server, setup.bind, setup.bind_device.as_deref())
            .map_err(|error| local_error(setup, error).unwrap_or_else(unreachable))?;
        let stream = TcpStream::from_std(stream);
        let mut connection = ControlConnection::new(stream, self.poll.registry(), CONNECTION)
            .map_err(RunError::Start)?;
        let mut greeting = ClientGreeting::new(setup.key.as_ref(), Request::Hello(hello.clone()))
            .map_err(RunError::Start)?;
        let mut events = Events::with_capacity(8);
        let began = Instant::now();
        self.await_connected(&connection, &mut events, began)
            .map_err(|error| match error {
                Some(error) => unreachable(error),
                None => RunError::Cancelled,
            })?;
        let handshake = began.elapsed();
        connection.send(&greeting.first()).map_err(failed)?;
        let limit = setup.peer_timeout.min(patience.max(4 * handshake));
        let asked = Instant::now();
        loop {
            if let Some(reply) = connection.next_message::<Reply>().map_err(failed)? {
                let step = greeting
                    .receive(reply)
                    .map_err(|error| RunError::Greeting(server, error))?;
                match step {
                    ClientStep::Send(requests) => {
                        for request in requests {
                            connection.send(&request).map_err(failed)?;
                        }
                    }
                    ClientStep::Wait => {}
                    ClientStep::Over(Reply::Welcome(mut welcome)) => {
                        welcome.same_clock &=
                            (began_ns..=monotonic_ns()).contains(&welcome.clock_ns);
                        // A TCP retransmission takes a second or more: the shorter time is nearer to the round trip.
                        return Ok((connection, welcome, handshake.min(asked.elapsed())));
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
                return Err(failed(ConnectionError::Silent(limit)));
            }
            self.sleep(&mut events)?;
            connection.flush().map_err(failed)?;
            connection.fill().map_err(failed)?;
        }
    }

    /// Waits until the connection is established. The error is `None` if the user cancelled.
    fn await_connected(
        &mut self,
        connection: &ControlConnection,
        events: &mut Events,
        began: Instant,
    ) -> Result<(), Option<io::Error>> {
        let limit = self.setup.peer_timeout.min(CONNECT);
        let Some(stream) = connection.stream() else {
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

/// The error of this end that `cause` stands for, if it is one.
fn local_error(setup: &Setup, cause: io::Error) -> Result<RunError, io::Error> {
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
