//! One client of the answering server: what it says, and what it is answered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::TcpStream;

use super::PREFIX;
use super::telling::Telling;
use crate::load::order::{self, Beginning, Order, Receipt};
use crate::load::pattern::Pattern;
use crate::load::sink::Sink;
use crate::sys::endpoint::Peer;

/// Lots of a client before others have their turn.
const TURN: usize = 16;

/// What a whole segment carries on loopback, over IPv4 and over IPv6. Reads of whole segments are up to half as fast again
/// as those that leave a rest of each; one who only receives is not told how long they are (`TCP_MAXSEG`).
const SEGMENT: usize = 65_483;
const SEGMENT_V6: usize = 65_464;

/// A client.
pub(super) struct Client {
    stream: TcpStream,
    from: Peer,
    /// Not taken by the client yet.
    rest: Vec<u8>,
    mode: Mode,
    telling: Telling,
    /// There may be more to read than the last read took.
    more: bool,
}

/// What a client is here for.
enum Mode {
    /// It said nothing yet, or only what may become an order.
    Unknown(Vec<u8>),
    /// To be answered all it says.
    Plain,
    /// To be answered so many bytes more.
    Once(u64),
    /// To be taken all it says from.
    Sink(Sink),
}

/// What becomes of a client after its turn.
pub(super) enum Fate {
    /// There is nothing to do until something happens.
    Waits,
    /// There is more to do.
    More,
    /// It is gone.
    Over,
}

/// What serving takes, the same for all clients of a thread.
pub(super) struct Means {
    /// The prefix, and room for what is read behind it.
    pub(super) buffer: Box<[u8]>,
    pub(super) pattern: Pattern,
}

impl Client {
    pub(super) fn new(stream: TcpStream, from: Peer) -> Self {
        Self {
            stream,
            from,
            rest: Vec::new(),
            mode: Mode::Unknown(Vec::new()),
            telling: Telling::default(),
            more: false,
        }
    }

    /// Something happened to it.
    pub(super) fn happened(&mut self, event: &Event) {
        // A read that is not filled has taken all there is, unless an end or urgent data cut it short (epoll(7)).
        self.more |= event.is_read_closed() || event.is_priority() || event.is_error();
    }

