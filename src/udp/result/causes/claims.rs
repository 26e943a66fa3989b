//! The datagrams that each cause may have lost, in the order in which a datagram passes them.

use super::{LossInputs, count};
use crate::udp::explain::drops::Class;
use crate::udp::wire::explain::HostReport;

/// The qdisc of the sender's device.
pub(super) const SENDER_QDISC: &str = "sender_qdisc";

/// The receiver's socket, whose buffer was full.
pub(in crate::udp) const RECEIVER_SOCKET: &str = "receiver_socket";

/// All causes, in the order in which a datagram passes them.
pub(in crate::udp) const WAY: [&str; 18] = [
    "sender_firewall",
    "sender_route",
    "sender_socket",
    "sender_fragments",
    "sender_filter",
    SENDER_QDISC,
    "sender_device",
    "receiver_device",
    "receiver_backlog",
    "receiver_filter",
    "receiver_header",
    "receiver_route",
    "receiver_firewall",
    "receiver_fragments",
    "receiver_memory",
    "receiver_no_port",
    "receiver_checksum",
    RECEIVER_SOCKET,
];

/// A cause and the datagrams that it may have lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) cause: &'static str,
    /// The kernel's reasons that belong to the cause.
    pub(super) classes: &'static [Class],
    /// Drops as the kernel counts them.
    pub(super) drops: u64,
    /// The counters behind `drops`.
    pub(super) counters: Vec<(String, u64)>,
    /// Fewest and most datagrams.
    pub(super) low: u64,
    pub(super) high: u64,
    /// Whether the counter has no other datagrams than those of the streams.
    pub(super) is_of_streams: bool,
}

impl Claim {
    /// Each drop is 1 to `most` datagrams.
    fn new(cause: &'static str, classes: &'static [Class], drops: u64, most: u64) -> Self {
        Self {
            cause,
            classes,
            drops,
            counters: Vec::new(),
            low: drops,
            high: drops.saturating_mul(most.max(1)),
            is_of_streams: false,
        }
    }

    /// With these counters of a host, if they increased.
    fn with(mut self, report: &Option<HostReport>, names: &[&str]) -> Self {
        let increases = names
            .iter()
            .map(|name| ((*name).to_owned(), count(report, name)));
        self.counters
            .extend(increases.filter(|(_, increase)| *increase > 0));
        self
    }

    /// The drops may belong to other traffic.
    fn at_most(mut self) -> Self {
        self.low = 0;
        self
    }

    pub(super) fn is_of_sender(&self) -> bool {
        self.cause.starts_with("sender_")
    }
}

/// All claims with drops.
pub(super) fn all(inputs: &LossInputs) -> Vec<Claim> {
    let mut claims = refusals(inputs);
    claims.extend(sender(inputs));
    claims.extend(receiver(inputs));
    for claim in &mut claims {
        claim.low = match claim.is_of_streams {
            true => claim.low,
            false => claim.low.saturating_sub(inputs.lost_exchanges),
        };
    }
    claims.retain(|claim| claim.high > 0);
    claims
}

/// The datagrams that the sender's kernel refused, by errno.
fn refusals(inputs: &LossInputs) -> Vec<Claim> {
    let mut kinds = [
        Claim::new("sender_firewall", &[Class::Firewall], 0, 1),
        Claim::new("sender_route", &[Class::Route], 0, 1),
        Claim::new("sender_socket", &[], 0, 1),
    ];
    let refused = inputs.sender.iter().flat_map(|report| &report.refused);
    let mut left = inputs.not_sent;
    for (errno, datagrams) in refused {
        let (at, name) = refusal(*errno);
        // Datagrams of a run that ended early may be refused and not counted.
        let datagrams = (*datagrams).min(left);
        left -= datagrams;
        kinds[at].drops += datagrams;
        kinds[at].counters.push((name, datagrams));
    }
    // A host that does not explain its side sends no errno.
    kinds[2].drops += left;
    kinds
        .into_iter()
        .map(|kind| Claim {
            low: kind.drops,
            high: kind.drops,
            is_of_streams: true,
            ..kind
        })
        .map(|kind| match kind.cause {
            "sender_route" => kind.with(&inputs.sender, &["OutNoRoutes"]),
            "sender_socket" => kind.with(&inputs.sender, &["SndbufErrors"]),
            _ => kind,
        })
        .collect()
}

