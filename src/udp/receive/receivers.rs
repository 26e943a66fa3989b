//! The receiving side of a session, at whichever host: a thread a stream, and their intervals put together.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::intervals::{Intervals, Spare};

use crate::engine::EngineChoice;
use crate::sys::clock::WallClock;
use crate::sys::eventfd::EventFd;
use crate::sys::{affinity, machine, sched_policy, shared_port, timer_slack};
use crate::udp::engine::Rx;
use crate::udp::engine::open::{RxEndpoint, WithRx, open_rx};
use crate::udp::placement::{self, Cpus};
use crate::udp::plan::{Mode, Plan};
use crate::udp::receive::accounting::{Latencies, Tally};
use crate::udp::receive::packet_log::Spool;
use crate::udp::receive::receiver::{self, Cut, Event, Job, Received, Remote, UNKNOWN};
use crate::udp::result::Interval;
use crate::udp::result::Rows;
use crate::udp::setup::{ReceiverSocket, SetupError};
use crate::udp::wire::control::{Finish, ReceiverFacts};
use crate::udp::wire::header::{Header, Kind};

/// Histograms that a stream has besides the one it records into: one on its way, one coming back.
const SPARES: usize = 2;

/// Wakes the loop that attends to the receivers.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

/// What the receivers of a session share.
pub struct Settings {
    /// What is to be done.
    pub plan: Plan,
    /// Rows a packet that all streams together may keep.
    pub packet_rows: u64,
    /// Added to this host's clock, it is the server's: in ns.
    pub offset: Arc<AtomicI64>,
    /// Wakes the loop that calls [`Receivers::attend`].
    pub notify: Notify,
}

/// Sockets with their options set, of which none is bound yet, and what the other side must know of them.
pub struct Prepared {
    ends: Vec<Option<ReceiverSocket>>,
    facts: ReceiverFacts,
}

/// The receivers of a session.
pub struct Receivers {
    settings: Settings,
    ends: Vec<Option<ReceiverSocket>>,
    facts: ReceiverFacts,
    handles: Vec<Option<Handle>>,
    sender: Sender<Event>,
    events: Receiver<Event>,
    epoch: Arc<AtomicU64>,
    intervals: Intervals,
    buffer_errors: Option<u64>,
    wall: WallClock,
    rows: Rows,
    /// No stream that was not launched yet will be.
    stopped: bool,
    /// Why a receiver failed, the first of all.
    failure: Option<String>,
}

/// A stream's receiver as seen from outside.
struct Handle {
    remote: Arc<Remote>,
    wake: EventFd,
    spares: Sender<Box<Latencies>>,
    /// The receiver's own socket, to connect it to another address.
    socket: UdpSocket,
    token: u64,
    done: Option<Box<Received>>,
}

/// All that is left when every receiver has ended.
pub struct Outcome {
    /// Each stream.
    pub received: Vec<Received>,
    /// All latencies.
    pub latencies: Latencies,
    /// All interval rows.
    pub intervals: Rows,
    /// Ties stamps to wall time.
    pub wall: WallClock,
    /// Added to this host's clock, it is the server's, at the end: in ns.
    pub offset: i64,
    /// How far `UdpRcvbufErrors` of this host rose meanwhile.
    pub buffer_errors: Option<u64>,
}

