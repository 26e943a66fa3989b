//! The server's side: a thread that sends each request back with the server's own time.
//!
//! A response has the length of its request, so that the server never sends more than it received.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::channel::{Channel, Received, Settings, TICK, Waiting};
use super::socket::wake;
use super::thread::{self, WithChannel};
use crate::sys::cgroup::{CpuQuota, Throttled};
use crate::sys::clock::monotonic_ns;
use crate::sys::shared_port;
use crate::sys::socket;
use crate::sys::usage::CpuTime;
use crate::udp::engine::stats::ReceiveStats;
use crate::udp::placement::{self, Cpus};
use crate::udp::plan::Plan;
use crate::udp::plan::SpinChoice;
use crate::udp::send::path_probe::AMONG_REQUESTS;
use crate::udp::setup::SetupError;
use crate::udp::wire::header::{HEADER, Header, Kind};
use crate::udp::wire::results::{Done, StreamReceived};

/// Longest spin without a datagram, in ns. A client that sends nothing must not occupy a CPU.
const MAX_SPIN_NS: u64 = 2_000_000_000;

/// The responder of a session.
pub struct Responder {
    plan: Plan,
    cpu: Option<usize>,
    socket: UdpSocket,
    control: Arc<Control>,
    thread: Option<JoinHandle<Option<Outcome>>>,
    quota: CpuQuota,
    /// Throttling when the thread started; `None` without a quota.
    throttled: Option<Throttled>,
}

/// The state that the thread shares with the session.
#[derive(Debug, Default)]
struct Control {
    stop: AtomicBool,
    /// When a datagram last arrived, in ns; 0 before the thread has started.
    last_arrival: AtomicU64,
}

/// The outcome of a responder.
#[derive(Debug, Default)]
struct Outcome {
    /// Requests answered, and duplicates of them.
    requests: u64,
    /// Datagrams dropped at the socket, as the kernel counts them.
    drops: u64,
    cpu: CpuTime,
    stats: ReceiveStats,
}

impl Responder {
    /// A responder on an unbound socket.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn new(plan: &Plan, socket: UdpSocket, cpus: &Cpus) -> Result<Self, SetupError> {
        super::requester::set_up(&socket, plan)?;
        Ok(Self {
            cpu: placement::of(cpus, 0),
            plan: plan.clone(),
            socket,
            control: Arc::default(),
            thread: None,
            quota: CpuQuota::of_this_thread(),
            throttled: None,
        })
    }

    /// Binds and connects the socket, and starts the thread. A running responder is connected to the client's new address.
    ///
    /// # Errors
    /// As bind(2), connect(2), pthread_create(3) and io_uring_setup(2).
    pub fn open(&mut self, probe: &Header, local: SocketAddr, peer: SocketAddr) -> io::Result<()> {
        if self.thread.is_some() {
            return self.socket.connect(peer);
        }
        shared_port::join(&self.socket, local, peer)?;
        if let Some(credit) = response(&probe.encode(), probe.token, usize::MAX) {
            // If the response is lost, the client sends another probe.
            let _ = self.socket.send(&credit.encode());
        }
        let token = probe.token;
        let waiting = match self.plan.spin {
            SpinChoice::On => Waiting::Spinning,
            SpinChoice::Auto | SpinChoice::Off => Waiting::Asleep,
        };
        let datagram = self.plan.datagram();
        let settings = Settings {
            name: "respond",
            engine: self.plan.engine,
            waiting,
            datagram: datagram.max(HEADER),
            cpu: self.cpu,
        };
        let control = self.control.clone();
        control
            .last_arrival
            .store(monotonic_ns(), Ordering::Relaxed);
        let code = Code {
            token,
            datagram,
            waiting,
            control,
        };
        self.throttled = self.quota.throttled();
        self.thread = Some(thread::spawn(settings, self.socket.try_clone()?, code)?);
        Ok(())
    }

    /// When a datagram last arrived, in ns; `None` if the flow is not open.
    pub fn last_arrival(&self) -> Option<u64> {
        let last = self.control.last_arrival.load(Ordering::Relaxed);
        (last > 0).then_some(last)
    }

    /// Stops the thread, and returns its counts and its costs.
    pub fn stop(mut self, reason: Option<String>) -> (StreamReceived, Done) {
        let outcome = self.join();
        let throttled = self.quota.throttled().zip(self.throttled);
        let throttled = throttled.map(|(now, before)| now - before);
        let chunk = self.plan.chunk as u64;
        let received = StreamReceived {
            unique: outcome.requests,
            bytes: outcome.requests.saturating_mul(chunk),
            drops: outcome.drops,
            ..StreamReceived::default()
        };
        let done = Done {
            reason,
            user_s: outcome.cpu.user,
            system_s: outcome.cpu.system,
            stats: outcome.stats.into(),
            sums_ns: ["0".to_owned(), "0".to_owned()],
            throttled: throttled.map(|of| (of.periods, of.ns)),
            ..Done::default()
        };
        (received, done)
    }

    fn join(&mut self) -> Outcome {
        self.control.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Outcome::default();
        };
        wake(&self.socket);
        thread.join().ok().flatten().unwrap_or_default()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.join();
    }
}

