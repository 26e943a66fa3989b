//! The options of round trips, and the load beside them.

use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::Args;

use crate::cli::error::CliError;
use crate::engine::EngineChoice;
use crate::udp::client::{self, Cancel, Observer, RunError, Setup};
use crate::udp::plan::traffic::TrafficOptions;
use crate::udp::plan::{Amount, Direction, Mode, Offload, Plan};
use crate::udp::result::{Measured, Requested};
use crate::units::parse_number;

/// Port of the echo protocol (RFC 862).
pub(in crate::cli) const ECHO_PORT: u16 = 7;

#[derive(Debug, Args)]
pub(in crate::cli) struct RoundTripArgs {
    /// Measure round trips: each datagram is a request that the server sends back, minus the server's own time. One request is in flight,
    /// or with --pps as many a second as given, whether or not responses arrive [default amount: 5s]
    #[arg(long, conflicts_with_all = ["mb", "reverse", "bidir", "rate", "unpaced", "spin", "burst", "gap", "batch", "gso", "zerocopy", "uring_sqpoll",
        "uring_ring_size", "uring_recv", "clock", "timestamps", "explain", "packets_csv", "iperf3_json"], help_heading = "Workload")]
    pub(in crate::cli) round_trip: bool,
    /// Spin for the next datagram at both ends of a round trip, instead of sleeping
    #[arg(long, requires = "round_trip", help_heading = "I/O")]
    pub(in crate::cli) busy_poll: bool,
    /// Measure round trips alternately on an idle path and beside a stream: lossless, or as many datagrams of 1000 bytes a second as
    /// given, like 20k
    #[arg(long, value_name = "LOAD", value_parser = Load::parse, requires = "round_trip", conflicts_with = "echo", help_heading = "Workload")]
    pub(in crate::cli) under_load: Option<Load>,
    /// UDP echo server (RFC 862) to measure round trips to, by name or address. Its own time is part of the latency [default port: 7]
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        requires = "round_trip",
        conflicts_with = "to",
        help_heading = "Network"
    )]
    pub(in crate::cli) echo: Option<String>,
}

/// Message bytes of a datagram of the load.
const LOAD_CHUNK: usize = 1_000;

/// How long the load lasts beside round trips whose time is not known before.
const UNKNOWN_TIME: Duration = Duration::from_secs(600);

/// Time for the start and the end of the round trips, during which the load must last.
const MARGIN: Duration = Duration::from_secs(30);

/// The stream beside the round trips.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::cli) enum Load {
    Lossless,
    /// Datagrams a second.
    Paced(f64),
}

impl Load {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "lossless" => Ok(Self::Lossless),
            pps => match parse_number(pps) {
                Ok(pps) => Ok(Self::Paced(pps)),
                Err(_) => Err("expected lossless or datagrams a second, like 20k".to_owned()),
            },
        }
    }

    /// The name in records and comparisons.
    pub(super) fn name(self) -> String {
        match self {
            Self::Lossless => "lossless".to_owned(),
            Self::Paced(pps) => format!("{pps} packets/s"),
        }
    }

    /// The plan of the load beside round trips of `plan`. It is cancelled at their end.
    pub(super) fn plan(self, plan: &Plan) -> Plan {
        let time = plan.expected_time().unwrap_or(UNKNOWN_TIME);
        Plan {
            amount: Amount::Time(time.saturating_add(MARGIN)),
            mode: match self {
                Self::Lossless => Mode::Lossless,
                Self::Paced(pps) => Mode::Paced(pps),
            },
            direction: Direction::Forward,
            chunk: LOAD_CHUNK,
            engine: EngineChoice::default(),
            streams: 1,
            batch: None,
            offload: Offload::Auto,
            interval: Duration::from_secs(1),
            interval_histograms: false,
            traffic: TrafficOptions {
                ip: plan.traffic.ip,
                ..TrafficOptions::default()
            },
            kernel_latency: false,
            stages: false,
            ..plan.clone()
        }
    }
}

/// A stream to the server of the round trips, in its own thread and session. It ends with this value.
pub(super) struct RunningLoad {
    cancel: Cancel,
    thread: Option<JoinHandle<Result<Vec<Measured>, RunError>>>,
}

impl RunningLoad {
    /// Starts the stream, and waits until it has begun.
    pub(super) fn start(plan: Plan, setup: &Setup) -> Result<Self, CliError> {
        let mut setup = Setup {
            cpus: None,
            cpu_trials: None,
            requested: Requested::default(),
            ..setup.clone()
        };
        if let Some(bind) = &mut setup.bind {
            // The port is that of the round trips.
            bind.set_port(0);
        }
        let cancel = Cancel::new().map_err(CliError::runtime)?;
        let (begun, is_begun) = mpsc::channel();
        let for_thread = cancel.clone();
        let thread = thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || client::run(&plan, &setup, &mut Begun(begun), &for_thread))
            .map_err(CliError::runtime)?;
        let running = Self {
            cancel,
            thread: Some(thread),
        };
        match is_begun.recv() {
            Ok(()) => Ok(running),
            // It ended before it began.
            Err(_) => Err(CliError::Runtime(format!(
                "the load of --under-load did not start: {}",
                running.end().err().unwrap_or_default()
            ))),
        }
    }

    /// Ends the stream, and returns its goodput in KB/s.
    pub(super) fn end(mut self) -> Result<Option<f64>, String> {
        // A stream that has ended by itself was no load up to the end of the round trips.
        let is_early = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        self.cancel.cancel();
        let outcome = self.thread.take().map(JoinHandle::join);
        let Some(Ok(outcome)) = outcome else {
            return Err("its thread failed".to_owned());
        };
        let runs = outcome.map_err(|error| error.to_string())?;
        let run = runs.first().map(|measured| &measured.run);
        match run.and_then(|run| run.reason.clone()) {
            Some(reason) if is_early => Err(reason),
            _ if is_early => Err("it ended before the round trips".to_owned()),
            _ => Ok(run.and_then(|run| run.kb_per_s)),
        }
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reports that the stream has begun.
struct Begun(Sender<()>);

impl Observer for Begun {
    fn begun(&mut self) {
        // Without a reader the command has ended.
        let _ = self.0.send(());
    }
}
