//! One session at the server: its receivers while they run, and their intervals put together.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use mio::Waker;

use super::report::Report;
use super::{Limits, Room, SessionReport};
use crate::engine::mio::MioRx;
use crate::report::record::Interval;
use crate::sys::clock::{self, WallClock, monotonic_ns};
use crate::sys::wake::Wake;
use crate::sys::{affinity, host, schedule, timer};
use crate::udp::account::{Latencies, Tally};
use crate::udp::control::{Hello, StreamSent, Welcome};
use crate::udp::outcome::{Ended, Rows};
use crate::udp::placement::Cpus;
use crate::udp::plan::{Mode, Plan};
use crate::udp::receiver::{self, Cut, Event, Job, Received, Remote, UNKNOWN};
use crate::udp::setup::ReceiverSocket;
use crate::udp::spool::Spool;

/// Histograms that a stream has besides the one it records into: one on its way, one coming back.
const SPARES: usize = 2;

pub(super) struct Session {
    pub(super) plan: Plan,
    welcome: Welcome,
    receivers: Vec<Handle>,
    events: Receiver<Event>,
    epoch: Arc<AtomicU64>,
    /// Intervals that not every stream has ended yet.
    open: BTreeMap<u64, Open>,
    /// The interval after the last row.
    rows_end: u64,
    started: Instant,
    pub(super) buffer_errors: Option<u64>,
    pub(super) wall: WallClock,
    pub(super) latencies: Latencies,
    pub(super) rows: Rows,
    /// What the client says it sent.
    pub(super) sent: Option<Vec<StreamSent>>,
    pub(super) ended: Ended,
    /// Where the client's sender threads are kept.
    sender_cpus: Cpus,
}

/// A stream's receiver as the session sees it.
struct Handle {
    remote: Arc<Remote>,
    wake: Wake,
    spares: Sender<Box<Latencies>>,
    /// At its last cut.
    tally: Tally,
    /// The next interval it will cut.
    next: u64,
    done: Option<Box<Received>>,
}

