//! A thread of the load generator: its connections, its event loop and the requests that it starts on a [`Schedule`].

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::connection::Connection;
use super::error::{ErrorKind, RequestError};
use super::payload::Payload;
use super::progress::{Progress, Publisher};
use super::request::{RequestState, Step};
use super::request_stats::{RequestStats, Times};
use super::schedule::{Due, Schedule};
use super::workload::{RequestKind, Workload};
use crate::proxy::timers::{Timer as Deadline, Timers};
use crate::sys::clock::monotonic_ns;
use crate::sys::endpoint::Endpoint;
use crate::sys::timer_slack;
use crate::sys::timerfd::TimerFd;

const TIMER: Token = Token(usize::MAX);

/// Events of one poll.
const EVENTS: usize = 1_024;

/// Bytes of one read: more than a segment of loopback.
const READ: usize = 64 << 10;

/// Interval of the timeout check, and so the largest error of a timeout.
const TICK: Duration = Duration::from_millis(10);

/// Delay of a slot after an error, in ns: an unreachable proxy gets at most 100 connects a second from each slot.
const RETRY_DELAY: u64 = 10_000_000;

/// How long a connection may take to close after the answer, in ns. The close takes no further round trip.
const CLOSE_TIMEOUT: u64 = 1_000_000_000;

/// The work of all workers on a path.
#[derive(Debug, Clone)]
pub struct Job {
    /// The server or proxy to connect to.
    pub to: Endpoint,
    /// The requests.
    pub workload: Workload,
    /// Longest time of a request.
    pub timeout: Duration,
    /// Where the workers publish their statistics.
    pub progress: Option<Arc<Progress>>,
}

/// A thread's connections and their event loop.
pub(super) struct Worker<'a> {
    job: &'a Job,
    poll: Poll,
    timer: TimerFd,
    slots: Vec<Slot>,
    /// Request deadlines, by slot number.
    timers: Timers<usize>,
    /// Idle slots, the longest idle first.
    free: VecDeque<usize>,
    /// Slots that wait after an error, and until when.
    backing_off: VecDeque<(u64, usize)>,
    /// Number of the next message.
    number: u64,
    buffer: Box<[u8]>,
    publisher: Option<Publisher>,
}

/// A connection and its current request.
#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    request: Option<InFlight>,
    /// The deadline of the request.
    deadline: Deadline,
}

struct InFlight {
    times: Times,
    /// The answer is complete and the connection is still to close.
    closing: bool,
}

impl<'a> Worker<'a> {
    /// A worker of `connections` slots, with messages numbered from `number`.
    pub(super) fn new(job: &'a Job, connections: usize, number: u64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = TimerFd::new()?;
        poll.registry().register(
            &mut SourceFd(&timer.as_fd().as_raw_fd()),
            TIMER,
            Interest::READABLE,
        )?;
        let mut slots = Vec::new();
        slots.resize_with(connections, Slot::default);
        Ok(Self {
            job,
            poll,
            timer,
            slots,
            timers: Timers::new(),
            free: (0..connections).collect(),
            backing_off: VecDeque::with_capacity(connections),
            number,
            buffer: vec![0; READ].into(),
            publisher: None,
        })
    }

    /// Publishes the statistics of the next [`Self::run`], which counts from `now` on.
    pub(super) fn publish_from(&mut self, now: u64) {
        let progress = self.job.progress.as_ref();
        self.publisher = progress.map(|progress| progress.publisher(now));
    }

