//! The setup of a session: opens all flows, estimates the clock offset, and launches the threads.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::clock_flow::ClockFlow;
use super::control_loop::{ControlLoop, Event, SessionError};
use super::opening::{self, Flow};
use super::results::DirectionResults;
use super::{Observer, RunError, Setup, Start};
use crate::udp::explain::Explainer;
use crate::udp::placement;
use crate::udp::plan::{Mode, Plan};
use crate::udp::receive::prepared::PreparedReceivers;
use crate::udp::receive::receivers::{self, Receivers};
use crate::udp::result::Ended;
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::send::senders::{self, Senders};
use crate::udp::shared_loops::{self, SharedLoops};
use crate::udp::stages::trial::{self, Trial};
use crate::udp::wire::control::{ReceiverEffective, Reply, StreamOffer, Welcome};
use crate::udp::wire::explain::HostReport;
use crate::udp::wire::results::SenderEffective;

/// Clock exchanges of a burst before or after the run.
pub(super) const BURST: u32 = 60;

/// How often the observer is asked when the run starts.
const START_POLL: Duration = Duration::from_millis(5);

/// Longest wait for the first pong, on top of some round trips: long enough to detect an outage.
const CLOCK_LIMIT: Duration = Duration::from_secs(3);

/// A session of the client.
pub(super) struct Session<'a, O: Observer> {
    pub(super) plan: &'a Plan,
    pub(super) setup: &'a Setup,
    pub(super) observer: &'a mut O,
    pub(super) control_loop: ControlLoop<'a>,
    pub(super) welcome: Welcome,
    /// The server's clock minus this host's, in ns.
    offset: Arc<AtomicI64>,
    /// The loops of this host's streams, if they share loops.
    loops: Arc<SharedLoops>,
    pub(super) clock: ClockState,
    /// Settings of the local senders.
    pub(super) effective: SenderEffective,
    /// Settings of the local receivers.
    pub(super) local: ReceiverEffective,
    /// Explains the losses on this host, if requested.
    pub(super) explainer: Option<Explainer>,
    /// The cost of the senders' stamps, if the plan requests stages.
    trial: Option<Trial>,
    /// Keeps the ports of the senders open until the session ends: the last credits arrive after the last datagram was sent, and a
    /// closed port would answer them with ICMP errors.
    ports: Vec<UdpSocket>,
    /// When the run starts, in ns of this host's clock; `None` for at once.
    pub(super) start: Option<u64>,
}

/// The relation of the two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClockState {
    /// Both sides read one clock.
    Same,
    /// The offset is estimated.
    Estimated,
    /// No clock exchange was answered.
    Unknown,
}

/// Both directions of a run.
pub(super) struct Directions {
    pub(super) forward: DirectionResults,
    pub(super) reverse: DirectionResults,
    /// Outcomes of the local senders, once they have ended.
    pub(super) senders: Option<Vec<SenderOutcome>>,
    pub(super) ended: Ended,
    /// The drops on the server's host, if it explains its side.
    pub(super) server: Option<HostReport>,
    /// The drops on this host, if losses are to be explained.
    pub(super) client: Option<HostReport>,
    /// The first impossible interval of the server.
    pub(super) impossible: Option<String>,
    /// When the measurement began, in ns of this host's clock.
    pub(super) begun: u64,
    /// When the last local sender ended or the last datagram arrived, in ns of this host's clock.
    pub(super) end: u64,
}

impl<'a, O: Observer> Session<'a, O> {
    /// A session that the server has welcomed.
    pub(super) fn new(
        plan: &'a Plan,
        setup: &'a Setup,
        observer: &'a mut O,
        control_loop: ControlLoop<'a>,
        welcome: Welcome,
    ) -> Self {
        Self {
            plan,
            setup,
            observer,
            control_loop,
            welcome,
            offset: Arc::default(),
            loops: Arc::default(),
            clock: ClockState::Same,
            effective: SenderEffective::default(),
            local: ReceiverEffective::default(),
            explainer: None,
            trial: None,
            ports: Vec::new(),
            start: None,
        }
    }