/// The cause of a refusal, and its errno as text. Netfilter's verdict is EPERM; routes refuse by their type (ip-route(8)):
/// blackhole with EINVAL, prohibit with EACCES, unreachable with EHOSTUNREACH.
fn refusal(errno: i32) -> (usize, String) {
    match errno {
        libc::EPERM => (0, "EPERM".to_owned()),
        libc::ENETUNREACH => (1, "ENETUNREACH".to_owned()),
        libc::EHOSTUNREACH => (1, "EHOSTUNREACH".to_owned()),
        libc::EACCES => (1, "EACCES".to_owned()),
        libc::EINVAL => (1, "EINVAL".to_owned()),
        libc::EMSGSIZE => (2, "EMSGSIZE".to_owned()),
        errno => (2, format!("errno {errno}")),
    }
}

/// Losses behind the sender's socket.
fn sender(inputs: &LossInputs) -> Vec<Claim> {
    let report = &inputs.sender;
    let of = |name| count(report, name);
    let drops = of("qdisc_drops");
    let mut qdisc =
        Claim::new(SENDER_QDISC, &[Class::Qdisc], drops, 1).with(report, &["qdisc_drops"]);
    // A send fails if the qdisc of the sender's device drops its message, and is repeated; it succeeds if the qdisc drops an older
    // message or a part of this one. The number of datagrams dropped of a segmented message is unknown.
    let segments = inputs.segments.max(1);
    let repeated = inputs.repeats.saturating_add(inputs.partial_sends);
    // A qdisc that refuses its newest packet drops those of the control connection too, without a refusal of the sender.
    qdisc.low = match inputs.repeats {
        0 => drops.saturating_sub(repeated.saturating_mul(segments)),
        _ => 0,
    };
    // The next message of a partial send was dropped too, unless there was another reason.
    let surely_repeated =
        repeated.saturating_sub(inputs.other_partial_sends.min(inputs.partial_sends));
    qdisc.high = drops
        .saturating_sub(surely_repeated)
        .saturating_mul(segments);
    // On one machine the receive backlog may drop datagrams that the sender's device has passed on, and both count them.
    let backlog = match is_one_kernel(inputs) {
        true => backlog(&inputs.receiver),
        false => 0,
    };
    let device = of("tx_dropped")
        .saturating_sub(backlog)
        .saturating_add(of("tx_errors"));
    let claims = [
        // OutDiscards would add no loss: the kernel counts each send there that a full send buffer, a qdisc or a firewall refused, and
        // the sender repeats it or counts it as not sent.
        Claim::new(
            "sender_fragments",
            &[Class::Fragments],
            of("FragFails"),
            segments,
        )
        .with(report, &["FragFails"])
        // Some of these failures are refusals too.
        .at_most(),
        Claim::new(
            "sender_filter",
            &[Class::Filter],
            of("filter_drops"),
            segments,
        )
        .with(report, &["filter_drops"])
        // The filters of both directions share a counter, and refusals are sent again.
        .at_most(),
        qdisc,
        Claim::new("sender_device", &[Class::Device], device, segments)
            .with(report, &["tx_dropped", "tx_errors"]),
    ];
    shared(inputs, claims)
}

