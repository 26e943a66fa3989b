//! The client's side of a session: agrees on a run with a server, sends, receives or both, and puts both sides' figures
//! together. Whether that server is another host's or a thread of this process makes no difference.
//!
//! A run is: `dial` (connect and greet), `conversation` (the event loop from then on), `opening` (a UDP flow a stream),
//! `clock_flow` (relate the clocks), the senders and receivers at work, and `gathered` (both sides' figures).

mod clock_flow;
mod conversation;
mod dial;
mod error;
mod gathered;
mod opening;
mod record;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::sys::clock::{WallClock, identity, monotonic_ns};
use crate::sys::eventfd::EventFd;
use crate::udp::control::connection::LinkError;
use crate::udp::control::key::Key;
use crate::udp::placement::{self, Cpus};
use crate::udp::plan::{Amount, Mode, Plan};
use crate::udp::receive::receiver::{LONGEST_QUIET_NS, SHORTEST_QUIET_NS};
use crate::udp::receive::receivers::{self, Prepared, Receivers};
use crate::udp::receive::result_upload::Upload;
use crate::udp::result::Ended;
use crate::udp::result::{Interval, Measured, Requested};
use crate::udp::send::sender::Sent;
use crate::udp::send::senders::{self, Senders};
use crate::udp::setup;
use crate::udp::wire::control::{
    Finish, Hello, PEER_TIMEOUT, ReceiverFacts, Reply, Request, SenderEffective, VERSION, Welcome,
};
use clock_flow::ClockFlow;
pub use conversation::Lost;
use conversation::{Conversation, Event};
pub use error::RunError;
use gathered::Gathered;
use opening::Flow;

/// Clock exchanges before the run, and after it.
const BURST: u32 = 60;

/// How long to wait for the first answer of the clock, on top of some round trips: long enough to tell an outage.
const CLOCK_LIMIT: Duration = Duration::from_secs(3);

/// Ends a run from outside.
#[derive(Debug, Clone)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    wake: EventFd,
}

impl Cancel {
    /// Nothing is cancelled yet.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            flag: Arc::default(),
            wake: EventFd::new()?,
        })
    }

    /// Ends the run it was given to, and any to come. What was measured is reported.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.wake.wake();
    }

    /// Whether it was called.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// How the offset between two hosts' clocks is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockChoice {
    /// None on one host, where both sides read one clock; else it is estimated.
    Auto,
    /// It is estimated, even so.
    Estimate,
}

/// What a run needs to know besides its plan.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The addresses of the server's control port, in the order in which they are tried.
    pub servers: Vec<SocketAddr>,
    /// Where to send from; the kernel chooses what is unspecified.
    pub bind: Option<SocketAddr>,
    /// The interface to send over.
    pub bind_device: Option<String>,
    /// The key that the server must have.
    pub key: Option<Key>,
    /// How long the server may be silent before it is given up.
    pub peer_timeout: Duration,
    /// Where the client's threads are kept: the senders, and of a reverse run the receivers.
    pub cpus: Cpus,
    /// Whether a paced sender may spin.
    pub spin: bool,
    /// How the offset is found.
    pub clock: ClockChoice,
    /// What the user asked for, for the record.
    pub requested: Requested,
}

impl Setup {
    /// Nothing but the server's address.
    pub fn to(server: SocketAddr) -> Self {
        Self {
            servers: vec![server],
            bind: None,
            bind_device: None,
            key: None,
            peer_timeout: PEER_TIMEOUT,
            cpus: None,
            spin: false,
            clock: ClockChoice::Auto,
            requested: Requested::default(),
        }
    }
}

/// Sees a run as it goes.
pub trait Observer {
    /// The first stream's socket is bound here.
    fn listening(&mut self, _local: SocketAddr) {}
    /// Data begins to flow.
    fn begun(&mut self) {}
    /// An interval is over.
    fn interval(&mut self, _row: &Interval) {}
    /// A datagram of `stream` was received: sequence, sent, received, in ns of the server's clock.
    fn packet(&mut self, _stream: usize, _row: (u64, u64, u64)) {}
}

