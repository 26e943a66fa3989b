//! From options to a validated plan: what cannot be is refused here, before anything is started.

use std::fmt::Display;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::combination::Combination;
use crate::cli::args::{ClockArg, DEFAULT_PORT, Udp};
use crate::cli::failure::Failure;
use crate::report::comparison::labels::labels;
use crate::report::comparison::settings::Settings;
use crate::report::record::{MOST_RUNS, Requested};
use crate::sys::affinity;
use crate::udp::outcome;
use crate::udp::placement::{self, Choice, Cpus};
use crate::udp::plan::{Amount, INTERVALS, Mode, Plan};
use crate::udp::session::{ClockChoice, Setup};

/// Message bytes where nothing is said.
const DEFAULT_BYTES: u64 = 100_000_000;

/// One setting that `bench udp` is to run.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// What it is called among several; `None` when it is the only one.
    pub(super) setting: Option<String>,
    /// Elsewhere; `None` when the receiver is to be here.
    pub(super) server: Option<SocketAddr>,
    /// Of the receivers, when they are here.
    pub(super) receiver_cpus: Cpus,
    bind: Option<SocketAddr>,
    sender_cpus: Cpus,
    spin: bool,
    send_buffer: Option<usize>,
    clock: ClockChoice,
    requested: Requested,
}

impl Planned {
    /// A setting for each combination of the values given, the base of a comparison first.
    pub(super) fn all(args: &Udp) -> Result<Vec<Self>, Failure> {
        let combinations = Combination::all(args)?;
        if combinations.len() * args.repeat as usize > MOST_RUNS {
            return Err(Failure::Usage(format!(
                "{} settings, --repeat {} are more than {MOST_RUNS} runs; choose fewer of either",
                combinations.len(),
                args.repeat
            )));
        }
        let plans: Vec<(Plan, Requested)> = combinations
            .iter()
            .map(|one| {
                let plan = plan(args, one)?;
                let requested = requested(args, one, &plan);
                Ok((plan, requested))
            })
            .collect::<Result<_, Failure>>()?;
        let settings = settings(&plans);
        for ((plan, _), setting) in plans.iter().zip(&settings) {
            plan.validate()
                .map_err(|error| Failure::usage(impossible(setting.as_deref(), error)))?;
        }
        if let Some(time) = args.warmup
            && time > INTERVALS.1
        {
            return Err(Failure::Usage(format!(
                "a warm-up of {time:?} is too long; choose at most {:?}",
                INTERVALS.1
            )));
        }
        let allowed = affinity::allowed().map_err(Failure::undone)?;
        args.cpus.check(&allowed).map_err(Failure::usage)?;
        let server = args.to.as_deref().map(resolve).transpose()?;
        if let (Some(server), Some(bind)) = (server, args.bind)
            && server.is_ipv4() != bind.is_ipv4()
        {
            return Err(Failure::Usage(format!(
                "--bind {bind} and --to {server} are not of one address family"
            )));
        }
        let placed = |((plan, requested), setting)| {
            Self::place(args, server, &allowed, plan, requested, setting)
        };
        Ok(plans.into_iter().zip(settings).map(placed).collect())
    }

    /// Finds the threads their CPUs.
    fn place(
        args: &Udp,
        server: Option<SocketAddr>,
        allowed: &[usize],
        plan: Plan,
        requested: Requested,
        setting: Option<String>,
    ) -> Self {
        let (sender_cpus, receiver_cpus) = match server {
            Some(_) => (placement::one(&args.cpus, plan.streams), None),
            None => {
                let paced = matches!(plan.mode, Mode::Paced(_));
                placement::both(&args.cpus, plan.streams, allowed, paced)
            }
        };
        Self {
            spin: placement::may_spin(&sender_cpus, &receiver_cpus, plan.streams, allowed),
            plan,
            setting,
            server,
            receiver_cpus,
            bind: args.bind,
            sender_cpus,
            send_buffer: requested.sndbuf,
            clock: match args.clock {
                ClockArg::Auto => ClockChoice::Auto,
                ClockArg::Estimate => ClockChoice::Estimate,
            },
            requested,
        }
    }

    /// A sentence on what went wrong, with the setting where there are several.
    pub(super) fn wrong(&self, error: impl Display) -> String {
        match &self.setting {
            Some(setting) => format!("with {setting}: {error}"),
            None => error.to_string(),
        }
    }

