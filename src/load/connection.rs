//! A connection of the load generator: the socket of a [`RequestState`].

use std::io::{self, Read, Write};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::advice::NOT_ESTABLISHED;
use super::connect;
use super::error::{ErrorKind, RequestError};
use super::request::{RequestState, Step};
use super::workload::Workload;
use crate::sys::endpoint::Endpoint;

pub(super) struct Connection {
    stream: TcpStream,
    token: Token,
    pub(super) state: RequestState,
    /// Whether bytes were sent or received.
    open: bool,
    readable: bool,
    /// Whether a short read may have left something: the peer closed, or the connection broke.
    closing: bool,
    /// Whether `closing` is a close without an error.
    eof: bool,
    /// Whether writability is polled.
    polls_writable: bool,
}

impl Connection {
    /// Starts to connect.
    pub(super) fn start(
        to: &Endpoint,
        registry: &Registry,
        token: Token,
        state: RequestState,
    ) -> Result<Self, RequestError> {
        let failed = |error: io::Error| RequestError::from_io(&error, false);
        let mut stream = connect::start(to).map_err(failed)?;
        if to.ip().is_some() {
            stream.set_nodelay(true).map_err(failed)?;
        }
        // Polling writability costs an event a connection, and most connections never need it.
        registry
            .register(&mut stream, token, Interest::READABLE)
            .map_err(failed)?;
        Ok(Self {
            stream,
            token,
            state,
            open: false,
            readable: false,
            closing: false,
            eof: false,
            polls_writable: false,
        })
    }

    #[inline]
    pub(super) fn on_event(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        // A short read has emptied the socket, unless an end cut it short (epoll(7)).
        self.closing |= event.is_read_closed() || event.is_error();
        self.eof = self.closing && !event.is_error();
    }

    /// Whether the next request can use the connection. Unexpected bytes stay in the socket and fail that request.
    pub(super) fn is_usable(&mut self) -> bool {
        !self.closing
            || matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes and reads until the socket blocks or the request is over.
    #[inline]
    pub(super) fn drive(
        &mut self,
        workload: &Workload,
        registry: &Registry,
        buffer: &mut [u8],
    ) -> Result<Step, RequestError> {
        loop {
            self.write(workload, registry)?;
            if !self.readable {
                return Ok(Step::Incomplete);
            }
            match self.read(workload, buffer)? {
                Some(Step::Incomplete) => {}
                Some(step) => return Ok(step),
                None => return Ok(Step::Incomplete),
            }
        }
    }

    #[inline]
    fn write(&mut self, workload: &Workload, registry: &Registry) -> Result<(), RequestError> {
        loop {
            let pieces = self.state.outgoing(workload);
            let mut nonempty = pieces.iter().filter(|piece| !piece.is_empty());
            let written = match (nonempty.next(), nonempty.next()) {
                (None, _) => return Ok(()),
                (Some(piece), None) => self.stream.write(piece),
                _ => self.stream.write_vectored(&pieces.map(io::IoSlice::new)),
            };
            match written {
                Ok(bytes) => {
                    self.open = true;
                    self.state.sent(bytes);
                }
                Err(error) => match error.kind() {
                    // Not connected yet, or the send buffer is full.
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => {
                        return self.poll_writable(registry);
                    }
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(RequestError::from_io(&error, self.open)),
                },
            }
        }
    }

    fn poll_writable(&mut self, registry: &Registry) -> Result<(), RequestError> {
        if !self.polls_writable {
            self.polls_writable = true;
            let both = Interest::READABLE | Interest::WRITABLE;
            registry
                .reregister(&mut self.stream, self.token, both)
                .map_err(|error| RequestError::from_io(&error, self.open))?;
        }
        Ok(())
    }

    /// Reads once; `None` where the read would block.
    #[inline]
    fn read(
        &mut self,
        workload: &Workload,
        buffer: &mut [u8],
    ) -> Result<Option<Step>, RequestError> {
        let bytes = match self.stream.read(buffer) {
            Ok(bytes) => bytes,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                io::ErrorKind::Interrupted => return Ok(Some(Step::Incomplete)),
                _ => return Err(RequestError::from_io(&error, self.open)),
            },
        };
        self.open = true;
        self.readable = bytes == buffer.len() || self.closing;
        let step = match buffer.get(..bytes) {
            Some(received) if !received.is_empty() => self.state.receive(workload, received)?,
            _ => self.state.on_eof(workload)?,
        };
        // After a short read of a closed connection only its end is left.
        if step == Step::Answered && self.eof && bytes < buffer.len() {
            return self.state.on_eof(workload).map(Some);
        }
        Ok(Some(step))
    }

    /// The error of a request that reached its timeout.
    pub(super) fn timeout_error(&self) -> RequestError {
        let detail = match self.open {
            true => "the answer was not complete",
            false => NOT_ESTABLISHED,
        };
        RequestError::new(ErrorKind::Timeout, detail)
    }
}
