//! `bench proxy --scenario udp`: datagrams directly, through a UDP relay, and to a relay that drops them.
//!
//! In each round, every path is measured once: a short search finds the highest rate with at most 0.1 % loss, and a run at one rate has
//! latencies, losses by place and the CPU time of the relay. The receiver is a server of this process, or that of `--origin`.

mod blocked;
mod measure;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::args::{Load, ProxyArgs, RequestProtocolArg};
use super::child::Child;
use super::credentials;
use super::output::Output;
use super::run::{NO_BLOCKED, Setting, check_processes, name, settings};
use crate::api::udp_server::UdpServer;
use crate::cli::error::CliError;
use crate::cli::interrupt;
use crate::load::plan::{Path, Proxy, Scenario};
use crate::load::result::Requested;
use crate::load::session::Observer;
use crate::protocol::socks5::datagram::{V4_HEADER, V6_HEADER};
use crate::protocol::{Kind, User};
use crate::report::store::partial::Partial;
use crate::sys::endpoint::Endpoint;
use crate::udp::client::{Cancel, Via};
use crate::udp::engine::offload::MAX_PAYLOAD;
use crate::udp::server::{Limits, Options};
use crate::udp::wire::header::HEADER;
use blocked::Blocked;
use measure::Measurement;

/// Default rate at which latencies and losses are measured, in datagrams a second.
const RATE: f64 = 20_000.0;

/// A path with the processes that it needs.
struct Route {
    /// The relay; `None` for the direct path.
    proxy: Option<Proxy>,
    via: Option<Via>,
    blocked: Option<Blocked>,
    _child: Option<Child>,
}

impl Route {
    fn path(&self) -> Path<'_> {
        match (&self.proxy, &self.blocked) {
            (None, _) => Path::Direct,
            (Some(proxy), None) => Path::Proxied(proxy),
            (Some(proxy), Some(_)) => Path::Blocked(proxy),
        }
    }
}

pub(super) fn run(proxy: &ProxyArgs, args: &Load) -> Result<(), CliError> {
    check(args)?;
    let user = credentials::user(args)?;
    let settings = settings(proxy, args)?;
    let cancel = Cancel::new().map_err(CliError::runtime)?;
    let on_signal = cancel.clone();
    interrupt::on_signal_or_hangup(move || on_signal.cancel()).map_err(CliError::runtime)?;
    let mut output = Output::open(args, false)?;
    let outcome = rounds(args, user.as_ref(), &settings, &cancel, &mut output);
    output.close(outcome, cancel.is_cancelled())
}

/// Refuses options without an effect on datagrams, and what no relay can do.
fn check(args: &Load) -> Result<(), CliError> {
    let scenarios = args.scenarios();
    let is_known = |protocol: &RequestProtocolArg| {
        matches!(
            protocol,
            RequestProtocolArg::Forward | RequestProtocolArg::Socks5
        )
    };
    let refused = [
        (
            scenarios.len() > 1,
            "scenario udp is measured by itself; leave out the others",
        ),
        (
            !args.protocols().iter().all(is_known),
            "datagrams are relayed with --protocol forward or socks5",
        ),
        (
            args.via.is_some()
                && args.origin.is_none()
                && args.protocols().contains(&RequestProtocolArg::Forward),
            "a forwarding relay has a fixed server; name it with --origin ADDR:PORT, a `bench serve`",
        ),
        (
            args.blocked.is_some() && !args.protocols().contains(&RequestProtocolArg::Socks5),
            "a forwarding relay has a fixed server and is not asked for --blocked; choose --protocol socks5",
        ),
    ];
    if let Some((_, sentence)) = refused.iter().find(|(is_set, _)| *is_set) {
        return Err(CliError::usage(sentence));
    }
    args.given.check(&scenarios)?;
    check_processes(args)?;
    let origin = args.origin.as_ref().and_then(Endpoint::ip);
    let relay_header = match args.protocols().contains(&RequestProtocolArg::Socks5) {
        true if origin.is_some_and(|origin| origin.is_ipv6()) => V6_HEADER,
        true => V4_HEADER,
        false => 0,
    };
    let to_blocked = args.blocked.as_ref().map_or(0, blocked::header_length);
    let relay_header = relay_header.max(to_blocked);
    let longest = MAX_PAYLOAD - HEADER - relay_header;
    match args.message() {
        message if message > longest => Err(CliError::Usage(format!(
            "a message of {message} bytes does not fit in a datagram; choose --message 1 to {longest}"
        ))),
        _ => Ok(()),
    }
}

fn rounds(
    args: &Load,
    user: Option<&User>,
    settings: &[Setting],
    cancel: &Cancel,
    output: &mut Output,
) -> Result<(), CliError> {
    let (to, _server) = receiver(args)?;
    let sink = blocked::sink().map_err(CliError::runtime)?;
    let (list, _partial) = Partial::file(|| {
        let list = NamedTempFile::new()?;
        let path = list.path().to_owned();
        std::io::Result::Ok((list, path))
    })
    .map_err(CliError::runtime)?;
    let refused = sink.local_addr().map_err(CliError::runtime)?;
    std::fs::write(list.path(), format!("{refused}\n")).map_err(CliError::runtime)?;
    let mut routes = Vec::new();
    if !args.no_direct {
        routes.push(Route {
            proxy: None,
            via: None,
            blocked: None,
            _child: None,
        });
    }
    match &args.via {
        Some(at) => routes.extend(running(args, user, at)?),
        None => {
            for setting in settings {
                routes.push(started(setting, &[], to)?);
                let path = list.path().to_string_lossy().into_owned();
                let mut route = started(setting, &["--blocklist".to_owned(), path], refused)?;
                let sink = sink.try_clone().map_err(CliError::runtime)?;
                route.blocked = Some(Blocked::received_by(sink).map_err(CliError::runtime)?);
                routes.push(route);
            }
        }
    }
    output.expect(routes.len() * args.repeat as usize, left_out(args))?;
    let measurement = Measurement {
        to,
        requested: requested(args),
        streams: args.streams,
        warmup: args.warmup,
        cancel,
    };
    for round in 0..args.repeat as usize {
        for turn in 0..routes.len() {
            // Each round begins with the next path, so that no path always has the same position and predecessor.
            let Some(route) = routes.get((round + turn) % routes.len()) else {
                continue;
            };
            let path = route.path();
            output.started(Scenario::Udp, path, round);
            let measured = match &route.blocked {
                None => measurement.of_path(path, route.via.as_ref(), round),
                Some(blocked) => measurement.of_blocked(path, (route.via.as_ref(), blocked), round),
            };
            match measured.map_err(CliError::Runtime)? {
                Some(measured) => output.finished(measured)?,
                // Interrupted.
                None => return Ok(()),
            }
        }
    }
    Ok(())
}

