//! One end of a control connection: a non-blocking TCP stream that carries whole messages.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::control::SILENCE;
use super::frame::{Decoder, FrameError, encode};

/// More than this waiting to be sent means that the other end does not read: then nothing more is added.
const MOST_WAITING: usize = 1 << 20;

/// Bytes read from one connection before others get their turn.
const MOST_READ: usize = 1 << 18;

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The other end closed it.
    #[error("the connection was closed")]
    Closed,
    /// TCP says so.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// What came is no message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Nothing came for [`SILENCE`].
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silent,
    /// Of what was sent, nothing was read for [`SILENCE`], or a megabyte is waiting.
    #[error("what was sent is not read at the other end")]
    Unread,
}

/// The stream with what is half received and half sent.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    decoder: Decoder,
    waiting: Vec<u8>,
    heard: Instant,
    /// When something of what is waiting was last taken.
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
        // Every message is small and somebody waits for it.
        let _ = stream.set_nodelay(true);
        Ok(Self {
            stream,
            decoder: Decoder::default(),
            waiting: Vec::new(),
            heard: Instant::now(),
            taken: Instant::now(),
            closed: false,
        })
    }

    /// Queues a message and sends what the socket takes.
    ///
    /// # Errors
    /// [`LinkError`]; also when the other end has left a megabyte unread.
    pub fn send(&mut self, message: &impl Serialize) -> Result<(), LinkError> {
        if self.waiting.is_empty() {
            self.taken = Instant::now();
        }
        encode(message, &mut self.waiting)?;
        self.flush()?;
        if self.waiting.len() > MOST_WAITING {
            Err(LinkError::Unread)
        } else {
            Ok(())
        }
    }

    /// Sends what the socket takes of what is waiting.
    ///
    /// # Errors
    /// As send(2).
    pub fn flush(&mut self) -> Result<(), LinkError> {
        let mut sent = 0;
        let outcome = loop {
            if sent == self.waiting.len() {
                break Ok(());
            }
            match self.stream.write(&self.waiting[sent..]) {
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

    /// Reads what has come. `true` when there may be more, which another call has to fetch.
    ///
    /// # Errors
    /// As recv(2). The end of the stream is not one here but in [`Self::next_message`], after all that came before it.
    pub fn fill(&mut self) -> Result<bool, LinkError> {
        let mut bytes = [0; 1 << 14];
        let mut total = 0;
        while total < MOST_READ {
            match self.stream.read(&mut bytes) {
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
        if self.closed {
            Err(LinkError::Closed)
        } else {
            Ok(more)
        }
    }

    /// The next message that has come whole.
    ///
    /// # Errors
    /// [`LinkError::Closed`] after the last, [`LinkError::Frame`] for what is none.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LinkError> {
        match self.decoder.next_message()? {
            None if self.closed => Err(LinkError::Closed),
            message => Ok(message),
        }
    }

    /// As [`Self::next_message`], the JSON itself.
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

    /// Whether the other end has kept silent for too long, or left unread for too long what it is sent.
    ///
    /// # Errors
    /// [`LinkError::Silent`] or [`LinkError::Unread`].
    pub fn check_alive(&self) -> Result<(), LinkError> {
        if self.heard.elapsed() > SILENCE {
            Err(LinkError::Silent)
        } else if !self.waiting.is_empty() && self.taken.elapsed() > SILENCE {
            Err(LinkError::Unread)
        } else {
            Ok(())
        }
    }

    /// The TCP stream.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }
}
