//! One end of a control connection: a non-blocking TCP stream that carries whole messages, and what outlives that stream.
//!
//! Numbered messages are kept until the other side acknowledges them, so that [`Link::adopt`] can go on over another stream
//! ([`crate::udp::control::retransmission`]). A stream that is still being connected may be used: it sends once it is connected, and fails
//! as a connected one does.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use thiserror::Error;

use crate::udp::control::retransmission::{BadCount, Message, Unacknowledged};
use crate::udp::wire::framing::{Decoder, FrameError, encode};

/// More bytes than this that the other side has not acknowledged: it does not read, and nothing more is added.
const MOST_KEPT: usize = 8 << 20;

/// Bytes read from one connection before others get their turn.
const MOST_READ: usize = 1 << 18;

/// Numbered messages received before an acknowledgement is due at once.
const ACKNOWLEDGE_EVERY: u64 = 16;

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The other end closed it.
    #[error("the connection was closed")]
    Closed,
    /// TCP reports it.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// Bytes that are no message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A count that cannot be.
    #[error(transparent)]
    Count(#[from] BadCount),
    /// No message for too long.
    #[error("no answer for {} s", .0.as_secs_f64())]
    Silent(Duration),
    /// Too much was sent that the other end does not read.
    #[error("the other end does not read what it is sent")]
    Unread,
}

impl LinkError {
    /// Whether another connection may succeed where this one failed.
    pub fn is_resumable(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

/// The stream, and both directions of messages.
#[derive(Debug)]
pub struct Link {
    /// `None` between the loss of a connection and the next one.
    stream: Option<TcpStream>,
    decoder: Decoder,
    waiting: Vec<u8>,
    sent: Unacknowledged,
    /// Numbered messages received.
    received: u64,
    /// How many of them the other side knows of.
    reported: u64,
    heard: Instant,
    /// When the other side last took or acknowledged something, or had nothing to take.
    taken: Instant,
    closed: bool,
}

impl Link {
    /// Around a stream, which it registers for reading and writing.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    pub fn new(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        // Each message is small and the other side waits for it.
        let _ = stream.set_nodelay(true);
        Ok(Self {
            stream: Some(stream),
            decoder: Decoder::default(),
            waiting: Vec::new(),
            sent: Unacknowledged::default(),
            received: 0,
            reported: 0,
            heard: Instant::now(),
            taken: Instant::now(),
            closed: false,
        })
    }

    /// Goes on over the stream of `other`, whose greeting is over, when the other side received `count` messages.
    ///
    /// # Errors
    /// [`BadCount`]; as epoll_ctl(2).
    pub fn adopt(
        &mut self,
        other: Self,
        count: u64,
        registry: &Registry,
        token: Token,
    ) -> Result<(), LinkError> {
        self.disconnect(registry);
        let mut waiting = other.waiting;
        for frame in self.sent.resend(count)? {
            waiting.extend_from_slice(frame);
        }
        let mut stream = other.stream.ok_or(LinkError::Closed)?;
        registry.reregister(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.decoder = other.decoder;
        self.waiting = waiting;
        self.closed = other.closed;
        self.heard = Instant::now();
        self.taken = Instant::now();
        self.flush()
    }

    /// Gives the stream up. What was not acknowledged is kept for the next one.
    pub fn disconnect(&mut self, registry: &Registry) {
        if let Some(mut stream) = self.stream.take() {
            let _ = registry.deregister(&mut stream);
        }
        self.waiting.clear();
        self.decoder = Decoder::default();
    }

    /// As [`Self::disconnect`], and gives the stream, which is still open.
    pub fn retire(&mut self, registry: &Registry) -> Option<TcpStream> {
        let mut stream = self.stream.take();
        if let Some(stream) = &mut stream {
            let _ = registry.deregister(stream);
        }
        self.disconnect(registry);
        stream
    }

    /// Gives the stream up with a reset: the end of it would end the session, which another connection is to take up.
    pub fn reset(&mut self, registry: &Registry) {
        if let Some(stream) = &self.stream {
            // Where it fails, the connection ends as any other.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        self.disconnect(registry);
    }

    /// Whether there is a stream.
    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// Queues a message and sends what the socket takes.
    ///
    /// # Errors
    /// [`LinkError`]; also when the other end leaves too much unread.
    pub fn send(&mut self, message: &impl Message) -> Result<(), LinkError> {
        if self.waiting.is_empty() && self.sent.bytes() == 0 {
            self.taken = Instant::now();
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
            self.sent.push(frame);
        }
        self.flush()?;
        if self.sent.bytes().max(self.waiting.len()) > MOST_KEPT {
            return Err(LinkError::Unread);
        }
        Ok(())
    }

    /// Sends what the socket takes of what is waiting.
    ///
    /// # Errors
    /// As send(2).
    pub fn flush(&mut self) -> Result<(), LinkError> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut sent = 0;
        let outcome = loop {
            if sent == self.waiting.len() {
                break Ok(());
            }
            match stream.write(&self.waiting[sent..]) {
                Ok(0) => break Err(LinkError::Closed),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error.into()),
            }
        };
        if sent > 0 {
            self.taken = Instant::now();
        }
        self.waiting.drain(..sent);
        outcome
    }

    /// Bytes that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes that the other side has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.sent.bytes()
    }

