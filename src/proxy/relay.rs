//! What one relayed connection does next: pure, it owns no socket, pipe or clock.
//!
//! A [`Flow`] is one direction. It takes a chunk from its source, hands all of it to its sink, and only then takes the
//! next, so "try again" from the source can only mean that the source is empty, never that a pipe is full. When the
//! source has ended and the chunk in hand is gone, the sink's write side is shut, once. Two of them make a [`Relay`].
//!
//! ```text
//!            filled           drained, all of it
//!   empty ----------> holding ------------------> empty
//!     | ended            | broken (the sink is gone)
//!     v                  v
//!   ended -- shut -->  over
//! ```
//!
//! The caller asks [`Relay::step`], does that, and reports what came of it.

use std::io::{self, ErrorKind};

/// How bytes get from one socket to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarding {
    /// The fastest: copying. Whole segments in long turns carry more than splice(2) does, with one stream or many: a
    /// splice goes page by page, and saves a tenth of the CPU or so.
    #[default]
    Auto,
    /// Through a buffer of ours.
    Copy,
    /// Through a pipe with splice(2), unless none can be had.
    Splice,
}

/// What holds the bytes in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Memory of ours.
    Copy,
    /// A pipe.
    Pipe,
}

/// Lots that are copied for want of a pipe before one is asked for again.
pub const COPIES: u32 = 8;

/// What a direction does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take up to `most` bytes from the source; nothing is in hand.
    Fill {
        /// Where to.
        via: Via,
        /// Bytes.
        most: usize,
    },
    /// Hand what is in hand to the sink.
    Drain {
        /// Where from.
        via: Via,
        /// Bytes in hand.
        most: usize,
        /// Nothing comes after them but [`Step::Shut`].
        last: bool,
    },
    /// Shut the sink's write side.
    Shut,
    /// Nothing until the source is readable.
    AwaitSource,
    /// Nothing until the sink is writable.
    AwaitSink,
    /// Nothing any more.
    Over,
}

/// What is info of a source that may have something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// It may say more later.
    Open,
    /// It has said all it will, and what was not read yet is there.
    Last,
    /// It holds urgent data or failed: a short read proves nothing, and it is read until it says so itself, by a copy in the
    /// end.
    Doubtful,
}

/// What went through a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes from the source, or put in hand by [`Flow::queue`].
    pub filled: u64,
    /// Bytes the sink took. What was filled and not drained was lost with the connection.
    pub drained: u64,
    /// Of these, through a pipe.
    pub spliced: u64,
    /// Lots taken from the source.
    pub fills: u64,
    /// Lots that were to go through a pipe when none could be had.
    pub no_pipe: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source gives no more.
    Ended,
    /// The sink's write side is shut: all went well.
    Shut,
    /// The sink takes no more.
    Broken,
}

/// One direction of a connection.
#[derive(Debug, Clone)]
pub struct Flow {
    forwarding: Forwarding,
    via: Via,
    state: State,
    readable: bool,
    /// A short read is no proof of an empty source.
    doubtful: bool,
    /// A short read, unless it is doubtful, is the last one.
    last: bool,
    writable: bool,
    /// The last fill was of a whole chunk.
    full: bool,
    /// Lots copied since a pipe was last asked for.
    copies: u32,
    chunk: usize,
    buffered: usize,
    counts: Counts,
}

impl Flow {
    /// Takes `chunk` bytes at a time, at least one. Nothing is ready yet.
    pub fn new(forwarding: Forwarding, chunk: usize) -> Self {
        Self {
            forwarding,
            via: match forwarding {
                Forwarding::Auto | Forwarding::Copy => Via::Copy,
                Forwarding::Splice => Via::Pipe,
            },
            state: State::Open,
            readable: false,
            doubtful: false,
            last: false,
            writable: false,
            full: false,
            copies: 0,
            chunk: chunk.max(1),
            buffered: 0,
            counts: Counts::default(),
        }
    }

    /// What to do next.
    pub fn step(&self) -> Step {
        let via = self.via;
        match self.state {
            State::Shut | State::Broken => Step::Over,
            state if self.buffered > 0 && self.writable => Step::Drain {
                via,
                most: self.buffered,
                last: state == State::Ended,
            },
            _ if self.buffered > 0 => Step::AwaitSink,
            State::Ended => Step::Shut,
            State::Open if self.readable => Step::Fill {
                via,
                most: self.chunk,
            },
            State::Open => Step::AwaitSource,
        }
    }

    /// Whether the source may have data.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// The source may have data.
    pub fn readable(&mut self, what: Readable) {
        self.readable = true;
        self.doubtful |= what == Readable::Doubtful;
        self.last |= what == Readable::Last;
    }

    /// The sink may take something.
    pub fn writable(&mut self) {
        self.writable = true;
    }

    /// [`Step::Fill`] gave so many bytes, more than none.
    ///
    /// A copy shorter than asked for has emptied the source (epoll(7)): that saves a read a message, and where nothing
    /// more can come it is the end. A pipe may have been short of slots instead.
    pub fn filled(&mut self, bytes: usize) {
        self.buffered += bytes;
        self.counts.filled += bytes as u64;
        self.counts.fills += 1;
        self.full = bytes >= self.chunk;
        self.copies = self.copies.saturating_add(1);
        if self.via == Via::Copy && !self.full && !self.doubtful {
            self.readable = false;
            if self.last {
                self.ended();
            }
        }
    }

