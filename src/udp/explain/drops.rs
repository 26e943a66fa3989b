//! The kernel's reasons of drops (include/net/dropreason-core.h), and the lines of the tracepoint `skb:kfree_skb`. Pure.

/// The kind of cause that a reason belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A route, or the check of the source address.
    Route,
    /// A rule of netfilter.
    Firewall,
    /// A queueing discipline.
    Qdisc,
    /// A traffic control filter.
    Filter,
    /// A device or its driver.
    Device,
    /// The receive backlog of a CPU.
    Backlog,
    /// An invalid IP header.
    Header,
    /// A fragment.
    Fragments,
    /// A checksum.
    Checksum,
    /// No socket at the port.
    NoPort,
    /// A full socket.
    Socket,
    /// A reason without a counter.
    Other,
}

/// Reasons that concern UDP or IP. Others, such as those of TCP, are not traced.
const REASONS: [(&str, Class); 53] = [
    ("NOT_SPECIFIED", Class::Other),
    ("NO_SOCKET", Class::NoPort),
    ("SOCKET_FILTER", Class::Socket),
    ("SOCKET_RCVBUFF", Class::Socket),
    ("SOCKET_BACKLOG", Class::Socket),
    ("PROTO_MEM", Class::Socket),
    ("PKT_TOO_SMALL", Class::Header),
    ("UDP_CSUM", Class::Checksum),
    ("SKB_CSUM", Class::Checksum),
    ("NETFILTER_DROP", Class::Firewall),
    ("OTHERHOST", Class::Other),
    ("IP_CSUM", Class::Header),
    ("IP_INHDR", Class::Header),
    ("HDR_TRUNC", Class::Header),
    ("IP_RPFILTER", Class::Route),
    ("IP_OUTNOROUTES", Class::Route),
    ("IP_INNOROUTES", Class::Route),
    ("IP_INADDRERRORS", Class::Route),
    ("IP_LOCAL_SOURCE", Class::Route),
    ("IP_INVALID_SOURCE", Class::Route),
    ("IP_LOCALNET", Class::Route),
    ("IP_INVALID_DEST", Class::Route),
    ("XFRM_POLICY", Class::Other),
    ("IP_NOPROTO", Class::Other),
    ("BPF_CGROUP_EGRESS", Class::Other),
    ("SECURITY_HOOK", Class::Other),
    ("IPV6DISABLED", Class::Other),
    ("NEIGH_CREATEFAIL", Class::Other),
    ("NEIGH_FAILED", Class::Other),
    ("NEIGH_QUEUEFULL", Class::Other),
    ("NEIGH_DEAD", Class::Other),
    ("NEIGH_HH_FILLFAIL", Class::Other),
    ("UNHANDLED_PROTO", Class::Other),
    ("TC_EGRESS", Class::Filter),
    ("TC_INGRESS", Class::Filter),
    ("QDISC_DROP", Class::Qdisc),
    ("QDISC_OVERLIMIT", Class::Qdisc),
    ("QDISC_CONGESTED", Class::Qdisc),
    ("CAKE_FLOOD", Class::Qdisc),
    ("FQ_BAND_LIMIT", Class::Qdisc),
    ("FQ_HORIZON_LIMIT", Class::Qdisc),
    ("FQ_FLOW_LIMIT", Class::Qdisc),
    ("CPU_BACKLOG", Class::Backlog),
    ("XDP", Class::Device),
    ("SKB_GSO_SEG", Class::Device),
    ("DEV_HDR", Class::Device),
    ("DEV_READY", Class::Device),
    ("FULL_RING", Class::Device),
    ("NOMEM", Class::Device),
    ("PKT_TOO_BIG", Class::Fragments),
    ("DUP_FRAG", Class::Fragments),
    ("FRAG_REASM_TIMEOUT", Class::Fragments),
    ("FRAG_TOO_FAR", Class::Fragments),
];

/// The class of a reason.
pub fn class(reason: &str) -> Class {
    let known = REASONS.iter().find(|(name, _)| *name == reason);
    known.map_or(Class::Other, |(_, class)| *class)
}

