//! One end of a control connection: messages over a non-blocking TCP stream, which can be replaced.
//!
//! Numbered messages are kept until the peer acknowledges them, so that [`ControlConnection::continue_over`] can continue over
//! another stream ([`super::retransmission`]). A stream that is still connecting can be used: it sends once it is connected.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use thiserror::Error;

use crate::udp::control::retransmission::{BadCount, Unacknowledged};
use crate::udp::wire::control::Message;
use crate::udp::wire::framing::{Decoder, FrameError, encode};

/// Most unacknowledged bytes. With more the peer does not read, and the connection fails.
const MAX_KEPT: usize = 8 << 20;

/// Most bytes read from one connection before the other connections are served.
const MAX_READ: usize = 1 << 18;

/// Numbered messages received after which an acknowledgement is due at once.
const ACKNOWLEDGE_EVERY: u64 = 16;

/// Why a connection failed.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The peer closed the connection.
    #[error("the connection was closed")]
    Closed,
    /// A TCP error.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// An invalid message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// An invalid acknowledgement.
    #[error(transparent)]
    Count(#[from] BadCount),
    /// No message for too long.
    #[error("no answer for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// The peer does not read.
    #[error("the peer does not read its messages")]
    Unread,
}

impl ConnectionError {
    /// Whether another connection may succeed.
    pub fn is_resumable(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

/// A control connection.
#[derive(Debug)]
pub struct ControlConnection {
    /// `None` between the loss of a stream and the next one.
    stream: Option<TcpStream>,
    decoder: Decoder,
    waiting: Vec<u8>,
    /// Bytes of `waiting` up to the end of its last numbered message.
    numbered: usize,
    sent: Unacknowledged,
    /// Numbered messages received.
    received: u64,
    /// Numbered messages that this side has acknowledged.
    reported: u64,
    last_received: Instant,
    /// When the peer last read or acknowledged bytes, or none were waiting.
    last_progress: Instant,
    closed: bool,
}

impl ControlConnection {
    /// Registers a stream for reading and writing.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn new(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        // Messages are small, and the peer waits for each.
        let _ = stream.set_nodelay(true);
        Ok(Self {
            stream: Some(stream),
            decoder: Decoder::default(),
            waiting: Vec::new(),
            numbered: 0,
            sent: Unacknowledged::default(),
            received: 0,
            reported: 0,
            last_received: Instant::now(),
            last_progress: Instant::now(),
            closed: false,
        })
    }

    /// Continues over the stream of `other`, whose greeting is complete. The peer has received `count` numbered messages.
    ///
    /// # Errors
    /// [`BadCount`]; as epoll_ctl(2).
    pub fn continue_over(
        &mut self,
        other: Self,
        count: u64,
        registry: &Registry,
        token: Token,
    ) -> Result<(), ConnectionError> {
        self.disconnect(registry);
        let mut waiting = other.waiting;
        for frame in self.sent.resend(count)? {
            waiting.extend_from_slice(frame);
        }
        let mut stream = other.stream.ok_or(ConnectionError::Closed)?;
        registry.reregister(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.decoder = other.decoder;
        self.numbered = waiting.len();
        self.waiting = waiting;
        self.closed = other.closed;
        self.last_received = Instant::now();
        self.last_progress = Instant::now();
        self.flush()
    }

    /// Drops the stream. Unacknowledged messages are kept for the next stream.
    pub fn disconnect(&mut self, registry: &Registry) {
        if let Some(mut stream) = self.stream.take() {
            let _ = registry.deregister(&mut stream);
        }
        self.waiting.clear();
        self.numbered = 0;
        self.decoder = Decoder::default();
    }

    /// As [`Self::disconnect`], but returns the open stream.
    pub fn retire(&mut self, registry: &Registry) -> Option<TcpStream> {
        let mut stream = self.stream.take();
        if let Some(stream) = &mut stream {
            let _ = registry.deregister(stream);
        }
        self.disconnect(registry);
        stream
    }

    /// Drops the stream with a reset. The end of the stream would end the session, which another connection is to resume.
    pub fn reset(&mut self, registry: &Registry) {
        if let Some(stream) = &self.stream {
            // If it fails, the stream is closed without a reset.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        self.disconnect(registry);
    }

    /// Whether there is a stream.
    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Queues a message, and sends as many bytes as the socket accepts.
    ///
    /// # Errors
    /// [`ConnectionError`]; [`ConnectionError::Unread`] if too many bytes are unacknowledged.
    pub fn send(&mut self, message: &impl Message) -> Result<(), ConnectionError> {
        if self.waiting.is_empty() && self.sent.bytes() == 0 {
            self.last_progress = Instant::now();
        }
        let mut frame = Vec::new();
        encode(message, &mut frame)?;
        if let Some(received) = message.acknowledges() {
            self.reported = received;
        }
        if self.stream.is_some() {
            self.waiting.extend_from_slice(&frame);
        }
        if message.is_numbered() {
            self.numbered = self.waiting.len();
            self.sent.push(frame);
        }
        self.flush()?;
        if self.sent.bytes().max(self.waiting.len()) > MAX_KEPT {
            return Err(ConnectionError::Unread);
        }
        Ok(())
    }

    /// Sends as many waiting bytes as the socket accepts.
    ///
    /// # Errors
    /// As send(2).
    pub fn flush(&mut self) -> Result<(), ConnectionError> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut sent = 0;
        let outcome = loop {
            if sent == self.waiting.len() {
                break Ok(());
            }
            match stream.write(&self.waiting[sent..]) {
                Ok(0) => break Err(ConnectionError::Closed),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error.into()),
            }
        };
        // A reply to a keep-alive fits the socket whether or not the peer reads.
        if sent > 0 && (self.numbered > 0 || self.sent.bytes() == 0) {
            self.last_progress = Instant::now();
        }
        self.numbered = self.numbered.saturating_sub(sent);
        self.waiting.drain(..sent);
        outcome
    }

    /// Bytes that are not sent yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of the messages that the peer has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.sent.bytes()
    }