/// Does a run, and gives what was measured: all of it, or as much as there was when it ended early. One entry a direction, that of the
/// client's streams first.
///
/// # Errors
/// [`RunError`], when it never began.
pub fn run(
    plan: &Plan,
    setup: &Setup,
    observer: &mut impl Observer,
    cancel: &Cancel,
) -> Result<Vec<Measured>, RunError> {
    if plan.direction.client_sends() {
        setup::can_send(plan)?;
    }
    if plan.direction.server_sends() {
        setup::can_receive(plan)?;
    }
    let clock = match setup.clock {
        ClockChoice::Auto => identity(),
        ClockChoice::Estimate => None,
    };
    let hello = Hello {
        version: VERSION,
        plan: plan.clone(),
        clock,
        cpus: setup.cpus.clone(),
    };
    let (conversation, welcome) = Conversation::begin(setup, hello, cancel)?;
    let mut session = Session {
        plan,
        setup,
        observer,
        conversation,
        offset: Arc::default(),
        clock: ClockState::Same,
        effective: SenderEffective::default(),
        local: ReceiverFacts::default(),
        welcome,
    };
    session.open()?;
    Ok(session.measure())
}

struct Session<'a, O: Observer> {
    plan: &'a Plan,
    setup: &'a Setup,
    observer: &'a mut O,
    conversation: Conversation<'a>,
    welcome: Welcome,
    /// Added to this host's clock, it is the server's: in ns.
    offset: Arc<AtomicI64>,
    clock: ClockState,
    /// Of the local senders.
    effective: SenderEffective,
    /// Of the local receivers.
    local: ReceiverFacts,
}

/// What is known of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClockState {
    /// Both sides read one clock.
    Same,
    /// The offset is estimated.
    Estimated,
    /// The server's clock never answered.
    Unknown,
}

/// Both directions of a run.
struct Directions {
    forward: Gathered,
    reverse: Gathered,
    /// What the local senders did, once they have ended.
    sent: Option<Vec<Sent>>,
    ended: Ended,
    /// When the last local sender ended, and the last datagram came, in ns of this host's clock.
    end: u64,
}