/// An interval that some streams have ended.
struct Open {
    packets: u64,
    bytes: u64,
    missing: i64,
    duplicates: u64,
    reordered: u64,
    latencies: Box<Latencies>,
    /// The stream that the histograms go back to.
    owner: usize,
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
        let same_clock = hello.clock.is_some() && hello.clock == clock::identity();
        let token =
            random().map_err(|error| format!("the server has no random numbers: {error}"))?;
        let sockets: Vec<ReceiverSocket> = (0..plan.streams)
            .map(|_| ReceiverSocket::new(local, &plan, same_clock))
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the server {error}"))?;
        let cpus = room.cpus.as_ref().filter(|cpus| !cpus.is_empty());
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
                window: first.window,
                cpus: cpus.map(|cpus| cpus.iter().copied().cycle().take(plan.streams).collect()),
                same_clock,
                client_ip: client.to_canonical().to_string(),
            },
            receivers: Vec::new(),
            events,
            epoch: Arc::new(AtomicU64::new(UNKNOWN)),
            open: BTreeMap::new(),
            rows_end: 0,
            started: Instant::now(),
            buffer_errors: host::udp_receive_buffer_errors(),
            wall: WallClock::now(),
            latencies: Latencies::default(),
            rows: Rows::default(),
            sent: None,
            ended: Ended::Complete,
            sender_cpus: hello.cpus.clone(),
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
        let cpu_of = |cpus: &Cpus| cpus.as_ref().and_then(|cpus| cpus.get(stream).copied());
        let cpu = cpu_of(&self.welcome.cpus);
        let shared = self.welcome.same_clock && cpu.is_some() && cpu == cpu_of(&self.sender_cpus);
        let job = Job {
            stream,
            token: self.welcome.token,
            chunk: self.plan.chunk,
            paced,
            window: end.window,
            room: (!paced && !shared).then_some(end.room),
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
        thread::Builder::new()
            .name(format!("receive-{stream}"))
            .spawn(move || {
                if let Some(cpu) = cpu {
                    // Checked when the option was read; a CPU that went away since leaves the thread where it is.
                    let _ = affinity::pin(cpu);
                }
                if job.window.is_some() {
                    // Credit bounds what piles up meanwhile.
                    let _ = schedule::do_not_preempt_others();
                }
                // A doze shall end when it was meant to.
                let _ = timer::tighten_timer_slack();
                match MioRx::new(end.socket, end.layout, &thread_wake) {
                    Ok(rx) => receiver::run(rx, job, &events, || drop(waker.wake())),
                    Err(error) => {
                        let _ = events.send(Event::Done(Box::new(Received::failed(stream, error))));
                        let _ = waker.wake();
                    }
                }
            })?;
        self.receivers.push(Handle {
            remote,
            wake,
            spares: give,
            tally: Tally::default(),
            next: 0,
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
        self.sent = Some(sent);
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
            match event {
                Event::Interval(cut) => self.cut(cut),
                Event::Done(received) => self.done(received),
            }
        }
        if self.ended == Ended::Complete {
            self.watch(limits);
        }
        self.rows_complete()
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

    fn cut(&mut self, cut: Cut) {
        let Some(handle) = self.receivers.get_mut(cut.stream) else {
            return;
        };
        let before = std::mem::replace(&mut handle.tally, cut.tally);
        if !cut.last {
            handle.next = cut.index + 1;
        }
        self.add(cut.index, cut.stream, &before, &cut.tally, cut.latencies);
    }

    fn done(&mut self, received: Box<Received>) {
        let Some(handle) = self.receivers.get_mut(received.stream) else {
            return;
        };
        handle.next = UNKNOWN;
        let failure = received
            .error
            .as_ref()
            .map(|error| format!("a receiver failed: {error}"));
        handle.done = Some(received);
        if let Some(reason) = failure {
            self.end(Ended::Failed(reason));
        }
    }

    fn add(
        &mut self,
        index: u64,
        stream: usize,
        before: &Tally,
        after: &Tally,
        latencies: Box<Latencies>,
    ) {
        let missing = |tally: &Tally| tally.next as i64 - tally.unique as i64;
        let mut back = None;
        let open = match self.open.entry(index) {
            std::collections::btree_map::Entry::Vacant(place) => place.insert(Open {
                packets: 0,
                bytes: 0,
                missing: 0,
                duplicates: 0,
                reordered: 0,
                latencies,
                owner: stream,
            }),
            std::collections::btree_map::Entry::Occupied(place) => {
                let open = place.into_mut();
                open.latencies.merge(&latencies);
                back = Some(latencies);
                open
            }
        };
        open.packets += (after.unique + after.duplicates) - (before.unique + before.duplicates);
        open.bytes += after.bytes - before.bytes;
        open.missing += missing(after) - missing(before);
        open.duplicates += after.duplicates - before.duplicates;
        open.reordered += after.reordered - before.reordered;
        if let Some(latencies) = back {
            self.give_back(stream, latencies);
        }
    }

    fn give_back(&self, stream: usize, mut latencies: Box<Latencies>) {
        latencies.clear();
        if let Some(handle) = self.receivers.get(stream) {
            // A receiver that is done needs none.
            let _ = handle.spares.send(latencies);
        }
    }

    /// Takes out the intervals that every stream has ended.
    fn rows_complete(&mut self) -> Vec<Interval> {
        let ended = self
            .receivers
            .iter()
            .map(|handle| handle.next)
            .min()
            .unwrap_or(0);
        let mut rows = Vec::new();
        while let Some(entry) = self.open.first_entry() {
            if *entry.key() >= ended {
                break;
            }
            let (index, open) = entry.remove_entry();
            self.latencies.merge(&open.latencies);
            let row = self.row(index, &open);
            self.rows_end = index + 1;
            if let Some(row) = row {
                self.rows.push(row.clone());
                rows.push(row);
            }
            self.give_back(open.owner, open.latencies);
        }
        rows
    }

    /// The row of an interval, unless nothing at all happened in what is left of a second.
    fn row(&self, index: u64, open: &Open) -> Option<Interval> {
        let one = self.plan.interval.as_secs_f64();
        // An interval that no stream found the time to end is part of the next.
        let start_s = self.rows_end.min(index) as f64 * one;
        let length = (index + 1) as f64 * one - start_s;
        // The last one ends with the last datagram.
        let epoch = self.epoch.load(Ordering::Relaxed);
        let last = self
            .receivers
            .iter()
            .filter_map(|handle| handle.tally.last_received)
            .max();
        let elapsed = last.map_or(0.0, |last| last.saturating_sub(epoch) as f64 / 1e9);
        let seconds = if self.is_done() {
            (elapsed - start_s).min(length)
        } else {
            length
        };
        if open.packets == 0 && seconds <= 0.0 {
            return None;
        }
        let seconds = seconds.max(1e-9);
        Some(Interval {
            start_s,
            seconds,
            packets: open.packets,
            bytes: open.bytes,
            kb_per_s: open.bytes as f64 / 1e3 / seconds,
            missing: open.missing,
            duplicates: open.duplicates,
            reordered: open.reordered,
            latency_p50_ns: open.latencies.actual.percentile(50.0),
            latency_p99_ns: open.latencies.actual.percentile(99.0),
            latency_max_ns: open.latencies.actual.percentile(100.0),
        })
    }

    /// Whether every receiver has ended.
    pub(super) fn is_done(&self) -> bool {
        self.receivers.iter().all(|handle| handle.done.is_some())
    }

    /// The report, once every receiver has ended.
    pub(super) fn finished(&mut self) -> Option<Report> {
        if !self.is_done() {
            return None;
        }
        let received = self
            .receivers
            .iter_mut()
            .filter_map(|handle| handle.done.take())
            .map(|done| *done)
            .collect();
        Some(Report::new(self, received))
    }

    /// What can be told of a session that is cut off, its receivers stopped at once.
    pub(super) fn abandon(mut self: Box<Self>, client: SocketAddr) -> SessionReport {
        self.end(Ended::Failed(
            "the server was stopped before the result was brought back".to_owned(),
        ));
        while !self.is_done() {
            // Each receiver tells when it has stopped, which it does at once: it was woken.
            match self.events.recv() {
                Ok(Event::Interval(cut)) => self.cut(cut),
                Ok(Event::Done(received)) => self.done(received),
                Err(_) => break,
            }
        }
        self.rows_complete();
        let received = self
            .receivers
            .iter_mut()
            .filter_map(|handle| handle.done.take())
            .map(|done| *done)
            .collect();
        Report::new(&mut self, received).into_session(client, false)
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