    /// Puts bytes in hand, in memory, that came from elsewhere: from a front end, before the first chunk.
    pub fn queue(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.via = Via::Copy;
        self.copies = COPIES;
        self.buffered += bytes;
        self.counts.filled += bytes as u64;
    }

    /// The source has nothing now, or nothing for a pipe: splice(2) stops before an urgent byte for good, which a copy takes.
    pub fn source_empty(&mut self) {
        if self.via == Via::Pipe && self.doubtful && self.buffered == 0 {
            return self.copy();
        }
        self.readable = false;
        self.doubtful = false;
    }

    /// The source gave less than was asked for, to somebody else.
    pub fn source_drained(&mut self) {
        if !self.doubtful && !self.last {
            self.readable = false;
        }
    }

    /// The source has ended.
    pub fn ended(&mut self) {
        if self.state == State::Open {
            self.state = State::Ended;
        }
    }

    /// No pipe can be had for [`Step::Fill`]: copies, and asks again after [`COPIES`] chunks.
    pub fn no_pipe(&mut self) {
        if self.buffered == 0 {
            self.copy();
            self.counts.no_pipe += 1;
        }
    }

    /// The sink took so many bytes of [`Step::Drain`].
    pub fn drained(&mut self, bytes: usize) {
        let bytes = bytes.min(self.buffered);
        self.buffered -= bytes;
        self.counts.drained += bytes as u64;
        if self.via == Via::Pipe {
            self.counts.spliced += bytes as u64;
        }
        if self.buffered == 0 {
            self.choose();
        }
    }

    /// Records the outcome of [`Step::Drain`]. The bytes that the sink accepted, if any.
    pub fn on_drained(&mut self, outcome: io::Result<usize>) -> Option<usize> {
        match outcome {
            Ok(bytes) if bytes > 0 => {
                self.drained(bytes);
                return Some(bytes);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.sink_full(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => self.broken(),
        }
        None
    }

    /// The sink takes nothing now.
    pub fn sink_full(&mut self) {
        self.writable = false;
    }

    /// The sink's write side is shut.
    pub fn shut(&mut self) {
        if self.state == State::Ended {
            self.state = State::Shut;
        }
    }

    /// The sink takes nothing any more: what is in hand is lost.
    pub fn broken(&mut self) {
        self.state = State::Broken;
        self.buffered = 0;
    }

    /// The source gave as much as was asked for last time.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// From now on takes `bytes` at a time, at least one.
    pub fn set_chunk_size(&mut self, bytes: usize) {
        self.chunk = bytes.max(1);
    }

    /// Bytes in hand.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// What went through.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The source may still give something.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// All that the source gave went to the sink, whose write side is shut.
    pub fn is_shut(&self) -> bool {
        self.state == State::Shut
    }

    /// Copies the next chunks. Nothing may be in hand.
    fn copy(&mut self) {
        self.via = Via::Copy;
        self.copies = 0;
    }

    /// Whether the next chunk is copied or goes through a pipe. Nothing may be in hand.
    fn choose(&mut self) {
        if self.forwarding == Forwarding::Splice && self.copies >= COPIES {
            self.via = Via::Pipe;
        }
    }
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    ToServer,
    /// From the server.
    ToClient,
}

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Server,
}

/// How a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Both directions were shut after their last byte.
    Finished,
    /// This end went away. It is passed on as a reset, so that an answer cut short does not look whole.
    Reset(Side),
}

/// Both directions of a connection.
#[derive(Debug, Clone)]
pub struct Relay {
    /// From the client.
    pub to_server: Flow,
    /// From the server.
    pub to_client: Flow,
    gone: Option<Side>,
}

impl Relay {
    /// Nothing is ready yet, and chunks are of `chunk` bytes.
    pub fn new(forwarding: Forwarding, chunk: usize) -> Self {
        Self {
            to_server: Flow::new(forwarding, chunk),
            to_client: Flow::new(forwarding, chunk),
            gone: None,
        }
    }

    /// One of its directions.
    pub fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// What a direction does next. Where the other's sink broke, an end is not passed on as one.
    pub fn step(&self, direction: Direction) -> Step {
        let (flow, other) = match direction {
            Direction::ToServer => (&self.to_server, &self.to_client),
            Direction::ToClient => (&self.to_client, &self.to_server),
        };
        match flow.step() {
            _ if self.gone.is_some() => Step::Over,
            Step::Shut if other.state == State::Broken => Step::Over,
            step => step,
        }
    }

    /// The source of a direction failed: the connection is over at once.
    pub fn source_failed(&mut self, direction: Direction) {
        self.gone.get_or_insert(match direction {
            Direction::ToServer => Side::Client,
            Direction::ToClient => Side::Server,
        });
    }

    /// One direction is over or about to be, the other goes on.
    pub fn is_half_closed(&self) -> bool {
        !(self.to_server.is_open() && self.to_client.is_open())
    }

    /// How it ended; `None` while it goes on.
    ///
    /// A sink that broke leaves the other direction to bring what its dead peer had still sent.
    pub fn verdict(&self) -> Option<Verdict> {
        if let Some(side) = self.gone {
            return Some(Verdict::Reset(side));
        }
        let over = |direction| self.step(direction) == Step::Over;
        if !over(Direction::ToServer) || !over(Direction::ToClient) {
            return None;
        }
        Some(match (self.to_server.state, self.to_client.state) {
            (State::Broken, _) => Verdict::Reset(Side::Server),
            (_, State::Broken) => Verdict::Reset(Side::Client),
            _ => Verdict::Finished,
        })
    }
}

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