impl<O: Observer> Session<'_, O> {
    /// Opens every flow, relates the clocks, and launches the threads.
    fn open(&mut self) -> Result<(), RunError> {
        let server = self.conversation.server;
        if !self.is_welcome() {
            return Err(RunError::OutOfTurn(server));
        }
        let welcome = self.welcome.clone();
        let (sends, receives) = (welcome.forward.len(), welcome.reverse.len());
        let offers = welcome.forward.iter().chain(&welcome.reverse);
        let mut flows: Vec<Flow> = offers
            .enumerate()
            .map(|(number, offer)| Flow::new(server, self.setup, *offer, number == 0))
            .collect::<Result<_, _>>()?;
        if let Some(first) = flows.first() {
            let local = first.socket.local_addr().map_err(RunError::Start)?;
            self.observer.listening(local);
        }
        let prepared = self.prepare(flows.get(sends..sends + receives).unwrap_or_default())?;
        opening::open(&mut self.conversation, &mut flows)?;
        let mut flows = flows.into_iter();
        let forward: Vec<Flow> = flows.by_ref().take(sends).collect();
        let reverse: Vec<Flow> = flows.by_ref().take(receives).collect();
        if !welcome.same_clock {
            self.relate_clocks(Flow::new(server, self.setup, welcome.clock, false)?)?;
        }
        if let Some(prepared) = prepared {
            self.launch_receivers(prepared, reverse)?;
        }
        if sends > 0 {
            self.launch_senders(forward)?;
        }
        Ok(())
    }

    /// Whether the welcome is one for this plan: a flow a stream, and a window if credit is to be granted.
    fn is_welcome(&self) -> bool {
        let plan = self.plan;
        let count = |sends| if sends { plan.streams } else { 0 };
        let direction = plan.direction;
        let window = self
            .welcome
            .receiver
            .as_ref()
            .and_then(|facts| facts.window);
        let is_granted = window.is_some_and(|window| window > 0);
        self.welcome.forward.len() == count(direction.client_sends())
            && self.welcome.reverse.len() == count(direction.server_sends())
            && is_granted == (direction.client_sends() && plan.mode == Mode::Lossless)
    }

    /// Sets up the sockets of the streams that this side receives.
    fn prepare(&self, flows: &[Flow]) -> Result<Option<Prepared>, RunError> {
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
        Ok(Some(Prepared::with(
            self.plan,
            sockets,
            cpus.clone(),
            shared,
        )?))
    }

    fn launch_receivers(&mut self, prepared: Prepared, flows: Vec<Flow>) -> Result<(), RunError> {
        self.local = prepared.facts().clone();
        let settings = receivers::Settings {
            plan: self.plan.clone(),
            packet_rows: u64::MAX,
            offset: self.offset.clone(),
            notify: self.conversation.notify(),
        };
        let mut receivers = Receivers::new(settings, prepared);
        for (stream, mut flow) in flows.into_iter().enumerate() {
            // Answers to further knocks are none of the run's datagrams.
            flow.attend();
            receivers
                .launch(stream, flow.token)
                .map_err(RunError::Start)?;
        }
        self.conversation.receivers = Some(receivers);
        Ok(())
    }

    /// Launches the senders, and waits until every one is ready.
    fn launch_senders(&mut self, flows: Vec<Flow>) -> Result<(), RunError> {
        let server = self.conversation.server;
        let receiver = self.welcome.receiver.clone().unwrap_or_default();
        let mut senders = Senders::new(senders::Settings {
            plan: self.plan.clone(),
            send_buffer: self.plan.send_buffer,
            cpus: self.setup.cpus.clone(),
            spin: self.setup.spin,
            window: receiver.window,
            round_trip: self.conversation.round_trip(),
            credit_timeout: self.setup.peer_timeout,
            offset: self.offset.clone(),
            notify: self.conversation.notify(),
        });
        let mut waiting = flows.len();
        for (stream, flow) in flows.into_iter().enumerate() {
            let shared = self.welcome.same_clock
                && placement::is_shared(&self.setup.cpus, &receiver.cpus, stream);
            senders
                .launch(flow.socket, flow.token, shared)
                .map_err(RunError::Start)?;
        }
        self.conversation.senders = Some(senders);
        while waiting > 0 {
            let event = self.conversation.next(None);
            match event.map_err(|error| RunError::Lost(server, error))? {
                Event::Sender(senders::Event::Ready(effective)) => {
                    waiting -= 1;
                    self.effective = effective;
                }
                Event::Sender(senders::Event::Unable(error)) => return Err(error.into()),
                Event::Sender(senders::Event::Sent(outcome)) => {
                    outcome.map_err(RunError::Start)?;
                    return Err(RunError::Start(io::Error::other("a sender ended early")));
                }
                Event::Cancelled => return Err(RunError::Cancelled),
                Event::Reply(reply) => opening::refused(server, reply)?,
                Event::Rows(_) | Event::Flows | Event::Time => {}
            }
        }
        Ok(())
    }

    /// Finds out how the clocks are related.
    fn relate_clocks(&mut self, flow: Flow) -> Result<(), RunError> {
        let mut clock = ClockFlow::new(flow.socket, flow.token, self.offset.clone());
        clock.begin_burst(BURST);
        self.conversation
            .watch_clock(clock)
            .map_err(RunError::Start)?;
        self.exchange(BURST as usize / 2)
            .map_err(|error| RunError::Lost(self.conversation.server, error))?;
        let Some(clock) = &mut self.conversation.clock else {
            return Ok(());
        };
        self.clock = match clock.begin() {
            true => ClockState::Estimated,
            false => ClockState::Unknown,
        };
        if self.clock == ClockState::Unknown
            && let Some(clock) = self.conversation.clock.take()
        {
            let _ = self.conversation.unwatch(clock.socket());
        }
        Ok(())
    }

    /// Waits for so many more answers of the clock, as long as it takes a little longer than the first one did.
    fn exchange(&mut self, wanted: usize) -> Result<(), Lost> {
        let answers = |conversation: &Conversation<'_>| {
            conversation.clock.as_ref().map_or(0, ClockFlow::answers)
        };
        let wanted = answers(&self.conversation) + wanted;
        let began = Instant::now();
        let mut limit = CLOCK_LIMIT + 3 * self.conversation.round_trip();
        let mut first = None;
        while answers(&self.conversation) < wanted && began.elapsed() < limit {
            if self.conversation.is_silent() {
                // An outage, which the peer timeout ends.
                limit = began.elapsed() + CLOCK_LIMIT + 3 * self.conversation.round_trip();
            }
            if first.is_none() && answers(&self.conversation) > 0 {
                first = Some(began.elapsed());
                // All of the burst is under way by now, but for what is lost.
                limit = limit.min(3 * began.elapsed() + Duration::from_millis(500));
            }
            match self
                .conversation
                .next(Some(Instant::now() + Duration::from_millis(5)))?
            {
                Event::Cancelled => break,
                Event::Reply(Reply::Done(_) | Reply::SendersDone { .. }) => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends and receives, waits for the results and puts them together.
    fn measure(mut self) -> Vec<Measured> {
        let wall = WallClock::now();
        self.observer.begun();
        let mut directions = Directions {
            forward: Gathered::new(self.welcome.forward.len()),
            reverse: Gathered::new(self.welcome.reverse.len()),
            sent: None,
            ended: Ended::Complete,
            end: monotonic_ns(),
        };
        if let Err(lost) = self.carry_out(&mut directions) {
            self.lose(&mut directions, &lost);
        }
        if let Some(senders) = &mut self.conversation.senders {
            directions.sent.get_or_insert_with(|| senders.join());
        }
        let verdict = match &self.conversation.clock {
            Some(clock) => clock.verdict(directions.end),
            None => None,
        };
        self.assemble(directions, &wall, verdict)
    }

    /// The run itself, up to the last result.
    fn carry_out(&mut self, directions: &mut Directions) -> Result<(), Lost> {
        if self.plan.direction.server_sends() {
            let receiver = Some(self.local.clone());
            self.conversation.send(&Request::Begin { receiver })?;
        }
        if let Some(senders) = &self.conversation.senders {
            senders.start(monotonic_ns());
        }
        let mut sending = self.welcome.forward.len();
        if sending == 0 {
            directions.sent = Some(Vec::new());
        }
        while !self.is_complete(directions) {
            match self.conversation.next(None)? {
                Event::Sender(senders::Event::Sent(outcome)) => {
                    sending = sending.saturating_sub(1);
                    if let Err(error) = outcome {
                        self.stop(
                            directions,
                            Ended::Failed(format!("a sender failed: {error}")),
                        );
                    }
                    if sending == 0 {
                        self.finish(directions)?;
                    }
                }
                Event::Sender(_) | Event::Flows | Event::Time => {}
                Event::Rows(rows) => self.rows(rows, directions),
                Event::Cancelled => {
                    self.stop(directions, Ended::Interrupted("interrupted".to_owned()));
                    if self.plan.direction.server_sends() {
                        self.conversation.send(&Request::Stop)?;
                    }
                }
                Event::Reply(reply) => self.reply(reply, directions)?,
            }
        }
        self.exchange_after(directions)
    }

    fn is_complete(&self, directions: &Directions) -> bool {
        let direction = self.plan.direction;
        let (forward, reverse) = (&directions.forward, &directions.reverse);
        let sent =
            !direction.client_sends() || (directions.sent.is_some() && forward.done.is_some());
        sent && (!direction.server_sends()
            || (reverse.senders_done.is_some() && reverse.done.is_some()))
    }

    /// Ends both directions. The first reason stands.
    fn stop(&mut self, directions: &mut Directions, ended: Ended) {
        if directions.ended == Ended::Complete {
            directions.ended = ended;
        }
        if let Some(senders) = &self.conversation.senders {
            senders.stop();
        }
    }

    /// The local senders are done: tells the server what they sent.
    fn finish(&mut self, directions: &mut Directions) -> Result<(), Lost> {
        let sent = match &mut self.conversation.senders {
            Some(senders) => senders.join(),
            None => Vec::new(),
        };
        let finish = Finish {
            streams: senders::counts(&sent),
            quiet_ns: self.quiet_ns(),
        };
        directions.end = monotonic_ns();
        directions.sent = Some(sent);
        self.conversation.send(&Request::Finish(finish))?;
        self.conversation.await_result();
        if let Some(clock) = &mut self.conversation.clock {
            clock.begin_burst(BURST);
        }
        Ok(())
    }

    /// How long stragglers may take: as long as the slowest exchange so far.
    fn quiet_ns(&self) -> u64 {
        let clock = self.conversation.clock.as_ref();
        let longest = clock
            .and_then(ClockFlow::longest_round_trip)
            .unwrap_or_default()
            .max(self.conversation.round_trip());
        let ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        ns.clamp(SHORTEST_QUIET_NS, LONGEST_QUIET_NS)
    }

    fn rows(&mut self, rows: Vec<Interval>, directions: &mut Directions) {
        for row in rows {
            directions.reverse.row(row, self.observer);
        }
        if self
            .conversation
            .receivers
            .as_ref()
            .is_some_and(Receivers::is_done)
        {
            self.take_receivers(directions);
        }
    }

    /// The local receivers are done: their figures are taken in as the server's are.
    fn take_receivers(&mut self, directions: &mut Directions) {
        let Some(receivers) = self.conversation.receivers.take() else {
            return;
        };
        directions.end = directions.end.max(receivers.heard().unwrap_or(0));
        if let (Some(failure), Ended::Complete) = (receivers.failure(), &directions.ended) {
            directions.ended = Ended::Failed(failure.to_owned());
        }
        let mut upload = Upload::new(receivers.into_outcome(), None);
        while let Some(reply) = upload.next_reply() {
            directions.reverse.take(reply, self.observer);
        }
    }

    /// Takes a message of the server in.
    fn reply(&mut self, reply: Reply, directions: &mut Directions) -> Result<(), Lost> {
        match reply {
            Reply::Refused { reason } => Err(LinkError::Io(io::Error::other(reason)).into()),
            Reply::Finish(finish) => {
                let finish = Finish {
                    quiet_ns: self.quiet_ns(),
                    ..finish
                };
                if let Some(receivers) = &mut self.conversation.receivers
                    && let Err(reason) = receivers.finish(&finish)
                {
                    self.stop(directions, Ended::Failed(reason));
                }
                self.conversation.await_result();
                Ok(())
            }
            reply @ (Reply::Sender(_)
            | Reply::SendersDone { .. }
            | Reply::Counts {
                of:
                    crate::udp::wire::control::Histogram::Lateness
                    | crate::udp::wire::control::Histogram::GapError,
                ..
            }) => {
                directions.reverse.take(reply, self.observer);
                if let Some(Some(reason)) = directions.reverse.senders_done.clone() {
                    self.stop(directions, Ended::Limited(reason));
                }
                Ok(())
            }
            reply => {
                directions.forward.take(reply, self.observer);
                if let Some(done) = &directions.forward.done
                    && let Some(reason) = done.reason.clone()
                {
                    self.stop(directions, Ended::Limited(reason));
                } else if directions.forward.done.is_some() && directions.sent.is_none() {
                    let reason = "the server ended the session".to_owned();
                    self.stop(directions, Ended::Limited(reason));
                }
                Ok(())
            }
        }
    }

    /// Exchanges clocks once more, to see how far they have drifted.
    fn exchange_after(&mut self, directions: &Directions) -> Result<(), Lost> {
        let (Some(clock), Ended::Complete) = (&mut self.conversation.clock, &directions.ended)
        else {
            return Ok(());
        };
        if !self.plan.direction.client_sends() {
            clock.begin_burst(BURST);
        }
        // Those of the burst that was begun at the end of sending have mostly come by now.
        self.exchange(BURST as usize / 2)
    }

    /// The server is gone, and the session with it.
    fn lose(&mut self, directions: &mut Directions, lost: &Lost) {
        let server = self.conversation.server;
        directions.end = directions.end.max(monotonic_ns());
        if self.is_complete(directions) {
            // All figures are here; only the last look at the clock is missing.
            return;
        }
        let before = match directions.sent {
            Some(_) => " before it brought back its result",
            None => "",
        };
        directions.ended =
            Ended::PeerLost(format!("the server at {server} was lost{before}: {lost}"));
        if let Some(receivers) = &mut self.conversation.receivers {
            receivers.abandon();
            for row in receivers.attend() {
                directions.reverse.row(row, self.observer);
            }
        }
        self.take_receivers(directions);
    }
}

/// A warm-up of `time` as a plan of its own: the same in everything but the amount.
pub fn warm_up(plan: &Plan, time: Duration) -> Plan {
    Plan {
        amount: Amount::Time(time),
        packet_rows: false,
        ..plan.clone()
    }
}