    /// Opens all flows, estimates the clock offset, and launches the threads.
    pub(super) fn open(&mut self) -> Result<(), RunError> {
        let server = self.control_loop.server;
        if !self.is_welcome_valid() {
            return Err(RunError::OutOfTurn(server));
        }
        let receiver = self.welcome.receiver.as_ref();
        if self.plan.kernel_latency && receiver.is_some_and(|receiver| !receiver.kernel_latency) {
            return Err(RunError::NoKernelLatency(server));
        }
        let welcome = self.welcome.clone();
        let (sends, receives) = (welcome.forward.len(), welcome.reverse.len());
        let offers = welcome.forward.iter().chain(&welcome.reverse);
        let mut flows: Vec<Flow> = offers
            .enumerate()
            .map(|(number, offer)| self.flow(*offer, number == 0))
            .collect::<Result<_, _>>()?;
        if let Some(first) = flows.first() {
            let local = first.socket.local_addr().map_err(RunError::Start)?;
            self.observer.listening(local);
        }
        let prepared = self.prepare(flows.get(sends..sends + receives).unwrap_or_default())?;
        if self.plan.stages && sends > 0 {
            // The server's drop counters start when the flows are open.
            self.trial = trial::run(self.plan.datagram()).ok();
        }
        opening::open(&mut self.control_loop, &mut flows)
            .map_err(|error| error.within(self.plan.traffic.ip.ttl))?;
        if let Some(group) = self.plan.traffic.group {
            flows
                .iter()
                .try_for_each(|flow| flow.direct_to(group, self.setup))?;
        }
        let mut flows = flows.into_iter();
        let forward: Vec<Flow> = flows.by_ref().take(sends).collect();
        let reverse: Vec<Flow> = flows.by_ref().take(receives).collect();
        if !welcome.same_clock {
            let flow = self.flow(welcome.clock, false)?;
            self.estimate_offset(flow)?;
        }
        if let Some(prepared) = prepared {
            self.launch_receivers(prepared, reverse)?;
        }
        if sends > 0 {
            self.launch_senders(forward)?;
        }
        Ok(())
    }

    /// A flow, whose association is kept until the end of the session.
    pub(super) fn flow(&mut self, offer: StreamOffer, is_first: bool) -> Result<Flow, RunError> {
        let (server, ip) = (self.control_loop.server, self.plan.traffic.ip);
        let mut flow = Flow::new(server, self.setup, ip, offer, is_first)?;
        if let Some(association) = flow.association.take() {
            self.control_loop
                .keep(association)
                .map_err(RunError::Start)?;
        }
        Ok(flow)
    }

    /// Whether the welcome fits the plan: it has a flow per stream, and a credit window if the client sends losslessly.
    pub(super) fn is_welcome_valid(&self) -> bool {
        let plan = self.plan;
        let count = |sends| if sends { plan.streams } else { 0 };
        let direction = plan.direction;
        let window = self
            .welcome
            .receiver
            .as_ref()
            .and_then(|effective| effective.window);
        let is_granted = window.is_some_and(|window| window > 0);
        self.welcome.forward.len() == count(direction.client_sends())
            && self.welcome.reverse.len() == count(direction.server_sends())
            && is_granted == (direction.client_sends() && plan.mode == Mode::Lossless)
    }

    /// Sets up the sockets of the streams that the client receives.
    fn prepare(&self, flows: &[Flow]) -> Result<Option<PreparedReceivers>, RunError> {
        if flows.is_empty() {
            return Ok(None);
        }
        let sockets = flows.iter().map(|flow| flow.socket.try_clone());
        let sockets = sockets
            .collect::<io::Result<_>>()
            .map_err(RunError::Start)?;
        let cpus = match self.plan.direction.client_sends() {
            true => None,
            false => self.setup.cpus.clone(),
        };
        let shared = |stream| {
            self.welcome.same_clock
                && placement::is_shared(&self.welcome.sender_cpus, &cpus, stream)
        };
        Ok(Some(PreparedReceivers::with(
            self.plan,
            sockets,
            cpus.clone(),
            shared,
            flows
                .iter()
                .map(|flow| flow.relay.most())
                .max()
                .unwrap_or(0),
        )?))
    }

    fn launch_receivers(
        &mut self,
        prepared: PreparedReceivers,
        flows: Vec<Flow>,
    ) -> Result<(), RunError> {
        let shares = shared_loops::are_shared(self.plan, self.plan.all_streams());
        self.local = prepared.effective().clone();
        self.local.shares_loops = shares;
        let settings = receivers::Settings {
            loops: shares.then(|| self.loops.clone()),
            plan: self.plan.clone(),
            packet_rows: u64::MAX,
            sent_probes: true,
            offset: self.offset.clone(),
            notify: self.control_loop.notify(),
        };
        let mut receivers = Receivers::new(settings, prepared);
        for (stream, mut flow) in flows.into_iter().enumerate() {
            // Responses to further opening probes are not datagrams of the run.
            flow.read();
            receivers
                .launch_behind(stream, flow.token, flow.relay)
                .map_err(RunError::Start)?;
        }
        self.control_loop.receivers = Some(receivers);
        Ok(())
    }

