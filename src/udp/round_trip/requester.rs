//! The client's side: a thread that sends requests on schedule and receives their responses.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use super::channel::{Channel, Received, Settings, TICK, Waiting};
use super::exchanges::{Counts, Exchanges, Response};
use super::rows::Rows;
use super::schedule::{Schedule, Step};
use super::thread::{self, WithChannel};
use crate::stats::latency::Latency;
use crate::sys::clock::monotonic_ns;
use crate::sys::socket;
use crate::sys::usage::{self, CpuTime};
use crate::udp::Notify;
use crate::udp::engine::stats::{ReceiveStats, SendStats};
use crate::udp::latencies::Latencies;
use crate::udp::plan::Plan;
use crate::udp::plan::SpinChoice;
use crate::udp::receive::accounting::Foreign;
use crate::udp::receive::intervals::CompletedInterval;
use crate::udp::relay_header::RelayHeader;
use crate::udp::send::path_probe::AMONG_REQUESTS;
use crate::udp::setup::{DEFAULT_BUFFER, SetupError};
use crate::udp::wire::header::{HEADER, Header, HeaderError, Kind};

/// Time after which a request without a response is lost.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// Longest spin without a look at the clock of the intervals and at the stop flag, in ns.
const SPIN_NS: u64 = 1_000_000;

/// Applies the buffers and the DF policy of `plan` to a socket of either end.
///
/// # Errors
/// As setsockopt(2).
pub fn set_up(socket: &UdpSocket, plan: &Plan) -> Result<socket::Buffers, SetupError> {
    let (send, receive) = (plan.send_buffer, plan.receive_buffer);
    let or_default = |buffer: Option<usize>| Some(buffer.unwrap_or(DEFAULT_BUFFER));
    socket::set_path_mtu_discovery(socket, plan.df.policy())
        // Only a requested size may exceed the limits of the system.
        .and_then(|()| socket::set_buffers(socket, or_default(send), None, send.is_some()))
        .and_then(|_| socket::set_buffers(socket, None, or_default(receive), receive.is_some()))
        .map_err(SetupError::Options)
}

/// The configuration of a requester.
pub struct Config {
    /// The run.
    pub plan: Plan,
    /// Requests a second; `None` for a closed loop.
    pub pps: Option<f64>,
    /// Identifies the flow.
    pub token: u64,
    /// The header in front of each datagram.
    pub relay: RelayHeader,
    /// Whether the other end is an echo server, which sends requests back unchanged.
    pub is_echo: bool,
    /// The CPU that the thread is pinned to.
    pub cpu: Option<usize>,
}

/// An event of a requester.
#[derive(Debug)]
pub enum Event {
    /// An interval has ended.
    Row(CompletedInterval),
    /// The requester has ended. The last event.
    Ended(Box<Outcome>),
}

/// The outcome of a requester.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests and responses.
    pub counts: Counts,
    /// Requests that the kernel refused, all of them lost.
    pub not_sent: u64,
    /// Those among them that were too long for the path.
    pub too_long: u64,
    /// Datagrams that are no response.
    pub foreign: Foreign,
    /// The last error of the socket other than an unreachable port.
    pub socket_error: Option<i32>,
    /// Datagrams dropped at the socket, as the kernel counts them.
    pub drops: u64,
    /// Stamps of the first and the last request, in ns.
    pub sent: Option<(u64, u64)>,
    /// Stamps of the first and the last answer, in ns.
    pub answered: Option<(u64, u64)>,
    /// End of the run, in ns.
    pub end: Option<u64>,
    /// Round trips without the server's time.
    pub latencies: Latencies,
    /// The server's own time of each exchange; empty with an echo server.
    pub server_time: Latency,
    /// Time from when each request was due to its stamp; empty in a closed loop.
    pub lateness: Latency,
    /// Deviation of each gap between two requests from the intended gap; empty in a closed loop.
    pub gap_error: Latency,
    /// Counters of the sends.
    pub send: SendStats,
    /// Counters of the receives.
    pub receive: ReceiveStats,
    /// CPU time of the thread.
    pub cpu: CpuTime,
    /// Times that the scheduler gave the thread's CPU to another thread.
    pub preemptions: u64,
}

/// A running requester.
pub struct Requester {
    events: Receiver<Event>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Option<()>>>,
}

impl Requester {
    /// Starts the thread on a connected socket.
    ///
    /// # Errors
    /// As setsockopt(2), pthread_create(3) and io_uring_setup(2).
    pub fn start(config: Config, socket: UdpSocket, notify: Notify) -> io::Result<Self> {
        // An open loop must wake for its next request too, at a time that a timeout of the socket is too coarse for.
        let waiting = match (config.plan.spin, config.pps) {
            (SpinChoice::On, _) => Waiting::Spinning,
            (_, None) => Waiting::Asleep,
            (_, Some(_)) => Waiting::AsleepUntil,
        };
        let settings = Settings {
            name: "round-trip",
            engine: config.plan.engine,
            waiting,
            datagram: config.plan.datagram() + config.relay.most(),
            cpu: config.cpu,
        };
        let (events, receiver) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let code = Code {
            config,
            waiting,
            stop: stop.clone(),
            emit: Emit { events, notify },
        };
        let thread = thread::spawn(settings, socket, code)?;
        Ok(Self {
            events: receiver,
            stop,
            thread: Some(thread),
        })
    }