    /// Starts requests on `schedule` and returns when each is answered or failed. On `cancel` it returns at once and drops
    /// requests in flight.
    ///
    /// # Errors
    /// As epoll_wait(2) and timerfd_settime(2). Errors of requests are counted in `stats`.
    pub(super) fn run(
        &mut self,
        schedule: &mut Schedule,
        stats: &mut RequestStats,
        cancel: &AtomicBool,
    ) -> io::Result<()> {
        if schedule.is_open() {
            timer_slack::tighten()?;
        }
        let mut events = Events::with_capacity(EVENTS);
        let mut checked = monotonic_ns();
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.start(schedule, stats)? && self.is_idle() {
                break;
            }
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                if event.token() == TIMER {
                    continue;
                }
                let number = event.token().0;
                let Some(slot) = self.slots.get_mut(number) else {
                    continue;
                };
                if let Some(connection) = &mut slot.connection {
                    connection.on_event(event);
                    if slot.request.is_some() {
                        self.drive(number, schedule, stats);
                    }
                }
            }
            let now = monotonic_ns();
            if now - checked >= TICK.as_nanos() as u64 {
                checked = now;
                self.expire(now, schedule, stats);
                if let Some(publisher) = &mut self.publisher
                    && publisher.is_due(now)
                {
                    publisher.publish(now, stats, None);
                }
            }
        }
        stats.not_started(schedule.left());
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.free.len() + self.backing_off.len() == self.slots.len()
    }

    /// Starts due requests on idle slots. Returns whether the schedule is over.
    fn start(&mut self, schedule: &mut Schedule, stats: &mut RequestStats) -> io::Result<bool> {
        let mut now = monotonic_ns();
        while let Some(&(until, number)) = self.backing_off.front() {
            if until > now {
                break;
            }
            self.backing_off.pop_front();
            self.free.push_back(number);
        }
        while let Some(number) = self.free.pop_front() {
            match schedule.next(now) {
                Due::Now(intended) => self.request(number, intended, now, schedule, stats),
                idle => {
                    self.free.push_front(number);
                    if let Due::At(time) = idle {
                        self.timer.arm(time)?;
                    }
                    return Ok(idle == Due::Never);
                }
            }
            now = monotonic_ns();
        }
        Ok(schedule.is_over(now))
    }

    /// Starts a request.
    fn request(
        &mut self,
        number: usize,
        intended: u64,
        now: u64,
        schedule: &mut Schedule,
        stats: &mut RequestStats,
    ) {
        if self.prepare(number, intended, now, stats) {
            self.drive(number, schedule, stats);
        }
    }

    /// Prepares the next request of a slot. Returns false where it failed at once.
    #[inline]
    fn prepare(
        &mut self,
        number: usize,
        intended: u64,
        now: u64,
        stats: &mut RequestStats,
    ) -> bool {
        let offset = Payload::offset(self.number);
        self.number += 1;
        let Some(slot) = self.slots.get_mut(number) else {
            return false;
        };
        slot.request = Some(InFlight {
            times: Times {
                intended,
                started: now,
                answered: 0,
            },
            closing: false,
        });
        let until = now.saturating_add(self.job.timeout.as_nanos() as u64);
        self.timers.set(number, &mut slot.deadline, until);
        if let Some(connection) = &mut slot.connection {
            if connection.is_usable() {
                connection.state.start_next(offset);
                return true;
            }
            slot.connection = None;
        }
        let state = RequestState::new(&self.job.workload, offset);
        let registry = self.poll.registry();
        match Connection::start(&self.job.to, registry, Token(number), state) {
            Ok(connection) => {
                slot.connection = Some(connection);
                true
            }
            Err(error) => {
                self.fail(number, error, stats);
                false
            }
        }
    }

    /// Drives a request, and the requests that follow it on its connection without a pause.
    #[inline]
    fn drive(&mut self, number: usize, schedule: &mut Schedule, stats: &mut RequestStats) {
        loop {
            let Some(slot) = self.slots.get_mut(number) else {
                return;
            };
            let (Some(connection), Some(request)) = (&mut slot.connection, &mut slot.request)
            else {
                return;
            };
            let workload = &self.job.workload;
            let step = connection.drive(workload, self.poll.registry(), &mut self.buffer);
            let now = match step {
                Ok(Step::Incomplete) => return,
                Ok(Step::Answered) if request.closing => continue,
                Ok(Step::Answered) => {
                    let now = monotonic_ns();
                    request.times.answered = now;
                    if !connection.state.can_continue(workload) {
                        request.closing = true;
                        let until = now.saturating_add(CLOSE_TIMEOUT);
                        self.timers.set(number, &mut slot.deadline, until);
                        continue;
                    }
                    now
                }
                Ok(Step::Closed) => {
                    let now = monotonic_ns();
                    if !request.closing {
                        request.times.answered = now;
                    }
                    slot.connection = None;
                    now
                }
                // The answer was complete before the reset.
                Err(error) if request.closing && error.kind == ErrorKind::Reset => {
                    slot.connection = None;
                    monotonic_ns()
                }
                Err(error) => return self.fail(number, error, stats),
            };
            self.finish(number, schedule, stats);
            match schedule.next(now) {
                Due::Now(intended) if self.prepare(number, intended, now, stats) => {}
                Due::Now(_) => return,
                Due::At(_) | Due::Never => return self.free.push_back(number),
            }
        }
    }

    /// Counts a correctly answered request.
    #[inline]
    fn finish(&mut self, number: usize, schedule: &Schedule, stats: &mut RequestStats) {
        let request = self
            .slots
            .get_mut(number)
            .and_then(|slot| slot.request.take());
        if let Some(request) = request {
            let bytes = self.job.workload.message();
            stats.answered(request.times, bytes, schedule.is_open());
        }
    }

    /// Counts a failed request and closes its connection.
    fn fail(&mut self, number: usize, error: RequestError, stats: &mut RequestStats) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.connection = None;
            slot.request = None;
        }
        stats.failed(error);
        self.backing_off
            .push_back((monotonic_ns() + RETRY_DELAY, number));
    }

    /// Fails requests past their deadline. Timers are lazy: an answered request leaves its timer, and the next request of the
    /// slot moves it, so an expired timer may belong to no request in flight.
    fn expire(&mut self, now: u64, schedule: &Schedule, stats: &mut RequestStats) {
        while let Some(number) = self.timers.up(now) {
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            let is_due = self.timers.is_due(number, &mut slot.deadline, now);
            let Some(request) = slot.request.as_ref().filter(|_| is_due) else {
                continue;
            };
            let error = match (&slot.connection, request.closing) {
                (_, true) if self.job.workload.request_kind() == RequestKind::Refused => {
                    // A proxy may keep the connection open after a refusal.
                    slot.connection = None;
                    self.finish(number, schedule, stats);
                    self.free.push_back(number);
                    continue;
                }
                (_, true) => RequestError::new(ErrorKind::NotClosed, "the answer was correct"),
                (Some(connection), false) => connection.timeout_error(),
                (None, false) => ErrorKind::Timeout.into(),
            };
            self.fail(number, error, stats);
        }
    }
}