    /// For how long the other side has taken nothing of what it is sent.
    pub fn unread_for(&self) -> Duration {
        if self.waiting.is_empty() && self.sent.bytes() == 0 {
            Duration::ZERO
        } else {
            self.taken.elapsed()
        }
    }

    /// Reads what has come. `true` when there may be more, which another call has to fetch.
    ///
    /// # Errors
    /// As recv(2). The end of the stream is not one here but in [`Self::next_message`], after all that came before it.
    pub fn fill(&mut self) -> Result<bool, LinkError> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        let mut bytes = [0; 1 << 14];
        let mut total = 0;
        while total < MOST_READ {
            match stream.read(&mut bytes) {
                Ok(0) => {
                    self.closed = true;
                    return Ok(false);
                }
                Ok(count) => {
                    self.heard = Instant::now();
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

    /// Reads what has come and throws it away, as of a connection that is only waited for to close. `true` when
    /// there may be more.
    ///
    /// # Errors
    /// [`LinkError::Closed`] once it is.
    pub fn discard(&mut self) -> Result<bool, LinkError> {
        let more = self.fill()?;
        self.decoder = Decoder::default();
        if self.closed || self.stream.is_none() {
            Err(LinkError::Closed)
        } else {
            Ok(more)
        }
    }

    /// The next message that has come whole. What it acknowledges is dropped.
    ///
    /// # Errors
    /// [`LinkError::Closed`] after the last, [`LinkError::Frame`] for bytes that are no message.
    pub fn next_message<M: Message>(&mut self) -> Result<Option<M>, LinkError> {
        match self.decoder.next_message::<M>()? {
            None if self.closed => Err(LinkError::Closed),
            None => Ok(None),
            Some(message) => {
                self.received += u64::from(message.is_numbered());
                if let Some(count) = message.acknowledges() {
                    let before = self.sent.bytes();
                    self.sent.acknowledge(count)?;
                    if self.sent.bytes() < before {
                        self.taken = Instant::now();
                    }
                }
                Ok(Some(message))
            }
        }
    }

    /// As [`Self::next_message`], the JSON itself, of a message before the first numbered one.
    ///
    /// # Errors
    /// Likewise.
    pub fn next_json(&mut self) -> Result<Option<&[u8]>, LinkError> {
        let closed = self.closed;
        match self.decoder.next_json()? {
            None if closed => Err(LinkError::Closed),
            json => Ok(json),
        }
    }

    /// How many numbered messages were received.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether so many messages are not acknowledged that the other side may be waiting for it.
    pub fn owes_acknowledgement(&self) -> bool {
        self.received.saturating_sub(self.reported) >= ACKNOWLEDGE_EVERY
    }

    /// When something last came.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// The TCP stream, while there is one.
    pub fn stream(&self) -> Option<&TcpStream> {
        self.stream.as_ref()
    }
}
