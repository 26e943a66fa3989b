//! The summary of a proxy's connections on the terminal.

use std::io::{self, Write};

use crate::proxy::facts::Ending;
use crate::proxy::tally::Totals;
use crate::units::grouped;

/// Prints the counts of connections by outcome, without zero counts, and the bytes.
pub(super) fn print(totals: &Totals, out: &mut impl Write) -> io::Result<()> {
    let name = |ending| match ending {
        Ending::Finished => "finished",
        Ending::ClientReset => "reset by the client",
        Ending::ServerReset => "reset by the server",
        Ending::Left => "left without a request",
        Ending::Refused => "refused",
        Ending::Blocked => "blocked",
        Ending::Busy => "too many",
        Ending::Unreachable => "without a server",
        Ending::RequestTimeout => "without a request in time",
        Ending::ConnectTimeout => "without a server in time",
        Ending::IdleTimeout => "idle for too long",
        Ending::HalfClosedTimeout => "half-closed for too long",
        Ending::Stopped => "cut off",
    };
    let endings = Ending::ALL.map(|ending| (name(ending), totals.ended(ending)));
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
