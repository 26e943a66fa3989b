//! One client of the origin server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;

use super::PREFIX;
use super::utf8_chunker::Utf8Chunker;
use crate::load::command::{self, Command, Parsed, Receipt};
use crate::load::payload::Payload;
use crate::load::sink::Sink;
use crate::sys::endpoint::Peer;

/// Reads and writes of a client before the next client has its turn.
const QUANTUM: usize = 16;

/// Payload of a loopback segment over IPv4 and IPv6. Reads of whole segments are up to 1.5 times as fast as reads that leave
/// part of one. A socket that only receives does not learn the segment size (`TCP_MAXSEG`).
const SEGMENT: usize = 65_483;
const SEGMENT_V6: usize = 65_464;

/// A connected client.
pub(super) struct Client {
    stream: TcpStream,
    from: Peer,
    /// Echo bytes that the client has not yet accepted.
    unsent: Vec<u8>,
    mode: Mode,
    chunker: Utf8Chunker,
    /// Whether a short read may have left something.
    more: bool,
}

/// What the server does with a client's bytes.
enum Mode {
    /// Wait: these bytes may become a command.
    Unknown(Vec<u8>),
    /// Echo everything.
    Echo,
    /// Echo this many more bytes, then close.
    Once(u64),
    /// Compare with the payload.
    Sink(Sink),
}

/// The state of a client after its turn.
pub(super) enum Status {
    /// Wait for an event.
    Blocked,
    /// Runnable.
    Ready,
    /// Close the connection.
    Closed,
}

/// Resources shared by all clients of a thread.
pub(super) struct Resources {
    /// The prefix, followed by the read buffer.
    pub(super) buffer: Box<[u8]>,
    pub(super) payload: Payload,
}

impl Client {
    pub(super) fn new(stream: TcpStream, from: Peer) -> Self {
        Self {
            stream,
            from,
            unsent: Vec::new(),
            mode: Mode::Unknown(Vec::new()),
            chunker: Utf8Chunker::default(),
            more: false,
        }
    }

    pub(super) fn on_event(&mut self, event: &Event) {
        // A short read has emptied the socket, unless an end or urgent data cut it short (epoll(7)).
        self.more |= event.is_read_closed() || event.is_priority() || event.is_error();
    }

