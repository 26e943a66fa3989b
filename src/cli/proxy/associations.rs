//! SOCKS5 UDP ASSOCIATE: options and the summary.

use std::io::{self, Write};

use super::args::{AnswersArg, Serve as Args};
use super::datagrams::datagrams;
use crate::proxy::associations::AssociationOptions;
use crate::proxy::associations::counters::AssociationTotals;
use crate::proxy::datagrams::counters::DatagramTotals;
use crate::proxy::server::Server;
use crate::units::grouped;

pub(super) fn options(args: &Args) -> AssociationOptions {
    AssociationOptions {
        most: args
            .max_udp_associations
            .unwrap_or(AssociationOptions::default().most),
        per_client: args.max_udp_associations_per_client,
        address: args.udp_address,
        any_answers: args.udp_answers == AnswersArg::Any,
    }
}

/// Prints how many associations there may be, if that differs from the request, and what an option does not apply to.
pub(super) fn print_start(args: &Args, server: &Server, out: &mut impl Write) -> io::Result<()> {
    if args.quiet {
        return Ok(());
    }
    if let Some(limit) = server.associations_limited(args.max_udp_associations) {
        writeln!(out, "{limit}")?;
    }
    let may_open = server.stats().association_totals().is_some();
    if may_open && args.send_proxy.is_some() {
        writeln!(
            out,
            "datagrams of SOCKS5 UDP associations carry no PROXY header (--send-proxy)"
        )?;
    }
    out.flush()
}

/// Prints the counts of associations and their datagrams, if there were any.
pub(super) fn print_summary(totals: &AssociationTotals, out: &mut impl Write) -> io::Result<()> {
    if totals.opened == 0 && totals.refused == 0 {
        return Ok(());
    }
    write!(out, "UDP associations {}", grouped(totals.opened))?;
    if totals.refused > 0 {
        write!(out, ", {} more refused", grouped(totals.refused))?;
    }
    writeln!(out)?;
    let of_datagrams = DatagramTotals {
        to_server: totals.to_server,
        to_client: totals.to_client,
        drops: totals.drops,
        ..DatagramTotals::default()
    };
    writeln!(out, "  datagrams {}", datagrams(&of_datagrams))?;
    out.flush()
}
