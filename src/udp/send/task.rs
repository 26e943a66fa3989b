//! The task of one sender: it sets the socket up, and sends on a thread of its own.

use std::borrow::Cow;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use crate::sys::eventfd::EventFd;
use crate::sys::{sched_policy, socket, timer_slack};
use crate::udp::Notify;
use crate::udp::engine::Tx;
use crate::udp::engine::endpoint::TxEndpoint;
use crate::udp::engine::open::{WithTx, open_tx};
use crate::udp::engine::stamps::StampPolicy;
use crate::udp::path_mtu::PathError;
use crate::udp::placement::Cpus;
use crate::udp::plan::{Df, Mode, Plan};
use crate::udp::relay_header::RelayHeader;
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::send::path_probe::{PathProbe, ProbeOutcome};
use crate::udp::send::sender::{self, BatchPolicy, SenderControl};
use crate::udp::send::socket::SenderSocket;
use crate::udp::send::stamps::StampCollector;
use crate::udp::send::stream::Stream;
use crate::udp::setup::SetupError;
use crate::udp::shared_loops::SharedLoops;
use crate::udp::stages::trial::Trial;
use crate::udp::wire::results::SenderEffective;

/// The text that fills the message: not all zero, and of a length that no chunk is likely to have.
pub(super) const FILL: &[u8; 61] = b"wirebench measures what a datagram costs, sends and arrives. ";

/// Bytes of an IP packet that every IPv6 link carries (RFC 8200, section 5), and practically every IPv4 link too. The path is not
/// probed for datagrams this short.
const SMALL_PACKET: usize = 1_280;

/// Settings that all senders of a session share.
#[derive(Clone)]
pub struct Settings {
    /// The run.
    pub plan: Plan,
    /// Requested `SO_SNDBUF`, in bytes.
    pub send_buffer: Option<usize>,
    /// The CPUs that the threads are pinned to.
    pub cpus: Cpus,
    /// Whether a paced sender may spin.
    pub spin: bool,
    /// The receiver's credit window, in datagrams; `None` unless lossless.
    pub window: Option<u64>,
    /// Round trip to the other side.
    pub round_trip: Duration,
    /// Longest wait for credit.
    pub credit_timeout: Duration,
    /// The server's clock minus this host's, in ns.
    pub offset: Arc<AtomicI64>,
    /// Wakes the loop that calls [`Senders::event`](super::senders::Senders::event).
    pub notify: Notify,
    /// Whether the senders are the server's.
    pub is_reverse: bool,
    /// The cost of stamps, measured before the run: the trial's own datagrams are none of the run.
    pub trial: Option<Trial>,
    /// The loops that send the streams; `None` for a thread per stream.
    pub loops: Option<Arc<SharedLoops>>,
}

/// An event of a sender.
#[derive(Debug)]
pub enum Event {
    /// The sender can start, with these settings in force.
    Ready(SenderEffective),
    /// The sender cannot be set up.
    Failed(SetupError),
    /// The sender has ended.
    Ended(io::Result<()>),
}

/// The task of a sender.
pub(super) struct Task {
    pub(super) settings: Settings,
    pub(super) token: u64,
    /// The header in front of each datagram.
    pub(super) relay: RelayHeader,
    pub(super) number: usize,
    pub(super) shared_cpu: bool,
    pub(super) control: Arc<SenderControl>,
    pub(super) events: Sender<Event>,
}

impl Task {
    pub(super) fn run(
        self,
        socket: UdpSocket,
        start: &Receiver<u64>,
        wake: &EventFd,
    ) -> SenderOutcome {
        let mut outcome = SenderOutcome::default();
        match self.set_up(socket) {
            Err(error) => self.emit(Event::Failed(error)),
            Ok(end) => {
                if let Err(error) = self.send_with_engine(end, start, wake, &mut outcome) {
                    self.emit(Event::Ended(Err(error)));
                }
            }
        }
        outcome
    }

    pub(super) fn emit(&self, event: Event) {
        let _ = self.events.send(event);
        (self.settings.notify)();
    }

    /// Probes the path and sets the socket up for it.
    pub(super) fn set_up(&self, socket: UdpSocket) -> Result<SenderSocket, SetupError> {
        let settings = &self.settings;
        let policy = settings.plan.df.policy();
        socket::set_path_mtu_discovery(&socket, policy).map_err(SetupError::Options)?;
        let probe = PathProbe {
            socket: &socket,
            token: self.token,
            relay: &self.relay,
            round_trip: settings.round_trip,
            stop: &self.control.stop,
            is_of_requests: false,
        };
        // A group sends no response.
        let path_note = match settings.plan.traffic.group {
            Some(_) => None,
            None => path_note(&settings.plan, &probe)?,
        };
        let mut end = SenderSocket::new(
            socket,
            &settings.plan,
            settings.send_buffer,
            (self.token, &self.relay),
            settings.window,
            path_note,
        )?;
        end.policy.spin = settings.spin;
        end.policy.shared_cpu = self.shared_cpu;
        end.policy.credit_timeout_ns =
            u64::try_from(settings.credit_timeout.as_nanos()).unwrap_or(u64::MAX);
        Ok(end)
    }

