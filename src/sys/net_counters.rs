//! Counters of dropped packets in this thread's network namespace (proc_pid_net(5)).

use std::fs;

/// A counter by the name that the kernel's MIBs have for it, without the prefix of its table.
pub type Counter = (&'static str, u64);

/// Where a counter of IPv4 is: its name, and the prefix of its table's two rows.
const V4: [(&str, &str); 23] = [
    ("NoPorts", "Udp:"),
    ("RcvbufErrors", "Udp:"),
    ("SndbufErrors", "Udp:"),
    ("InCsumErrors", "Udp:"),
    ("MemErrors", "Udp:"),
    ("InReceives", "Ip:"),
    ("InHdrErrors", "Ip:"),
    ("InAddrErrors", "Ip:"),
    ("ForwDatagrams", "Ip:"),
    ("InUnknownProtos", "Ip:"),
    ("InDiscards", "Ip:"),
    ("InDelivers", "Ip:"),
    ("OutDiscards", "Ip:"),
    ("OutNoRoutes", "Ip:"),
    ("ReasmReqds", "Ip:"),
    ("ReasmOKs", "Ip:"),
    ("ReasmFails", "Ip:"),
    ("FragFails", "Ip:"),
    ("InNoRoutes", "IpExt:"),
    ("InTruncatedPkts", "IpExt:"),
    ("InMcastPkts", "IpExt:"),
    ("InBcastPkts", "IpExt:"),
    ("IPReversePathFilter", "TcpExt:"),
];

/// The name in /proc/net/snmp6 of a counter of [`V4`], if IPv6 has it.
fn v6_name(name: &str, table: &str) -> Option<String> {
    match (name, table) {
        ("InBcastPkts" | "IPReversePathFilter", _) => None,
        ("ForwDatagrams", _) => Some("Ip6OutForwDatagrams".to_owned()),
        (_, "Udp:") => Some(format!("Udp6{name}")),
        _ => Some(format!("Ip6{name}")),
    }
}

/// The counters of IPv6 or IPv4 that the kernel has.
pub fn now(ipv6: bool) -> Vec<Counter> {
    let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    if ipv6 {
        return parse_v6(&read("snmp6").unwrap_or_default());
    }
    let tables = ["snmp", "netstat"].map(|file| read(file).unwrap_or_default());
    parse_v4(&tables.concat())
}

/// The text of /proc/net/dev, for [`super::device::parse_drops`].
pub fn devices() -> String {
    fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default()
}

/// Packets of all devices of this machine that found the receive backlog of a CPU full (`net.core.netdev_max_backlog`), in all
/// network namespaces.
pub fn backlog_drops() -> Option<u64> {
    parse_softnet(&fs::read_to_string("/proc/net/softnet_stat").ok()?)
}

/// Parses the tables of /proc/net/snmp and /proc/net/netstat: a row of names above a row of numbers.
pub fn parse_v4(text: &str) -> Vec<Counter> {
    let value = |name: &str, table: &str| -> Option<u64> {
        let mut rows = text.lines().filter_map(|row| row.strip_prefix(table));
        let column = rows.next()?.split_whitespace().position(|of| of == name)?;
        rows.next()?.split_whitespace().nth(column)?.parse().ok()
    };
    let known = V4.iter();
    known
        .filter_map(|(name, table)| Some((*name, value(name, table)?)))
        .collect()
}

/// Parses /proc/net/snmp6: a name and a number a line.
pub fn parse_v6(text: &str) -> Vec<Counter> {
    let value = |name: &str| -> Option<u64> {
        let mut rows = text
            .lines()
            .filter_map(|row| row.split_once(char::is_whitespace));
        rows.find(|(of, _)| *of == name)?.1.trim().parse().ok()
    };
    let known = V4.iter();
    known
        .filter_map(|(name, table)| Some((*name, value(&v6_name(name, table)?)?)))
        .collect()
}

/// Parses /proc/net/softnet_stat: a row for each CPU, in which the second hexadecimal number counts drops. A sum beyond 64 bits is
/// not known.
pub fn parse_softnet(text: &str) -> Option<u64> {
    text.lines().try_fold(0, |sum: u64, row| {
        let word = row.split_whitespace().nth(1)?;
        sum.checked_add(u64::from_str_radix(word, 16).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_table_and_name() {
        let text = "Ip: Forwarding InReceives\nIp: 1 9\nUdp: InDatagrams NoPorts RcvbufErrors\nUdp: 9 8 7\nUdpLite: NoPorts\nUdpLite: 5\n\
            TcpExt: IPReversePathFilter\nTcpExt: 3\nIpExt: InNoRoutes\nIpExt: x\n";
        let expected = [
            ("NoPorts", 8),
            ("RcvbufErrors", 7),
            ("InReceives", 9),
            ("IPReversePathFilter", 3),
        ];
        assert_eq!(parse_v4(text), expected);
        let text = "Ip6InReceives                   \t12\nUdp6NoPorts \t4\nUdpLite6NoPorts 6\nIp6OutForwDatagrams 5\n";
        assert_eq!(
            parse_v6(text),
            [("NoPorts", 4), ("InReceives", 12), ("ForwDatagrams", 5)]
        );
    }

    #[test]
    fn this_kernel_has_the_counters_of_both_versions() {
        for (name, table) in V4 {
            let has = |all: &[Counter]| all.iter().any(|(of, _)| *of == name);
            // Older kernels have no MemErrors of UDP.
            if name != "MemErrors" {
                assert!(has(&now(false)), "{name}");
                if std::path::Path::new("/proc/net/snmp6").exists() {
                    assert_eq!(has(&now(true)), v6_name(name, table).is_some(), "{name}");
                }
            }
        }
        assert!(backlog_drops().is_some());
        assert!(devices().contains("lo:"));
    }

    #[test]
    fn backlog_drops_are_hexadecimal_and_summed_over_cpus() {
        assert_eq!(
            parse_softnet("2789e0a6 0000000a 1\n1f169df2 00000001 2\n"),
            Some(11)
        );
        assert_eq!(parse_softnet("1\n"), None);
        assert_eq!(parse_softnet("0 ffffffffffffffff\n0 1\n"), None);
    }
}
