//! The summary of a proxy's connections on the terminal.

use std::io::{self, Write};

use crate::proxy::counters::{Methods, Totals};
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
    if totals.methods.auto > 0 {
        writeln!(out, "forwarding  {}", forwarding(&totals.methods))?;
    }
    out.flush()
}

/// The choice of `--forwarding auto`, and why.
fn forwarding(methods: &Methods) -> String {
    let [copying, splicing] = methods.threads;
    let is_splice = splicing > copying;
    let (method, other, threads) = match is_splice {
        true => ("splice", "copying", splicing),
        false => ("copy", "splicing", copying),
    };
    let mut text = format!("auto: {method}");
    if copying > 0 && splicing > 0 {
        text = format!("{text} on {threads} of {} threads", copying + splicing);
    }
    let pair = |[copy, splice]: [f64; 2]| match is_splice {
        true => (splice, copy),
        false => (copy, splice),
    };
    if let Some(cpu) = methods.cpu_seconds_per_gb() {
        let (chosen, by_other) = pair(cpu);
        let (rate, other_rate) = pair(methods.rate.map(|rate| rate as f64 / 1e9));
        text = format!(
            "{text} ({chosen:.2} against {by_other:.2} CPU s/GB by {other}, {rate:.2} against {other_rate:.2} GB/s)"
        );
    } else if methods.unavailable == 0 {
        text += " (no bulk transfer to compare)";
    }
    if methods.unavailable > 0 {
        text += ", splice(2) or a pipe is unavailable";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_explained() {
        let none = Methods {
            threads: [1, 0],
            auto: 1,
            ..Methods::default()
        };
        assert_eq!(
            forwarding(&none),
            "auto: copy (no bulk transfer to compare)"
        );
        let unavailable = Methods {
            unavailable: 1,
            ..none
        };
        assert_eq!(
            forwarding(&unavailable),
            "auto: copy, splice(2) or a pipe is unavailable"
        );
        let spliced = Methods {
            threads: [0, 2],
            auto: 2,
            unavailable: 0,
            measured: 2,
            cpu: [760, 480],
            rate: [2_000_000_000, 2_600_000_000],
        };
        assert_eq!(
            forwarding(&spliced),
            "auto: splice (0.24 against 0.38 CPU s/GB by copying, 2.60 against 2.00 GB/s)"
        );
        let mixed = Methods {
            threads: [2, 1],
            ..spliced
        };
        assert_eq!(
            forwarding(&mixed),
            "auto: copy on 2 of 3 threads (0.38 against 0.24 CPU s/GB by splicing, 2.00 against 2.60 GB/s)"
        );
    }
}
