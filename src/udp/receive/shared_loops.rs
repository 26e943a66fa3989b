//! Event loops that many receivers share: paced streams beyond the number of CPUs do not get a thread each.
//!
//! There is a loop per CPU, started with its first stream. A stream takes a turn when its socket is readable, when its deadline has
//! passed, or when another thread wakes it. A turn reads one batch, so that no stream delays the others for long. The loops use
//! epoll, whichever engine the plan requests: a ring per stream would cost more memory than the stream itself.
//!
//! Datagrams are stamped when they are read, as in a thread per stream; in a busy loop the stamp includes the turns of other streams.
//! The CPU time of a round is divided equally among the turns of the round: exact in all, an estimate per stream.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::sys::clock::monotonic_ns;
use crate::sys::mmsg::ReceiveBatch;
use crate::sys::usage::CpuTime;
use crate::sys::{affinity, timer_slack};
use crate::udp::engine::Layout;
use crate::udp::engine::mio::{SharedSocket, shared_batch};
use crate::udp::receive::receiver::{ReceiverConfig, StreamReceiver, Turn};
use crate::udp::receive::thread::EventSink;

const WAKER: Token = Token(usize::MAX);

/// Readiness events per round.
const EVENTS: usize = 256;

/// The loops of a process.
#[derive(Default)]
pub struct SharedLoops {
    loops: Mutex<HashMap<LoopKey, Arc<Mailbox>>>,
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

/// A stream for a shared loop.
pub(super) struct SharedStream {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) layout: Layout,
    pub(super) config: ReceiverConfig,
    pub(super) sink: EventSink,
}

/// Gives a stream of a shared loop a turn, from another thread.
pub(super) struct SharedWake {
    mailbox: Arc<Mailbox>,
    id: usize,
}

impl SharedWake {
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
    Add(usize, Box<SharedStream>),
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
    /// Adds a stream to the loop of this CPU, or to the next loop.
    ///
    /// # Errors
    /// Out of threads or files.
    pub(super) fn add(&self, cpu: Option<usize>, stream: SharedStream) -> io::Result<SharedWake> {
        let key = match cpu {
            Some(cpu) => LoopKey::Pinned(cpu),
            None => {
                let loops = affinity::allowed().map_or(1, |cpus| cpus.len().max(1));
                LoopKey::Free(self.next.fetch_add(1, Ordering::Relaxed) % loops)
            }
        };
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let mailbox = match loops.get(&key) {
            Some(mailbox) => mailbox.clone(),
            None => {
                let mailbox = start(key)?;
                loops.insert(key, mailbox.clone());
                mailbox
            }
        };
        drop(loops);
        let id = mailbox.next_id.fetch_add(1, Ordering::Relaxed);
        mailbox.post(Command::Add(id, Box::new(stream)));
        Ok(SharedWake { mailbox, id })
    }
}

