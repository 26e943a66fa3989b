//! A new control connection that is being opened in place of a lost one.

use std::time::Instant;

use mio::Token;

use crate::udp::control::connection::{ConnectionError, ControlConnection};
use crate::udp::control::greeting::{ClientGreeting, ClientStep, GreetingError};
use crate::udp::wire::control::Reply;

/// The new connection in the event loop.
pub(super) const RECONNECTION: Token = Token(1);

/// A new connection that is being opened.
pub(super) struct Reconnect {
    pub(super) connection: ControlConnection,
    pub(super) greeting: ClientGreeting,
    pub(super) began: Instant,
}

/// Why a new connection failed.
pub(super) enum Failure {
    Greeting(GreetingError),
    Connection(ConnectionError),
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl Reconnect {
    pub(super) fn is_connected(&self) -> bool {
        let stream = self.connection.stream();
        stream.is_some_and(|stream| stream.peer_addr().is_ok())
    }

    /// Continues the greeting. At its end: how many numbered messages the server received.
    pub(super) fn poll(&mut self) -> Result<Option<u64>, Failure> {
        self.connection.flush()?;
        self.connection.fill()?;
        while let Some(reply) = self.connection.next_message::<Reply>()? {
            match self.greeting.receive(reply).map_err(Failure::Greeting)? {
                ClientStep::Send(requests) => {
                    for request in requests {
                        self.connection.send(&request)?;
                    }
                }
                ClientStep::Wait => {}
                ClientStep::Over(Reply::Resumed { received }) => return Ok(Some(received)),
                ClientStep::Over(_) => return Err(Failure::Greeting(GreetingError::OutOfTurn)),
            }
        }
        Ok(None)
    }
}