    /// The next event, if there is one.
    pub fn event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Waits for the next event, at most a tick.
    pub fn wait(&self) -> Option<Event> {
        self.events.recv_timeout(TICK).ok()
    }

    /// Whether the thread has ended, so that no event follows those that wait.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Sends no further request.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Requester {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Emit {
    events: Sender<Event>,
    notify: Notify,
}

impl Emit {
    fn emit(&self, event: Event) {
        // Without a reader the session is being torn down, and the stop flag is set.
        let _ = self.events.send(event);
        (self.notify)();
    }
}

/// The thread.
struct Code {
    config: Config,
    waiting: Waiting,
    stop: Arc<AtomicBool>,
    emit: Emit,
}

impl WithChannel for Code {
    type Output = ();

    fn run(self, channel: impl Channel) {
        let run = Run::new(&self.config, channel, self.waiting);
        let outcome = run.run(&self.stop, &self.emit);
        self.emit.emit(Event::Ended(Box::new(outcome)));
    }
}

/// The state of the thread.
struct Run<'a, C> {
    config: &'a Config,
    channel: C,
    waiting: Waiting,
    exchanges: Exchanges,
    /// Bytes of a datagram, without the header of a relay and with it.
    datagram: usize,
    relayed: usize,
    outcome: Outcome,
    /// When the last request was due, in ns.
    last_due: u64,
    rows: Rows,
}

impl<'a, C: Channel> Run<'a, C> {
    fn new(config: &'a Config, channel: C, waiting: Waiting) -> Self {
        let timeout = u64::try_from(TIMEOUT.as_nanos()).unwrap_or(u64::MAX);
        Self {
            exchanges: Exchanges::new(timeout, config.pps.unwrap_or(0.0)),
            datagram: config.plan.datagram(),
            relayed: config.plan.datagram() + config.relay.len(),
            outcome: Outcome::default(),
            last_due: 0,
            rows: Rows::new(&config.plan, monotonic_ns()),
            config,
            channel,
            waiting,
        }
    }

    fn run(mut self, stop: &AtomicBool, emit: &Emit) -> Outcome {
        // The buffer of a requester keeps it.
        let header = self.config.relay.bytes().iter();
        let places = self.channel.outgoing().iter_mut();
        places.zip(header).for_each(|(place, byte)| *place = *byte);
        let mut schedule = Schedule::new(&self.config.plan, self.config.pps, self.rows.start);
        let ended = loop {
            let now = monotonic_ns();
            match schedule.step(&mut self.exchanges, now) {
                Step::Done => break now,
                Step::Send(due) => {
                    self.send(due);
                    if self.config.pps.is_some() {
                        // Responses must be stamped even while the requests are behind their schedule.
                        while self.receive() {}
                    }
                }
                Step::Wait(until) => self.wait(now, until),
            }
            if now >= self.rows.ends_at {
                let counts = self.exchanges.counts();
                emit.emit(Event::Row(self.rows.end(counts, now)));
            }
            if stop.load(Ordering::Relaxed) {
                schedule.stop(now);
            }
        };
        self.exchanges.close();
        let end = self.end(schedule.end(), ended);
        self.close(end, emit)
    }

    /// End of the run, in ns: that of the requests or of the last exchange, whichever is later. All exchanges have `ended`. The
    /// timeout of a lost response is part of a closed loop, which waits for it; an open loop sends its requests meanwhile.
    fn end(&self, requests: Option<u64>, ended: u64) -> u64 {
        let answered = self.outcome.answered.map_or(0, |(_, last)| last);
        let is_last_lost = self.outcome.sent.is_some_and(|(_, last)| last > answered);
        let exchanges = match self.config.pps {
            None if is_last_lost => ended,
            _ => answered,
        };
        exchanges.max(requests.unwrap_or(0))
    }

    fn close(mut self, end: u64, emit: &Emit) -> Outcome {
        let counts = self.exchanges.counts();
        if self.rows.differ(counts) {
            let until = match end > self.rows.begins_at {
                true => end,
                false => monotonic_ns(),
            };
            emit.emit(Event::Row(self.rows.end(counts, until)));
        }
        let calls = self.channel.calls();
        let (send, receive) = (&mut self.outcome.send, &mut self.outcome.receive);
        (send.syscalls, receive.syscalls) = (calls.sends, calls.receives);
        receive.ring = calls.ring;
        let drops = socket::drops(self.channel.socket().as_fd());
        Outcome {
            counts,
            end: Some(end),
            drops: drops.unwrap_or(0).into(),
            latencies: self.rows.total,
            cpu: CpuTime::of_this_thread(),
            preemptions: usage::preemptions(),
            ..self.outcome
        }
    }

