//! The options of the datagrams of a UDP run, and the marks with which they arrived.

use std::io::{self, Write};

use super::layout::list;
use crate::report::figures::percent;
use crate::udp::plan::traffic::dscp_name;
use crate::udp::result::{Run, TrafficRequested};
use crate::units::grouped;

/// The options that were given.
pub(super) fn options(asked: &TrafficRequested) -> impl Iterator<Item = String> {
    let seed = asked.seed;
    let options = [
        asked
            .multicast
            .as_ref()
            .map(|group| format!("group {group}")),
        asked.burst.map(|burst| format!("bursts of {burst}")),
        seed.map(|seed| format!("Poisson gaps (seed {seed})")),
        asked.dscp.map(|dscp| format!("DSCP {}", dscp_name(dscp))),
        asked.ecn.as_ref().map(|ecn| format!("ECN {ecn}")),
        asked.ttl.map(|hops| format!("TTL {hops}")),
    ];
    options.into_iter().flatten()
}

/// Writes the marks, if they were counted.
pub(super) fn marks(run: &Run, out: &mut impl Write) -> io::Result<()> {
    let Some(marks) = &run.marks else {
        return Ok(());
    };
    let fields = [
        ("CE", marks.ce),
        ("ECT(0)", marks.ect0),
        ("ECT(1)", marks.ect1),
        ("Not-ECT", marks.not_ect),
    ];
    let all = run.received.packets;
    let counted = |name: &str, count: u64| match count {
        0 => format!("{name} 0"),
        count => format!("{name} {} ({})", grouped(count), percent(count, all)),
    };
    let fields = fields
        .into_iter()
        // CE is the mark that users look for, even if there is none.
        .filter(|(name, count)| *count > 0 || *name == "CE")
        .map(|(name, count)| counted(name, count));
    list(out, "ECN", fields)?;
    let codes = marks.dscp.iter();
    let codes = codes.map(|of| counted(&dscp_name(of.dscp), of.packets));
    let changed = (marks.dscp_changed > 0).then(|| counted("changed", marks.dscp_changed));
    list(out, "DSCP", codes.chain(changed))
}