    pub(super) fn serve(
        &mut self,
        resources: &mut Resources,
        on_message: &mut impl FnMut(Peer, &[u8]),
    ) -> Status {
        for _ in 0..QUANTUM {
            match self.step(resources, on_message) {
                Ok(true) => {}
                Ok(false) => return Status::Blocked,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Status::Blocked,
                    ErrorKind::Interrupted => {}
                    _ => return Status::Closed,
                },
            }
            if self.is_done() {
                // Everything is echoed.
                let _ = self.stream.shutdown(Shutdown::Write);
                return Status::Closed;
            }
        }
        Status::Ready
    }

    fn is_done(&self) -> bool {
        self.unsent.is_empty() && matches!(self.mode, Mode::Once(0))
    }

    /// Writes unsent bytes, or reads and echoes more. Returns false when the socket was emptied.
    fn step(
        &mut self,
        resources: &mut Resources,
        on_message: &mut impl FnMut(Peer, &[u8]),
    ) -> io::Result<bool> {
        if !self.unsent.is_empty() {
            let written = self.stream.write(&self.unsent)?;
            self.unsent.drain(..written);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
            return Ok(true);
        }
        let (prefix, room) = resources.buffer.split_at_mut(PREFIX.len());
        let length = match self.mode {
            Mode::Sink(_) if matches!(self.from, Peer::Ip(SocketAddr::V6(_))) => SEGMENT_V6,
            Mode::Sink(_) => SEGMENT,
            _ => room.len(),
        };
        let room = room.get_mut(..length).unwrap_or_default();
        let bytes = self.stream.read(room)?;
        let data = room.get(..bytes).unwrap_or_default();
        if data.is_empty() {
            self.on_eof(prefix, on_message);
            return Ok(true);
        }
        let all = bytes < length && !self.more;
        match &mut self.mode {
            Mode::Unknown(_) => self.read_command(resources, bytes, on_message)?,
            Mode::Echo => {
                self.chunker.push(self.from, data, on_message);
                self.reply(resources, PREFIX.len(), bytes)?;
            }
            Mode::Once(left) => {
                let due = bytes.min(usize::try_from(*left).unwrap_or(bytes));
                *left -= due as u64;
                self.chunker.push(self.from, data, on_message);
                self.reply(resources, PREFIX.len(), due)?;
            }
            Mode::Sink(sink) => {
                if let Some(receipt) = sink.receive(&resources.payload, data) {
                    self.send_receipt(receipt);
                }
            }
        }
        // The last byte of an answer may come with a short read.
        Ok(!all || !self.unsent.is_empty() || self.is_done())
    }

    /// Decodes the client's first bytes, `bytes` of which are new.
    fn read_command(
        &mut self,
        resources: &mut Resources,
        bytes: usize,
        on_message: &mut impl FnMut(Peer, &[u8]),
    ) -> io::Result<()> {
        let data = resources.buffer.get(PREFIX.len()..PREFIX.len() + bytes);
        let data = data.unwrap_or_default();
        let Mode::Unknown(before) = &mut self.mode else {
            return Ok(());
        };
        if before.is_empty() && Command::read(data) == Parsed::NotCommand {
            self.chunker.push(self.from, data, on_message);
            self.mode = Mode::Echo;
            return self.reply(resources, 0, bytes);
        }
        // A command may arrive in pieces, and with data behind it.
        before.extend_from_slice(data);
        let command = match Command::read(before) {
            Parsed::Incomplete => return Ok(()),
            Parsed::NotCommand => None,
            Parsed::Command(command) => Some(command),
        };
        let all = std::mem::take(before);
        let rest = match command {
            Some(_) => all.get(command::LENGTH..).unwrap_or_default(),
            None => &all[..],
        };
        match command {
            Some(Command::Sink(offset)) => {
                let mut sink = Sink::new(offset);
                let receipt = sink.receive(&resources.payload, rest);
                self.mode = Mode::Sink(sink);
                if let Some(receipt) = receipt {
                    self.send_receipt(receipt);
                }
                return Ok(());
            }
            Some(Command::Once(number)) => {
                let due = rest
                    .len()
                    .min(usize::try_from(number).unwrap_or(usize::MAX));
                self.mode = Mode::Once(number - due as u64);
                self.unsent = [PREFIX, rest.get(..due).unwrap_or_default()].concat();
            }
            None => {
                self.mode = Mode::Echo;
                self.unsent = [PREFIX, rest].concat();
            }
        }
        self.chunker.push(self.from, rest, on_message);
        Ok(())
    }

    /// Sends the buffer from `from`, the start or the end of the prefix, and keeps what the client does not accept.
    fn reply(&mut self, resources: &mut Resources, from: usize, bytes: usize) -> io::Result<()> {
        let answer = resources.buffer.get(from..PREFIX.len() + bytes);
        let answer = answer.unwrap_or_default();
        let written = match self.stream.write(answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            written => written?,
        };
        self.unsent
            .extend_from_slice(answer.get(written..).unwrap_or_default());
        Ok(())
    }

    /// Answers complete bulk data with the receipt, then closes.
    fn send_receipt(&mut self, receipt: Receipt) {
        self.mode = Mode::Once(0);
        self.unsent = receipt.encode().to_vec();
    }

    /// Handles the end of the client's data.
    fn on_eof(&mut self, prefix: &[u8], on_message: &mut impl FnMut(Peer, &[u8])) {
        let mode = std::mem::replace(&mut self.mode, Mode::Once(0));
        match mode {
            Mode::Unknown(data) => {
                self.chunker.push(self.from, &data, on_message);
                self.unsent = [prefix, &data].concat();
            }
            Mode::Sink(sink) => self.send_receipt(sink.receipt()),
            Mode::Echo | Mode::Once(_) => {}
        }
        self.chunker.push(self.from, &[], on_message);
    }
}