    pub(super) fn serve(&mut self, means: &mut Means, heard: &mut impl FnMut(Peer, &[u8])) -> Fate {
        for _ in 0..TURN {
            match self.turn(means, heard) {
                Ok(true) => {}
                Ok(false) => return Fate::Waits,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Fate::Waits,
                    ErrorKind::Interrupted => {}
                    _ => return Fate::Over,
                },
            }
            if self.is_done() {
                // All it said went back to it.
                let _ = self.stream.shutdown(Shutdown::Write);
                return Fate::Over;
            }
        }
        Fate::More
    }

    fn is_done(&self) -> bool {
        self.rest.is_empty() && matches!(self.mode, Mode::Once(0))
    }

    /// Gives back what is left, or else takes more and gives it back; false when that was all there is.
    fn turn(&mut self, means: &mut Means, heard: &mut impl FnMut(Peer, &[u8])) -> io::Result<bool> {
        if !self.rest.is_empty() {
            let written = self.stream.write(&self.rest)?;
            self.rest.drain(..written);
            if self.rest.is_empty() {
                self.rest = Vec::new();
            }
            return Ok(true);
        }
        let (prefix, room) = means.buffer.split_at_mut(PREFIX.len());
        let length = match self.mode {
            Mode::Sink(_) if matches!(self.from, Peer::Ip(SocketAddr::V6(_))) => SEGMENT_V6,
            Mode::Sink(_) => SEGMENT,
            _ => room.len(),
        };
        let room = room.get_mut(..length).unwrap_or_default();
        let bytes = self.stream.read(room)?;
        let said = room.get(..bytes).unwrap_or_default();
        if said.is_empty() {
            self.ended(prefix, heard);
            return Ok(true);
        }
        let all = bytes < length && !self.more;
        match &mut self.mode {
            Mode::Unknown(_) => self.begin(means, bytes, heard)?,
            Mode::Plain => {
                self.telling.tell(self.from, said, heard);
                self.answer(means, PREFIX.len(), bytes)?;
            }
            Mode::Once(left) => {
                let due = bytes.min(usize::try_from(*left).unwrap_or(bytes));
                *left -= due as u64;
                self.telling.tell(self.from, said, heard);
                self.answer(means, PREFIX.len(), due)?;
            }
            Mode::Sink(sink) => {
                if let Some(receipt) = sink.take(&means.pattern, said) {
                    self.confirm(receipt);
                }
            }
        }
        Ok(!all || !self.rest.is_empty())
    }

    /// Sees what the client's first bytes are, of which so many came now.
    fn begin(
        &mut self,
        means: &mut Means,
        bytes: usize,
        heard: &mut impl FnMut(Peer, &[u8]),
    ) -> io::Result<()> {
        let said = means.buffer.get(PREFIX.len()..PREFIX.len() + bytes);
        let said = said.unwrap_or_default();
        let Mode::Unknown(before) = &mut self.mode else {
            return Ok(());
        };
        if before.is_empty() && Order::read(said) == Beginning::Plain {
            self.telling.tell(self.from, said, heard);
            self.mode = Mode::Plain;
            return self.answer(means, 0, bytes);
        }
        // An order may come in pieces, and with what follows it.
        before.extend_from_slice(said);
        let order = match Order::read(before) {
            Beginning::Unclear => return Ok(()),
            Beginning::Plain => None,
            Beginning::Order(order) => Some(order),
        };
        let all = std::mem::take(before);
        let behind = match order {
            Some(_) => all.get(order::LENGTH..).unwrap_or_default(),
            None => &all[..],
        };
        match order {
            Some(Order::Sink(place)) => {
                let mut sink = Sink::new(place);
                let receipt = sink.take(&means.pattern, behind);
                self.mode = Mode::Sink(sink);
                if let Some(receipt) = receipt {
                    self.confirm(receipt);
                }
                return Ok(());
            }
            Some(Order::Once(number)) => {
                let due = behind
                    .len()
                    .min(usize::try_from(number).unwrap_or(usize::MAX));
                self.mode = Mode::Once(number - due as u64);
                self.rest = [PREFIX, behind.get(..due).unwrap_or_default()].concat();
            }
            None => {
                self.mode = Mode::Plain;
                self.rest = [PREFIX, behind].concat();
            }
        }
        self.telling.tell(self.from, behind, heard);
        Ok(())
    }

    /// Answers so many bytes from `from` in the buffer, the prefix's end or before; keeps what the client does not take.
    fn answer(&mut self, means: &mut Means, from: usize, bytes: usize) -> io::Result<()> {
        let answer = means.buffer.get(from..PREFIX.len() + bytes);
        let answer = answer.unwrap_or_default();
        let written = match self.stream.write(answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            written => written?,
        };
        self.rest
            .extend_from_slice(answer.get(written..).unwrap_or_default());
        Ok(())
    }

    /// All data has come: the receipt is the last that is said.
    fn confirm(&mut self, receipt: Receipt) {
        self.mode = Mode::Once(0);
        self.rest = receipt.encode().to_vec();
    }

    /// The client has said all it had to say.
    fn ended(&mut self, prefix: &[u8], heard: &mut impl FnMut(Peer, &[u8])) {
        let mode = std::mem::replace(&mut self.mode, Mode::Once(0));
        match mode {
            Mode::Unknown(said) => {
                self.telling.tell(self.from, &said, heard);
                self.rest = [prefix, &said].concat();
            }
            Mode::Sink(sink) => self.confirm(sink.ended()),
            Mode::Plain | Mode::Once(_) => {}
        }
        self.telling.tell(self.from, &[], heard);
    }
}