    fn send_with_engine(
        &self,
        end: SenderSocket,
        start: &Receiver<u64>,
        wake: &EventFd,
        outcome: &mut SenderOutcome,
    ) -> io::Result<()> {
        let effective = end.effective();
        let SenderSocket {
            socket,
            layout,
            policy,
            stamps,
            ..
        } = end;
        let endpoint = TxEndpoint {
            socket,
            layout,
            batch: policy.batch as usize,
            fill: &self.fill(),
            stamps,
            wake,
        };
        let sender = ConfiguredSender {
            stamps: stamps.map(|stamps| self.collector(stamps)),
            task: self,
            start,
            policy,
            effective,
            outcome,
        };
        open_tx(&self.settings.plan.engine, endpoint, sender)
    }

    /// The bytes that fill the slots: those of a datagram, if it has the header of a relay.
    pub(super) fn fill(&self) -> Cow<'static, [u8]> {
        if self.relay.is_empty() {
            return FILL.into();
        }
        let message = FILL.iter().copied().cycle();
        let message = message.take(self.settings.plan.datagram());
        self.relay.bytes().iter().copied().chain(message).collect()
    }

    /// The collector of the stream's stamps. The first stream has their cost.
    fn collector(&self, stamps: StampPolicy) -> Box<StampCollector> {
        let trial = self.settings.trial.filter(|_| self.number == 0);
        Box::new(StampCollector::new(stamps.every, trial))
    }

    /// The stream, with a schedule that begins at `start` in ns.
    pub(super) fn stream(&self, start: u64) -> Stream {
        let plan = &self.settings.plan;
        let quota = plan.quota(self.number);
        let pace = plan.stream_pace(self.number);
        let lossless = plan.mode == Mode::Lossless;
        Stream::new(self.token, plan.chunk, quota, pace, lossless, start)
            .with_schedule(plan.traffic.schedule, self.number, self.settings.is_reverse)
            .with_sizes(plan.pattern())
            .with_relay(self.relay.clone())
    }

    fn send<T: Tx>(
        &self,
        mut tx: T,
        start: &Receiver<u64>,
        policy: BatchPolicy,
        effective: SenderEffective,
        stamps: Option<Box<StampCollector>>,
        outcome: &mut SenderOutcome,
    ) -> io::Result<()> {
        // A sleep that ends late is lateness; the default timer slack would add 50 us to each.
        let _ = timer_slack::tighten();
        let lossless = self.settings.plan.mode == Mode::Lossless;
        if lossless && policy.shared_cpu {
            // The receiver should not be preempted when it grants credit.
            let _ = sched_policy::set_batch();
        }
        self.emit(Event::Ready(effective.clone()));
        // A session that ends before the start drops the channel, which ends this thread too.
        let Ok(start) = start.recv() else {
            return Ok(());
        };
        let mut stream = self.stream(start);
        stream.grant(self.settings.window.unwrap_or(0));
        let ended;
        (*outcome, ended) = sender::run(&mut tx, (stream, start), policy, &self.control, stamps);
        outcome.effective = effective;
        self.emit(Event::Ended(ended));
        Ok(())
    }
}

/// A sender without its engine.
struct ConfiguredSender<'a> {
    task: &'a Task,
    start: &'a Receiver<u64>,
    policy: BatchPolicy,
    effective: SenderEffective,
    stamps: Option<Box<StampCollector>>,
    outcome: &'a mut SenderOutcome,
}

impl WithTx for ConfiguredSender<'_> {
    fn run(self, tx: impl Tx) -> io::Result<()> {
        self.task.send(
            tx,
            self.start,
            self.policy,
            self.effective,
            self.stamps,
            self.outcome,
        )
    }
}

/// Probes the path with full-size datagrams, and adapts the socket to a black hole. Returns a sentence about it.
///
/// # Errors
/// No full-size datagram arrives, or the socket is useless.
pub(in crate::udp) fn path_note(
    plan: &Plan,
    probe: &PathProbe<'_>,
) -> Result<Option<String>, SetupError> {
    let datagram = plan.datagram() + probe.relay.len();
    if datagram + socket::headers(probe.socket) <= SMALL_PACKET {
        return Ok(None);
    }
    match probe.explore(datagram).map_err(SetupError::Options)? {
        ProbeOutcome::BlackHole => avoid_black_hole(plan, probe).map(Some),
        ProbeOutcome::Fits | ProbeOutcome::TooLong | ProbeOutcome::Unknown => Ok(None),
    }
}

/// Lets the kernel fragment datagrams on a path that drops long ones, and returns a sentence about it.
fn avoid_black_hole(plan: &Plan, probe: &PathProbe<'_>) -> Result<String, SetupError> {
    let front = probe.relay.len();
    let datagram = plan.datagram() + front;
    let longest = probe.longest(datagram).map_err(SetupError::Options)?;
    let without = longest.saturating_sub(front);
    if plan.df == Df::On {
        let longest = without;
        return Err(PathError::BlackHole { datagram, longest }.into());
    }
    socket::fragment_at(probe.socket, longest).map_err(SetupError::Options)?;
    // Fragments may be dropped too, and Linux does not fragment an IPv6 datagram that fits the MTU of its route
    // (ip6_finish_output).
    if !probe.arrives(datagram).map_err(SetupError::Options)? {
        let longest = without;
        return Err(PathError::NoWay { datagram, longest }.into());
    }
    Ok(format!(
        "datagrams of {datagram} B did not arrive while short ones did: a router on the path drops them and its ICMP error is lost (black hole); the longest that arrived has {longest} B, and longer ones are sent with fragmentation allowed (DF off)"
    ))
}
