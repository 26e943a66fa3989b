//! Bulk data in one direction: streams to a server that takes all, counts it, compares it and gives a receipt.
//!
//! Nothing counts that the server has not confirmed. The time ends with the last receipt.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};

use super::connect;
use super::fault::{Failure, Fault};
use super::handshake::{Handshake, Progress};
use super::order::{END, Order, Receipt};
use super::pattern::{PERIOD, Pattern};
use super::tally::Tally;
use super::worker::Job;
use crate::proxy::timers::{Timer, Timers};
use crate::sys::clock::monotonic_ns;

/// Bytes written at once: some whole segments of loopback, 65,483 bytes over IPv4 each. A write that leaves a rest of one costs up
/// to half of the rate.
const WRITE: usize = 4 * 65_483;

/// Writes of a stream before the others have their turn.
const TURN: usize = 4;

const TICK: Duration = Duration::from_millis(10);

/// How long streams that are cancelled have for their receipts, in ns: as long as what is under way may take to arrive.
const LAST: u64 = 1_000_000_000;

/// How much each stream sends.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// Until this time, in ns of the monotonic clock.
    Until(u64),
}

/// A thread's streams.
pub(super) struct Worker<'a> {
    job: &'a Job,
    poll: Poll,
    streams: Vec<Stream>,
    timers: Timers<usize>,
    pattern: Pattern,
    /// Streams to have a turn, each once.
    ready: Vec<usize>,
    /// Streams that have yet to reach the goal of [`Worker::drive`].
    underway: usize,
}

struct Stream {
    socket: io::Result<TcpStream>,
    stage: Stage,
    /// To be said around data, or what is left of that.
    lead: Vec<u8>,
    /// Where in the pattern it begins.
    place: u64,
    /// Bytes of data taken by the kernel.
    sent: u64,
    /// The same at the start of what counts.
    before: u64,
    /// When something was taken or came last, in ns.
    moved: u64,
    /// By when something is to be taken or to come.
    timer: Timer,
    connected: bool,
    /// It is among [`Worker::ready`].
    queued: bool,
    /// It reached the goal.
    there: bool,
}

enum Stage {
    /// The proxy is asked, if it is to be.
    Asking(Option<Handshake>),
    /// It is open, and the order is given.
    Open,
    /// All is sent; so much of the receipt is here.
    Ended(Vec<u8>),
    /// It has its receipt, or failed.
    Over,
}

/// How far a stream is to go now.
#[derive(Clone, Copy)]
enum Goal {
    Open,
    /// Data; with `end` it is ended after that.
    Send {
        amount: Amount,
        end: bool,
    },
}

impl<'a> Worker<'a> {
    /// With so many streams, none of them begun, the first of which has this number.
    pub(super) fn new(job: &'a Job, streams: usize, first: u64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut all = Vec::new();
        for number in 0..streams {
            let (handshake, lead) = match Handshake::begin(job.script.route()) {
                Some((handshake, lead)) => (Some(handshake), lead),
                None => (None, Vec::new()),
            };
            all.push(Stream {
                // One that fails is counted when it is opened.
                socket: begin(job, poll.registry(), number),
                stage: Stage::Asking(handshake),
                lead,
                place: Pattern::place(first + number as u64) as u64,
                sent: 0,
                before: 0,
                moved: 0,
                timer: Timer::default(),
                connected: false,
                queued: false,
                there: false,
            });
        }
        Ok(Self {
            job,
            poll,
            timers: Timers::new(),
            ready: Vec::with_capacity(all.len()),
            streams: all,
            pattern: Pattern::new(WRITE),
            underway: 0,
        })
    }

