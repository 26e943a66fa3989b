//! `bench proxy serve`: the proxy.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::args::{HeaderArg, ProtocolArg, Serve as Args};
use super::associations;
use super::datagrams;
use super::metrics::MetricsServer;
use super::signals::Signals;
use super::{cannot_listen, log, print_listening, reload, summary};
use crate::blocklist::policy::Sources;
use crate::blocklist::reload::Policies;
use crate::cli::error::CliError;
use crate::engine::{EngineKind, UringSettings};
use crate::protocol::{Accept, Host, Settings};
use crate::proxy::access_log::Log;
use crate::proxy::listeners::{ListenError, Listeners};
use crate::proxy::options::{Options, Timeouts};
use crate::proxy::rules::{HeaderVersion, Rules};
use crate::proxy::server::Server;
use crate::sys::activation::{self, Passed};
use crate::sys::allocator;
use crate::sys::endpoint::Endpoint;
use crate::sys::rlimit;
use crate::uring;

pub(super) fn run(args: &Args) -> Result<(), CliError> {
    // Before this program opens descriptors of its own.
    let passed = activation::take().map_err(CliError::runtime)?;
    let signals = Signals::catch().map_err(CliError::runtime)?;
    // Clients determine the size of requests.
    allocator::return_large_buffers();
    // A connection takes two files, and perhaps a pipe. The limit of open files limits the connections.
    let _ = rlimit::raise_open_files();
    let mut options = options(args)?;
    let mut rules = rules(args)?;
    reload::warn(rules.policies.current().files());
    let log = args.log.as_deref().map(log::open).transpose()?;
    let handle = log.as_ref().map(Log::handle);
    let metrics = args.metrics.map(MetricsServer::bind).transpose()?;
    // Clients of the proxy must not reach the metrics.
    rules.own.extend(metrics.as_ref().map(MetricsServer::local));
    options.log.clone_from(&handle);
    let mut listeners = listeners(args, passed)?;
    refuse_itself(args, listeners.endpoints())?;
    options.datagrams = datagrams::prepare(args, &mut listeners)?;
    let files = listeners.files();
    let server = Server::new(listeners, rules, &options)
        .map_err(|error| CliError::Runtime(format!("cannot start the proxy: {error}")))?;
    let stopper = server.stopper();
    let hangups = signals.serve(handle.clone(), move || stopper.stop(), files);
    reload::Files::new(server.rules(), args.auth_file.as_deref())
        .follow(args.watch, handle.is_some(), hangups)
        .map_err(CliError::runtime)?;
    let mut out = voice(args);
    for place in server.endpoints() {
        print_listening(place, &mut out)?;
    }
    if let (Some(limit), false) = (server.limited(args.max_connections), args.quiet) {
        writeln!(out, "{limit}")?;
    }
    associations::print_start(args, &server, &mut out)?;
    datagrams::print_start(args, &server, &mut out)?;
    let stats = server.stats();
    let metrics = metrics
        .map(|metrics| metrics.begin(&server, handle, &mut out))
        .transpose()?;
    if !args.quiet {
        reload::print_lists(&server.rules(), &mut out)?;
    }
    let server_is_udp_only = server.endpoints().is_empty();
    let outcome = server.run();
    drop(metrics);
    if let Some(log) = log {
        log::finish(log);
    }
    let totals = outcome
        .map_err(|error| CliError::Runtime(format!("the proxy's event loop failed: {error}")))?;
    if args.quiet {
        return Ok(());
    }
    if !server_is_udp_only {
        summary::print(&totals, &mut out)?;
    }
    if let Some(totals) = stats.datagram_totals() {
        datagrams::print_summary(&totals, &mut out)?;
    }
    if let Some(totals) = stats.association_totals() {
        associations::print_summary(&totals, &mut out)?;
    }
    Ok(())
}

/// Output for addresses and the summary: stderr if the log is on stdout.
fn voice(args: &Args) -> Box<dyn Write> {
    if args.log.as_deref() == Some(Path::new(log::STDOUT)) {
        Box::new(io::stderr())
    } else {
        Box::new(io::stdout())
    }
}