impl Prepared {
    /// Makes a socket of the family of `local` for each stream. `cpus` is where the receivers are kept, and `shared` says of which streams the sender is
    /// kept on the same CPU.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(
        plan: &Plan,
        local: SocketAddr,
        cpus: Cpus,
        shared: impl Fn(usize) -> bool,
    ) -> Result<Self, SetupError> {
        let socket = || {
            shared_port::unbound(local).map_err(|cause| SetupError::Bind {
                local: shared_port::any(local),
                cause,
            })
        };
        let sockets: Vec<UdpSocket> = (0..plan.streams)
            .map(|_| socket())
            .collect::<Result<_, _>>()?;
        Self::with(plan, sockets, cpus, shared)
    }

    /// As [`Self::new`], with sockets that are there already.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn with(
        plan: &Plan,
        sockets: Vec<UdpSocket>,
        cpus: Cpus,
        shared: impl Fn(usize) -> bool,
    ) -> Result<Self, SetupError> {
        let mut ends: Vec<ReceiverSocket> = sockets
            .into_iter()
            .enumerate()
            .map(|(stream, socket)| ReceiverSocket::new(socket, plan, shared(stream)))
            .collect::<Result<_, _>>()?;
        // The sender knows one window, and takes its own pages back by it: it holds for every stream.
        let window = ends.iter().filter_map(|end| end.window).min();
        ends.iter_mut().for_each(|end| end.window = window);
        let facts = ends
            .first()
            .map_or_else(ReceiverFacts::default, |first| ReceiverFacts {
                receive_buffer: first.buffers.receive,
                gro: first.gro,
                gro_note: first.gro_note.clone(),
                window,
                cpus,
            });
        Ok(Self {
            ends: ends.into_iter().map(Some).collect(),
            facts,
        })
    }

    /// What the sender must know.
    pub fn facts(&self) -> &ReceiverFacts {
        &self.facts
    }
}

impl Receivers {
    /// None of them is running yet.
    pub fn new(settings: Settings, prepared: Prepared) -> Self {
        let (sender, events) = mpsc::channel();
        let streams = prepared.ends.len();
        Self {
            intervals: Intervals::new(settings.plan.interval, streams),
            settings,
            handles: (0..streams).map(|_| None).collect(),
            ends: prepared.ends,
            facts: prepared.facts,
            sender,
            events,
            epoch: Arc::new(AtomicU64::new(UNKNOWN)),
            buffer_errors: machine::udp_receive_buffer_errors(),
            wall: WallClock::now(),
            rows: Rows::default(),
            stopped: false,
            failure: None,
        }
    }

    /// What the sender must know.
    pub fn facts(&self) -> &ReceiverFacts {
        &self.facts
    }

    /// How many streams there are.
    pub fn streams(&self) -> usize {
        self.handles.len()
    }

    /// The socket of a stream that is not launched yet.
    pub fn socket(&self, stream: usize) -> Option<&UdpSocket> {
        self.ends.get(stream)?.as_ref().map(|end| &end.socket)
    }

    /// Starts the receiver of a stream whose socket is connected. One that runs already goes on.
    ///
    /// # Errors
    /// Out of threads, files or memory.
    pub fn launch(&mut self, stream: usize, token: u64) -> io::Result<()> {
        let Some(end) = self.ends.get_mut(stream).and_then(Option::take) else {
            return Ok(());
        };
        if self.stopped {
            return Ok(());
        }
        let plan = &self.settings.plan;
        let (give, take) = mpsc::channel();
        for _ in 0..SPARES {
            let _ = give.send(Box::default());
        }
        let remote = Arc::new(Remote::new());
        let wake = EventFd::new()?;
        let rows = self.settings.packet_rows / self.handles.len().max(1) as u64;
        let paced = matches!(plan.mode, Mode::Paced(_));
        let cpu = placement::of(&self.facts.cpus, stream);
        let job = Job {
            stream,
            token,
            chunk: plan.chunk,
            paced,
            window: end.window,
            room: (!paced && !end.shared_cpu).then_some(end.room),
            interval: plan.interval,
            epoch: self.epoch.clone(),
            offset: self.settings.offset.clone(),
            spool: if plan.packet_rows {
                Some(Spool::new(rows)?)
            } else {
                None
            },
            remote: remote.clone(),
            spares: take,
        };
        let line = Line {
            events: self.sender.clone(),
            notify: self.settings.notify.clone(),
        };
        let (choice, thread_wake) = (plan.engine, wake.clone());
        let socket = end.socket.try_clone()?;
        thread::Builder::new()
            .name(format!("receive-{stream}"))
            .spawn(move || {
                if let Some(cpu) = cpu {
                    // Checked when the option was read; a CPU that went away since leaves the thread where it is.
                    let _ = affinity::pin(cpu);
                }
                if end.shared_cpu && job.window.is_some() {
                    // The sender shall fill its window in one turn; credit bounds what piles up meanwhile.
                    let _ = sched_policy::set_batch();
                }
                // A sleep shall end when it was meant to.
                let _ = timer_slack::tighten();
                let ReceiverSocket { socket, layout, .. } = end;
                let endpoint = RxEndpoint {
                    socket,
                    layout,
                    wake: &thread_wake,
                };
                line.receive(&choice, endpoint, job);
            })?;
        if let Some(place) = self.handles.get_mut(stream) {
            *place = Some(Handle {
                remote,
                wake,
                spares: give,
                socket,
                token,
                done: None,
            });
        }
        Ok(())
    }

