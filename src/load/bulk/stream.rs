//! One stream of bulk data: its handshake, its data and its receipt, on a non-blocking socket.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::{Amount, Goal};
use crate::load::advice::NOT_ESTABLISHED;
use crate::load::command::{Command, END, Receipt};
use crate::load::connect;
use crate::load::error::{ErrorKind, RequestError};
use crate::load::handshake::{Handshake, Progress};
use crate::load::payload::{PERIOD, Payload};
use crate::load::worker::Job;
use crate::proxy::timers::Timer;

/// Bytes of one write: whole segments of loopback, 65,483 bytes each over IPv4. A write that leaves part of a segment costs
/// up to half of the rate.
pub(super) const WRITE: usize = 4 * 65_483;

/// Writes of a stream before the next stream has its turn.
const WRITE_QUANTUM: usize = 4;

pub(super) struct Stream {
    socket: io::Result<TcpStream>,
    stage: Stage,
    /// Bytes to send before or after the data.
    outgoing: Vec<u8>,
    /// Offset of its data in the payload.
    offset: u64,
    /// Bytes of data that the kernel accepted.
    pub(super) sent: u64,
    /// Bytes sent during the warm-up.
    pub(super) warmup_bytes: u64,
    /// When bytes were last accepted or received, in ns.
    pub(super) last_progress: u64,
    /// The deadline for progress.
    pub(super) timer: Timer,
    connected: bool,
    /// Whether the worker's run queue has it.
    pub(super) queued: bool,
    pub(super) at_goal: bool,
}

enum Stage {
    /// The proxy, if there is one, has not yet connected.
    Handshake(Option<Handshake>),
    /// The connection is open and the command sent.
    Open,
    /// All data is sent, and this much of the receipt received.
    AwaitingReceipt(Vec<u8>),
    /// The receipt is complete, or the stream failed.
    Closed,
}

/// Result of a stream's turn.
pub(super) enum Turn {
    More,
    Blocked,
    Receipt(Receipt),
}

/// `Some` with a complete receipt.
type Outcome = Result<Option<Receipt>, Stop>;

enum Stop {
    WouldBlock,
    Failed(RequestError),
}

impl From<RequestError> for Stop {
    fn from(error: RequestError) -> Self {
        Self::Failed(error)
    }
}

impl Stream {
    /// Starts to connect. A failure is counted when the worker opens the stream.
    pub(super) fn new(job: &Job, registry: &Registry, token: usize, number: u64) -> Self {
        let (handshake, outgoing) = match Handshake::start(job.workload.route()) {
            Some((handshake, request)) => (Some(handshake), request),
            None => (None, Vec::new()),
        };
        Self {
            socket: connect_stream(job, registry, token),
            stage: Stage::Handshake(handshake),
            outgoing,
            offset: Payload::offset(number) as u64,
            sent: 0,
            warmup_bytes: 0,
            last_progress: 0,
            timer: Timer::default(),
            connected: false,
            queued: false,
            at_goal: false,
        }
    }

    /// Ends the warm-up: bytes sent so far are not counted.
    pub(super) fn start_counting(&mut self) {
        self.warmup_bytes = self.sent;
    }

    /// Bytes sent since the warm-up.
    pub(super) fn counted_bytes(&self) -> u64 {
        self.sent - self.warmup_bytes
    }

    pub(super) fn close(&mut self) {
        self.stage = Stage::Closed;
        self.socket = Err(io::ErrorKind::NotConnected.into());
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    pub(super) fn has_reached(&self, goal: Goal, now: u64) -> bool {
        match (&self.stage, goal) {
            (Stage::Closed, _) => true,
            (Stage::Open, Goal::Open) => self.outgoing.is_empty(),
            (Stage::Open, Goal::Send { amount, end: false }) => self.remaining(amount, now) == 0,
            _ => false,
        }
    }

    /// What a stream without progress lacks, for its timeout error.
    pub(super) fn waits_for(&self) -> &'static str {
        match self.stage {
            _ if !self.connected => NOT_ESTABLISHED,
            Stage::Handshake(_) => "the proxy did not reply",
            Stage::AwaitingReceipt(_) => "no receipt arrived",
            _ => "no more bytes were accepted",
        }
    }

    /// Bytes left to send.
    fn remaining(&self, amount: Amount, now: u64) -> u64 {
        match amount {
            Amount::Bytes(bytes) => bytes.saturating_sub(self.sent - self.warmup_bytes),
            Amount::Until(time) if now < time => u64::MAX,
            Amount::Until(_) => 0,
        }
    }

