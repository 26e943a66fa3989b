//! Replacement of a lost control connection: opens a new connection, and resumes the session over it.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::control_loop::{ControlLoop, SessionError};
use super::dial::CONNECTION;
use super::reconnect::{Failure, RECONNECTION, Reconnect};
use crate::sys::small_tcp;
use crate::udp::control::connection::{ConnectionError, ControlConnection};
use crate::udp::control::greeting::ClientGreeting;
use crate::udp::wire::VERSION;
use crate::udp::wire::control::{RECONNECT, Request, Resume};

/// Time for a new connection, at least, before another one is tried.
const ATTEMPT_TIME: Duration = Duration::from_secs(2);

/// Pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

/// A server that refuses connections counts as gone after this long without a datagram.
const REFUSED: Duration = Duration::from_secs(2);

impl ControlLoop<'_> {
    /// Opens a new connection if the present one failed, or has been silent for too long.
    pub(super) fn replace_connection(&mut self) -> Result<(), SessionError> {
        if let Some(reconnect) = &self.reconnect {
            let limit = ATTEMPT_TIME.max(4 * self.round_trip);
            if reconnect.began.elapsed() > limit {
                self.reset_reconnect();
            }
            return Ok(());
        }
        let limit = RECONNECT.max(2 * self.round_trip);
        let is_broken = !self.connection.is_connected()
            || self.tcp_silence() > limit
            || self.connection.unread_for() > limit;
        if !is_broken || self.reconnected_at.elapsed() < ATTEMPT_PAUSE {
            return Ok(());
        }
        self.reconnected_at = Instant::now();
        // Messages that arrive over the old connection from now on would be counted twice, so it is not read any more. It stays
        // open, since its end would end the session.
        if let Some(stream) = self.connection.retire(self.poll.registry()) {
            self.retired = Some(stream);
        }
        let resume = Request::Resume(Resume {
            version: VERSION,
            session: self.session,
            received: self.connection.received(),
        });
        match self.open_reconnect(resume) {
            Ok(reconnect) => self.reconnect = Some(reconnect),
            // The kernel of the server's host, if it is this one, refuses before the first message.
            Err(error) if self.is_gone(&error) => return Err(SessionError::Gone),
            // After a local error the next attempt may succeed.
            Err(_) => {}
        }
        Ok(())
    }

    /// Whether a failed connection shows that the server has ended.
    fn is_gone(&self, error: &io::Error) -> bool {
        error.kind() == ErrorKind::ConnectionRefused
            && self.udp_silence().min(self.tcp_silence()) > REFUSED
    }

    fn open_reconnect(&self, resume: Request) -> io::Result<Reconnect> {
        let setup = self.setup;
        let stream = small_tcp::connect(self.server, setup.bind, setup.bind_device.as_deref())?;
        let greeting = ClientGreeting::new(setup.key.as_ref(), resume)?;
        let stream = TcpStream::from_std(stream);
        let mut connection = ControlConnection::new(stream, self.poll.registry(), RECONNECTION)?;
        connection
            .send(&greeting.first())
            .map_err(|error| match error {
                ConnectionError::Io(error) => error,
                other => io::Error::other(other),
            })?;
        Ok(Reconnect {
            connection,
            greeting,
            began: Instant::now(),
        })
    }

    /// Resets the new connection: the server may have resumed the session over it, with its reply still in flight.
    fn reset_reconnect(&mut self) {
        if let Some(mut reconnect) = self.reconnect.take() {
            reconnect.connection.reset(self.poll.registry());
        }
    }

    /// Continues a new connection, and switches to it when the server has resumed the session.
    pub(super) fn poll_reconnect(&mut self) -> Result<(), SessionError> {
        let Some(reconnect) = &mut self.reconnect else {
            return Ok(());
        };
        if reconnect.is_connected() {
            self.connected_at = Instant::now();
        }
        match reconnect.poll() {
            Ok(None) => Ok(()),
            Ok(Some(count)) => {
                let Some(Reconnect { connection, .. }) = self.reconnect.take() else {
                    return Ok(());
                };
                self.connection.continue_over(
                    connection,
                    count,
                    self.poll.registry(),
                    CONNECTION,
                )?;
                self.retired = None;
                Ok(())
            }
            Err(Failure::Greeting(error)) => Err(SessionError::Refused(error)),
            Err(Failure::Connection(ConnectionError::Io(error))) => {
                self.reset_reconnect();
                match self.is_gone(&error) {
                    true => Err(SessionError::Gone),
                    false => Ok(()),
                }
            }
            Err(Failure::Connection(_)) => {
                self.reset_reconnect();
                Ok(())
            }
        }
    }
}
