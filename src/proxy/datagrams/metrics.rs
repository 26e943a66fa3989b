//! The metrics of forwarded datagrams: pure.

use super::counters::DatagramTotals;
use super::record::{DropCause, FLOW_ENDS, Traffic};
use crate::exposition::{Kind, Page};

/// Adds them to the page of a proxy.
pub(in crate::proxy) fn add(totals: &DatagramTotals, page: &mut Page) {
    page.family(
        "udp_flows_opened_total",
        Kind::Counter,
        "UDP flows that were opened.",
    )
    .value(totals.opened);
    page.family("udp_flows_open", Kind::Gauge, "Open UDP flows.")
        .value(totals.open());
    let mut family = page.family(
        "udp_flows_ended_total",
        Kind::Counter,
        "Closed UDP flows, by reason.",
    );
    for reason in FLOW_ENDS {
        family.labelled("ending", reason.name(), totals.ended_for(reason));
    }
    let ways = [("server", totals.to_server), ("client", totals.to_client)];
    let mut each = |name, help, value: fn(&Traffic) -> u64| {
        let mut family = page.family(name, Kind::Counter, help);
        for (way, traffic) in &ways {
            family.labelled("to", way, value(traffic));
        }
    };
    each(
        "udp_datagrams_total",
        "Datagrams sent to servers and clients.",
        |traffic| traffic.datagrams,
    );
    each(
        "udp_bytes_total",
        "Bytes of payload sent to servers and clients.",
        |traffic| traffic.bytes,
    );
    each(
        "udp_messages_total",
        "Runs and single datagrams in which datagrams were sent.",
        |traffic| traffic.sends,
    );
    let mut family = page.family(
        "udp_dropped_datagrams_total",
        Kind::Counter,
        "Datagrams that were not forwarded, by cause; queue_full may count a run as one.",
    );
    for cause in DropCause::of_flows() {
        family.labelled("cause", cause.name(), totals.drops.of(cause));
    }
}