/// Losses on the receiver's host.
fn receiver(inputs: &LossInputs) -> Vec<Claim> {
    let report = &inputs.receiver;
    let of = |name| count(report, name);
    let most = inputs.coalesced;
    let backlog = backlog(report);
    let device = of("rx_dropped")
        .saturating_sub(backlog)
        .saturating_add(of("rx_errors"));
    let route = ["InNoRoutes", "InAddrErrors", "IPReversePathFilter"];
    let header = ["InHdrErrors", "InTruncatedPkts"];
    let sum = |names: &[&str]| {
        names
            .iter()
            .map(|name| count(report, name))
            .fold(0, u64::saturating_add)
    };
    let mut firewall = Claim::new(
        "receiver_firewall",
        &[Class::Firewall],
        undelivered(report),
        most,
    )
    .with(report, &["InReceives", "InDelivers"]);
    // A multicast or broadcast without a listener is received and not delivered.
    firewall.low = firewall
        .low
        .saturating_sub(sum(&["InMcastPkts", "InBcastPkts"]));
    let claims = [
        Claim::new("receiver_device", &[Class::Device], device, most)
            .with(report, &["rx_dropped", "rx_errors"]),
        Claim::new("receiver_backlog", &[Class::Backlog], backlog, most)
            .with(report, &["softnet_dropped"]),
        Claim::new(
            "receiver_filter",
            &[Class::Filter],
            of("filter_drops"),
            most,
        )
        .with(report, &["filter_drops"])
        .at_most(),
        Claim::new("receiver_header", &[Class::Header], sum(&header), most).with(report, &header),
        Claim::new("receiver_route", &[Class::Route], sum(&route), most).with(report, &route),
        firewall,
        Claim::new(
            "receiver_fragments",
            &[Class::Fragments],
            of("ReasmFails"),
            most,
        )
        .with(report, &["ReasmFails"]),
        Claim::new("receiver_memory", &[], of("InDiscards"), most).with(report, &["InDiscards"]),
        Claim::new("receiver_no_port", &[Class::NoPort], of("NoPorts"), most)
            .with(report, &["NoPorts"]),
        Claim::new(
            "receiver_checksum",
            &[Class::Checksum],
            of("InCsumErrors"),
            most,
        )
        .with(report, &["InCsumErrors"]),
    ];
    let mut claims = shared(inputs, claims);
    // The sockets' own drops include wrong checksums.
    let drops = inputs.socket_drops.saturating_sub(of("InCsumErrors"));
    let socket = Claim::new(RECEIVER_SOCKET, &[Class::Socket], drops, most)
        .with(report, &["RcvbufErrors", "MemErrors"]);
    claims.push(Claim {
        is_of_streams: true,
        ..socket
    });
    claims
}

/// Counters that both directions of a run increase are upper bounds for each.
fn shared<const N: usize>(inputs: &LossInputs, claims: [Claim; N]) -> Vec<Claim> {
    let is_shared = inputs.both_directions && is_one_namespace(inputs);
    let claims = claims.into_iter();
    claims
        .map(|claim| match is_shared {
            true => claim.at_most(),
            false => claim,
        })
        .collect()
}

/// Packets that found the receive backlog full. The machine counts them for all namespaces, the device among others that it
/// dropped.
fn backlog(report: &Option<HostReport>) -> u64 {
    count(report, "softnet_dropped").min(count(report, "rx_dropped"))
}

/// Packets that IP received and neither delivered nor forwarded, for no reason that another counter has.
fn undelivered(report: &Option<HostReport>) -> u64 {
    let known = [
        "InDelivers",
        "ForwDatagrams",
        "InHdrErrors",
        "InTruncatedPkts",
        "InAddrErrors",
        "InNoRoutes",
        "InUnknownProtos",
        "InDiscards",
        "IPReversePathFilter",
        "ReasmReqds",
    ];
    let known = known
        .iter()
        .map(|name| u128::from(count(report, name)))
        .sum();
    // A reassembled datagram is delivered and counts as one of its fragments.
    let received = u128::from(count(report, "InReceives")) + u128::from(count(report, "ReasmOKs"));
    u64::try_from(received.saturating_sub(known)).unwrap_or(u64::MAX)
}

fn is_one_kernel(inputs: &LossInputs) -> bool {
    let kernel = |report: &Option<HostReport>| report.as_ref()?.kernel.clone();
    kernel(&inputs.sender).is_some() && kernel(&inputs.sender) == kernel(&inputs.receiver)
}

fn is_one_namespace(inputs: &LossInputs) -> bool {
    let namespace = |report: &Option<HostReport>| report.as_ref()?.namespace.clone();
    is_one_kernel(inputs) && namespace(&inputs.sender) == namespace(&inputs.receiver)
}
