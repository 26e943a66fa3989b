//! `bench proxy serve`: the proxy alone.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use super::args::{HeaderArg, ProtocolArg, Serve as Args};
use super::monitor::Monitor;
use super::signals::Signals;
use super::{cannot_listen, log, reload, say_listening, summary};
use crate::blocklist::policy::Sources;
use crate::blocklist::reload::Policies;
use crate::cli::failure::Failure;
use crate::engine::{EngineKind, UringSettings};
use crate::protocol::{Accept, Host, Settings};
use crate::proxy::access_log::Log;
use crate::proxy::listeners::{ListenError, Listeners};
use crate::proxy::options::{Options, Timeouts};
use crate::proxy::rules::{HeaderVersion, Rules};
use crate::proxy::server::Server;
use crate::sys::activation::{self, Passed};
use crate::sys::endpoint::Endpoint;
use crate::sys::rlimit;
use crate::uring;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    // While this program has no descriptors of its own.
    let passed = activation::take().map_err(Failure::undone)?;
    let signals = Signals::catch().map_err(Failure::undone)?;
    // A connection is two files, and may need a pipe. Where the limit stays, it limits the connections.
    let _ = rlimit::raise_open_files();
    let mut options = options(args)?;
    let mut rules = rules(args)?;
    reload::warn(rules.policies.current().files());
    let log = args.log.as_deref().map(log::open).transpose()?;
    let handle = log.as_ref().map(Log::handle);
    let monitor = args.metrics.map(Monitor::bind).transpose()?;
    // Clients of the proxy have no business there.
    rules.own.extend(monitor.as_ref().map(Monitor::local));
    options.log.clone_from(&handle);
    let listeners = listeners(args, passed)?;
    refuse_itself(args, listeners.endpoints())?;
    let files = listeners.files();
    let server = Server::new(listeners, rules, &options)
        .map_err(|error| Failure::Undone(format!("cannot begin to serve: {error}")))?;
    let stopper = server.stopper();
    let hangups = signals.serve(handle.clone(), move || stopper.stop(), files);
    reload::Files::new(server.rules(), args.auth_file.as_deref())
        .follow(args.watch, handle.is_some(), hangups)
        .map_err(Failure::undone)?;
    let mut out = voice(args);
    for place in server.endpoints() {
        say_listening(place, &mut out)?;
    }
    if let (Some(limit), false) = (server.limited(args.max_connections), args.quiet) {
        writeln!(out, "{limit}")?;
    }
    let monitor = monitor
        .map(|monitor| monitor.begin(&server, handle, &mut out))
        .transpose()?;
    if !args.quiet {
        reload::print_lists(&server.rules(), &mut out)?;
    }
    let outcome = server.run();
    drop(monitor);
    if let Some(log) = log {
        log::finish(log);
    }
    let totals = outcome
        .map_err(|error| Failure::Undone(format!("the proxy's event loop failed: {error}")))?;
    if args.quiet {
        return Ok(());
    }
    Ok(summary::print(&totals, &mut out)?)
}

/// Where addresses and the summary go: where the log does not.
fn voice(args: &Args) -> Box<dyn Write> {
    if args.log.as_deref() == Some(Path::new(log::STDOUT)) {
        Box::new(io::stderr())
    } else {
        Box::new(io::stdout())
    }
}

fn rules(args: &Args) -> Result<Rules, Failure> {
    let policies = Policies::load(Sources {
        block: args.blocklist.clone(),
        block_subdomains: args.blocklist_subdomains.clone(),
        allow: args.allow.clone(),
        except: args.except.clone(),
        deny_private: args.deny_private,
        skip_bad_lines: args.skip_bad_lines,
        allow_empty: args.allow_empty,
    });
    // Each problem is a line, and each line is ours.
    let policies =
        policies.map_err(|error| Failure::Undone(error.to_string().replace('\n', "\nbench: ")))?;
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

fn settings(args: &Args) -> Result<Settings, Failure> {
    let takes = |kind| args.protocol.contains(&kind);
    let credentials = args.auth_file.as_deref().map(reload::read_users);
    if credentials.is_some() && args.protocol == [ProtocolArg::Json] {
        return Err(Failure::usage(
            "a JSON request has no place for a password; with --auth-file take --protocol socks5,connect",
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
        forward: args.forward.clone(),
    })
}

/// What it is to do, if this host can.
fn options(args: &Args) -> Result<Options, Failure> {
    let defaults = Options::default();
    let options = Options {
        engine: args.engine.into(),
        forwarding: args.forwarding.into(),
        threads: args.threads,
        connections: args.max_connections.unwrap_or(defaults.connections),
        timeouts: Timeouts {
            request: args.request_timeout,
            connect: args.connect_timeout,
            idle: args.idle_timeout,
            half_closed: args.half_closed_timeout,
        },
        drain: args.drain_timeout,
        ..defaults
    };
    if options.engine == EngineKind::Uring {
        uring::available(&UringSettings::default())
            .map_err(|reason| Failure::Undone(format!("cannot use --engine uring: {reason}")))?;
    }
    Ok(options)
}

/// The sockets to listen on: those that were passed to this program, and those of `--listen`.
fn listeners(args: &Args, passed: Vec<Passed>) -> Result<Listeners, Failure> {
    if args.listen.is_empty() && passed.is_empty() {
        return Err(Failure::usage(
            "there is nothing to listen on; name it with --listen ADDR:PORT or --listen unix:PATH",
        ));
    }
    let failed = |ListenError { endpoint, error }| cannot_listen(&endpoint, "--listen", &error);
    let mut listeners =
        Listeners::bind(&args.listen, args.listen_mode, args.threads).map_err(failed)?;
    listeners.adopt(passed).map_err(failed)?;
    Ok(listeners)
}

/// Each client would be refused; better no client comes.
fn refuse_itself(args: &Args, places: &[Endpoint]) -> Result<(), Failure> {
    let Some(to) = &args.forward else {
        return Ok(());
    };
    let mut own = places.iter().filter_map(Endpoint::ip);
    match own.any(|own| to.host == Host::Ip(own.ip()) && to.port == own.port()) {
        true => Err(Failure::usage(format!(
            "--forward {to} is the proxy itself; name another server"
        ))),
        false => Ok(()),
    }
}