/// The thread.
struct Code {
    token: u64,
    datagram: usize,
    waiting: Waiting,
    control: Arc<Control>,
}

impl WithChannel for Code {
    type Output = Outcome;

    /// Answers requests until stopped.
    fn run(self, mut channel: impl Channel) -> Outcome {
        let mut outcome = Outcome::default();
        let control = &self.control;
        while !control.stop.load(Ordering::Relaxed) {
            if self.waiting != Waiting::Spinning {
                channel.sleep(TICK.as_nanos() as u64);
            }
            let Received::Datagram(length) = channel.receive() else {
                // Nothing, or an ICMP error about an earlier response.
                outcome.stats.eagain += 1;
                let last = control.last_arrival.load(Ordering::Relaxed);
                if self.waiting == Waiting::Spinning
                    && monotonic_ns().saturating_sub(last) > MAX_SPIN_NS
                {
                    outcome.stats.waits += 1;
                    channel.sleep(MAX_SPIN_NS);
                }
                continue;
            };
            let arrived = monotonic_ns();
            outcome.stats.messages += 1;
            control.last_arrival.store(arrived, Ordering::Relaxed);
            let Some(message) = channel.incoming().get_mut(..length) else {
                continue;
            };
            let Some(response) = response(message, self.token, self.datagram) else {
                continue;
            };
            let is_request = response.kind == Kind::Pong && response.sequence < AMONG_REQUESTS;
            outcome.requests += u64::from(is_request);
            outcome.stats.answers += 1;
            if let Some(place) = message.first_chunk_mut() {
                let lateness = monotonic_ns().saturating_sub(arrived);
                let header = Header {
                    sent: arrived,
                    lateness,
                    ..response
                };
                header.write(place);
            }
            if channel.reply(length).is_err() {
                // A send may report a pending error of the socket instead of sending.
                let _ = channel.reply(length);
            }
        }
        outcome.drops = socket::drops(channel.socket().as_fd()).unwrap_or(0).into();
        outcome.cpu = CpuTime::of_this_thread();
        let calls = channel.calls();
        outcome.stats.syscalls = calls.receives;
        outcome.stats.ring = calls.ring;
        outcome
    }
}

/// The header of the response to a message; `None` if it is not answered.
fn response(message: &[u8], token: u64, datagram: usize) -> Option<Header> {
    let header = Header::decode(message).ok()?;
    if header.token != token {
        return None;
    }
    match header.kind {
        // A probe of the path may be shorter.
        Kind::Ping
            if message.len() == datagram
                || (message.len() < datagram && header.sequence >= AMONG_REQUESTS) =>
        {
            Some(Header::bare(Kind::Pong, token, header.sequence))
        }
        // Opens the flow; the response to an earlier probe was lost.
        Kind::Probe if message.len() == HEADER => {
            Some(Header::bare(Kind::Credit, token, header.sequence))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_and_probes_of_the_flow_are_answered() {
        let message = |kind, token, length: usize| {
            let mut bytes = vec![7; length];
            Header::bare(kind, token, 3).write(bytes.first_chunk_mut().unwrap());
            bytes
        };
        let answer = |bytes: &[u8]| response(bytes, 9, 100).map(|header| header.kind);
        assert_eq!(answer(&message(Kind::Ping, 9, 100)), Some(Kind::Pong));
        assert_eq!(answer(&message(Kind::Probe, 9, HEADER)), Some(Kind::Credit));
        let probe = |length: usize| {
            let mut bytes = vec![0; length];
            Header::bare(Kind::Ping, 9, AMONG_REQUESTS).write(bytes.first_chunk_mut().unwrap());
            bytes
        };
        assert_eq!(answer(&probe(60)), Some(Kind::Pong));
        assert_eq!(answer(&probe(101)), None);
        for bytes in [
            message(Kind::Ping, 8, 100),
            message(Kind::Ping, 9, 101),
            message(Kind::Pong, 9, 100),
            message(Kind::Data, 9, 100),
            message(Kind::Probe, 9, 100),
            vec![0; 10],
        ] {
            assert_eq!(answer(&bytes), None);
        }
    }
}