    /// Connects the socket of a running receiver to another address of its sender, which an address translator on the way may
    /// have changed.
    ///
    /// # Errors
    /// As connect(2).
    pub fn rebind(&self, stream: usize, peer: SocketAddr) -> io::Result<()> {
        match self.handles.get(stream) {
            Some(Some(handle)) if handle.done.is_none() => handle.socket.connect(peer),
            _ => Ok(()),
        }
    }

    /// Sends a datagram to the sender of every stream that is not over. An address translator on the way may forget a flow that it
    /// sees no datagram of from this side (RFC 4787, section 4.3), and the sender learns of a new address by one.
    pub fn keep_open(&self) {
        for handle in self.handles.iter().flatten() {
            if handle.done.is_none() {
                let probe = Header::bare(Kind::Probe, handle.token, 0).encode();
                // The next one comes soon.
                let _ = handle.socket.send(&probe);
            }
        }
    }

    /// The senders have sent everything: the receivers may stop once they have it too.
    ///
    /// # Errors
    /// When the other side finished another number of streams than there are; then all of them are stopped.
    pub fn finish(&mut self, finish: &Finish) -> Result<(), String> {
        self.close_unlaunched();
        self.intervals
            .announce(finish.streams.iter().map(|stream| stream.packets));
        for (handle, sent) in self.handles.iter().zip(&finish.streams) {
            let Some(handle) = handle else { continue };
            // Whatever the number is, it is known from now on.
            let packets = sent.packets.saturating_sub(sent.not_sent).min(UNKNOWN - 1);
            handle
                .remote
                .quiet
                .store(finish.quiet_ns, Ordering::Relaxed);
            handle.remote.sent.store(packets, Ordering::Relaxed);
            handle.wake.wake();
        }
        if finish.streams.len() == self.handles.len() {
            return Ok(());
        }
        self.stop();
        Err("the sender finished another number of streams than it began".to_owned())
    }

    /// Stops all of them at once.
    pub fn stop(&mut self) {
        self.close_unlaunched();
        for handle in self.handles.iter().flatten() {
            handle.remote.stop.store(true, Ordering::Relaxed);
            handle.wake.wake();
        }
    }

    /// No stream is launched from now on: those that were not have received nothing.
    fn close_unlaunched(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        for (stream, handle) in self.handles.iter().enumerate() {
            if handle.is_none() {
                self.intervals.cut(Cut {
                    stream,
                    index: 0,
                    tally: Tally::default(),
                    latencies: Box::default(),
                    last: true,
                });
            }
        }
    }

    /// When a datagram of the session was last received by any of them, in ns of this host's clock; `None` before all.
    pub fn heard(&self) -> Option<u64> {
        let heard = self.handles.iter().flatten();
        heard
            .map(|handle| handle.remote.heard.load(Ordering::Relaxed))
            .max()
    }