    fn send(&mut self, due: u64) {
        let is_open = self.config.pps.is_some();
        let sequence = self.exchanges.counts().sent;
        let sent = monotonic_ns();
        let header = Header {
            sent,
            lateness: sent.saturating_sub(due),
            ..Header::bare(Kind::Ping, self.config.token, sequence)
        };
        let front = self.relayed - self.datagram;
        let place = self.channel.outgoing().get_mut(front..);
        if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
            header.write(place);
        }
        let mut result = self.channel.send(self.relayed);
        // After the send, as a new slot is seldom in the cache.
        self.exchanges.send(due, sent);
        if result
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        {
            // A send may report a pending error of the socket instead of sending.
            self.outcome.send.icmp.port_unreachable += 1;
            result = self.channel.send(self.relayed);
        }
        self.outcome.send.messages += 1;
        if let Err(error) = result {
            self.on_refusal(&error);
        }
        if is_open {
            self.outcome.lateness.record(sent.saturating_sub(due));
            if let Some((_, last)) = self.outcome.sent {
                let (gap, planned) = (sent.saturating_sub(last), due - self.last_due);
                self.outcome.gap_error.record(gap.abs_diff(planned));
            }
            self.last_due = due;
        }
        let first = self.outcome.sent.map_or(sent, |(first, _)| first);
        self.outcome.sent = Some((first, sent));
    }

    /// Counts a request that the kernel refused. It has no response, and is lost after the timeout as others are.
    fn on_refusal(&mut self, error: &io::Error) {
        let stats = &mut self.outcome.send;
        self.outcome.not_sent += 1;
        stats.messages = stats.messages.saturating_sub(1);
        stats.errors += 1;
        stats.last_error = error.raw_os_error();
        match error.raw_os_error() {
            Some(libc::EMSGSIZE) => self.outcome.too_long += 1,
            Some(libc::ENOBUFS) => stats.enobufs += 1,
            Some(libc::EAGAIN) => stats.eagain += 1,
            _ => {}
        }
    }

    /// Waits for responses, at most until a time, in ns.
    fn wait(&mut self, now: u64, until: u64) {
        if self.waiting == Waiting::Spinning {
            let until = until.min(now + SPIN_NS);
            while !self.receive() && monotonic_ns() < until {}
            return;
        }
        self.outcome.receive.waits += 1;
        if self.waiting == Waiting::Asleep {
            self.channel.sleep(until.saturating_sub(now));
            self.receive();
            return;
        }
        let until = until.min(self.rows.ends_at);
        self.channel.sleep(until.saturating_sub(monotonic_ns()));
        while self.receive() {}
    }

    /// Receives a datagram. `false` if there was none.
    fn receive(&mut self) -> bool {
        match self.channel.receive() {
            Received::Datagram(length) => {
                let received = monotonic_ns();
                self.outcome.receive.messages += 1;
                self.on_datagram(length, received);
                true
            }
            Received::Nothing => {
                self.outcome.receive.eagain += 1;
                false
            }
            Received::Failed(error) => {
                self.on_error(&error);
                false
            }
            Received::NotSent(error) => {
                self.on_error(&error);
                self.on_refusal(&error);
                false
            }
        }
    }

    fn on_error(&mut self, error: &io::Error) {
        if error.kind() == ErrorKind::ConnectionRefused {
            self.outcome.send.icmp.port_unreachable += 1;
        } else {
            self.outcome.socket_error = error.raw_os_error();
        }
    }

    fn on_datagram(&mut self, length: usize, received: u64) {
        let foreign = &mut self.outcome.foreign;
        let bytes = self.channel.incoming().get(..length);
        let bytes = self.config.relay.payload(bytes.unwrap_or_default());
        let length = bytes.len();
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(HeaderError::Short) => return foreign.short += 1,
            Err(HeaderError::Malformed) => return foreign.malformed += 1,
        };
        if header.token != self.config.token {
            return foreign.token += 1;
        }
        if header.sequence >= AMONG_REQUESTS && !self.config.is_echo {
            // A late answer of the path probe.
            return;
        }
        let kind = match self.config.is_echo {
            true => Kind::Ping,
            false => Kind::Pong,
        };
        if header.kind == Kind::Credit && length == HEADER {
            // The response to an opening probe.
            return;
        }
        if header.kind != kind || length != self.datagram {
            return foreign.malformed += 1;
        }
        match self.exchanges.receive(header.sequence, received) {
            Response::Answer { intended, sent } => {
                // An echo server changes nothing: its datagram has the lateness of the request.
                let own = match self.config.is_echo {
                    true => 0,
                    false => header.lateness,
                };
                let stamp = received.saturating_sub(own);
                self.rows.latencies.actual.record_between(sent, stamp);
                if self.config.pps.is_some() {
                    self.rows.latencies.intended.record_between(intended, stamp);
                }
                if !self.config.is_echo {
                    self.outcome.server_time.record(own);
                }
                let first = self.outcome.answered.map_or(received, |(first, _)| first);
                self.outcome.answered = Some((first, received));
            }
            Response::Duplicate | Response::Late => {}
            Response::Unknown => foreign.malformed += 1,
        }
    }
}

#[cfg(test)]
mod tests;
