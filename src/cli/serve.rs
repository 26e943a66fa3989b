//! `bench serve`: receives for other hosts, and prints what each session measured.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::args::{DEFAULT_PORT, Serve};
use super::endpoint::{self, Family};
use super::failure::Failure;
use super::interrupt;
use super::udp::record;
use crate::report::export::columns::LedgerRow;
use crate::report::export::text;
use crate::report::model::UdpRecord;
use crate::report::record::Measured;
use crate::report::store::{Ledger, RunFolder};
use crate::sys::{affinity, clock, limit};
use crate::udp::key::Key;
use crate::udp::placement::Choice;
use crate::udp::server::{Limits, Options, Server, SessionReport};

/// Sessions of lost clients that are saved at most, so that nobody can fill the disk from afar.
const MOST_SAVED: usize = 1_000;

pub(super) fn run(args: &Serve) -> Result<(), Failure> {
    let allowed = affinity::allowed().map_err(Failure::undone)?;
    args.cpus.check(&allowed).map_err(Failure::usage)?;
    let cpus = match &args.cpus {
        Choice::List(cpus) => Some(cpus.clone()),
        Choice::Auto | Choice::Free => None,
    };
    let limits = Limits {
        connections: args.max_connections,
        sessions: args.max_sessions,
        streams: args.max_streams,
        duration: args.max_duration,
        sessions_per_client: args.max_sessions_per_client,
        idle: args.idle_timeout,
        packet_rows: args.max_packet_rows,
        buffer: args.max_rcvbuf,
        ..Limits::default()
    };
    let key = args.key_file.as_deref().map(Key::read).transpose();
    let options = Options {
        cpus,
        key: key.map_err(Failure::usage)?,
        data_ports: args.data_ports.clone(),
    };
    // Connections and streams are files. Where the limit stays, those too many wait to be accepted.
    let _ = limit::raise_open_files();
    let server = bind(args.bind.as_deref(), limits, &options)?;
    let stopper = server.stopper();
    interrupt::on_signal_or_hangup(move || stopper.stop()).map_err(Failure::undone)?;
    if !args.no_save {
        // A place that cannot be written to is found now and not when a result is about to be lost.
        RunFolder::create(&args.out, "udp", clock::realtime_ns()).map_err(Failure::undone)?;
    }
    let mut out = io::stdout();
    writeln!(out, "listening on {}", server.local())?;
    out.flush()?;
    let mut saved = 0;
    server
        .run(|session| {
            // Whoever reads our output may go; the sessions go on.
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
        .map_err(|error| Failure::Undone(format!("the server's event loop failed: {error}")))
}

fn bind(bind: Option<&str>, limits: Limits, options: &Options) -> Result<Server, Failure> {
    let refuse = |(error, address): (io::Error, SocketAddr)| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "; is another bench serve running? choose another port with --bind"
            }
            ErrorKind::AddrNotAvailable => "; that address is not of this host",
            ErrorKind::PermissionDenied => "; choose a port from 1024 up",
            _ => "",
        };
        Failure::Undone(format!("cannot listen on {address}: {error}{advice}"))
    };
    if let Some(text) = bind {
        let addresses = endpoint::resolve("--bind", text, DEFAULT_PORT, Family::Any, "")
            .map_err(Failure::into_usage)?;
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
    if session.sent {
        writeln!(out, "sent to the client, which has the figures")?;
    }
    out.flush()
}

fn save_lost(measured: &Measured, args: &Serve, number: usize) {
    if number > MOST_SAVED {
        if number == MOST_SAVED + 1 {
            warn(&format!(
                "{MOST_SAVED} sessions of lost clients are saved; further ones will not be"
            ));
        }
        return;
    }
    match save(measured, &args.out) {
        // Whoever reads our output may be gone.
        Ok(path) if !args.quiet => drop(writeln!(
            io::stdout(),
            "saved in {path}, since the client was lost before it had its result"
        )),
        Ok(_) => {}
        Err(error) => warn(&error),
    }
}

/// Tells of what went wrong and ends nothing, not even when nobody reads it.
fn warn(sentence: &str) {
    let _ = writeln!(io::stderr(), "bench: {sentence}");
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
