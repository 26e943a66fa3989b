//! Bulk data in one direction: streams to a server that reads, counts and compares all bytes and confirms them in a receipt.
//!
//! Only confirmed bytes count. The time ends with the last receipt.

mod stream;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Poll};

use super::command::Receipt;
use super::error::{ErrorKind, RequestError};
use super::payload::Payload;
use super::progress::Publisher;
use super::request_stats::RequestStats;
use super::worker::Job;
use crate::proxy::timers::Timers;
use crate::sys::clock::monotonic_ns;
use stream::{Stream, Turn, WRITE};

const TICK: Duration = Duration::from_millis(10);

/// How long cancelled streams wait for their receipts, in ns: bytes in flight take no longer to arrive.
const RECEIPT_GRACE: u64 = 1_000_000_000;

/// How much each stream sends.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// This many bytes.
    Bytes(u64),
    /// Until this time, in ns of the monotonic clock.
    Until(u64),
}

/// The streams of one thread.
pub(super) struct Worker<'a> {
    job: &'a Job,
    poll: Poll,
    streams: Vec<Stream>,
    timers: Timers<usize>,
    payload: Payload,
    /// Runnable streams, each once.
    runnable: Vec<usize>,
    /// Streams that have not reached the goal of [`Worker::drive`].
    pending: usize,
    publisher: Option<Publisher>,
}

/// The state that [`Worker::drive`] brings every stream to.
#[derive(Clone, Copy)]
enum Goal {
    Open,
    /// Data sent; with `end`, the receipt received.
    Send {
        amount: Amount,
        end: bool,
    },
}

impl Goal {
    /// Whether streams end on the way to it.
    fn ends(self) -> bool {
        matches!(self, Self::Send { end: true, .. })
    }

    /// Whether the time alone has reached it.
    fn is_expired(self, now: u64) -> bool {
        matches!(self, Self::Send { amount: Amount::Until(time), end: false } if now >= time)
    }
}

impl<'a> Worker<'a> {
    /// Starts to connect `streams` streams, numbered from `first`.
    pub(super) fn new(job: &'a Job, streams: usize, first: u64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let all: Vec<Stream> = (0..streams)
            .map(|number| Stream::new(job, poll.registry(), number, first + number as u64))
            .collect();
        Ok(Self {
            job,
            poll,
            timers: Timers::new(),
            runnable: Vec::with_capacity(all.len()),
            streams: all,
            payload: Payload::new(WRITE),
            pending: 0,
            publisher: None,
        })
    }

    /// Publishes the statistics of the next [`Self::run`], which counts from `now` on.
    pub(super) fn publish_from(&mut self, now: u64) {
        let progress = self.job.progress.as_ref();
        self.publisher = progress.map(|progress| progress.publisher(now));
    }

    /// Opens all streams and sends on each for `warmup`, which is not counted. Returns whether any stream is left.
    ///
    /// # Errors
    /// As epoll_wait(2).
    pub(super) fn open(
        &mut self,
        warmup: Duration,
        stats: &mut RequestStats,
        cancel: &AtomicBool,
    ) -> io::Result<bool> {
        self.drive(Goal::Open, stats, cancel)?;
        let until = monotonic_ns() + warmup.as_nanos() as u64;
        let goal = Goal::Send {
            amount: Amount::Until(until),
            end: false,
        };
        self.drive(goal, stats, cancel)?;
        self.streams.iter_mut().for_each(Stream::start_counting);
        Ok(self.streams.iter().any(|stream| !stream.is_closed()))
    }

    /// Sends `amount` on each open stream and ends all streams.
    ///
    /// # Errors
    /// As epoll_wait(2).
    pub(super) fn run(
        &mut self,
        amount: Amount,
        stats: &mut RequestStats,
        cancel: &AtomicBool,
    ) -> io::Result<()> {
        self.drive(Goal::Send { amount, end: true }, stats, cancel)
    }

