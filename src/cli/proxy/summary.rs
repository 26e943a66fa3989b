//! The summary of a proxy's connections on the terminal.

use std::io::{self, Write};

use crate::proxy::counters::Totals;
use crate::proxy::record::CloseReason;
use crate::units::grouped;

/// Prints the counts of connections by outcome, without zero counts, and the bytes.
pub(super) fn print(totals: &Totals, out: &mut impl Write) -> io::Result<()> {
    let name = |ending| match ending {
        CloseReason::Finished => "finished",
        CloseReason::ClientReset => "reset by the client",
        CloseReason::ServerReset => "reset by the server",
        CloseReason::Left => "left without a request",
        CloseReason::Refused => "refused",
        CloseReason::Blocked => "blocked",
        CloseReason::Busy => "too many",
        CloseReason::Unreachable => "without a server",
        CloseReason::RequestTimeout => "without a request in time",
        CloseReason::ConnectTimeout => "without a server in time",
        CloseReason::IdleTimeout => "idle for too long",
        CloseReason::HalfClosedTimeout => "half-closed for too long",
        CloseReason::Stopped => "cut off",
    };
    let endings = CloseReason::ALL.map(|ending| (name(ending), totals.ended(ending)));
    let pauses = ("pauses for want of files", totals.pauses);
    let kinds = endings.into_iter().chain([pauses]);
    write!(out, "connections {}", grouped(totals.accepted))?;
    for (kind, count) in kinds.filter(|&(_, count)| count > 0) {
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
        write!(out, ", {} reads without a pipe", grouped(totals.no_pipe))?;
    }
    writeln!(out)?;
    out.flush()
}