    /// Opens all streams, and has each send for `warmup`, which counts nowhere; whether any is left then.
    ///
    /// # Errors
    /// As epoll_wait(2).
    pub(super) fn open(
        &mut self,
        warmup: Duration,
        tally: &mut Tally,
        cancel: &AtomicBool,
    ) -> io::Result<bool> {
        self.drive(Goal::Open, tally, cancel)?;
        let until = monotonic_ns() + warmup.as_nanos() as u64;
        let goal = Goal::Send {
            amount: Amount::Until(until),
            end: false,
        };
        self.drive(goal, tally, cancel)?;
        for stream in &mut self.streams {
            stream.before = stream.sent;
        }
        let mut stages = self.streams.iter().map(|stream| &stream.stage);
        Ok(stages.any(|stage| !matches!(stage, Stage::Over)))
    }

    /// Has all open streams send `amount` each and end.
    ///
    /// # Errors
    /// As epoll_wait(2).
    pub(super) fn run(
        &mut self,
        amount: Amount,
        tally: &mut Tally,
        cancel: &AtomicBool,
    ) -> io::Result<()> {
        self.drive(Goal::Send { amount, end: true }, tally, cancel)
    }

    /// Goes on until every stream is where it is to be, or failed. With `cancel` streams that were to end do so at once, and
    /// have [`LAST`] for it.
    fn drive(&mut self, goal: Goal, tally: &mut Tally, cancel: &AtomicBool) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let (mut goal, mut cancelled) = (goal, None);
        let mut turns = Vec::with_capacity(self.streams.len());
        self.set_out(monotonic_ns());
        while self.underway > 0 {
            let now = monotonic_ns();
            std::mem::swap(&mut self.ready, &mut turns);
            for number in turns.drain(..) {
                self.turn(number, goal, now, tally);
            }
            self.give_up_overdue(now, tally);
            if goal.is_up(now) {
                self.arrive_all(goal, now);
            }
            if cancel.load(Ordering::Relaxed) {
                let since = *cancelled.get_or_insert(now);
                if !goal.ends() || now.saturating_sub(since) > LAST {
                    return Ok(());
                }
                if since == now {
                    goal = Goal::Send {
                        amount: Amount::Until(now),
                        end: true,
                    };
                    self.queue_all();
                }
            }
            let wait = match self.ready.is_empty() {
                true => TICK,
                false => Duration::ZERO,
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                self.queue(event.token().0);
            }
        }
        Ok(())
    }

    /// Every stream is on its way to a new goal, and is to have a turn.
    fn set_out(&mut self, now: u64) {
        let until = now.saturating_add(self.job.timeout.as_nanos() as u64);
        for (number, stream) in self.streams.iter_mut().enumerate() {
            stream.moved = now;
            stream.there = false;
            self.timers.set(number, &mut stream.timer, until);
        }
        self.underway = self.streams.len();
        self.queue_all();
    }

    fn queue_all(&mut self) {
        for number in 0..self.streams.len() {
            self.queue(number);
        }
    }

    fn queue(&mut self, number: usize) {
        if let Some(stream) = self.streams.get_mut(number)
            && !stream.queued
            && !stream.there
        {
            stream.queued = true;
            self.ready.push(number);
        }
    }

    /// Streams that wait for nothing but the time are where they are to be.
    fn arrive_all(&mut self, goal: Goal, now: u64) {
        for number in 0..self.streams.len() {
            self.arrive(number, goal, now);
        }
    }

    /// Counts a stream that has reached the goal.
    fn arrive(&mut self, number: usize, goal: Goal, now: u64) {
        if let Some(stream) = self.streams.get_mut(number)
            && !stream.there
            && stream.is_there(goal, now)
        {
            stream.there = true;
            self.timers.clear(number, &mut stream.timer);
            self.underway -= 1;
        }
    }

    /// A stream's turn.
    fn turn(&mut self, number: usize, goal: Goal, now: u64, tally: &mut Tally) {
        let Some(stream) = self.streams.get_mut(number) else {
            return;
        };
        stream.queued = false;
        let more = match stream.go(goal, now, &self.pattern) {
            Ok(More::Yes) => true,
            Ok(More::Waits) => false,
            Ok(More::Receipt(receipt)) => {
                stream.over();
                let counted = receipt.received.saturating_sub(stream.before);
                if receipt.received != stream.sent || receipt.right != stream.sent {
                    let Receipt { received, right } = receipt;
                    let sent = stream.sent;
                    tally.failed(Failure::new(
                        Fault::Corrupt,
                        format!("of {sent} bytes {received} came, {right} of them right"),
                    ));
                } else {
                    tally.answered += 1;
                    tally.bytes += counted;
                    tally.last = tally.last.max(monotonic_ns());
                }
                false
            }
            Err(failure) => {
                stream.over();
                tally.failed(failure);
                false
            }
        };
        if stream.moved == now {
            let until = now.saturating_add(self.job.timeout.as_nanos() as u64);
            self.timers.set(number, &mut stream.timer, until);
        }
        self.arrive(number, goal, now);
        if more {
            self.queue(number);
        }
    }

    fn give_up_overdue(&mut self, now: u64, tally: &mut Tally) {
        while let Some(number) = self.timers.up(now) {
            let Some(stream) = self.streams.get_mut(number) else {
                continue;
            };
            if !self.timers.is_due(number, &mut stream.timer, now) {
                continue;
            }
            let what = match stream.stage {
                _ if !stream.connected => "the connection was not taken",
                Stage::Asking(_) => "the proxy did not reply",
                Stage::Ended(_) => "no receipt came",
                _ => "no more bytes were taken",
            };
            stream.over();
            stream.there = true;
            self.underway -= 1;
            tally.failed(Failure::new(Fault::Timeout, what));
        }
    }
}

