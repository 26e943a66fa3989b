//! Event loops that many streams share: with more than a few streams per CPU, paced streams do not get a thread each.
//!
//! There is a loop per CPU, started with its first stream. A stream takes a turn when its socket is readable, when its deadline has
//! passed, or when another thread wakes it. A turn reads or sends one batch, so that no stream delays the others for long. The loops
//! use epoll, whichever engine the plan requests: a ring per stream would cost more memory than the stream itself.
//!
//! Datagrams are stamped when they are read, as in a thread per stream; in a busy loop the stamp includes the turns of other streams.
//! The CPU time of a round is divided equally among the turns of the round: exact in all, an estimate per stream.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::engine::ZeroCopy;
use crate::sys::clock::monotonic_ns;
use crate::sys::eventfd::EventFd;
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::timerfd::TimerFd;
use crate::sys::usage::{self, CpuTime};
use crate::sys::{affinity, sched_policy, timer_slack};
use crate::udp::engine::mio::shared_batch;
use crate::udp::plan::SpinChoice;
use crate::udp::plan::{Mode, Plan};

const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// Streams per CPU up to which each has a thread: the scheduler divides a CPU among so few threads well.
pub const THREADS_PER_CPU: usize = 4;

/// Readiness events per round.
const EVENTS: usize = 256;

/// Time slice that a loop asks the scheduler for, in ns: a loop runs for microseconds, and would be late behind threads with shorter
/// slices.
const TIME_SLICE_NS: u64 = 100_000;

/// The note in a record about receivers that share loops.
pub fn receiver_note(are_shared: bool) -> Option<String> {
    let note = "the receiver shares its thread with other streams, since there are many streams per CPU; it receives with epoll, and its latencies may include the work for other streams";
    are_shared.then(|| note.to_owned())
}

/// The note in a record about senders that share loops.
pub fn sender_note(are_shared: bool) -> Option<String> {
    let note = "the sender shares its thread with other streams, since there are many streams per CPU; it sends with epoll, and may be late by the work for other streams";
    are_shared.then(|| note.to_owned())
}

/// Whether the receivers of `plan` share loops, in a process with so many streams. Streams without a pace are as fast as a thread
/// can be, and have one each.
pub fn are_shared(plan: &Plan, streams: usize) -> bool {
    matches!(plan.mode, Mode::Paced(_)) && streams > THREADS_PER_CPU * loops()
}

/// As [`are_shared`], of the senders. A sender that spins or avoids copies has a thread.
pub fn are_senders_shared(plan: &Plan, streams: usize) -> bool {
    are_shared(plan, streams)
        && plan.spin != SpinChoice::On
        && plan.engine.zerocopy == ZeroCopy::Off
}

/// The number of loops whose CPU the kernel chooses.
fn loops() -> usize {
    affinity::allowed().map_or(1, |cpus| cpus.len().max(1))
}

/// A stream of a loop.
pub(super) trait Member: Send {
    /// The socket, if its readiness ends a wait.
    fn socket(&self) -> Option<RawFd>;

    /// Works without waiting, with the loop's buffers.
    ///
    /// # Errors
    /// The stream ends with the error.
    fn turn(&mut self, batch: &mut ReceiveBatch) -> io::Result<Next>;

    /// The stream has ended, and has used this much of the loop's thread.
    fn end(self: Box<Self>, batch: &mut ReceiveBatch, cost: Cost, error: Option<io::Error>);
}

/// When a stream has its next turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// In the next round.
    Soon,
    /// At this time in ns, or earlier if the socket is readable or another thread wakes the stream.
    At(u64),
    /// Never: the stream has ended.
    Ended,
}

/// The use of the loop's thread by one stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) cpu: CpuTime,
    /// Involuntary context switches in rounds that ended with this stream.
    pub(super) preemptions: u64,
}

/// The loops of a process.
#[derive(Default)]
pub struct SharedLoops {
    mailboxes: Mutex<HashMap<LoopKey, Arc<Mailbox>>>,
    /// The loop of the next stream that is not pinned.
    next: AtomicUsize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum LoopKey {
    /// The loop that is pinned to this CPU.
    Pinned(usize),
    /// One of the loops whose CPU the kernel chooses.
    Free(usize),
}

/// Wakes the sender or the receiver of a stream.
#[derive(Clone)]
pub(super) enum Wake {
    /// A thread of its own.
    Thread(EventFd),
    /// A place in a shared loop.
    Shared(SharedPlace),
}

impl Wake {
    pub(super) fn wake(&self) {
        match self {
            Self::Thread(event) => event.wake(),
            Self::Shared(place) => place.wake(),
        }
    }
}

/// The place of a stream in a loop.
#[derive(Clone)]
pub(super) struct SharedPlace {
    mailbox: Arc<Mailbox>,
    id: usize,
}

impl SharedPlace {
    /// Puts the stream into its place.
    pub(super) fn add(&self, member: Box<dyn Member>) {
        self.mailbox.post(Command::Add(self.id, member));
    }

