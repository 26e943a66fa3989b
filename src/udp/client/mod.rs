//! The client of a session: agrees on a run with a server, sends, receives or both, and computes the result. The server is on
//! another host or in a thread of this process; the client treats both alike.
//!
//! A run proceeds as follows: `dial` (connect and greet), `opening` (open a UDP flow per stream), `clock_flow` (estimate the clock
//! offset), `session` (launch the threads), `measurement` (send and receive until both results are complete), `results` and `record`
//! (the results of both sides). All of them wait in the `control_loop`, which replaces a lost connection (`reconnect`).

mod association;
pub mod check;
mod clock_flow;
mod control_loop;
mod dial;
mod error;
mod measurement;
mod opening;
mod reconnect;
mod record;
mod replace;
mod results;
mod round_trip;
mod round_trip_record;
mod session;
pub(crate) mod settings;
mod via;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::explain::Explainer;
use super::latencies::Latencies;
use super::plan::{Amount, Direction, Mode, Plan};
use super::result::{Interval, Measured};
use super::setup;
use super::wire::VERSION;
use super::wire::control::Hello;
use crate::sys::clock::identity;
use crate::sys::eventfd::EventFd;
pub(crate) use association::Association;
use control_loop::ControlLoop;
pub use control_loop::SessionError;
pub use error::RunError;
use session::Session;
pub use settings::{ClockChoice, Setup};
pub use via::Via;

/// Cancels a run from another thread.
#[derive(Debug, Clone)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    wake: EventFd,
}

impl Cancel {
    /// Not cancelled yet.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            flag: Arc::default(),
            wake: EventFd::new()?,
        })
    }

    /// Ends the present run and all later ones. The results so far are reported.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
        self.wake.wake();
    }

    /// Whether the run is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// Observes a run.
pub trait Observer {
    /// The first stream's socket is bound to this address.
    fn listening(&mut self, _local: SocketAddr) {}
    /// Asks when the run starts, until the answer is not [`Start::Wait`]. All flows are open. `offset_ns` is the server's clock minus
    /// this host's, if it is known.
    ///
    /// # Errors
    /// A sentence, which ends the run.
    fn start(&mut self, _offset_ns: Option<i64>) -> Result<Start, String> {
        Ok(Start::Now)
    }
    /// The measurement begins.
    fn begun(&mut self) {}
    /// An interval of a direction has ended. Its latencies are known if the plan requests them, the server sends them, and the clocks
    /// are related.
    fn interval(&mut self, _direction: Direction, _row: &Interval, _latencies: Option<&Latencies>) {
    }
    /// A record of the packet log.
    fn packet(&mut self, _packet: &Packet) {}
}

/// When a run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// At a time in ns of this host's clock.
    At(u64),
    /// Not known yet.
    Wait,
}

/// A received datagram. Stamps are in ns of the server's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// `Forward` or `Reverse`.
    pub direction: Direction,
    /// The stream, counted from 0.
    pub stream: usize,
    /// Sequence number in the stream.
    pub sequence: u64,
    /// The send stamp.
    pub sent_ns: u64,
    /// The receive stamp.
    pub received_ns: u64,
    /// Whether the relation of the two clocks is known. Otherwise `sent_ns` is in the sender's own clock, and the latency unknown.
    pub clocks_related: bool,
    /// When the datagram was due, in the clock of `sent_ns`. `None` unless the run is paced and the server reports it.
    pub intended_ns: Option<u64>,
}

/// Executes a run, and returns a result per direction, that of the client's streams first. A run that ends early has the results so
/// far.
///
/// # Errors
/// [`RunError`], if the run did not begin.
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
    if setup.is_echo {
        return round_trip::echo(plan, setup, observer, cancel);
    }
    let clock = match setup.clock {
        ClockChoice::Auto => identity(),
        ClockChoice::Estimate => None,
    };
    let explainer = setup.explain.then(Explainer::start);
    let hello = Hello {
        version: VERSION,
        plan: plan.clone().into(),
        clock,
        cpus: setup.cpus.clone(),
        explain: explainer.as_ref().map(Explainer::request),
    };
    let (control_loop, welcome) = match plan.mode {
        Mode::RoundTrip(_) => {
            ControlLoop::begin(plan, setup, hello, cancel).map_err(RunError::of_round_trips)?
        }
        _ => ControlLoop::begin(plan, setup, hello, cancel)?,
    };
    if plan.traffic.is_any() && !welcome.traffic {
        return Err(RunError::Older(control_loop.server));
    }
    let mut session = Session::new(plan, setup, observer, control_loop, welcome);
    if matches!(plan.mode, Mode::RoundTrip(_)) {
        return session.round_trips();
    }
    session.explainer = explainer;
    session.open()?;
    session.await_start()?;
    Ok(session.measure())
}

/// The plan and the setup of a run of `time` that is not recorded, a warm-up or a trial: without a packet log, an explanation and stages.
pub fn unrecorded(plan: &Plan, setup: &Setup, time: Duration) -> (Plan, Setup) {
    let plan = Plan {
        amount: Amount::Time(time),
        packet_rows: false,
        interval_histograms: false,
        stages: false,
        ..plan.clone()
    };
    let setup = Setup {
        explain: false,
        ..setup.clone()
    };
    (plan, setup)
}
