//! A thread of the load generator: its connections, its event loop, and the requests it starts by a [`Schedule`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::connection::Connection;
use super::dialogue::{Dialogue, Exchange, Script, Step};
use super::fault::{Failure, Fault};
use super::pattern::Pattern;
use super::schedule::{Due, Schedule};
use super::tally::{Tally, Times};
use crate::proxy::timers::{Timer as Deadline, Timers};
use crate::sys::clock::monotonic_ns;
use crate::sys::endpoint::Endpoint;
use crate::sys::timer_slack;
use crate::sys::timerfd::TimerFd;

const TIMER: Token = Token(usize::MAX);

/// Events taken at once.
const EVENTS: usize = 1_024;

/// Bytes read at once: more than a whole segment of loopback.
const READ: usize = 64 << 10;

/// How often overdue requests are looked for: no timeout is that much too long.
const TICK: Duration = Duration::from_millis(10);

/// How long who failed waits before the next request, in ns: a proxy that is not there is asked a hundred times a second by each
/// connection, and not as often as errors can be had.
const REST: u64 = 10_000_000;

/// How long an answered connection may take to end, in ns. The end follows the answer without another round trip.
const ENDING: u64 = 1_000_000_000;

/// What all workers of a path are to do.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where to connect to.
    pub to: Endpoint,
    /// What is said there.
    pub script: Script,
    /// Longest time of a request.
    pub timeout: Duration,
}

/// A thread's connections and what they stand on.
pub(super) struct Worker<'a> {
    job: &'a Job,
    poll: Poll,
    timer: TimerFd,
    slots: Vec<Slot>,
    /// Of the slots, by their numbers.
    timers: Timers<usize>,
    /// Who is free, the longest first.
    free: VecDeque<usize>,
    /// Who failed, and until when each rests.
    resting: VecDeque<(u64, usize)>,
    /// The next message.
    number: u64,
    buffer: Box<[u8]>,
}

/// A place for a connection, which has one request at a time.
#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    request: Option<Request>,
    /// By when the request is to be over.
    deadline: Deadline,
}

struct Request {
    times: Times,
    /// The answer is whole, and only the end is waited for.
    ending: bool,
}