    /// Gives the stream a turn. Without effect if it is not in its place.
    pub(super) fn wake(&self) {
        self.mailbox.post(Command::Turn(self.id));
    }
}

/// The commands for a loop.
struct Mailbox {
    commands: Mutex<Vec<Command>>,
    waker: Waker,
    next_id: AtomicUsize,
}

enum Command {
    Add(usize, Box<dyn Member>),
    Turn(usize),
    /// Ends the loop with its last stream.
    End,
}

impl Mailbox {
    fn post(&self, command: Command) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.push(command);
        // Earlier commands have woken the loop already.
        let first = commands.len() == 1;
        drop(commands);
        if first {
            let _ = self.waker.wake();
        }
    }

    fn take(&self) -> Vec<Command> {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *commands)
    }
}

impl SharedLoops {
    /// A place in the loop of this CPU, or in the next loop.
    ///
    /// # Errors
    /// Out of threads or files.
    pub(super) fn place(&self, cpu: Option<usize>) -> io::Result<SharedPlace> {
        let key = match cpu {
            Some(cpu) => LoopKey::Pinned(cpu),
            None => LoopKey::Free(self.next.fetch_add(1, Ordering::Relaxed) % loops()),
        };
        let mut mailboxes = self
            .mailboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mailbox = match mailboxes.get(&key) {
            Some(mailbox) => mailbox.clone(),
            None => {
                let mailbox = start(key)?;
                mailboxes.insert(key, mailbox.clone());
                mailbox
            }
        };
        let id = mailbox.next_id.fetch_add(1, Ordering::Relaxed);
        Ok(SharedPlace { mailbox, id })
    }
}

impl Drop for SharedLoops {
    fn drop(&mut self) {
        let mailboxes = self.mailboxes.get_mut();
        for mailbox in mailboxes.unwrap_or_else(PoisonError::into_inner).values() {
            mailbox.post(Command::End);
        }
    }
}

/// Starts the thread of a loop.
fn start(key: LoopKey) -> io::Result<Arc<Mailbox>> {
    let poll = Poll::new()?;
    let mailbox = Arc::new(Mailbox {
        commands: Mutex::default(),
        waker: Waker::new(poll.registry(), WAKER)?,
        next_id: AtomicUsize::new(0),
    });
    let timer = TimerFd::new()?;
    let fd = timer.as_fd().as_raw_fd();
    poll.registry()
        .register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
    let (LoopKey::Pinned(number) | LoopKey::Free(number)) = key;
    let of_thread = mailbox.clone();
    thread::Builder::new()
        .name(format!("streams-{number}"))
        .spawn(move || {
            if let LoopKey::Pinned(cpu) = key {
                // The option was checked; if the CPU is gone since, the thread stays where it is.
                let _ = affinity::pin(cpu);
            }
            // Waits must end on time. Older kernels do not support the time slice, and wake the loop later.
            let _ = timer_slack::tighten();
            let _ = sched_policy::request_time_slice(TIME_SLICE_NS);
            EventLoop::new(poll, timer, of_thread).run();
        })?;
    Ok(mailbox)
}

/// A stream in its place.
struct Entry {
    member: Box<dyn Member>,
    /// When the next turn is due without an event, in ns.
    deadline: u64,
    cost: Cost,
}

struct EventLoop {
    poll: Poll,
    timer: TimerFd,
    /// The expiry of the timer, in ns.
    armed: u64,
    mailbox: Arc<Mailbox>,
    batch: ReceiveBatch,
    entries: HashMap<usize, Entry>,
    deadlines: BTreeSet<(u64, usize)>,
    /// Streams that have a turn in the next round.
    soon: Vec<usize>,
    /// Streams that had a turn in this round.
    turns: Vec<usize>,
    /// Streams that ended in this round.
    ended: Vec<(usize, Option<io::Error>)>,
    /// Use of the thread that has been divided among the streams.
    divided: Cost,
    is_stopping: bool,
}

