//! `--forward-udp`: options, messages and the summary of UDP forwarding.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::args::{HeaderArg, Serve as Args};
use super::cannot_listen;
use crate::cli::error::CliError;
use crate::protocol::{Destination, Host};
use crate::proxy::datagrams::DatagramOptions;
use crate::proxy::datagrams::counters::DatagramTotals;
use crate::proxy::datagrams::record::{DropCause, Traffic};
use crate::proxy::listeners::{ListenError, Listeners};
use crate::proxy::record::CloseReason;
use crate::proxy::rules::is_own;
use crate::proxy::server::Server;
use crate::sys::endpoint::Endpoint;
use crate::units::grouped;

/// Binds the sockets for datagrams: on `--listen-udp`, or else on the addresses of `--listen`.
pub(super) fn prepare(
    args: &Args,
    listeners: &mut Listeners,
) -> Result<Option<DatagramOptions>, CliError> {
    let Some(to) = &args.forward_udp else {
        return Ok(None);
    };
    if matches!(args.send_proxy, Some(HeaderArg::V1)) {
        return Err(CliError::usage(
            "a PROXY header of version 1 has no form for datagrams; use --send-proxy v2 with --forward-udp",
        ));
    }
    let addresses = match args.listen_udp.is_empty() {
        true => listeners
            .endpoints()
            .iter()
            .filter_map(Endpoint::ip)
            .collect(),
        false => args.listen_udp.clone(),
    };
    if addresses.is_empty() {
        return Err(CliError::usage(
            "no address for datagrams; name one with --listen-udp ADDR:PORT",
        ));
    }
    let failed = |ListenError { endpoint, error }| cannot_listen(&endpoint, "--listen-udp", &error);
    listeners.bind_datagrams(&addresses).map_err(failed)?;
    refuse_itself(to, &listeners.datagram_addresses())?;
    Ok(Some(DatagramOptions {
        flows: args.max_udp_flows,
        flows_per_client: args.max_udp_flows_per_client,
        idle: args.udp_idle_timeout,
        ..DatagramOptions::new(to.clone())
    }))
}

/// Rejects a proxy that forwards to itself, which would drop every datagram. A name is found out when it is looked up.
fn refuse_itself(to: &Destination, own: &[SocketAddr]) -> Result<(), CliError> {
    let is_itself = match to.host {
        Host::Ip(ip) => is_own(own, SocketAddr::new(ip, to.port)),
        Host::Name(_) => false,
    };
    match is_itself {
        true => Err(CliError::usage(format!(
            "--forward-udp {to} is the proxy itself; name another server"
        ))),
        false => Ok(()),
    }
}

/// Prints the addresses, and what differs from the request.
pub(super) fn print_start(args: &Args, server: &Server, out: &mut impl Write) -> io::Result<()> {
    let Some(to) = &args.forward_udp else {
        return Ok(());
    };
    for address in server.datagram_addresses() {
        writeln!(out, "forwarding UDP from {address} to {to}")?;
    }
    if !args.quiet
        && let Some(limit) = server.flows_limited(args.max_udp_flows)
    {
        writeln!(out, "{limit}")?;
    }
    out.flush()
}

/// Prints the counts of flows and datagrams, without zero counts.
pub(super) fn print_summary(totals: &DatagramTotals, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "UDP flows   {}", flows(totals))?;
    writeln!(out, "datagrams   {}", datagrams(totals))?;
    out.flush()
}

fn flows(totals: &DatagramTotals) -> String {
    let names = [
        (CloseReason::IdleTimeout, "idle for too long"),
        (CloseReason::Blocked, "blocked"),
        (CloseReason::Stopped, "cut off"),
    ];
    let mut text = grouped(totals.opened);
    for (reason, name) in names {
        let count = totals.ended_for(reason);
        if count > 0 {
            text = format!("{text}, {} {name}", grouped(count));
        }
    }
    text
}

pub(super) fn datagrams(totals: &DatagramTotals) -> String {
    let way = |traffic: &Traffic, to| {
        let Traffic {
            datagrams, bytes, ..
        } = traffic;
        format!(
            "{} ({} bytes) to {to}",
            grouped(*datagrams),
            grouped(*bytes)
        )
    };
    let mut text = format!(
        "{}, {}",
        way(&totals.to_server, "servers"),
        way(&totals.to_client, "clients")
    );
    let both = totals.to_server.and(totals.to_client);
    if both.datagrams > both.sends {
        let mean = both.datagrams as f64 / both.sends.max(1) as f64;
        text = format!("{text}, {mean:.1} a message");
    }
    let names = |cause| match cause {
        DropCause::OverLimit => "over the limit",
        DropCause::Blocked => "blocked",
        DropCause::Unreachable => "without a server",
        DropCause::Denied => "denied by this host",
        DropCause::TooBig => "too big",
        DropCause::Refused => "refused",
        DropCause::NoBuffer => "without room to send",
        // The kernel counts a run as one.
        DropCause::QueueFull => "messages without room to receive",
        DropCause::Closed => "left at a close",
        DropCause::Stopping => "too late",
        DropCause::Unresolved => "without an address",
        DropCause::Fragment => "fragments",
        DropCause::BadHeader => "with a bad header",
        DropCause::WrongSource => "of other clients",
        DropCause::Unasked => "not asked for",
    };
    let mut separator = "; dropped ";
    for cause in DropCause::ALL {
        let count = totals.drops.of(cause);
        if count > 0 {
            text = format!("{text}{separator}{} {}", grouped(count), names(cause));
            separator = ", ";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::datagrams::record::Drops;

    #[test]
    fn summary_has_no_zero_counts() {
        let mut totals = DatagramTotals {
            opened: 1_200,
            ended: [1_199, 0, 1],
            to_server: Traffic {
                datagrams: 3_000,
                bytes: 64_000,
                sends: 1_000,
            },
            ..DatagramTotals::default()
        };
        assert_eq!(flows(&totals), "1,200, 1,199 idle for too long, 1 cut off");
        let sent = "3,000 (64,000 bytes) to servers, 0 (0 bytes) to clients, 3.0 a message";
        assert_eq!(datagrams(&totals), sent);
        let mut drops = Drops::default();
        drops.add(DropCause::OverLimit, 7);
        drops.add(DropCause::TooBig, 1);
        totals.drops = drops;
        assert_eq!(
            datagrams(&totals),
            format!("{sent}; dropped 7 over the limit, 1 too big")
        );
    }
}
