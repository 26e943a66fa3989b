//! Networks of `--deny-private`: all that are not the public Internet.
//!
//! From the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890; entries that are not "globally reachable"),
//! multicast (RFC 5771, RFC 4291) and the deprecated site-local addresses (RFC 3879). Forms that embed an IPv4 address, such as
//! 6to4 and Teredo, are private where that address is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A private network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Private {
    first: IpAddr,
    length: u8,
    what: &'static str,
}

/// `192.168.0.0/16, private`
impl fmt::Display for Private {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}, {}", self.first, self.length, self.what)
    }
}

/// The private network that includes an address. To be called for each [reachable](super::embedded::reachable) address.
pub fn network(address: IpAddr) -> Option<&'static Private> {
    let networks: &[Private] = match address {
        IpAddr::V4(_) => &V4,
        IpAddr::V6(_) => &V6,
    };
    networks.iter().find(|network| network.has(address))
}

impl Private {
    /// Whether it includes an address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        let beyond = |width: u8| u32::from(width.saturating_sub(self.length));
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => (first.to_bits() ^ address.to_bits())
                .checked_shr(beyond(32))
                .is_none_or(|rest| rest == 0),
            (IpAddr::V6(first), IpAddr::V6(address)) => (first.to_bits() ^ address.to_bits())
                .checked_shr(beyond(128))
                .is_none_or(|rest| rest == 0),
            _ => false,
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, length: u8, what: &'static str) -> Private {
    Private {
        first: IpAddr::V4(Ipv4Addr::new(a, b, c, 0)),
        length,
        what,
    }
}

const V4: [Private; 14] = [
    // In the order of the registry, followed by the multicast and reserved blocks.
    v4(0, 0, 0, 8, "this network"),
    v4(10, 0, 0, 8, "private"),
    v4(100, 64, 0, 10, "shared by a carrier's customers"),
    v4(127, 0, 0, 8, "loopback"),
    v4(169, 254, 0, 16, "link-local"),
    v4(172, 16, 0, 12, "private"),
    v4(192, 0, 0, 24, "protocol assignments"),
    v4(192, 0, 2, 24, "documentation"),
    v4(192, 168, 0, 16, "private"),
    v4(198, 18, 0, 15, "benchmarking"),
    v4(198, 51, 100, 24, "documentation"),
    v4(203, 0, 113, 24, "documentation"),
    v4(224, 0, 0, 4, "multicast"),
    v4(240, 0, 0, 4, "reserved, and broadcast"),
];

const fn v6(first: [u16; 4], length: u8, what: &'static str) -> Private {
    let [a, b, c, d] = first;
    Private {
        first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)),
        length,
        what,
    }
}

const V6: [Private; 14] = [
    v6([0; 4], 128, "unspecified"),
    Private {
        first: IpAddr::V6(Ipv6Addr::LOCALHOST),
        length: 128,
        what: "loopback",
    },
    v6([0x64, 0xff9b, 1, 0], 48, "translation within a site"),
    v6([0x100, 0, 0, 0], 64, "discard-only"),
    v6([0x100, 0, 0, 1], 64, "dummy prefix"),
    v6([0x2001, 2, 0, 0], 48, "benchmarking"),
    v6([0x2001, 0x10, 0, 0], 28, "cryptographic hashes"),
    v6([0x2001, 0xdb8, 0, 0], 32, "documentation"),
    v6([0x3fff, 0, 0, 0], 20, "documentation"),
    v6([0x5f00, 0, 0, 0], 16, "segment routing"),
    v6([0xfc00, 0, 0, 0], 7, "unique local"),
    v6([0xfe80, 0, 0, 0], 10, "link-local"),
    v6([0xfec0, 0, 0, 0], 10, "site-local"),
    v6([0xff00, 0, 0, 0], 8, "multicast"),
];

#[cfg(test)]
mod tests {
    use super::super::embedded::reachable;
    use super::*;

    fn is_private(text: &str) -> bool {
        reachable(text.parse().unwrap()).any(|address| network(address).is_some())
    }

    #[test]
    fn networks_include_both_ends_and_not_their_neighbours() {
        for (first, last) in [
            ("0.0.0.0", "0.255.255.255"),
            ("10.0.0.0", "10.255.255.255"),
            ("100.64.0.0", "100.127.255.255"),
            ("127.0.0.0", "127.255.255.255"),
            ("169.254.0.0", "169.254.255.255"),
            ("172.16.0.0", "172.31.255.255"),
            ("192.0.0.0", "192.0.0.255"),
            ("192.0.2.0", "192.0.2.255"),
            ("192.168.0.0", "192.168.255.255"),
            ("198.18.0.0", "198.19.255.255"),
            ("198.51.100.0", "198.51.100.255"),
            ("203.0.113.0", "203.0.113.255"),
            ("224.0.0.0", "255.255.255.255"),
        ] {
            let bits = |text: &str| text.parse::<Ipv4Addr>().unwrap().to_bits();
            let private = |bits: u32| network(Ipv4Addr::from_bits(bits).into()).is_some();
            assert!(private(bits(first)) && private(bits(last)), "{first}");
            assert!(bits(first) == 0 || !private(bits(first) - 1), "{first}");
            assert!(bits(last) == u32::MAX || !private(bits(last) + 1), "{last}");
        }
        for (first, last) in [
            ("::1", "::1"),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
            ("100::", "100::1:ffff:ffff:ffff:ffff"),
            ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"),
            ("2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("fe80::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert!(is_private(first) && is_private(last), "{first}");
            let bits = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
            let private = |bits: u128| network(Ipv6Addr::from_bits(bits).into()).is_some();
            // The neighbours of ::1, fe80::/9 and ff00::/8 are in other private networks.
            if !["::1", "ff00::"].contains(&first) {
                assert!(!private(bits(first) - 1), "{first}");
            }
            if !["::1", "feff:", "ffff:"]
                .iter()
                .any(|end| last.starts_with(end))
            {
                assert!(!private(bits(last) + 1), "{last}");
            }
        }
    }

    #[test]
    fn a_private_address_is_private_in_every_embedding() {
        for private in [
            "::",
            "::ffff:10.0.0.1",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
            "64:ff9b::192.168.0.1",
            "2002:a00:1::",
            "2002:7f00:1::1",
            "2001:0:a00:1::",
            "2001:0:808:808:0:0:f5ff:fffe",
            "2a00::5efe:10.0.0.1",
        ] {
            assert!(is_private(private), "{private}");
        }
        for public in [
            "1.1.1.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::",
        ] {
            assert!(!is_private(public), "{public}");
        }
    }
}