impl EventLoop {
    fn new(poll: Poll, timer: TimerFd, mailbox: Arc<Mailbox>) -> Self {
        Self {
            poll,
            timer,
            armed: u64::MAX,
            mailbox,
            batch: shared_batch(),
            entries: HashMap::new(),
            deadlines: BTreeSet::new(),
            soon: Vec::new(),
            turns: Vec::new(),
            ended: Vec::new(),
            divided: Cost::of_this_thread(),
            is_stopping: false,
        }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut due = Vec::new();
        while !self.is_stopping || !self.entries.is_empty() {
            let timeout = self.set_timer();
            // An interrupted wait is a round without events. Other errors concern the arguments, which are valid.
            let _ = self.poll.poll(&mut events, timeout);
            mem::swap(&mut due, &mut self.soon);
            for event in events.iter() {
                let Token(id) = event.token();
                if matches!(event.token(), WAKER | TIMER) {
                    continue;
                }
                due.push(id);
                if event.is_error() {
                    // The error may end a batch before the last datagram.
                    self.soon.push(id);
                }
            }
            self.obey(&mut due);
            self.add_expired(&mut due);
            for id in due.drain(..) {
                self.turn(id);
            }
            self.end_round();
        }
    }

    /// Sets the timer to the first deadline, and returns a timeout if the wait must end otherwise.
    fn set_timer(&mut self) -> Option<Duration> {
        if !self.soon.is_empty() {
            return Some(Duration::ZERO);
        }
        let (deadline, _) = *self.deadlines.first()?;
        if deadline <= monotonic_ns() {
            return Some(Duration::ZERO);
        }
        // A timer that expires too early costs a round without turns.
        if deadline != self.armed {
            if self.timer.arm(deadline).is_err() {
                return Some(Duration::from_millis(1));
            }
            self.armed = deadline;
        }
        None
    }

    /// Carries the commands out.
    fn obey(&mut self, due: &mut Vec<usize>) {
        for command in self.mailbox.take() {
            match command {
                Command::Add(id, member) => {
                    self.add(id, member);
                    due.push(id);
                }
                Command::Turn(id) => due.push(id),
                Command::End => self.is_stopping = true,
            }
        }
    }

    fn add(&mut self, id: usize, member: Box<dyn Member>) {
        if let Some(fd) = member.socket() {
            let registry = self.poll.registry();
            let registered = registry.register(&mut SourceFd(&fd), Token(id), Interest::READABLE);
            if let Err(error) = registered {
                self.ended.push((id, Some(error)));
            }
        }
        let entry = Entry {
            member,
            deadline: u64::MAX,
            cost: Cost::default(),
        };
        self.entries.insert(id, entry);
    }

    fn add_expired(&mut self, due: &mut Vec<usize>) {
        let now = monotonic_ns();
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.deadline = u64::MAX;
            }
            due.push(id);
        }
    }

    /// Gives a stream a turn.
    fn turn(&mut self, id: usize) {
        // A stream that has ended may still have events.
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        self.turns.push(id);
        match entry.member.turn(&mut self.batch) {
            Ok(Next::Soon) => self.soon.push(id),
            Ok(Next::At(deadline)) if deadline == entry.deadline => {}
            Ok(Next::At(deadline)) => {
                self.deadlines.remove(&(entry.deadline, id));
                entry.deadline = deadline;
                if deadline != u64::MAX {
                    self.deadlines.insert((deadline, id));
                }
            }
            Ok(Next::Ended) => self.ended.push((id, None)),
            Err(error) => self.ended.push((id, Some(error))),
        }
    }

    /// Divides the use of the thread in this round, and removes the streams that have ended.
    fn end_round(&mut self) {
        if self.turns.is_empty() && self.ended.is_empty() {
            return;
        }
        let now = Cost::of_this_thread();
        let before = mem::replace(&mut self.divided, now);
        let turns = self.turns.len().max(1) as f64;
        let cpu = now.cpu - before.cpu;
        let share = CpuTime {
            user: cpu.user / turns,
            system: cpu.system / turns,
        };
        let mut preemptions = now.preemptions - before.preemptions;
        for id in self.turns.drain(..).rev() {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.cost.cpu += share;
                entry.cost.preemptions += mem::take(&mut preemptions);
            }
        }
        for (id, error) in self.ended.drain(..) {
            let Some(entry) = self.entries.remove(&id) else {
                continue;
            };
            self.deadlines.remove(&(entry.deadline, id));
            if let Some(fd) = entry.member.socket() {
                let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
            }
            entry.member.end(&mut self.batch, entry.cost, error);
        }
    }
}

impl Cost {
    /// The use since the start of the calling thread.
    fn of_this_thread() -> Self {
        Self {
            cpu: CpuTime::of_this_thread(),
            preemptions: usage::preemptions(),
        }
    }
}
