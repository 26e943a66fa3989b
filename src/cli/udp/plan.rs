//! From options to a validated plan: what cannot be is refused here, before anything is started.

use std::net::{SocketAddr, ToSocketAddrs};

use crate::cli::args::{ClockArg, DEFAULT_PORT, Udp};
use crate::cli::failure::Failure;
use crate::engine::choice::{EngineChoice, Kind, UringSettings};
use crate::report::record::Requested;
use crate::sys::affinity;
use crate::udp::outcome;
use crate::udp::placement::{self, Choice, Cpus};
use crate::udp::plan::{Amount, INTERVALS, Mode, Plan};
use crate::udp::session::{ClockChoice, Setup};

/// Message bytes where nothing is said.
const DEFAULT_BYTES: u64 = 100_000_000;

/// What `bench udp` is to do.
pub(super) struct Planned {
    pub(super) plan: Plan,
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
    pub(super) fn new(args: &Udp) -> Result<Self, Failure> {
        let plan = Plan {
            amount: amount(args)?,
            mode: mode(args)?,
            chunk: args.chunk,
            engine: engine(args)?,
            streams: args.streams,
            batch: args.batch,
            offload: args.gso.into(),
            receive_buffer: args.rcvbuf,
            interval: args.interval.unwrap_or(std::time::Duration::from_secs(1)),
            packet_rows: args.packets_csv,
        };
        plan.validate().map_err(Failure::usage)?;
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
        let (sender_cpus, receiver_cpus) = match server {
            Some(_) => (placement::one(&args.cpus, plan.streams), None),
            None => {
                let paced = matches!(plan.mode, Mode::Paced(_));
                placement::both(&args.cpus, plan.streams, &allowed, paced)
            }
        };
        let spin = placement::may_spin(&sender_cpus, &receiver_cpus, plan.streams, &allowed);
        let requested = Requested {
            rate_bits_per_s: args.rate,
            pps: args.pps,
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
            sndbuf: args.sndbuf,
            to: args.to.clone(),
            ..outcome::requested(&plan)
        };
        Ok(Self {
            plan,
            server,
            receiver_cpus,
            bind: args.bind,
            sender_cpus,
            spin,
            send_buffer: args.sndbuf,
            clock: match args.clock {
                ClockArg::Auto => ClockChoice::Auto,
                ClockArg::Estimate => ClockChoice::Estimate,
            },
            requested,
        })
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

fn engine(args: &Udp) -> Result<EngineChoice, Failure> {
    let kind = args.engine.into();
    let asked = [
        ("--uring-sqpoll", args.uring_sqpoll),
        ("--uring-ring-size", args.uring_ring_size.is_some()),
        ("--uring-recv", args.uring_recv.is_some()),
    ];
    if let (Kind::Mio, Some((option, _))) = (kind, asked.iter().find(|(_, asked)| *asked)) {
        return Err(Failure::Usage(format!(
            "{option} means nothing to --engine mio; add --engine uring"
        )));
    }
    Ok(EngineChoice {
        kind,
        zerocopy: args.zerocopy.into(),
        uring: UringSettings {
            sqpoll: args.uring_sqpoll,
            ring_size: args.uring_ring_size,
            receive: args.uring_recv.map(Into::into).unwrap_or_default(),
        },
    })
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

fn mode(args: &Udp) -> Result<Mode, Failure> {
    match (args.rate, args.pps) {
        (Some(rate), _) => {
            let pps = rate / 8.0 / args.chunk.max(1) as f64;
            if !(crate::udp::pacing::SLOWEST_PPS..=crate::udp::pacing::FASTEST_PPS).contains(&pps) {
                return Err(Failure::Usage(format!(
                    "--rate {rate} is {pps} datagrams of {} bytes a second, which cannot be paced; choose another rate or --chunk",
                    args.chunk
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
