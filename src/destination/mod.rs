//! Strict parsing of destinations: a text that looks like an address is an address or an error.
//!
//! Resolvers read `0177.1`, `2130706433` and `0x7f.1` as 127.0.0.1. If such a text passed as a name, a list of blocked addresses
//! would not match what the resolver makes of it. So an address has its standard form, a [`Name`] cannot end in a number, and
//! anything else is a [`HostError`]. Proxy requests and blocklists use this parser only, so that they agree. A [`Destination`] is
//! a host and a port.

pub mod authority;
pub mod error;
pub mod name;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub use authority::Destination;
pub use error::HostError;
pub use name::Name;

use error::quoted;

/// A host, by address or name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address as given; IPv4-mapped addresses stay IPv6.
    Ip(IpAddr),
    /// A name for the resolver.
    Name(Name),
}

impl FromStr for Host {
    type Err = HostError;

    /// Parses an address as the standard library does, without brackets, or a name.
    ///
    /// # Errors
    /// [`HostError`] for any other text.
    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.contains(':') {
            return read_ipv6(text).map(Self::from);
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(Self::Ip(address.into())),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(out),
            Self::Name(name) => name.fmt(out),
        }
    }
}

fn read_ipv6(text: &str) -> Result<IpAddr, HostError> {
    let read = |text: &str| text.parse::<Ipv6Addr>();
    let zoned = || matches!(text.split_once('%'), Some((address, _)) if read(address).is_ok());
    match read(text) {
        Ok(address) => Ok(address.into()),
        Err(_) if zoned() => Err(HostError::Zone(quoted(text))),
        Err(_) => Err(HostError::Ipv6(quoted(text))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn standard_addresses_are_accepted() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "2001:DB8::7:0",
            "::1:80",
            "::ffff:1.2.3.4",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(text.parse(), Ok(Host::Ip(address)), "{text}");
        }
    }

    #[test]
    fn nonstandard_addresses_are_errors() {
        for text in [
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.001",
            "0x7f.0.0.1",
            "0x7f000001",
            "0X7F000001",
            "0X7F.1",
            "127.0.0.0x1",
            "127.0.0.0x",
            "0x",
            "2130706433",
            "017700000001",
            "127.0.0.1.",
            "127.0.0.1.2",
            "1.2.3.4.5",
            "256.0.0.1",
            "1.2.3.999",
            "0",
            "1",
            "example.1",
            "example.0x",
            "example.0X7f.",
            "a.b.09",
            "1。0.0.1",
            "127。0。0。1",
        ] {
            let error = HostError::Number(format!("{text:?}"));
            assert_eq!(text.parse::<Host>(), Err(error));
        }
        for (text, character) in [
            ("１２７.0.0.1", '１'),
            ("127.0.0.１", '１'),
            ("127.0.0.①", '①'),
            ("١٢٧.0.0.1", '١'),
            (" 127.0.0.1", ' '),
            ("127.0.0.1 ", ' '),
            ("127.0.0.1\n", '\n'),
            ("127.0.0.1\0", '\0'),
            ("127.0.0.1\0.example", '\0'),
            ("example.com\0", '\0'),
            ("local\0host", '\0'),
            ("a b.example", ' '),
            ("%31.example", '%'),
            ("a%b", '%'),
            ("127.0.0.1%eth0", '%'),
            ("user@example", '@'),
            ("example/24", '/'),
            ("℀.example", '/'),
            ("*.example", '*'),
            ("[", '['),
        ] {
            let error = HostError::Character(format!("{text:?}"), character);
            assert_eq!(text.parse::<Host>(), Err(error));
        }
    }

    #[test]
    fn invalid_hosts_have_a_reason() {
        for (text, piece) in [
            ("", "is empty"),
            (".", "is empty"),
            ("..", "not a name"),
            ("a..b", "not a name"),
            (".a", "not a name"),
            ("\u{2488}com", "in it"),
            ("xn--\u{fc}.example", "international"),
            ("b\u{fffd}d.example", "international"),
            (":", "not an IPv6"),
            (":::", "not an IPv6"),
            ("a:80", "not an IPv6"),
            ("[::1]", "not an IPv6"),
            ("1::2::3", "not an IPv6"),
            ("::12345", "not an IPv6"),
            ("1:2:3:4:5:6:7", "not an IPv6"),
            ("::1 ", "not an IPv6"),
            ("::ffff:127.0.0.01", "not an IPv6"),
            ("::ffff:0177.0.0.1", "not an IPv6"),
            ("::ffff:127.1", "not an IPv6"),
            (":%eth0", "not an IPv6"),
            ("fe80::1%eth0", "zone id"),
            ("fe80::1%", "zone id"),
        ] {
            let error = text.parse::<Host>().unwrap_err().to_string();
            assert!(error.contains(piece), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn an_address_of_inet_aton_is_never_a_name(text in "((0[xX])?[0-9a-fA-F]{1,9}\\.){0,3}(0[xX])?[0-9a-fA-F]{1,9}\\.?") {
            // Stricter than inet_aton(3), which also limits the size of the numbers.
            let number = |part: &str| {
                let digits = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
                digits.is_some() || part.bytes().all(|byte| byte.is_ascii_digit())
            };
            let name = text.strip_suffix('.').unwrap_or(&text);
            if name.split('.').all(number) {
                prop_assert!(!matches!(text.parse(), Ok(Host::Name(_))));
            }
        }
    }
}