    /// Runs until every stream has reached the goal or failed. On `cancel`, streams that were to end do so at once and have
    /// [`RECEIPT_GRACE`] for it.
    fn drive(
        &mut self,
        goal: Goal,
        stats: &mut RequestStats,
        cancel: &AtomicBool,
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let (mut goal, mut cancelled) = (goal, None);
        let mut batch = Vec::with_capacity(self.streams.len());
        self.start(monotonic_ns());
        while self.pending > 0 {
            let now = monotonic_ns();
            std::mem::swap(&mut self.runnable, &mut batch);
            for number in batch.drain(..) {
                self.turn(number, goal, now, stats);
            }
            self.expire(now, stats);
            if let Some(publisher) = &mut self.publisher
                && publisher.is_due(now)
            {
                let sent = self.streams.iter().map(Stream::counted_bytes).sum();
                publisher.publish(now, stats, Some(sent));
            }
            if goal.is_expired(now) {
                for number in 0..self.streams.len() {
                    self.check_goal(number, goal, now);
                }
            }
            if cancel.load(Ordering::Relaxed) {
                let since = *cancelled.get_or_insert(now);
                if !goal.ends() || now.saturating_sub(since) > RECEIPT_GRACE {
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
            let wait = match self.runnable.is_empty() {
                true => TICK,
                false => Duration::ZERO,
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                self.queue(event.token().0);
            }
        }
        Ok(())
    }

    /// Starts all streams towards a new goal.
    fn start(&mut self, now: u64) {
        let until = self.deadline(now);
        for (number, stream) in self.streams.iter_mut().enumerate() {
            stream.last_progress = now;
            stream.at_goal = false;
            self.timers.set(number, &mut stream.timer, until);
        }
        self.pending = self.streams.len();
        self.queue_all();
    }

    fn deadline(&self, now: u64) -> u64 {
        now.saturating_add(self.job.timeout.as_nanos() as u64)
    }

    fn queue_all(&mut self) {
        for number in 0..self.streams.len() {
            self.queue(number);
        }
    }

    fn queue(&mut self, number: usize) {
        if let Some(stream) = self.streams.get_mut(number)
            && !stream.queued
            && !stream.at_goal
        {
            stream.queued = true;
            self.runnable.push(number);
        }
    }

    /// Counts a stream that has reached the goal.
    fn check_goal(&mut self, number: usize, goal: Goal, now: u64) {
        if let Some(stream) = self.streams.get_mut(number)
            && !stream.at_goal
            && stream.has_reached(goal, now)
        {
            stream.at_goal = true;
            self.timers.clear(number, &mut stream.timer);
            self.pending -= 1;
        }
    }

    fn turn(&mut self, number: usize, goal: Goal, now: u64, stats: &mut RequestStats) {
        let until = self.deadline(now);
        let Some(stream) = self.streams.get_mut(number) else {
            return;
        };
        stream.queued = false;
        let more = match stream.turn(goal, now, &self.payload) {
            Ok(Turn::More) => true,
            Ok(Turn::Blocked) => false,
            Ok(Turn::Receipt(receipt)) => {
                stream.close();
                count(receipt, stream, stats);
                false
            }
            Err(error) => {
                stream.close();
                stats.failed(error);
                false
            }
        };
        if stream.last_progress == now {
            self.timers.set(number, &mut stream.timer, until);
        }
        self.check_goal(number, goal, now);
        if more {
            self.queue(number);
        }
    }

    /// Fails streams without progress for the timeout.
    fn expire(&mut self, now: u64, stats: &mut RequestStats) {
        while let Some(number) = self.timers.up(now) {
            let Some(stream) = self.streams.get_mut(number) else {
                continue;
            };
            if !self.timers.is_due(number, &mut stream.timer, now) {
                continue;
            }
            let detail = stream.waits_for();
            stream.close();
            stream.at_goal = true;
            self.pending -= 1;
            stats.failed(RequestError::new(ErrorKind::Timeout, detail));
        }
    }
}

fn count(receipt: Receipt, stream: &Stream, stats: &mut RequestStats) {
    let Receipt { received, right } = receipt;
    let sent = stream.sent;
    if received != sent || right != sent {
        return stats.failed(RequestError::new(
            ErrorKind::Corrupt,
            format!("of {sent} bytes {received} arrived, {right} of them correct"),
        ));
    }
    stats.answered += 1;
    stats.bytes += received.saturating_sub(stream.warmup_bytes);
    stats.last = stats.last.max(monotonic_ns());
}