impl Goal {
    /// Streams end on their way to it.
    fn ends(self) -> bool {
        matches!(self, Self::Send { end: true, .. })
    }

    /// It is reached by the time alone, and that has come.
    fn is_up(self, now: u64) -> bool {
        matches!(self, Self::Send { amount: Amount::Until(time), end: false } if now >= time)
    }
}

fn begin(job: &Job, registry: &Registry, number: usize) -> io::Result<TcpStream> {
    let mut socket = connect::begin(&job.to)?;
    let both = Interest::READABLE | Interest::WRITABLE;
    registry.register(&mut socket, Token(number), both)?;
    Ok(socket)
}

/// What a stream's turn came to.
enum More {
    Yes,
    Waits,
    Receipt(Receipt),
}

impl Stream {
    fn over(&mut self) {
        self.stage = Stage::Over;
        self.socket = Err(ErrorKind::NotConnected.into());
    }

    fn is_there(&self, goal: Goal, now: u64) -> bool {
        match (&self.stage, goal) {
            (Stage::Over, _) => true,
            (Stage::Open, Goal::Open) => self.lead.is_empty(),
            (Stage::Open, Goal::Send { amount, end: false }) => self.left(amount, now) == 0,
            _ => false,
        }
    }

    /// Bytes still to be sent.
    fn left(&self, amount: Amount, now: u64) -> u64 {
        match amount {
            Amount::Bytes(bytes) => bytes.saturating_sub(self.sent - self.before),
            Amount::Until(time) if now < time => u64::MAX,
            Amount::Until(_) => 0,
        }
    }

    fn go(&mut self, goal: Goal, now: u64, pattern: &Pattern) -> Result<More, Failure> {
        for _ in 0..TURN {
            let done = match &self.stage {
                Stage::Over => return Ok(More::Waits),
                _ if !self.lead.is_empty() => self.say(),
                Stage::Asking(_) => self.ask(),
                Stage::Open => match goal {
                    Goal::Send { amount, end } => match self.left(amount, now) {
                        0 if end => {
                            self.end();
                            Ok(None)
                        }
                        0 => return Ok(More::Waits),
                        left => self.send(pattern, left),
                    },
                    Goal::Open => return Ok(More::Waits),
                },
                Stage::Ended(_) => self.hear(),
            };
            match done {
                Ok(None) => self.moved = now,
                Ok(Some(receipt)) => return Ok(More::Receipt(receipt)),
                Err(Stop::Waits) => return Ok(More::Waits),
                Err(Stop::Failed(failure)) => return Err(failure),
            }
        }
        Ok(More::Yes)
    }

