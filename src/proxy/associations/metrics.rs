//! The metrics of associations: pure.

use super::counters::AssociationTotals;
use crate::exposition::{Kind, Page};
use crate::proxy::datagrams::record::{DropCause, Traffic};

/// Adds them to the page of a proxy.
pub(in crate::proxy) fn add(totals: &AssociationTotals, page: &mut Page) {
    page.family(
        "udp_associations_opened_total",
        Kind::Counter,
        "SOCKS5 UDP associations that were opened.",
    )
    .value(totals.opened);
    page.family(
        "udp_associations_open",
        Kind::Gauge,
        "Open SOCKS5 UDP associations.",
    )
    .value(totals.open());
    page.family(
        "udp_associations_refused_total",
        Kind::Counter,
        "Requests for a SOCKS5 UDP association that were refused, over a limit or for lack of files.",
    )
    .value(totals.refused);
    let ways = [("server", totals.to_server), ("client", totals.to_client)];
    let mut each = |name, help, value: fn(&Traffic) -> u64| {
        let mut family = page.family(name, Kind::Counter, help);
        for (way, traffic) in &ways {
            family.labelled("to", way, value(traffic));
        }
    };
    each(
        "udp_association_datagrams_total",
        "Datagrams of associations sent to servers and clients.",
        |traffic| traffic.datagrams,
    );
    each(
        "udp_association_bytes_total",
        "Bytes of payload of associations sent to servers and clients, without SOCKS5 headers.",
        |traffic| traffic.bytes,
    );
    each(
        "udp_association_messages_total",
        "Runs and single datagrams in which datagrams of associations were sent.",
        |traffic| traffic.sends,
    );
    let mut family = page.family(
        "udp_association_dropped_datagrams_total",
        Kind::Counter,
        "Datagrams of associations that were dropped, by cause; queue_full may count a run as one.",
    );
    for cause in DropCause::of_associations() {
        family.labelled("cause", cause.name(), totals.drops.of(cause));
    }
}
