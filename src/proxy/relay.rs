//! The next step of one relayed connection: pure, it owns no socket, pipe or clock.
//!
//! A [`Flow`] is one direction. It takes a chunk from its source, passes all of it to its sink, and only then takes the
//! next. So "try again" from the source always means that the source is empty, never that a pipe is full. When the source
//! has ended and the chunk is sent, the sink's write side is shut down, once. A [`Relay`] consists of two flows.
//!
//! ```text
//!            filled           drained, all of it
//!   empty ----------> buffered -----------------> empty
//!     | ended            | broken (the sink is gone)
//!     v                  v
//!   ended -- shut -->  over
//! ```
//!
//! The caller asks for [`Relay::step`], performs it, and reports the outcome.

use std::io::{self, ErrorKind};

/// How bytes get from one socket to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarding {
    /// Bulk transfers by the method that [`super::forwarding`] has found to be the cheaper one, all else by copying.
    #[default]
    Auto,
    /// Through a buffer in memory.
    Copy,
    /// Through a pipe with splice(2), or a buffer if no pipe is available.
    Splice,
}

/// What contains the buffered bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// A buffer in memory.
    Copy,
    /// A pipe.
    Pipe,
}

/// Chunks that are copied after no pipe was available, before a pipe is requested again.
pub const COPIES: u32 = 8;

/// Full chunks that make a direction a bulk transfer.
pub const BULK_CHUNKS: u8 = 8;

/// The next step of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Take up to `most` bytes from the source. Nothing is buffered.
    Fill {
        /// Into what.
        via: Via,
        /// Bytes.
        most: usize,
    },
    /// Pass the buffered bytes to the sink.
    Drain {
        /// From what.
        via: Via,
        /// Buffered bytes.
        most: usize,
        /// Only [`Step::Shut`] follows.
        last: bool,
    },
    /// Shut down the sink's write side.
    Shut,
    /// Wait until the source is readable.
    AwaitSource,
    /// Wait until the sink is writable.
    AwaitSink,
    /// None: the direction is finished.
    Over,
}

/// What is known of a readable source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// More may follow.
    Open,
    /// It has ended, and the bytes not read yet are available.
    Last,
    /// It has urgent data or failed. A short read does not mean that it is empty, so it is read until it reports that or
    /// the error, by copying in the end.
    Doubtful,
}

/// Counts of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes taken from the source, or queued by [`Flow::queue`].
    pub filled: u64,
    /// Bytes that the sink accepted. Bytes that were filled and not drained are lost when the connection closes.
    pub drained: u64,
    /// Drained bytes that went through a pipe.
    pub spliced: u64,
    /// Chunks taken from the source.
    pub fills: u64,
    /// Times that no pipe was available.
    pub no_pipe: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended.
    Ended,
    /// The sink's write side is shut down, after all bytes.
    Shut,
    /// The sink is gone.
    Broken,
}

/// One direction of a connection.
#[derive(Debug, Clone)]
pub struct Flow {
    forwarding: Forwarding,
    via: Via,
    state: State,
    readable: bool,
    /// A short read does not mean that the source is empty.
    doubtful: bool,
    /// A short read that is not doubtful means that the source has ended.
    last: bool,
    writable: bool,
    /// The last chunk was as long as requested.
    full: bool,
    /// Full chunks in a row, at most twice [`BULK_CHUNKS`]. A short one halves the number.
    streak: u8,
    /// How bulk is forwarded by [`Forwarding::Auto`].
    bulk_method: Via,
    /// Chunks copied since a pipe was last requested.
    copies: u32,
    chunk: usize,
    buffered: usize,
    counts: Counts,
}

