//! One session at the server: its receivers while they run, and their intervals put together.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use mio::Waker;

use super::intervals::{Intervals, Spare};
use super::report::Finished;
use super::{Limits, Room};
use crate::engine::Rx;
use crate::engine::choice::{Kind, UringReceive};
use crate::engine::mio::MioRx;
use crate::engine::uring::{MultishotRx, SingleRx};
use crate::report::record::Interval;
use crate::sys::clock::{self, WallClock, monotonic_ns};
use crate::sys::wake::Wake;
use crate::sys::{affinity, host, schedule, timer};
use crate::udp::account::Latencies;
use crate::udp::control::{Hello, StreamSent, Welcome};
use crate::udp::outcome::{Ended, Rows};
use crate::udp::placement::{self, Cpus};
use crate::udp::plan::{Mode, Plan};
use crate::udp::receiver::{self, Event, Job, Received, Remote, UNKNOWN};
use crate::udp::setup::{self, ReceiverSocket};
use crate::udp::spool::Spool;

/// Histograms that a stream has besides the one it records into: one on its way, one coming back.
const SPARES: usize = 2;

pub(super) struct Session {
    plan: Plan,
    welcome: Welcome,
    receivers: Vec<Handle>,
    events: Receiver<Event>,
    epoch: Arc<AtomicU64>,
    intervals: Intervals,
    started: Instant,
    buffer_errors: Option<u64>,
    wall: WallClock,
    rows: Rows,
    /// What the client says it sent.
    sent: Option<Vec<StreamSent>>,
    ended: Ended,
}

/// A stream's receiver as the session sees it.
struct Handle {
    remote: Arc<Remote>,
    wake: Wake,
    spares: Sender<Box<Latencies>>,
    done: Option<Box<Received>>,
}