/// The filter that passes drops of IP packets for one of these reasons, whose numbers differ between kernels: `format` is that of
/// the tracepoint. `None` if the tracepoint has no reasons, as before Linux 5.17.
pub fn filter(format: &str) -> Option<String> {
    let (_, symbols) = format.split_once("REC->reason, {")?;
    let numbers = symbols.split('{').filter_map(|symbol| {
        let (number, name) = symbol.split_once(',')?;
        let name = name.trim().strip_prefix('"')?.split('"').next()?;
        let number: u32 = number.trim().parse().ok()?;
        let is_wanted = REASONS.iter().any(|(of, _)| *of == name);
        is_wanted.then(|| format!("reason == {number}"))
    });
    let numbers: Vec<String> = numbers.collect();
    if numbers.is_empty() {
        return None;
    }
    let reasons = numbers.join(" || ");
    Some(format!(
        "(protocol == {IPV4} || protocol == {IPV6}) && ({reasons})"
    ))
}

/// `ETH_P_IP` and `ETH_P_IPV6`.
pub const IPV4: u16 = 0x0800;
/// See [`IPV4`].
pub const IPV6: u16 = 0x86DD;

/// A drop as the tracepoint prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drop<'a> {
    /// [`IPV4`] or [`IPV6`].
    pub protocol: u16,
    /// The function that dropped the packet, and its module.
    pub place: &'a str,
    /// The kernel's name of the reason.
    pub reason: &'a str,
}

/// Parses a line of the trace; `None` if it is no drop or was cut.
pub fn parse(line: &str) -> Option<Drop<'_>> {
    let (_, event) = line.rsplit_once("kfree_skb: ")?;
    let (_, from_protocol) = event.split_once("protocol=")?;
    let (protocol, from_place) = from_protocol.split_once(" location=")?;
    let (place, reason) = from_place.split_once(" reason: ")?;
    // function+0x1c/0x80
    let place = place
        .split_once("+0x")
        .map_or(place, |(function, _)| function);
    let reason = reason.trim_end();
    if place.is_empty() || reason.is_empty() || reason.contains(char::is_whitespace) {
        return None;
    }
    Some(Drop {
        protocol: protocol.parse().ok()?,
        place,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = "kfree_skb: skbaddr=00000000e69a2a09 rx_sk=000000008d017ea7 protocol=2048 location=udp_queue_rcv_one_skb+0x437/0x4c0 reason: SOCKET_RCVBUFF";

    #[test]
    fn lines_with_and_without_context_are_parsed() {
        let drop = Drop {
            protocol: IPV4,
            place: "udp_queue_rcv_one_skb",
            reason: "SOCKET_RCVBUFF",
        };
        assert_eq!(parse(LINE), Some(drop));
        let with_context = format!("           bench-12  [001] b.s3.   98.765432: {LINE}\n");
        assert_eq!(parse(&with_context), Some(drop));
        for other in [
            "",
            "CPU:1 [LOST 24 EVENTS]",
            "kfree_skb: skbaddr=1 protocol=2048 location=a+0x1/0x2",
            "kfree_skb: skbaddr=1 protocol=x location=a+0x1/0x2 reason: B",
            "kfree_skb: skbaddr=1 protocol=2048 location=a+0x1/0x2 reason: ",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_filter_has_the_numbers_of_this_kernel() {
        let format = "print fmt: \"...\", REC->location, __print_symbolic(REC->reason, { 2, \"NOT_SPECIFIED\" }, { 12, \"NETFILTER_DROP\" }, { 47, \"TCP_CLOSE\" })";
        assert_eq!(
            filter(format).unwrap(),
            "(protocol == 2048 || protocol == 34525) && (reason == 2 || reason == 12)"
        );
        assert_eq!(filter("print fmt: \"skbaddr=%p\", REC->skbaddr"), None);
        assert_eq!(filter("REC->reason, { x"), None);
    }

    #[test]
    fn reasons_without_a_counter_are_of_no_cause() {
        assert_eq!(class("NETFILTER_DROP"), Class::Firewall);
        assert_eq!(class("NEIGH_FAILED"), Class::Other);
        assert_eq!(class("of a newer kernel"), Class::Other);
    }

    proptest! {
        #[test]
        fn cut_lines_are_no_drop_or_one_with_a_shorter_reason(at in 0..LINE.len()) {
            let cut = parse(&LINE[..at]);
            prop_assert!(cut.is_none_or(|drop| "SOCKET_RCVBUFF".starts_with(drop.reason)));
        }

        #[test]
        fn any_text_is_parsed_without_panic(text in ".*") {
            let _ = (parse(&text), filter(&text));
        }
    }
}
