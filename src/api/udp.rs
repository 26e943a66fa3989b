//! UDP measurements.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;

use super::local::{self, Silent};
use super::udp_server::UdpServer;
use crate::engine::{EngineChoice, EngineKind};
use crate::sys::affinity;
use crate::udp::client::{self, Cancel, RunError, Setup};
use crate::udp::placement::{self, Choice, Placement};
use crate::udp::plan::{Amount, Direction, Mode, Offload, Plan};
use crate::udp::result;
use crate::udp::result::Run;

/// Time between two rows of a run's intervals.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum UdpError {
    /// The setting is not valid. The text names the value and what is expected.
    #[error(transparent)]
    Plan(#[from] crate::udp::plan::PlanError),
    /// The receiver of this process could not be started.
    #[error("cannot start a server in this process: {0}")]
    Server(#[source] io::Error),
    /// The run did not begin.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// A measurement of UDP datagrams from a sender to a receiver, as `bench udp` does it.
///
/// The receiver is a server of this process on loopback, unless [`Self::to`] names another one. Without [`Self::pps`] or
/// [`Self::unpaced`] the run is lossless: the receiver grants credit, so that its socket does not overflow.
///
/// ```
/// use wirebench::{Amount, UdpMeasurement};
///
/// let runs = UdpMeasurement::new(Amount::Packets(1_000)).chunk(500).run()?;
/// let run = &runs[0];
/// assert!(run.complete);
/// assert_eq!((run.received.unique, run.lost.packets), (1_000, 0));
/// println!("{:?} KB/s, median latency {:?} ns", run.kb_per_s, run.latency_ns.as_ref().map(|all| all.p50));
/// # Ok::<(), wirebench::UdpError>(())
/// ```
#[derive(Debug, Clone)]
pub struct UdpMeasurement {
    plan: Plan,
    server: Option<SocketAddr>,
}

impl UdpMeasurement {
    /// Sends `amount` in datagrams of 1,000 message bytes, from this process, over epoll.
    pub fn new(amount: Amount) -> Self {
        Self {
            plan: Plan {
                amount,
                mode: Mode::Lossless,
                direction: Direction::Forward,
                chunk: 1_000,
                engine: EngineChoice::default(),
                streams: 1,
                batch: None,
                offload: Offload::Auto,
                df: Default::default(),
                spin: Default::default(),
                receive_buffer: None,
                send_buffer: None,
                interval: INTERVAL,
                packet_rows: false,
                interval_histograms: false,
                traffic: Default::default(),
                kernel_latency: false,
                stages: false,
            },
            server: None,
        }
    }

    /// Measures to a server on another host, which is a [`UdpServer`] or `bench serve`.
    #[must_use]
    pub fn to(mut self, server: SocketAddr) -> Self {
        self.server = Some(server);
        self
    }

    /// Message bytes a datagram, 1 to 65,475.
    #[must_use]
    pub fn chunk(mut self, bytes: usize) -> Self {
        self.plan.chunk = bytes;
        self
    }

    /// Paces the sender at this many datagrams a second. Losses are counted.
    #[must_use]
    pub fn pps(mut self, rate: f64) -> Self {
        self.plan.mode = Mode::Paced(rate);
        self
    }

    /// Sends as fast as the socket accepts datagrams. Losses are counted.
    #[must_use]
    pub fn unpaced(mut self) -> Self {
        self.plan.mode = Mode::Blast;
        self
    }

    /// Measures round trips instead: each datagram is a request that the server sends back. With `pps` there are as many requests a
    /// second, whether or not responses arrive; without, one is in flight. The server's own time is not part of the latency.
    ///
    /// ```
    /// use wirebench::{Amount, UdpMeasurement};
    ///
    /// let runs = UdpMeasurement::new(Amount::Packets(50)).round_trips(None).run()?;
    /// assert_eq!(runs[0].received.unique, 50);
    /// println!("median round trip {:?} ns", runs[0].latency_ns.as_ref().map(|all| all.p50));
    /// # Ok::<(), wirebench::UdpError>(())
    /// ```
    #[must_use]
    pub fn round_trips(mut self, pps: Option<f64>) -> Self {
        self.plan.mode = Mode::RoundTrip(pps);
        self
    }

    /// Which end sends.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.plan.direction = direction;
        self
    }

    /// The engine at both ends.
    #[must_use]
    pub fn engine(mut self, engine: EngineKind) -> Self {
        self.plan.engine.kind = engine;
        self
    }

    /// Socket pairs, 1 to 256.
    #[must_use]
    pub fn streams(mut self, streams: usize) -> Self {
        self.plan.streams = streams;
        self
    }

    /// Does the run. The result has one entry for each direction, that of this end's sender first. A run that began and ended
    /// early is a result too: see [`Run::complete`] and [`Run::reason`].
    ///
    /// # Errors
    /// [`UdpError`] where nothing was measured.
    pub fn run(&self) -> Result<Vec<Run>, UdpError> {
        self.plan.validate()?;
        let cancel = Cancel::new().map_err(UdpError::Server)?;
        let (setup, _local) = self.setup(&cancel)?;
        let measured = client::run(&self.plan, &setup, &mut Silent, &cancel)?;
        Ok(measured.into_iter().map(|one| one.run).collect())
    }

    /// The setup for the server, and the server if it is of this process.
    fn setup(&self, cancel: &Cancel) -> Result<(Setup, Option<UdpServer>), UdpError> {
        let allowed = affinity::allowed().map_err(UdpError::Server)?;
        let placements = match self.server {
            Some(_) => vec![Placement::default()],
            None => placement::both(&Choice::Auto, &self.plan, &allowed),
        };
        let loopback = Ipv4Addr::LOCALHOST.into();
        let setup = Setup {
            spin: placements
                .iter()
                .all(|one| one.may_spin(&self.plan, &allowed)),
            requested: result::requested(&self.plan),
            ..Setup::to(self.server.unwrap_or((loopback, 0).into()))
        };
        if self.server.is_some() {
            return Ok((setup, None));
        }
        let (setup, server) = local::start(&self.plan, &setup, &placements, loopback, cancel)
            .map_err(|(error, _)| UdpError::Server(error))?;
        Ok((setup, Some(server)))
    }
}