    fn say(&mut self) -> Done {
        let lead = std::mem::take(&mut self.lead);
        let written = self.socket()?.write(&lead);
        self.lead = lead;
        let bytes = self.checked(written)?;
        self.lead.drain(..bytes);
        Ok(None)
    }

    fn ask(&mut self) -> Done {
        let Stage::Asking(Some(_)) = self.stage else {
            self.opened();
            return Ok(None);
        };
        let mut said = [0; 1_024];
        let bytes = self.read(&mut said)?;
        let Stage::Asking(Some(handshake)) = &mut self.stage else {
            return Ok(None);
        };
        let said = said.get(..bytes).unwrap_or_default();
        match handshake.take(said)? {
            Progress::More(say) => self.lead = say,
            Progress::Open(early) if early.is_empty() => self.opened(),
            Progress::Open(_) => {
                return failed(Fault::Corrupt, "something came before anything was asked");
            }
            Progress::Refused { detail, .. } => return failed(Fault::RefusedByProxy, &detail),
        }
        Ok(None)
    }

    fn opened(&mut self) {
        self.stage = Stage::Open;
        self.lead = Order::Sink(self.place).encode().to_vec();
    }

    fn send(&mut self, pattern: &Pattern, left: u64) -> Done {
        let data = pattern.from((self.place + self.sent) % PERIOD as u64);
        let length = WRITE.min(usize::try_from(left).unwrap_or(WRITE));
        let data = data.get(..length).unwrap_or(data);
        let written = self.socket()?.write(data);
        self.sent += self.checked(written)? as u64;
        Ok(None)
    }

    fn end(&mut self) {
        self.lead = END.to_vec();
        self.stage = Stage::Ended(Vec::new());
    }

    fn hear(&mut self) -> Done {
        let mut said = [0; 64];
        let bytes = self.read(&mut said)?;
        let Stage::Ended(receipt) = &mut self.stage else {
            return Ok(None);
        };
        receipt.extend_from_slice(said.get(..bytes).unwrap_or_default());
        match receipt[..].try_into() {
            Ok(whole) => Ok(Some(Receipt::read(whole))),
            Err(_) if receipt.len() < Receipt::LENGTH => Ok(None),
            Err(_) => failed(Fault::Corrupt, "more came than a receipt"),
        }
    }

    fn socket(&mut self) -> Result<&mut TcpStream, Stop> {
        self.socket
            .as_mut()
            .map_err(|error| Stop::Failed(Failure::of_socket(error, false)))
    }

    /// As read(2); an end is a failure here.
    fn read(&mut self, room: &mut [u8]) -> Result<usize, Stop> {
        let read = loop {
            match self.socket()?.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match self.checked(read)? {
            0 => {
                let what = "it ended before the server's receipt";
                Err(Stop::Failed(Failure::new(Fault::ClosedEarly, what)))
            }
            bytes => Ok(bytes),
        }
    }

    fn checked(&mut self, done: io::Result<usize>) -> Result<usize, Stop> {
        match done {
            Ok(bytes) => {
                self.connected = true;
                Ok(bytes)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => Err(Stop::Waits),
                // Nothing was taken: another turn follows.
                ErrorKind::Interrupted => Ok(0),
                ErrorKind::NotConnected if !self.connected => Err(Stop::Waits),
                _ => Err(Stop::Failed(Failure::of_socket(&error, self.connected))),
            },
        }
    }
}

type Done = Result<Option<Receipt>, Stop>;

enum Stop {
    Waits,
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn failed(fault: Fault, detail: &str) -> Done {
    Err(Stop::Failed(Failure::new(fault, detail)))
}