impl Flow {
    /// A flow in chunks of `chunk` bytes, at least one. Neither end is ready.
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
            streak: 0,
            bulk_method: Via::Copy,
            copies: 0,
            chunk: chunk.max(1),
            buffered: 0,
            counts: Counts::default(),
        }
    }

    /// The next step.
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

    /// A poll found that the source has data or has ended. Copies may wait for more data in the kernel, so that only a failed
    /// one means that there is none.
    pub fn polled(&mut self) {
        self.readable = true;
        self.doubtful = self.via == Via::Copy;
    }

    /// Whether the next chunk is spliced.
    pub fn is_spliced(&self) -> bool {
        self.via == Via::Pipe
    }

    /// The sink may accept bytes.
    pub fn writable(&mut self) {
        self.writable = true;
    }

    /// [`Step::Fill`] gave so many bytes, more than zero.
    ///
    /// A copy shorter than requested has emptied the source (epoll(7)). This saves one read for each message, and is the
    /// end if nothing can follow. A pipe, however, may have been short of slots.
    pub fn filled(&mut self, bytes: usize) {
        self.buffered += bytes;
        self.counts.filled += bytes as u64;
        self.counts.fills += 1;
        self.full = bytes >= self.chunk;
        self.streak = match self.full {
            true => (self.streak + 1).min(2 * BULK_CHUNKS),
            false => self.streak / 2,
        };
        self.copies = self.copies.saturating_add(1);
        if self.via == Via::Copy && !self.full && !self.doubtful {
            self.readable = false;
            if self.last {
                self.ended();
            }
        }
    }

    /// Queues bytes in memory that do not come from the source, before the first chunk.
    pub fn queue(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.via = Via::Copy;
        self.copies = COPIES;
        self.buffered += bytes;
        self.counts.filled += bytes as u64;
    }

    /// The source has no data, or none for a pipe: splice(2) stops before an urgent byte forever, and a copy takes it.
    pub fn source_empty(&mut self) {
        if self.via == Via::Pipe && self.doubtful && self.buffered == 0 {
            return self.copy();
        }
        self.readable = false;
        self.doubtful = false;
    }

    /// A read outside of the flow gave less than requested.
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

    /// No pipe is available for [`Step::Fill`]: the next [`COPIES`] chunks are copied.
    pub fn no_pipe(&mut self) {
        if self.buffered == 0 {
            self.copy();
            self.counts.no_pipe += 1;
        }
    }

    /// The sink accepted so many bytes of [`Step::Drain`].
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

    /// The sink has no room.
    pub fn sink_full(&mut self) {
        self.writable = false;
    }

    /// The sink's write side is shut down.
    pub fn shut(&mut self) {
        if self.state == State::Ended {
            self.state = State::Shut;
        }
    }

    /// The sink is gone, and the buffered bytes are lost.
    pub fn broken(&mut self) {
        self.state = State::Broken;
        self.buffered = 0;
    }

    /// Whether the last chunk was as long as requested.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Whether the direction is in bulk transfer: [`BULK_CHUNKS`] chunks in a row were as long as requested. A single short
    /// chunk among twice as many does not end it.
    pub fn is_bulk(&self) -> bool {
        self.streak >= BULK_CHUNKS
    }

    /// Sets the size of the next chunks, at least one byte.
    pub fn set_chunk_size(&mut self, bytes: usize) {
        self.chunk = bytes.max(1);
    }

    /// Buffered bytes.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// The counts.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the source has not ended.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether all bytes of the source were passed on and the sink's write side is shut down.
    pub fn is_shut(&self) -> bool {
        self.state == State::Shut
    }

    /// The next chunks are copied. Nothing may be buffered.
    fn copy(&mut self) {
        self.via = Via::Copy;
        self.copies = 0;
    }

    /// Chooses whether the next chunk is copied or spliced. Nothing may be buffered.
    fn choose(&mut self) {
        match self.forwarding {
            Forwarding::Splice if self.copies >= COPIES => self.via = Via::Pipe,
            Forwarding::Auto if self.is_bulk() && self.copies >= COPIES => {
                self.via = self.bulk_method;
            }
            Forwarding::Auto => self.via = Via::Copy,
            Forwarding::Copy | Forwarding::Splice => {}
        }
    }
}

/// A direction.
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
    /// The client.
    Client,
    /// The server.
    Server,
}

/// How a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Both directions were shut down after their last byte.
    Finished,
    /// This end is gone. The other end gets a reset, so that truncated data does not look complete.
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
    /// A relay in chunks of `chunk` bytes. No end is ready.
    pub fn new(forwarding: Forwarding, chunk: usize) -> Self {
        Self {
            to_server: Flow::new(forwarding, chunk),
            to_client: Flow::new(forwarding, chunk),
            gone: None,
        }
    }

    /// Sets how bulk is forwarded by [`Forwarding::Auto`], from the next chunk on.
    pub fn set_bulk_method(&mut self, method: Via) {
        self.to_server.bulk_method = method;
        self.to_client.bulk_method = method;
    }

    /// The flow of one direction.
    pub fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }

    /// The next step of a direction. If the sink of the other direction is gone, the end of this one is not passed on. If an end is
    /// gone, the other end gets what is buffered for it, and no more.
    pub fn step(&self, direction: Direction) -> Step {
        let (flow, other, source) = match direction {
            Direction::ToServer => (&self.to_server, &self.to_client, Side::Client),
            Direction::ToClient => (&self.to_client, &self.to_server, Side::Server),
        };
        match (flow.step(), self.gone) {
            (step @ (Step::Drain { .. } | Step::AwaitSink), Some(side)) if side == source => step,
            (_, Some(_)) => Step::Over,
            (Step::Shut, None) if other.state == State::Broken => Step::Over,
            (step, None) => step,
        }
    }

    /// The source of a direction failed, which ends the relay once what is buffered was passed on.
    pub fn source_failed(&mut self, direction: Direction) {
        self.gone.get_or_insert(match direction {
            Direction::ToServer => Side::Client,
            Direction::ToClient => Side::Server,
        });
    }

    /// Whether a source has ended or failed.
    pub fn is_half_closed(&self) -> bool {
        self.gone.is_some() || !(self.to_server.is_open() && self.to_client.is_open())
    }

    /// How the relay ended; `None` while it continues.
    ///
    /// If a sink is gone, the other direction still passes on what that peer had sent.
    pub fn verdict(&self) -> Option<Verdict> {
        let over = |direction| self.step(direction) == Step::Over;
        if !over(Direction::ToServer) || !over(Direction::ToClient) {
            return None;
        }
        if let Some(side) = self.gone {
            return Some(Verdict::Reset(side));
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