impl<'a> Worker<'a> {
    /// With so many connections, none of them begun, and messages from this number on.
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
            resting: VecDeque::with_capacity(connections),
            number,
            buffer: vec![0; READ].into(),
        })
    }

    /// Starts requests as `schedule` says, and returns once each has been answered or has failed. With `cancel` none is
    /// started any more, and those under way are given up.
    ///
    /// # Errors
    /// As epoll_wait(2) and timerfd_settime(2). What the other end does is no error.
    pub(super) fn run(
        &mut self,
        schedule: &mut Schedule,
        tally: &mut Tally,
        cancel: &AtomicBool,
    ) -> io::Result<()> {
        if schedule.is_open() {
            timer_slack::tighten()?;
        }
        let mut events = Events::with_capacity(EVENTS);
        let mut looked = monotonic_ns();
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.start(schedule, tally)? && self.is_idle() {
                break;
            }
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
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
                    connection.happened(event);
                    if slot.request.is_some() {
                        self.turn(number, schedule, tally);
                    }
                }
            }
            let now = monotonic_ns();
            if now - looked >= TICK.as_nanos() as u64 {
                looked = now;
                self.give_up_overdue(now, schedule, tally);
            }
        }
        tally.not_started(schedule.left());
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.free.len() + self.resting.len() == self.slots.len()
    }

    /// Has those who are free start what is due; whether nothing will ever be due again.
    fn start(&mut self, schedule: &mut Schedule, tally: &mut Tally) -> io::Result<bool> {
        let mut now = monotonic_ns();
        while let Some(&(until, number)) = self.resting.front() {
            if until > now {
                break;
            }
            self.resting.pop_front();
            self.free.push_back(number);
        }
        while let Some(number) = self.free.pop_front() {
            match schedule.next(now) {
                Due::Now(intended) => self.request(number, intended, now, schedule, tally),
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
        tally: &mut Tally,
    ) {
        if self.prepare(number, intended, now, tally) {
            self.turn(number, schedule, tally);
        }
    }

    /// Makes the next request of a slot the one under way; false where it failed at once.
    #[inline]
    fn prepare(&mut self, number: usize, intended: u64, now: u64, tally: &mut Tally) -> bool {
        let place = Pattern::place(self.number);
        self.number += 1;
        let Some(slot) = self.slots.get_mut(number) else {
            return false;
        };
        slot.request = Some(Request {
            times: Times {
                intended,
                started: now,
                answered: 0,
            },
            ending: false,
        });
        let until = now.saturating_add(self.job.timeout.as_nanos() as u64);
        self.timers.set(number, &mut slot.deadline, until);
        if let Some(connection) = &mut slot.connection {
            if connection.is_usable() {
                connection.dialogue.next(place);
                return true;
            }
            slot.connection = None;
        }
        let dialogue = Dialogue::new(&self.job.script, place);
        let registry = self.poll.registry();
        match Connection::begin(&self.job.to, registry, Token(number), dialogue) {
            Ok(connection) => {
                slot.connection = Some(connection);
                true
            }
            Err(failure) => {
                self.fail(number, failure, tally);
                false
            }
        }
    }

    /// Goes on with a request, and with those that follow it on the same connection without a pause.
    #[inline]
    fn turn(&mut self, number: usize, schedule: &mut Schedule, tally: &mut Tally) {
        loop {
            let Some(slot) = self.slots.get_mut(number) else {
                return;
            };
            let (Some(connection), Some(request)) = (&mut slot.connection, &mut slot.request)
            else {
                return;
            };
            let script = &self.job.script;
            let step = connection.turn(script, self.poll.registry(), &mut self.buffer);
            let now = match step {
                Ok(Step::More) => return,
                Ok(Step::Answered) if request.ending => continue,
                Ok(Step::Answered) => {
                    let now = monotonic_ns();
                    request.times.answered = now;
                    if !connection.dialogue.goes_on(script) {
                        request.ending = true;
                        let until = now.saturating_add(ENDING);
                        self.timers.set(number, &mut slot.deadline, until);
                        continue;
                    }
                    now
                }
                Ok(Step::Over) => {
                    let now = monotonic_ns();
                    if !request.ending {
                        request.times.answered = now;
                    }
                    slot.connection = None;
                    now
                }
                // It is answered, and that its connection ends in a reset is no fault of the answer.
                Err(failure) if request.ending && failure.fault == Fault::Reset => {
                    slot.connection = None;
                    monotonic_ns()
                }
                Err(failure) => return self.fail(number, failure, tally),
            };
            self.done(number, schedule, tally);
            match schedule.next(now) {
                Due::Now(intended) if self.prepare(number, intended, now, tally) => {}
                Due::Now(_) => return,
                Due::At(_) | Due::Never => return self.free.push_back(number),
            }
        }
    }

    /// A request was answered rightly.
    #[inline]
    fn done(&mut self, number: usize, schedule: &Schedule, tally: &mut Tally) {
        let request = self
            .slots
            .get_mut(number)
            .and_then(|slot| slot.request.take());
        if let Some(request) = request {
            let bytes = self.job.script.message();
            tally.answered(request.times, bytes, schedule.is_open());
        }
    }

    /// A request failed, and its connection with it.
    fn fail(&mut self, number: usize, failure: Failure, tally: &mut Tally) {
        if let Some(slot) = self.slots.get_mut(number) {
            slot.connection = None;
            slot.request = None;
        }
        tally.failed(failure);
        self.resting.push_back((monotonic_ns() + REST, number));
    }

    /// Gives up requests whose time is over. A timer that is up may be that of a request that was answered long ago: who is
    /// answered in time leaves it as it is, and the next request puts it off.
    fn give_up_overdue(&mut self, now: u64, schedule: &Schedule, tally: &mut Tally) {
        while let Some(number) = self.timers.up(now) {
            let Some(slot) = self.slots.get_mut(number) else {
                continue;
            };
            let is_due = self.timers.is_due(number, &mut slot.deadline, now);
            let Some(request) = slot.request.as_ref().filter(|_| is_due) else {
                continue;
            };
            let failure = match (&slot.connection, request.ending) {
                (_, true) if self.job.script.exchange() == Exchange::Refusal => {
                    // A proxy may keep the connection of a client that it refused.
                    slot.connection = None;
                    self.done(number, schedule, tally);
                    self.free.push_back(number);
                    continue;
                }
                (_, true) => Failure::new(Fault::NotClosed, "the answer was right"),
                (Some(connection), false) => connection.late(),
                (None, false) => Fault::Timeout.into(),
            };
            self.fail(number, failure, tally);
        }
    }
}