fn rules(args: &Args) -> Result<Rules, CliError> {
    let policies = Policies::load(Sources {
        block: args.blocklist.clone(),
        block_subdomains: args.blocklist_subdomains.clone(),
        allow: args.allow.clone(),
        except: args.except.clone(),
        deny_private: args.deny_private,
        skip_bad_lines: args.skip_bad_lines,
        allow_empty: args.allow_empty,
    });
    // One line a problem, each with the program's prefix.
    let policies = policies
        .map_err(|error| CliError::Runtime(error.to_string().replace('\n', "\nbench: ")))?;
    Ok(Rules {
        dry_run: args.dry_run,
        accept_header: args.accept_proxy,
        send_header: args.send_proxy.map(|version| match version {
            HeaderArg::V1 => HeaderVersion::V1,
            HeaderArg::V2 => HeaderVersion::V2,
        }),
        ..Rules::new(settings(args)?, policies)
    })
}

fn settings(args: &Args) -> Result<Settings, CliError> {
    let takes = |kind| args.protocol.contains(&kind);
    let credentials = args.auth_file.as_deref().map(reload::read_users);
    if credentials.is_some() && args.protocol == [ProtocolArg::Json] {
        return Err(CliError::usage(
            "a JSON request cannot carry a password; with --auth-file use --protocol socks5,connect",
        ));
    }
    Ok(Settings {
        accept: Accept {
            json: takes(ProtocolArg::Json),
            socks5: takes(ProtocolArg::Socks5),
            connect: takes(ProtocolArg::Connect),
        },
        max_request: args.max_request,
        credentials: credentials.transpose()?.map(Arc::new),
        associate: !args.no_udp_associate && args.forward.is_none() && takes(ProtocolArg::Socks5),
        forward: args.forward.clone(),
    })
}

/// The options of the server, if this host supports them.
fn options(args: &Args) -> Result<Options, CliError> {
    let defaults = Options::default();
    let options = Options {
        engine: args.engine.into(),
        forwarding: args.forwarding.into(),
        threads: args.threads,
        connections: args.max_connections.unwrap_or(defaults.connections),
        connections_per_client: args.max_connections_per_client,
        timeouts: Timeouts {
            request: args.request_timeout,
            connect: args.connect_timeout,
            idle: args.idle_timeout,
            half_closed: args.half_closed_timeout,
        },
        drain: args.drain_timeout,
        associations: associations::options(args),
        ..defaults
    };
    if options.engine == EngineKind::Uring {
        uring::available(&UringSettings::default())
            .map_err(|reason| CliError::Runtime(format!("cannot do --engine uring: {reason}")))?;
    }
    Ok(options)
}

/// The listening sockets: passed ones and those of `--listen`.
fn listeners(args: &Args, passed: Vec<Passed>) -> Result<Listeners, CliError> {
    if args.listen.is_empty() && passed.is_empty() && args.listen_udp.is_empty() {
        return Err(CliError::usage(
            "nothing to listen on; name an address with --listen ADDR:PORT or --listen unix:PATH",
        ));
    }
    let failed = |ListenError { endpoint, error }| cannot_listen(&endpoint, "--listen", &error);
    let mut listeners =
        Listeners::bind(&args.listen, args.listen_mode, args.threads).map_err(failed)?;
    listeners.adopt(passed).map_err(failed)?;
    Ok(listeners)
}

/// Rejects a proxy that forwards to itself, which would refuse every client.
fn refuse_itself(args: &Args, places: &[Endpoint]) -> Result<(), CliError> {
    let Some(to) = &args.forward else {
        return Ok(());
    };
    let mut own = places.iter().filter_map(Endpoint::ip);
    match own.any(|own| to.host == Host::Ip(own.ip()) && to.port == own.port()) {
        true => Err(CliError::usage(format!(
            "--forward {to} is the proxy itself; name another server"
        ))),
        false => Ok(()),
    }
}
