//! `bench proxy serve`: the proxy alone.

use std::io::{self, Write};

use super::args::Serve as Args;
use super::{cannot_listen, say_listening};
use crate::cli::failure::Failure;
use crate::cli::interrupt;
use crate::proxy::connection::Timeouts;
use crate::proxy::facts::Totals;
use crate::proxy::front::Fixed;
use crate::proxy::server::{Options, Server};
use crate::sys::limit;
use crate::units::grouped;

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if args.forward.port() == 0 {
        return Err(Failure::usage(format!(
            "nobody can be reached at {}: its port is 0; name the server's with --forward ADDR:PORT",
            args.forward
        )));
    }
    // A connection is two files, and may need a pipe. Where the limit stays, clients wait.
    let _ = limit::raise_open_files();
    let defaults = Options::default();
    let options = Options {
        forwarding: args.forwarding.into(),
        threads: args.threads,
        connections: args.max_connections,
        timeouts: Timeouts {
            connect: args.connect_timeout,
            idle: args.idle_timeout,
            half_closed: args.half_closed_timeout,
            ..defaults.timeouts
        },
        drain: args.drain_timeout,
        ..defaults
    };
    let server = Server::bind(args.listen, &Fixed(args.forward), &options)
        .map_err(|error| cannot_listen(args.listen, &error))?;
    if server.local() == args.forward {
        return Err(Failure::usage(format!(
            "--forward {} is the proxy itself; name another server",
            args.forward
        )));
    }
    let stopper = server.stopper();
    interrupt::on_signal(move || stopper.stop()).map_err(Failure::undone)?;
    say_listening(server.local())?;
    let totals = server
        .run()
        .map_err(|error| Failure::Undone(format!("the proxy's event loop failed: {error}")))?;
    if args.quiet {
        return Ok(());
    }
    Ok(summary(&totals, &mut io::stdout().lock())?)
}

/// What became of all connections. Kinds that did not occur are left out.
fn summary(totals: &Totals, out: &mut impl Write) -> io::Result<()> {
    let kinds = [
        ("finished", totals.finished),
        ("reset", totals.reset),
        ("refused", totals.refused),
        ("without a server", totals.no_server),
        ("timed out", totals.timed_out),
        ("cut off", totals.stopped),
        ("pauses for want of files", totals.pauses),
    ];
    write!(out, "connections {}", grouped(totals.connections))?;
    for (kind, count) in kinds.into_iter().filter(|&(_, count)| count > 0) {
        write!(out, ", {} {kind}", grouped(count))?;
    }
    writeln!(out)?;
    write!(
        out,
        "bytes       {} to servers, {} to clients, {} of them spliced",
        grouped(totals.to_server),
        grouped(totals.to_client),
        grouped(totals.spliced)
    )?;
    if totals.no_pipe > 0 {
        write!(out, ", {} lots without a pipe", grouped(totals.no_pipe))?;
    }
    writeln!(out)?;
    out.flush()
}
