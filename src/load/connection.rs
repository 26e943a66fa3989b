//! A connection's hands: brings the [`Dialogue`] what comes, and sends what it says.

use std::io::{self, ErrorKind, Read, Write};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::connect;
use super::dialogue::{Dialogue, Script, Step};
use super::fault::{Failure, Fault};
use crate::sys::endpoint::Endpoint;

/// A connection, which may not be there yet.
pub(super) struct Connection {
    stream: TcpStream,
    token: Token,
    pub(super) dialogue: Dialogue,
    /// Anything came, or was taken: the connection is one.
    open: bool,
    /// Something happened that was not looked at.
    happened: bool,
    /// There may be more to read than a read took: the other end has ended, or the connection broke.
    more: bool,
    /// And it is the end and nothing else.
    ended: bool,
    /// It is told when it can be written to.
    told_writable: bool,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn begin(
        to: &Endpoint,
        registry: &Registry,
        token: Token,
        dialogue: Dialogue,
    ) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::of_socket(&error, false);
        let mut stream = connect::begin(to).map_err(failed)?;
        if to.ip().is_some() {
            stream.set_nodelay(true).map_err(failed)?;
        }
        // To be told that it can be written to is an event a connection, which on most never matters.
        registry
            .register(&mut stream, token, Interest::READABLE)
            .map_err(failed)?;
        Ok(Self {
            stream,
            token,
            dialogue,
            open: false,
            happened: false,
            more: false,
            ended: false,
            told_writable: false,
        })
    }

    /// Something happened to it.
    #[inline]
    pub(super) fn happened(&mut self, event: &Event) {
        self.happened |= event.is_readable() || event.is_read_closed() || event.is_error();
        // A read that is not filled has taken all there is, unless an end cut it short (epoll(7)).
        self.more |= event.is_read_closed() || event.is_error();
        self.ended = self.more && !event.is_error();
    }

    /// Between requests: whether it can still be used. What came without being asked for stays where it is, and will be
    /// no answer.
    pub(super) fn is_usable(&mut self) -> bool {
        !self.more
            || matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Says and hears all that can be now.
    #[inline]
    pub(super) fn turn(
        &mut self,
        script: &Script,
        registry: &Registry,
        buffer: &mut [u8],
    ) -> Result<Step, Failure> {
        loop {
            self.say(script, registry)?;
            if !self.happened {
                return Ok(Step::More);
            }
            match self.hear(script, buffer)? {
                Some(Step::More) => {}
                Some(over) => return Ok(over),
                None => return Ok(Step::More),
            }
        }
    }

    #[inline]
    fn say(&mut self, script: &Script, registry: &Registry) -> Result<(), Failure> {
        loop {
            let pieces = self.dialogue.outgoing(script);
            let mut some = pieces.iter().filter(|piece| !piece.is_empty());
            let written = match (some.next(), some.next()) {
                (None, _) => return Ok(()),
                (Some(piece), None) => self.stream.write(piece),
                _ => self.stream.write_vectored(&pieces.map(io::IoSlice::new)),
            };
            match written {
                Ok(bytes) => {
                    self.open = true;
                    self.dialogue.sent(bytes);
                }
                Err(error) => match error.kind() {
                    // Not connected yet, or full.
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => {
                        return self.tell_writable(registry);
                    }
                    ErrorKind::Interrupted => {}
                    _ => return Err(Failure::of_socket(&error, self.open)),
                },
            }
        }
    }

    fn tell_writable(&mut self, registry: &Registry) -> Result<(), Failure> {
        if !self.told_writable {
            self.told_writable = true;
            let both = Interest::READABLE | Interest::WRITABLE;
            registry
                .reregister(&mut self.stream, self.token, both)
                .map_err(|error| Failure::of_socket(&error, self.open))?;
        }
        Ok(())
    }

    /// One read; nothing where there is nothing.
    #[inline]
    fn hear(&mut self, script: &Script, buffer: &mut [u8]) -> Result<Option<Step>, Failure> {
        let bytes = match self.stream.read(buffer) {
            Ok(bytes) => bytes,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    self.happened = false;
                    return Ok(None);
                }
                ErrorKind::Interrupted => return Ok(Some(Step::More)),
                _ => return Err(Failure::of_socket(&error, self.open)),
            },
        };
        self.open = true;
        self.happened = bytes == buffer.len() || self.more;
        let step = match buffer.get(..bytes) {
            Some(said) if !said.is_empty() => self.dialogue.take(script, said)?,
            _ => self.dialogue.end(script)?,
        };
        // What ended and was read short has nothing but its end left.
        if step == Step::Answered && self.ended && bytes < buffer.len() {
            return self.dialogue.end(script).map(Some);
        }
        Ok(Some(step))
    }

    /// Why nothing came of it in time.
    pub(super) fn late(&self) -> Failure {
        let what = match self.open {
            true => "no whole answer came",
            false => "the connection was not taken",
        };
        Failure::new(Fault::Timeout, what)
    }
}