    /// Makes progress towards the goal, at most [`WRITE_QUANTUM`] calls.
    pub(super) fn turn(
        &mut self,
        goal: Goal,
        now: u64,
        payload: &Payload,
    ) -> Result<Turn, RequestError> {
        for _ in 0..WRITE_QUANTUM {
            let outcome = match &self.stage {
                Stage::Closed => return Ok(Turn::Blocked),
                _ if !self.outgoing.is_empty() => self.flush(),
                Stage::Handshake(_) => self.handshake(),
                Stage::Open => match goal {
                    Goal::Send { amount, end } => match self.remaining(amount, now) {
                        0 if end => {
                            self.end();
                            Ok(None)
                        }
                        0 => return Ok(Turn::Blocked),
                        remaining => self.send(payload, remaining),
                    },
                    Goal::Open => return Ok(Turn::Blocked),
                },
                Stage::AwaitingReceipt(_) => self.read_receipt(),
            };
            match outcome {
                Ok(None) => self.last_progress = now,
                Ok(Some(receipt)) => return Ok(Turn::Receipt(receipt)),
                Err(Stop::WouldBlock) => return Ok(Turn::Blocked),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        Ok(Turn::More)
    }

    fn flush(&mut self) -> Outcome {
        let outgoing = std::mem::take(&mut self.outgoing);
        let written = self.socket()?.write(&outgoing);
        self.outgoing = outgoing;
        let bytes = self.checked(written)?;
        self.outgoing.drain(..bytes);
        Ok(None)
    }

    fn handshake(&mut self) -> Outcome {
        let Stage::Handshake(Some(_)) = self.stage else {
            self.opened();
            return Ok(None);
        };
        let mut buffer = [0; 1_024];
        let bytes = self.read(&mut buffer)?;
        let Stage::Handshake(Some(handshake)) = &mut self.stage else {
            return Ok(None);
        };
        let received = buffer.get(..bytes).unwrap_or_default();
        match handshake.receive(received)? {
            Progress::More(reply) => self.outgoing = reply,
            Progress::Open(early) if early.is_empty() => self.opened(),
            Progress::Open(_) => {
                return failed(ErrorKind::Corrupt, "bytes came before any request was sent");
            }
            Progress::Refused { detail, .. } => return failed(ErrorKind::RefusedByProxy, &detail),
        }
        Ok(None)
    }

    fn opened(&mut self) {
        self.stage = Stage::Open;
        self.outgoing = Command::Sink(self.offset).encode().to_vec();
    }

    fn send(&mut self, payload: &Payload, remaining: u64) -> Outcome {
        let data = payload.from_offset((self.offset + self.sent) % PERIOD as u64);
        let length = WRITE.min(usize::try_from(remaining).unwrap_or(WRITE));
        let data = data.get(..length).unwrap_or(data);
        let written = self.socket()?.write(data);
        self.sent += self.checked(written)? as u64;
        Ok(None)
    }

    fn end(&mut self) {
        self.outgoing = END.to_vec();
        self.stage = Stage::AwaitingReceipt(Vec::new());
    }

    fn read_receipt(&mut self) -> Outcome {
        let mut buffer = [0; 64];
        let bytes = self.read(&mut buffer)?;
        let Stage::AwaitingReceipt(receipt) = &mut self.stage else {
            return Ok(None);
        };
        receipt.extend_from_slice(buffer.get(..bytes).unwrap_or_default());
        match receipt[..].try_into() {
            Ok(whole) => Ok(Some(Receipt::read(whole))),
            Err(_) if receipt.len() < Receipt::LENGTH => Ok(None),
            Err(_) => failed(ErrorKind::Corrupt, "bytes followed the receipt"),
        }
    }

    fn socket(&mut self) -> Result<&mut TcpStream, Stop> {
        self.socket
            .as_mut()
            .map_err(|error| Stop::Failed(RequestError::from_io(error, false)))
    }

    /// As read(2), except that the end of the connection is an error.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Stop> {
        let read = loop {
            match self.socket()?.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match self.checked(read)? {
            0 => {
                let detail = "the connection closed before the server's receipt";
                Err(RequestError::new(ErrorKind::ClosedEarly, detail).into())
            }
            bytes => Ok(bytes),
        }
    }

    fn checked(&mut self, result: io::Result<usize>) -> Result<usize, Stop> {
        match result {
            Ok(bytes) => {
                self.connected = true;
                Ok(bytes)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Err(Stop::WouldBlock),
                // No bytes were transferred: the next turn tries again.
                io::ErrorKind::Interrupted => Ok(0),
                io::ErrorKind::NotConnected if !self.connected => Err(Stop::WouldBlock),
                _ => Err(RequestError::from_io(&error, self.connected).into()),
            },
        }
    }
}

fn connect_stream(job: &Job, registry: &Registry, token: usize) -> io::Result<TcpStream> {
    let mut socket = connect::start(&job.to)?;
    let both = Interest::READABLE | Interest::WRITABLE;
    registry.register(&mut socket, Token(token), both)?;
    Ok(socket)
}

fn failed(kind: ErrorKind, detail: &str) -> Outcome {
    Err(RequestError::new(kind, detail).into())
}