impl Session {
    /// Binds a socket and starts a receiver for every stream.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn start(
        hello: &Hello,
        local: SocketAddr,
        client: IpAddr,
        room: &Room,
        waker: &Arc<Waker>,
    ) -> Result<Self, String> {
        let plan = hello.plan.clone();
        setup::can_receive(&plan).map_err(|error| format!("the server {error}"))?;
        let same_clock = hello.clock.is_some() && hello.clock == clock::identity();
        let token =
            random().map_err(|error| format!("the server has no random numbers: {error}"))?;
        let cpus: Cpus = room
            .cpus
            .as_ref()
            .filter(|cpus| !cpus.is_empty())
            .map(|cpus| cpus.iter().copied().cycle().take(plan.streams).collect());
        let shared = |stream| same_clock && placement::is_shared(&hello.cpus, &cpus, stream);
        let mut sockets: Vec<ReceiverSocket> = (0..plan.streams)
            .map(|stream| ReceiverSocket::new(local, &plan, shared(stream)))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the server {error}"))?;
        // The sender is told one window, and takes its own pages back by it: it holds for every stream.
        let window = sockets.iter().filter_map(|end| end.window).min();
        sockets.iter_mut().for_each(|end| end.window = window);
        let ports = sockets
            .iter()
            .map(|end| end.socket.local_addr().map(|local| local.port()));
        let (sender, events) = mpsc::channel();
        let first = sockets
            .first()
            .ok_or("the server was asked for no streams")?;
        let mut session = Self {
            welcome: Welcome {
                token,
                ports: ports
                    .collect::<io::Result<_>>()
                    .map_err(|error| error.to_string())?,
                receive_buffer: first.buffers.receive,
                gro: first.gro,
                gro_note: first.gro_note.clone(),
                window,
                cpus,
                same_clock,
                client_ip: client.to_canonical().to_string(),
            },
            receivers: Vec::new(),
            events,
            epoch: Arc::new(AtomicU64::new(UNKNOWN)),
            intervals: Intervals::new(plan.interval, plan.streams),
            started: Instant::now(),
            buffer_errors: host::udp_receive_buffer_errors(),
            wall: WallClock::now(),
            rows: Rows::default(),
            sent: None,
            ended: Ended::Complete,
            plan,
        };
        for end in sockets {
            session
                .launch(end, room.limits.packet_rows, &sender, waker)
                .map_err(|error| format!("the server cannot start a receiver: {error}"))?;
        }
        Ok(session)
    }

    fn launch(
        &mut self,
        end: ReceiverSocket,
        packet_rows: u64,
        events: &Sender<Event>,
        waker: &Arc<Waker>,
    ) -> io::Result<()> {
        let stream = self.receivers.len();
        let (give, take) = mpsc::channel();
        for _ in 0..SPARES {
            let _ = give.send(Box::default());
        }
        let remote = Arc::new(Remote::new());
        let wake = Wake::new()?;
        let rows = packet_rows / self.plan.streams as u64;
        let paced = matches!(self.plan.mode, Mode::Paced(_));
        let cpu = placement::of(&self.welcome.cpus, stream);
        let job = Job {
            stream,
            token: self.welcome.token,
            chunk: self.plan.chunk,
            paced,
            window: end.window,
            room: (!paced && !end.shared_cpu).then_some(end.room),
            interval: self.plan.interval,
            epoch: self.epoch.clone(),
            spool: if self.plan.packet_rows {
                Some(Spool::new(rows)?)
            } else {
                None
            },
            remote: remote.clone(),
            spares: take,
        };
        let (events, waker, thread_wake) = (events.clone(), waker.clone(), wake.clone());
        let choice = self.plan.engine;
        thread::Builder::new()
            .name(format!("receive-{stream}"))
            .spawn(move || {
                if let Some(cpu) = cpu {
                    // Checked when the option was read; a CPU that went away since leaves the thread where it is.
                    let _ = affinity::pin(cpu);
                }
                if end.shared_cpu && job.window.is_some() {
                    // The sender shall fill its window in one turn; credit bounds what piles up meanwhile.
                    let _ = schedule::do_not_preempt_others();
                }
                // A doze shall end when it was meant to.
                let _ = timer::tighten_timer_slack();
                let line = Line { events, waker };
                let ReceiverSocket { socket, layout, .. } = end;
                let (uring, wake) = (&choice.uring, &thread_wake);
                match (choice.kind, uring.receive) {
                    (Kind::Mio, _) => line.receive(MioRx::new(socket, layout, wake), job),
                    (Kind::Uring, UringReceive::Multishot) => {
                        line.receive(MultishotRx::new(socket, layout, uring, wake), job);
                    }
                    (Kind::Uring, UringReceive::Single) => {
                        line.receive(SingleRx::new(socket, layout, uring, wake), job);
                    }
                }
            })?;
        self.receivers.push(Handle {
            remote,
            wake,
            spares: give,
            done: None,
        });
        Ok(())
    }

    pub(super) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    pub(super) fn streams(&self) -> usize {
        self.receivers.len()
    }

    /// The client has sent everything: the receivers may stop once they have it too.
    pub(super) fn finish(&mut self, sent: Vec<StreamSent>) {
        for (handle, stream) in self.receivers.iter().zip(&sent) {
            // Whatever it says, it is known from now on.
            let packets = stream.packets.min(UNKNOWN - 1);
            handle.remote.sent.store(packets, Ordering::Relaxed);
            handle.wake.wake();
        }
        if sent.len() != self.receivers.len() {
            self.end(Ended::Failed(
                "the client finished another number of streams than it began".to_owned(),
            ));
        }
        self.intervals
            .announce(sent.iter().map(|stream| stream.packets));
        self.sent = Some(sent);
    }

    /// Whether they were stopped already.
    pub(super) fn is_ending(&self) -> bool {
        self.ended != Ended::Complete
    }

    /// Stops the receivers. The first reason given stands.
    pub(super) fn end(&mut self, ended: Ended) {
        if self.ended == Ended::Complete {
            self.ended = ended;
        }
        for handle in &self.receivers {
            handle.remote.stop.store(true, Ordering::Relaxed);
            handle.wake.wake();
        }
    }

    /// Takes in what the receivers tell, watches the limits, and gives the rows that are complete.
    pub(super) fn attend(&mut self, limits: &Limits) -> Vec<Interval> {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        if self.ended == Ended::Complete {
            self.watch(limits);
        }
        self.complete()
    }

    /// As [`Self::attend`], with nobody to send rows to.
    pub(super) fn attend_quietly(&mut self) {
        let unlimited = Limits {
            duration: std::time::Duration::MAX,
            idle: std::time::Duration::MAX,
            ..Limits::default()
        };
        self.attend(&unlimited);
    }

    fn watch(&mut self, limits: &Limits) {
        if self.started.elapsed() > limits.duration {
            let most = limits.duration.as_secs_f64();
            return self.end(Ended::Limited(format!(
                "the server allows {most} s a session (--max-duration)"
            )));
        }
        if self.sent.is_some() {
            // The receivers wait for stragglers, and not for long.
            return;
        }
        let heard = self
            .receivers
            .iter()
            .map(|handle| handle.remote.heard.load(Ordering::Relaxed))
            .max();
        let quiet = monotonic_ns().saturating_sub(heard.unwrap_or(0));
        if u128::from(quiet) > limits.idle.as_nanos() {
            let most = limits.idle.as_secs_f64();
            self.end(Ended::Limited(format!(
                "no datagram came for {most} s (--idle-timeout at the server)"
            )));
        }
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
                    self.end(Ended::Failed(format!("a receiver failed: {error}")));
                }
                if let Some(handle) = self.receivers.get_mut(received.stream) {
                    handle.done = Some(received);
                }
            }
        }
    }

    fn give_back(&self, (stream, latencies): Spare) {
        if let Some(handle) = self.receivers.get(stream) {
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

    /// Whether every receiver has ended.
    pub(super) fn is_done(&self) -> bool {
        self.receivers.iter().all(|handle| handle.done.is_some())
    }

    /// What there is to report, once every receiver has ended.
    pub(super) fn finished(&mut self) -> Option<Finished> {
        self.is_done().then(|| self.finish_up())
    }

    /// What there is to report of a session that is cut off, its receivers stopped at once.
    pub(super) fn abandon(mut self) -> Finished {
        self.end(Ended::Failed(
            "the server was stopped before the result was brought back".to_owned(),
        ));
        while !self.is_done() {
            // Each receiver tells when it has stopped, which it does at once: it was woken.
            match self.events.recv() {
                Ok(event) => self.take(event),
                Err(_) => break,
            }
        }
        self.complete();
        self.finish_up()
    }

    fn finish_up(&mut self) -> Finished {
        let nothing = Intervals::new(self.plan.interval, 0);
        let buffer_errors = host::udp_receive_buffer_errors().zip(self.buffer_errors);
        Finished {
            plan: self.plan.clone(),
            welcome: self.welcome.clone(),
            ended: self.ended.clone(),
            sent: self.sent.take(),
            received: self
                .receivers
                .iter_mut()
                .filter_map(|handle| handle.done.take())
                .map(|done| *done)
                .collect(),
            latencies: mem::replace(&mut self.intervals, nothing).into_latencies(),
            intervals: mem::take(&mut self.rows),
            wall: self.wall,
            buffer_errors: buffer_errors.map(|(now, before)| now.saturating_sub(before)),
        }
    }
}

/// From a receiver to its session.
struct Line {
    events: Sender<Event>,
    waker: Arc<Waker>,
}

impl Line {
    /// Does the receiver's job with the engine made for it.
    fn receive<R: Rx>(&self, rx: io::Result<R>, job: Job) {
        let wake = || drop(self.waker.wake());
        match rx {
            Ok(rx) => receiver::run(rx, job, &self.events, wake),
            Err(error) => {
                let failed = Received::failed(job.stream, error);
                let _ = self.events.send(Event::Done(Box::new(failed)));
                wake();
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for handle in &self.receivers {
            handle.remote.stop.store(true, Ordering::Relaxed);
            handle.wake.wake();
        }
    }
}

fn random() -> io::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