impl Drop for SharedLoops {
    fn drop(&mut self) {
        let loops = self.loops.get_mut();
        for mailbox in loops.unwrap_or_else(PoisonError::into_inner).values() {
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
    let (LoopKey::Pinned(number) | LoopKey::Free(number)) = key;
    let of_thread = mailbox.clone();
    thread::Builder::new()
        .name(format!("receivers-{number}"))
        .spawn(move || {
            if let LoopKey::Pinned(cpu) = key {
                // The option was checked; if the CPU is gone since, the thread stays where it is.
                let _ = affinity::pin(cpu);
            }
            // Waits must end on time.
            let _ = timer_slack::tighten();
            EventLoop::new(poll, of_thread).run();
        })?;
    Ok(mailbox)
}

/// A stream in its loop.
struct Member {
    receiver: StreamReceiver,
    socket: SharedSocket,
    sink: EventSink,
    /// When the next turn is due without an event, in ns.
    deadline: u64,
    cpu: CpuTime,
}

struct EventLoop {
    poll: Poll,
    mailbox: Arc<Mailbox>,
    batch: ReceiveBatch,
    members: HashMap<usize, Box<Member>>,
    deadlines: BTreeSet<(u64, usize)>,
    /// Streams that have a turn in the next round: their sockets may hold more datagrams.
    unread: Vec<usize>,
    /// Streams that had a turn in this round.
    turns: Vec<usize>,
    /// Streams that ended in this round.
    ended: Vec<(usize, Option<io::Error>)>,
    /// CPU time that has been divided among the streams.
    divided: CpuTime,
    is_ending: bool,
}

impl EventLoop {
    fn new(poll: Poll, mailbox: Arc<Mailbox>) -> Self {
        Self {
            poll,
            mailbox,
            batch: shared_batch(),
            members: HashMap::new(),
            deadlines: BTreeSet::new(),
            unread: Vec::new(),
            turns: Vec::new(),
            ended: Vec::new(),
            divided: CpuTime::of_this_thread(),
            is_ending: false,
        }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut due = Vec::new();
        while !self.is_ending || !self.members.is_empty() {
            let timeout = self.timeout();
            // An interrupted wait is a round without events. Other errors concern the arguments, which are valid.
            let _ = self.poll.poll(&mut events, timeout);
            mem::swap(&mut due, &mut self.unread);
            for event in events.iter().filter(|event| event.token() != WAKER) {
                due.push(event.token().0);
                if event.is_error() {
                    // The error may end a batch before the last datagram.
                    self.unread.push(event.token().0);
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

    fn timeout(&self) -> Option<Duration> {
        if !self.unread.is_empty() {
            return Some(Duration::ZERO);
        }
        let (deadline, _) = self.deadlines.first()?;
        Some(Duration::from_nanos(
            deadline.saturating_sub(monotonic_ns()),
        ))
    }

    /// Carries the commands out.
    fn obey(&mut self, due: &mut Vec<usize>) {
        for command in self.mailbox.take() {
            match command {
                Command::Add(id, stream) => {
                    self.add(id, *stream);
                    due.push(id);
                }
                Command::Turn(id) => due.push(id),
                Command::End => self.is_ending = true,
            }
        }
    }

    fn add(&mut self, id: usize, stream: SharedStream) {
        let SharedStream {
            socket,
            layout,
            config,
            sink,
        } = stream;
        let socket = SharedSocket::new(socket, layout);
        let registered = self.poll.registry().register(
            &mut SourceFd(&socket.socket().as_raw_fd()),
            Token(id),
            Interest::READABLE,
        );
        if let Err(error) = registered {
            self.ended.push((id, Some(error)));
        }
        let member = Member {
            receiver: StreamReceiver::new(config),
            socket,
            sink,
            deadline: u64::MAX,
            cpu: CpuTime::default(),
        };
        self.members.insert(id, Box::new(member));
    }

    fn add_expired(&mut self, due: &mut Vec<usize>) {
        let now = monotonic_ns();
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(member) = self.members.get_mut(&id) {
                member.deadline = u64::MAX;
            }
            due.push(id);
        }
    }

    /// Gives a stream a turn.
    fn turn(&mut self, id: usize) {
        // A stream that has ended may still have events.
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        self.turns.push(id);
        let mut rx = member.socket.with(&mut self.batch);
        let sink = &member.sink;
        let turn = member.receiver.turn(&mut rx, |event| sink.emit(event));
        let is_drained = rx.is_drained();
        match turn {
            Ok(Turn::Received) if !is_drained => self.unread.push(id),
            Ok(Turn::Received | Turn::Empty) => {
                let deadline = member.receiver.deadline();
                if deadline != member.deadline {
                    self.deadlines.remove(&(member.deadline, id));
                    member.deadline = deadline;
                    if deadline != u64::MAX {
                        self.deadlines.insert((deadline, id));
                    }
                }
            }
            Ok(Turn::Ended) => self.ended.push((id, None)),
            Err(error) => self.ended.push((id, Some(error))),
        }
    }

    /// Divides the CPU time of the round, and removes the streams that have ended.
    fn end_round(&mut self) {
        if self.turns.is_empty() && self.ended.is_empty() {
            return;
        }
        let now = CpuTime::of_this_thread();
        let turns = self.turns.len().max(1) as f64;
        let round = now - mem::replace(&mut self.divided, now);
        let share = CpuTime {
            user: round.user / turns,
            system: round.system / turns,
        };
        for id in self.turns.drain(..) {
            if let Some(member) = self.members.get_mut(&id) {
                member.cpu += share;
            }
        }
        for (id, error) in self.ended.drain(..) {
            let Some(member) = self.members.remove(&id) else {
                continue;
            };
            let Member {
                receiver,
                mut socket,
                sink,
                deadline,
                cpu,
            } = *member;
            self.deadlines.remove(&(deadline, id));
            let fd = socket.socket().as_raw_fd();
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
            let rx = socket.with(&mut self.batch);
            receiver.end(&rx, cpu, error, |event| sink.emit(event));
        }
    }
}