    /// How long the peer has read nothing although bytes are waiting.
    pub fn unread_for(&self) -> Duration {
        if self.waiting.is_empty() && self.sent.bytes() == 0 {
            Duration::ZERO
        } else {
            self.last_progress.elapsed()
        }
    }

    /// Reads from the socket. `true` if there may be more bytes to read.
    ///
    /// # Errors
    /// As recv(2). The end of the stream is reported by [`Self::next_message`], after the last message.
    pub fn fill(&mut self) -> Result<bool, ConnectionError> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        let mut bytes = [0; 1 << 14];
        let mut total = 0;
        while total < MAX_READ {
            match stream.read(&mut bytes) {
                Ok(0) => {
                    self.closed = true;
                    return Ok(false);
                }
                Ok(count) => {
                    self.last_received = Instant::now();
                    self.decoder.push(&bytes[..count]);
                    total += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Reads from the socket and drops the bytes, until the peer closes the connection. `true` if there may be more bytes to read.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] at the end of the stream.
    pub fn discard(&mut self) -> Result<bool, ConnectionError> {
        let more = self.fill()?;
        self.decoder = Decoder::default();
        if self.closed || self.stream.is_none() {
            Err(ConnectionError::Closed)
        } else {
            Ok(more)
        }
    }

    /// The next complete message. The messages that it acknowledges are dropped.
    ///
    /// # Errors
    /// [`ConnectionError::Closed`] after the last message, [`ConnectionError::Frame`] for an invalid one.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<M>, ConnectionError> {
        match self.decoder.next_message::<M>()? {
            None if self.closed => Err(ConnectionError::Closed),
            None => Ok(None),
            Some(message) => {
                self.received += u64::from(message.is_numbered());
                if let Some(count) = message.acknowledges() {
                    let before = self.sent.bytes();
                    self.sent.acknowledge(count)?;
                    if self.sent.bytes() < before {
                        self.last_progress = Instant::now();
                    }
                }
                Ok(Some(message))
            }
        }
    }

    /// The JSON of the next complete message, which must be one before the first numbered message.
    ///
    /// # Errors
    /// As [`Self::next_message`].
    pub fn next_json(&mut self) -> Result<Option<&[u8]>, ConnectionError> {
        let closed = self.closed;
        match self.decoder.next_json()? {
            None if closed => Err(ConnectionError::Closed),
            json => Ok(json),
        }
    }

    /// Numbered messages received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether so many messages are unacknowledged that the peer may be waiting for an acknowledgement.
    pub fn owes_acknowledgement(&self) -> bool {
        self.received.saturating_sub(self.reported) >= ACKNOWLEDGE_EVERY
    }

    /// When bytes last arrived.
    pub fn last_received(&self) -> Instant {
        self.last_received
    }

    /// The TCP stream, if there is one.
    pub fn stream(&self) -> Option<&TcpStream> {
        self.stream.as_ref()
    }
}
