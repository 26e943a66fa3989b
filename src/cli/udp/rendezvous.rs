//! Where the ranks of a fleet meet: the server of rank 0, or the one that `--to` names.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use crate::api::udp_server::UdpServer;
use crate::cli::args::{DEFAULT_PORT, Udp};
use crate::cli::endpoint::{self, Family};
use crate::cli::error::CliError;
use crate::sys::rlimit;
use crate::udp::client::Cancel;
use crate::udp::control::key::Key;
use crate::udp::fleet::launch::Launch;
use crate::udp::fleet::member::Dialled;
use crate::udp::server::{Limits, Options};

/// The default port of rank 0. It differs from that of `bench serve`, which may run on the host.
const RENDEZVOUS_PORT: u16 = 5_211;

/// Between two attempts to reach rank 0, which may start later.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// The option, the address and the default port of the server.
pub(super) fn server(args: &Udp, launch: &Launch) -> Result<(&'static str, String, u16), CliError> {
    let found = match (&args.to, &args.fleet.rendezvous) {
        (Some(to), _) => return Ok(("--to", to.clone(), DEFAULT_PORT)),
        (None, Some(rendezvous)) => rendezvous.clone(),
        (None, None) if launch.one_host => match args.ipv6 {
            true => "::1".to_owned(),
            false => "127.0.0.1".to_owned(),
        },
        (None, None) => launch.first_host.clone().ok_or_else(|| {
            CliError::usage(
                "the ranks are on several hosts and the address of rank 0 is unknown: give it with --rendezvous HOST[:PORT], or name a `bench serve` with --to",
            )
        })?,
    };
    Ok(("--rendezvous", found, RENDEZVOUS_PORT))
}

fn family(args: &Udp) -> Family {
    match (args.ipv4, args.ipv6) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    }
}

/// Starts the server of rank 0: on loopback if the other ranks reach it there, otherwise on all addresses.
pub(super) fn serve(
    server: &str,
    launch: &Launch,
    key: Option<Key>,
) -> Result<UdpServer, CliError> {
    let _ = rlimit::raise_open_files();
    let size = launch.size as usize;
    let limits = Limits {
        connections: size.saturating_mul(2).saturating_add(64),
        sessions: size.saturating_add(8),
        streams: usize::MAX,
        ..Limits::none()
    };
    let limits = Limits {
        idle: Limits::default().idle,
        ..limits
    };
    let found = endpoint::resolve("--rendezvous", server, RENDEZVOUS_PORT, Family::Any, "");
    let port = match &found {
        Ok(addresses) => addresses
            .first()
            .map_or(RENDEZVOUS_PORT, |first| first.port()),
        Err(CliError::Usage(_)) => return found.map(|_| unreachable!("it is an error")),
        // The name of this host may be published later.
        Err(_) => server
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .unwrap_or(RENDEZVOUS_PORT),
    };
    let loopback = found.ok().and_then(|addresses| {
        let is_local = addresses.iter().all(|address| address.ip().is_loopback());
        addresses.first().copied().filter(|_| is_local)
    });
    let options = Options {
        key,
        ..Options::default()
    };
    let start = |address| UdpServer::with(address, limits, options.clone());
    let started = match loopback {
        Some(address) => start(address),
        None => start((Ipv6Addr::UNSPECIFIED, port).into())
            .or_else(|_| start((Ipv4Addr::UNSPECIFIED, port).into())),
    };
    started.map_err(|(error, address)| {
        CliError::Runtime(format!(
            "rank 0 cannot listen on {address}: {error}; is another fleet running? choose another port with --rendezvous HOST:PORT"
        ))
    })
}

/// Connects to the server, which may start later than this rank. Returns the address that answers too.
pub(super) fn dial(
    args: &Udp,
    option: &str,
    server: &str,
    port: u16,
    began: Instant,
    cancel: &Cancel,
) -> Result<(Dialled, String), CliError> {
    loop {
        let left = args.fleet.fleet_wait.saturating_sub(began.elapsed());
        let failed = match endpoint::resolve(option, server, port, family(args), "") {
            Ok(addresses) => match Dialled::connect(&addresses, left.min(args.peer_timeout)) {
                Ok(dialled) => {
                    let address = dialled.server().to_string();
                    return Ok((dialled, address));
                }
                Err(error) => CliError::Runtime(format!(
                    "{error}, for {} s; does {} run there? wait longer with --fleet-wait",
                    args.fleet.fleet_wait.as_secs_f64(),
                    if args.to.is_some() {
                        "`bench serve`"
                    } else {
                        "rank 0"
                    }
                )),
            },
            Err(CliError::Usage(error)) => return Err(CliError::Usage(error)),
            Err(error) => error,
        };
        if cancel.is_cancelled() || began.elapsed() + RETRY > args.fleet.fleet_wait {
            return Err(failed);
        }
        thread::sleep(RETRY);
    }
}
