//! `bench serve`: the receiver for other hosts. Prints what each session measured.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::args::{DEFAULT_PORT, Serve};
use super::endpoint::{self, Family};
use super::error::{CliError, print_line};
use super::interrupt;
use super::udp::record;
use crate::report::export::columns::LedgerRow;
use crate::report::export::text;
use crate::report::model::UdpRecord;
use crate::report::store::{Ledger, RunFolder};
use crate::sys::{affinity, clock, rlimit};
use crate::udp::control::key::Key;
use crate::udp::placement::Choice;
use crate::udp::result::Measured;
use crate::udp::server::{Limits, Options, Server, SessionReport};
use crate::units::grouped;

/// Most sessions of lost clients that are saved, so that remote hosts cannot fill the disk.
const MAX_SAVED: usize = 1_000;

pub(super) fn run(args: &Serve) -> Result<(), CliError> {
    let allowed = affinity::allowed().map_err(CliError::runtime)?;
    args.cpus.check(&allowed).map_err(CliError::usage)?;
    let cpus = match &args.cpus {
        Choice::List(cpus) => Some(cpus.clone()),
        Choice::Auto | Choice::Free => None,
    };
    let sessions = args.max_sessions;
    let or_more = |given: Option<usize>, least: usize, of_sessions: usize| {
        given.unwrap_or(least.max(of_sessions))
    };
    let usual = Limits::default();
    let limits = Limits {
        connections: or_more(
            args.max_connections,
            usual.connections,
            sessions.saturating_mul(2),
        ),
        sessions,
        streams: or_more(args.max_streams, usual.streams, sessions.saturating_mul(4)),
        duration: args.max_duration,
        // An operator who asks for more sessions than usual gets them from any client, one host with many included.
        sessions_per_client: or_more(
            args.max_sessions_per_client,
            usual.sessions_per_client,
            match sessions > usual.sessions {
                true => sessions,
                false => 0,
            },
        ),
        idle: args.idle_timeout,
        packet_rows: args.max_packet_rows,
        buffer: args.max_rcvbuf,
        ..usual
    };
    let key = args.key_file.as_deref().map(Key::read).transpose();
    let options = Options {
        cpus,
        key: key.map_err(CliError::usage)?,
        data_ports: args.data_ports.clone(),
    };
    // Connections and streams use file descriptors. At the limit, further connections wait in the accept queue.
    let _ = rlimit::raise_open_files();
    let server = bind(args.bind.as_deref(), limits, &options)?;
    let stopper = server.stopper();
    interrupt::on_signal_or_hangup(move || stopper.stop()).map_err(CliError::runtime)?;
    if !args.no_save {
        // An unwritable folder is an error now, not when a result is to be saved.
        RunFolder::create(&args.out, "udp", clock::realtime_ns()).map_err(CliError::runtime)?;
    }
    let mut out = io::stdout();
    writeln!(out, "listening on {}", server.local())?;
    out.flush()?;
    let mut saved = 0;
    server
        .run(|session| {
            // A closed stdout does not end the server.
            if !args.quiet {
                let _ = show(&session);
            }
            if let Some(measured) = &session.measured
                && !session.delivered
                && !args.no_save
                && measured.run.received.packets > 0
            {
                saved += 1;
                save_lost(measured, args, saved);
            }
        })
        .map_err(|error| CliError::Runtime(format!("the server's event loop failed: {error}")))
}

fn bind(bind: Option<&str>, limits: Limits, options: &Options) -> Result<Server, CliError> {
    let refuse = |(error, address): (io::Error, SocketAddr)| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "; is another bench serve running? choose another port with --bind"
            }
            ErrorKind::AddrNotAvailable => "; that address is not of this host",
            ErrorKind::PermissionDenied => "; choose a port from 1024 up",
            _ => "",
        };
        CliError::Runtime(format!("cannot listen on {address}: {error}{advice}"))
    };
    if let Some(text) = bind {
        let addresses = endpoint::resolve("--bind", text, DEFAULT_PORT, Family::Any, "")
            .map_err(CliError::into_usage)?;
        let mut bound = Err((
            ErrorKind::AddrNotAvailable.into(),
            SocketAddr::from(([0; 4], 0)),
        ));
        for address in addresses {
            bound = Server::bind(address, limits, options.clone());
            if bound.is_ok() {
                break;
            }
        }
        return bound.map_err(refuse);
    }
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
    match Server::bind(v6, limits, options.clone()) {
        Err((error, _)) if error.kind() != ErrorKind::AddrInUse => {
            Server::bind(v4, limits, options.clone()).map_err(refuse)
        }
        bound => bound.map_err(refuse),
    }
}

fn show(session: &SessionReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\nsession of {}", session.client)?;
    if let Some(measured) = &session.measured {
        text::summary(measured, &mut out)?;
    }
    let figures = match session.delivered {
        true => "which has the figures",
        false => "which was lost before it had the figures",
    };
    if session.sent {
        writeln!(out, "sent to the client, {figures}")?;
    }
    if let Some(requests) = session.answered {
        let requests = grouped(requests);
        writeln!(out, "answered {requests} requests of the client, {figures}")?;
    }
    out.flush()
}

fn save_lost(measured: &Measured, args: &Serve, number: usize) {
    if number > MAX_SAVED {
        if number == MAX_SAVED + 1 {
            print_line(&format!(
                "{MAX_SAVED} sessions of lost clients are saved; no more will be saved"
            ));
        }
        return;
    }
    match save(measured, &args.out) {
        // A closed stdout is ignored.
        Ok(path) if !args.quiet => drop(writeln!(
            io::stdout(),
            "saved in {path}: the client was lost before it received the result"
        )),
        Ok(_) => {}
        Err(error) => print_line(&error),
    }
}

fn save(measured: &Measured, out: &Path) -> Result<String, String> {
    let started = clock::realtime_ns();
    let mut store = RunFolder::create(out, "udp", started).map_err(|error| error.to_string())?;
    let mut rows = store.intervals().map_err(|error| error.to_string())?;
    for row in &measured.run.intervals {
        rows.row(0, row).map_err(|error| error.to_string())?;
    }
    let rows = rows.finish().map_err(|error| error.to_string())?;
    rows.finish().map_err(|error| error.to_string())?;
    let record = UdpRecord {
        runs: vec![measured.run.clone()],
        ..record(started)
    };
    store
        .save(&record, measured)
        .map_err(|error| error.to_string())?;
    let id = store.id();
    if let Some(row) = LedgerRow::last(&id, &record.meta, &record.runs) {
        let added = Ledger::new(out).append(&row);
        added.map_err(|error| error.to_string())?;
    }
    Ok(store.path().display().to_string())
}