    /// Datagrams received so far, of the intervals that are over.
    pub fn datagrams(&self) -> u64 {
        self.rows
            .total
            .unique
            .saturating_add(self.rows.total.duplicates)
    }

    /// Takes in what the receivers report, and gives the rows that are complete.
    pub fn attend(&mut self) -> Vec<Interval> {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        self.complete()
    }

    /// Why a receiver failed, if one did.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Interval(cut) => {
                if let Some(spare) = self.intervals.cut(cut) {
                    self.give_back(spare);
                }
            }
            Event::Done(received) => {
                if let Some(error) = &received.error {
                    self.failure
                        .get_or_insert_with(|| format!("a receiver failed: {error}"));
                    self.stop();
                }
                if let Some(Some(handle)) = self.handles.get_mut(received.stream) {
                    handle.done = Some(received);
                }
            }
        }
    }

    fn give_back(&self, (stream, latencies): Spare) {
        if let Some(Some(handle)) = self.handles.get(stream) {
            // A receiver that is done needs none.
            let _ = handle.spares.send(latencies);
        }
    }

    /// Rows of the intervals that every stream has ended by now.
    fn complete(&mut self) -> Vec<Interval> {
        let mut rows = Vec::new();
        while let Some((row, spare)) = self.intervals.complete(self.epoch.load(Ordering::Relaxed)) {
            self.give_back(spare);
            if let Some(row) = row {
                self.rows.push(row.clone());
                rows.push(row);
            }
        }
        rows
    }

    /// Whether every receiver has ended. One that was never launched has, once the senders have.
    pub fn is_done(&self) -> bool {
        self.handles.iter().all(|handle| match handle {
            Some(handle) => handle.done.is_some(),
            None => self.stopped,
        })
    }

    /// Stops all of them and waits for it, which takes no longer than waking them.
    pub fn abandon(&mut self) {
        self.stop();
        while !self.is_done() {
            match self.events.recv() {
                Ok(event) => self.take(event),
                Err(_) => break,
            }
        }
        self.complete();
    }

    /// What there is to report, once every receiver has ended.
    pub fn into_outcome(mut self) -> Outcome {
        let buffer_errors = machine::udp_receive_buffer_errors().zip(self.buffer_errors);
        let nothing = Intervals::new(self.settings.plan.interval, 0);
        let ended = self.handles.iter_mut().enumerate();
        Outcome {
            received: ended
                .map(|(stream, handle)| {
                    match handle.as_mut().and_then(|handle| handle.done.take()) {
                        Some(done) => *done,
                        None => Received::none(stream),
                    }
                })
                .collect(),
            latencies: mem::replace(&mut self.intervals, nothing).into_latencies(),
            intervals: mem::take(&mut self.rows),
            wall: self.wall,
            offset: self.settings.offset.load(Ordering::Relaxed),
            buffer_errors: buffer_errors.map(|(now, before)| now.saturating_sub(before)),
        }
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.stop();
    }
}

/// From a receiver to the loop that attends to it.
struct Line {
    events: Sender<Event>,
    notify: Notify,
}

impl Line {
    /// Opens the engine and runs the receiver on it.
    fn receive(&self, choice: &EngineChoice, endpoint: RxEndpoint<'_>, job: Job) {
        let stream = job.stream;
        if let Err(error) = open_rx(choice, endpoint, Receiving { line: self, job }) {
            let failed = Received {
                error: Some(error),
                ..Received::none(stream)
            };
            let _ = self.events.send(Event::Done(Box::new(failed)));
            (self.notify)();
        }
    }
}

/// A job with the place that its events go to.
struct Receiving<'a> {
    line: &'a Line,
    job: Job,
}

impl WithRx for Receiving<'_> {
    fn run(self, rx: impl Rx) {
        let Line { events, notify } = self.line;
        receiver::run(rx, self.job, events, || notify());
    }
}