    /// The same for a session with the server at `server`.
    pub(super) fn setup(&self, server: SocketAddr) -> Setup {
        Setup {
            server,
            bind: self.bind,
            send_buffer: self.send_buffer,
            cpus: self.sender_cpus.clone(),
            spin: self.spin,
            clock: self.clock,
            requested: self.requested.clone(),
        }
    }
}

fn plan(args: &Udp, of: &Combination) -> Result<Plan, Failure> {
    Ok(Plan {
        amount: amount(args)?,
        mode: mode(args, of)?,
        chunk: of.chunk,
        engine: of.engine,
        streams: of.streams,
        batch: of.batch,
        offload: of.offload,
        df: of.df,
        spin: of.spin,
        receive_buffer: of.receive_buffer,
        interval: args.interval.unwrap_or(Duration::from_secs(1)),
        packet_rows: args.packets_csv,
    })
}

fn requested(args: &Udp, of: &Combination, plan: &Plan) -> Requested {
    Requested {
        rate_bits_per_s: of.rate,
        pps: of.pps,
        cpus: match &args.cpus {
            Choice::Auto => None,
            Choice::Free => Some("free".to_owned()),
            Choice::List(cpus) => Some(
                cpus.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
            ),
        },
        sndbuf: of.send_buffer,
        to: args.to.clone(),
        ..outcome::requested(plan)
    }
}

/// What each of `plans` is called; nothing when there is only one.
fn settings(plans: &[(Plan, Requested)]) -> Vec<Option<String>> {
    let all: Vec<Settings> = plans
        .iter()
        .map(|(plan, asked)| Settings::new(plan.engine.kind.name(), plan.mode.name(), asked))
        .collect();
    let names = labels(&all).into_iter();
    names.map(|name| (all.len() > 1).then_some(name)).collect()
}

/// Why nothing is begun when one of several settings cannot be run.
fn impossible(setting: Option<&str>, error: impl Display) -> String {
    match setting {
        Some(setting) => format!("the setting '{setting}' cannot be run: {error}"),
        None => error.to_string(),
    }
}

fn amount(args: &Udp) -> Result<Amount, Failure> {
    match (args.mb, args.packets, args.duration) {
        (Some(mb), ..) => {
            let bytes = (mb * 1e6).round();
            if !(1.0..=1e18).contains(&bytes) {
                return Err(Failure::Usage(format!(
                    "--mb {mb} cannot be sent; choose 0.000001 (one byte) to 10^12"
                )));
            }
            Ok(Amount::Bytes(bytes as u64))
        }
        (None, Some(packets), _) => Ok(Amount::Packets(packets)),
        (None, None, Some(time)) => Ok(Amount::Time(time)),
        (None, None, None) => Ok(Amount::Bytes(DEFAULT_BYTES)),
    }
}

fn mode(args: &Udp, of: &Combination) -> Result<Mode, Failure> {
    match (of.rate, of.pps) {
        (Some(rate), _) => {
            let pps = rate / 8.0 / of.chunk.max(1) as f64;
            if !(crate::udp::pacing::SLOWEST_PPS..=crate::udp::pacing::FASTEST_PPS).contains(&pps) {
                return Err(Failure::Usage(format!(
                    "--rate {rate} is {pps} datagrams of {} bytes a second, which cannot be paced; choose another rate or --chunk",
                    of.chunk
                )));
            }
            Ok(Mode::Paced(pps))
        }
        (None, Some(pps)) => Ok(Mode::Paced(pps)),
        (None, None) if args.unpaced => Ok(Mode::Blast),
        (None, None) => Ok(Mode::Lossless),
    }
}

/// The first address of a host name or address, with or without a port.
fn resolve(to: &str) -> Result<SocketAddr, Failure> {
    let bare = to.trim_start_matches('[').trim_end_matches(']');
    let found = match to.to_socket_addrs() {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            (bare, DEFAULT_PORT).to_socket_addrs()
        }
        found => found,
    };
    match found.map(|mut addresses| addresses.next()) {
        Ok(Some(address)) if address.port() == 0 => Err(Failure::Usage(format!(
            "--to {to} has port 0; name the port that `bench serve` prints"
        ))),
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(Failure::Undone(format!("--to {to} has no address"))),
        Err(error) => Err(Failure::Undone(format!(
            "--to {to} cannot be resolved: {error}; write it like 192.0.2.7:{DEFAULT_PORT}, [2001:db8::7]:{DEFAULT_PORT} or host:{DEFAULT_PORT}"
        ))),
    }
}