/// Why a running relay is not measured with a refused destination.
fn left_out(args: &Load) -> Vec<String> {
    let forward = RequestProtocolArg::Forward;
    let reason = match (&args.via, &args.blocked) {
        (Some(_), None) => Some(NO_BLOCKED.to_owned()),
        (Some(_), Some(_)) if args.protocols().contains(&forward) => {
            let reason = Scenario::Blocked.impossible(Kind::Forward);
            reason.map(|reason| format!("{} is left out of blocked: {reason}", name(forward)))
        }
        _ => None,
    };
    reason.into_iter().collect()
}

/// The receiver's control port, and the server if it is one of this process.
fn receiver(args: &Load) -> Result<(SocketAddr, Option<UdpServer>), CliError> {
    match &args.origin {
        Some(Endpoint::Ip(address)) => Ok((*address, None)),
        Some(other) => Err(CliError::Usage(format!(
            "datagrams cannot be sent to {other}; name a `bench serve` by ADDR:PORT"
        ))),
        None => {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let server = UdpServer::with(any, Limits::none(), Options::default());
            let server = server.map_err(|(error, at)| {
                CliError::Runtime(format!("cannot listen on {at}: {error}"))
            })?;
            Ok((server.address(), Some(server)))
        }
    }
}

/// Starts a relay with these further options to the server `to`.
fn started(setting: &Setting, more: &[String], to: SocketAddr) -> Result<Route, CliError> {
    let mut words = ["serve", "--listen", "127.0.0.1:0", "--quiet"]
        .map(str::to_owned)
        .to_vec();
    words.extend(["--engine".to_owned(), name(setting.engine)]);
    words.extend(["--threads".to_owned(), setting.threads.to_string()]);
    words.extend(more.iter().cloned());
    match setting.protocol {
        RequestProtocolArg::Forward => {
            words.extend(["--forward-udp".to_owned(), to.to_string()]);
        }
        protocol => words.extend(["--protocol".to_owned(), name(protocol)]),
    }
    let child = Child::start(&words)?;
    let proxy = Proxy {
        setting: setting.name.clone(),
        address: child.address().into(),
        protocol: setting.protocol.into(),
        processes: vec![child.id()],
        engine: Some(name(setting.engine)),
        forwarding: None,
        threads: Some(setting.threads),
    };
    Ok(Route {
        via: Some(via(setting.protocol, child.address(), None)),
        proxy: Some(proxy),
        blocked: None,
        _child: Some(child),
    })
}

/// The running relay, for each protocol: its proxied path, and its blocked one if `--blocked` names a destination.
fn running(args: &Load, user: Option<&User>, at: &Endpoint) -> Result<Vec<Route>, CliError> {
    let Some(address) = at.ip() else {
        return Err(CliError::Usage(format!(
            "datagrams cannot be sent to {at}; name the relay by ADDR:PORT"
        )));
    };
    let processes = args.server_pid.iter().flat_map(|list| list.iter().copied());
    let processes: Vec<u32> = processes.collect();
    let protocols = args.protocols();
    let several = protocols.len() > 1;
    let route = |protocol, blocked| Route {
        proxy: Some(Proxy {
            setting: several.then(|| name(protocol)),
            address: at.clone(),
            protocol: Kind::from(protocol),
            processes: processes.clone(),
            engine: None,
            forwarding: None,
            threads: None,
        }),
        via: Some(via(protocol, address, user)),
        blocked,
        _child: None,
    };
    let mut routes = Vec::new();
    for protocol in protocols {
        routes.push(route(protocol, None));
        if let (RequestProtocolArg::Socks5, Some(blocked)) = (protocol, &args.blocked) {
            let blocked = Blocked::named(blocked.clone(), address.ip());
            routes.push(route(protocol, Some(blocked)));
        }
    }
    Ok(routes)
}

fn via(protocol: RequestProtocolArg, at: SocketAddr, user: Option<&User>) -> Via {
    match protocol {
        RequestProtocolArg::Socks5 => Via::Socks5 {
            proxy: at,
            user: user.cloned(),
        },
        _ => Via::Udp(at),
    }
}

fn requested(args: &Load) -> Requested {
    Requested {
        via: args.via.as_ref().map(Endpoint::to_string),
        origin: args.origin.as_ref().map(Endpoint::to_string),
        signed_in: args.user.is_some(),
        connections: args.streams,
        message: Some(args.message()),
        rate_per_s: Some(args.rate.unwrap_or(RATE)),
        bytes: None,
        duration_s: (args.duration / args.repeat)
            .max(Duration::from_millis(50))
            .as_secs_f64(),
        load_threads: args.load_threads,
    }
}
