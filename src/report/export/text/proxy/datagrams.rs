//! Scenario udp: the load, and the losses and the CPU time of a path.

use std::io::{self, Write};

use super::{LABEL, RATE};
use crate::load::result::{Datagrams, Run};
use crate::report::export::text::layout::list;
use crate::report::figures::{figure, percent};
use crate::report::model::ProxyRecord;
use crate::report::model::proxy::Total;
use crate::units::grouped;

/// The datagrams of all runs.
pub(super) fn load(run: &Run) -> [String; 3] {
    let asked = &run.requested;
    let streams = match asked.connections {
        1 => "1 stream".to_owned(),
        streams => format!("{streams} streams"),
    };
    let message = asked.message.unwrap_or_default();
    let rate = figure(asked.rate_per_s.unwrap_or_default());
    [
        format!("{streams} of datagrams with {message} B"),
        "highest rate with at most 0.1 % loss".to_owned(),
        format!("latency at {rate} packets/s"),
    ]
}

/// Writes the CPU time and the losses at the requested rate, over all complete runs of a path.
pub(super) fn costs(record: &ProxyRecord, total: &Total, out: &mut impl Write) -> io::Result<()> {
    if let Some(cost) = total.proxy_s_per_10k {
        let cost = cost * 100.0;
        let label = "proxy CPU";
        writeln!(
            out,
            "    {label:<width$}{cost:>RATE$.3} s per million packets",
            width = LABEL - 4
        )?;
    }
    let is_of = |run: &&Run| {
        (&run.scenario, &run.path, &run.setting) == (&total.scenario, &total.path, &total.setting)
    };
    let runs = record.runs.iter().filter(is_of).filter(|run| run.complete);
    let all: Vec<Datagrams> = runs.filter_map(|run| run.udp).collect();
    if all.is_empty() {
        return Ok(());
    }
    let sum = |of: fn(&Datagrams) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
    let (sent, lost) = (sum(|of| of.sent), sum(|of| of.lost));
    let is_known = all.iter().any(|of| of.lost_proxy.is_some());
    let is_blocked = total.path == "blocked";
    let mut parts = match is_blocked {
        true => vec![
            format!("{} sent", grouped(sent)),
            format!("{} arrived", grouped(sent.saturating_sub(lost))),
        ],
        false => vec![format!("{} ({})", grouped(lost), percent(lost, sent))],
    };
    parts.push(format!("sender {}", grouped(sum(|of| of.lost_sender))));
    if is_known {
        let dropped = sum(|of| of.lost_proxy.unwrap_or(0));
        parts.push(format!("proxy's sockets {}", grouped(dropped)));
    }
    if is_blocked {
        parts.push(format!("blocked {}", grouped(sum(|of| of.lost_elsewhere))));
    } else {
        let receiver = sum(|of| of.lost_receiver);
        parts.push(format!("receiver {}", grouped(receiver)));
        parts.push(format!(
            "elsewhere {}",
            grouped(sum(|of| of.lost_elsewhere))
        ));
    }
    let label = if is_blocked { "dropped" } else { "lost" };
    list(out, &format!("    {label:<14}"), parts)
}