    /// Launches the senders, and waits until all of them are ready.
    fn launch_senders(&mut self, flows: Vec<Flow>) -> Result<(), RunError> {
        let server = self.control_loop.server;
        let receiver = self.welcome.receiver.clone().unwrap_or_default();
        let shares = shared_loops::are_senders_shared(self.plan, self.plan.all_streams());
        let mut senders = Senders::new(senders::Settings {
            plan: self.plan.clone(),
            send_buffer: self.plan.send_buffer,
            cpus: self.setup.cpus.clone(),
            spin: self.setup.spin,
            window: receiver.window,
            round_trip: self.control_loop.round_trip(),
            credit_timeout: self.setup.peer_timeout,
            offset: self.offset.clone(),
            notify: self.control_loop.notify(),
            is_reverse: false,
            trial: self.trial,
            loops: shares.then(|| self.loops.clone()),
        });
        let mut waiting = flows.len();
        for (stream, flow) in flows.into_iter().enumerate() {
            let shared = self.welcome.same_clock
                && placement::is_shared(&self.setup.cpus, &receiver.cpus, stream);
            if receiver.window.is_some() {
                // Out of file descriptors, the errors are only counted.
                self.ports.extend(flow.socket.try_clone());
            }
            senders
                .launch_behind(flow.socket, flow.token, shared, flow.relay)
                .map_err(RunError::Start)?;
        }
        self.control_loop.senders = Some(senders);
        while waiting > 0 {
            let event = self.control_loop.next(None);
            match event.map_err(|error| RunError::Lost(server, error))? {
                Event::Sender(senders::Event::Ready(effective)) => {
                    waiting -= 1;
                    self.effective = effective;
                }
                Event::Sender(senders::Event::Failed(error)) => return Err(error.into()),
                Event::Sender(senders::Event::Ended(ended)) => {
                    ended.map_err(RunError::Start)?;
                    return Err(RunError::Start(io::Error::other("a sender ended early")));
                }
                Event::Cancelled => return Err(RunError::Cancelled),
                Event::Reply(reply) => opening::check_refusal(server, reply)?,
                Event::RelayLost(proxy) => return Err(RunError::RelayLost(proxy)),
                Event::Intervals(_)
                | Event::FlowReadable
                | Event::Timeout
                | Event::RoundTrip(_) => {}
            }
        }
        Ok(())
    }

    /// Waits until the observer knows when the run starts.
    pub(super) fn await_start(&mut self) -> Result<(), RunError> {
        let server = self.control_loop.server;
        let is_known = self.clock != ClockState::Unknown;
        let offset = is_known.then(|| self.offset.load(Ordering::Relaxed));
        loop {
            match self.observer.start(offset).map_err(RunError::Fleet)? {
                Start::Now => return Ok(()),
                Start::At(ns) => {
                    self.start = Some(ns);
                    return Ok(());
                }
                Start::Wait => {}
            }
            let until = Instant::now() + START_POLL;
            let event = self.control_loop.next(Some(until));
            match event.map_err(|error| RunError::Lost(server, error))? {
                Event::Cancelled => return Err(RunError::Cancelled),
                Event::Reply(reply) => opening::check_refusal(server, reply)?,
                _ => {}
            }
        }
    }

    /// Estimates the clock offset before the run.
    fn estimate_offset(&mut self, flow: Flow) -> Result<(), RunError> {
        let mut clock = ClockFlow::new(flow.socket, flow.token, flow.relay, self.offset.clone());
        clock.begin_burst(BURST);
        self.control_loop
            .watch_clock(clock)
            .map_err(RunError::Start)?;
        self.exchange_clocks(BURST as usize / 2)
            .map_err(|error| RunError::Lost(self.control_loop.server, error))?;
        let Some(clock) = &mut self.control_loop.clock else {
            return Ok(());
        };
        self.clock = match clock.begin() {
            true => ClockState::Estimated,
            false => ClockState::Unknown,
        };
        if self.clock == ClockState::Unknown
            && let Some(clock) = self.control_loop.clock.take()
        {
            let _ = self.control_loop.unwatch(clock.socket());
        }
        Ok(())
    }

    /// Waits for `wanted` more pongs, at most somewhat longer than the first one took.
    pub(super) fn exchange_clocks(&mut self, wanted: usize) -> Result<(), SessionError> {
        let pongs = |control_loop: &ControlLoop<'_>| {
            control_loop.clock.as_ref().map_or(0, ClockFlow::exchanges)
        };
        let wanted = pongs(&self.control_loop) + wanted;
        let began = Instant::now();
        let mut limit = CLOCK_LIMIT + 3 * self.control_loop.round_trip();
        let mut first = None;
        while pongs(&self.control_loop) < wanted && began.elapsed() < limit {
            if self.control_loop.is_silent() {
                // An outage, which the peer timeout limits.
                limit = began.elapsed() + CLOCK_LIMIT + 3 * self.control_loop.round_trip();
            }
            if first.is_none() && pongs(&self.control_loop) > 0 {
                first = Some(began.elapsed());
                // All pongs of the burst are in flight by now, except for losses.
                limit = limit.min(3 * began.elapsed() + Duration::from_millis(500));
            }
            match self
                .control_loop
                .next(Some(Instant::now() + Duration::from_millis(5)))?
            {
                Event::Cancelled => break,
                Event::Reply(Reply::Done(_) | Reply::SendersDone { .. }) => break,
                _ => {}
            }
        }
        Ok(())
    }
}
