//! A destination as text, read strictly: an address in its standard form, or a name that nobody could take for one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::name::Name;
use super::ports::parse_port;

/// Why a text is no destination, and how to write one.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum HostError {
    /// Nothing, or only a dot.
    #[error("{0:?} names no host; write an address or a name")]
    Empty(String),
    /// Has a colon, and is no IPv6 address.
    #[error(
        "{0:?} is no IPv6 address; write it like 2001:db8::1, or [2001:db8::1]:443 with a port"
    )]
    Ipv6(String),
    /// Ends in a number: a short, octal, hexadecimal or decimal form of an address, or none at all.
    #[error(
        "{0:?} ends in a number and is no IPv4 address; write four decimal numbers without leading zeros, like 127.0.0.1"
    )]
    Number(String),
    /// A character that no name has.
    #[error("{0:?} has {1:?} in it; a name is of letters, the digits 0 to 9, '-', '_' and '.'")]
    Character(String, char),
    /// A label that is empty or too long, or too many of them.
    #[error("{0:?} is no name: 1 to 63 characters between two dots, 253 in all")]
    Labels(String),
    /// Not a valid international name.
    #[error("{0:?} is no valid international name; write its A-labels (xn--...)")]
    International(String),
    /// The part after the percent sign of an IPv6 address.
    #[error("{0:?} has no valid zone; write an interface after the %, like fe80::1%eth0")]
    Zone(String),
    /// An opening bracket without the closing one, or something other than a port after it.
    #[error("{0:?} is not bracketed right; write it like [2001:db8::1]:443")]
    Brackets(String),
    /// Not a port.
    #[error("{0:?} is no port; choose 1 to 65535")]
    Port(String),
    /// A range of ports the wrong way round.
    #[error("the ports {0:?} end before they begin; write the lower one first")]
    Ports(String),
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// An IPv6 address and the interface it is meant on (RFC 4007, section 11). No list knows zones: it is
    /// decided on as the address alone.
    Zoned(Ipv6Addr, Box<str>),
    /// A name.
    Name(Name),
}

impl Host {
    /// Reads an address as the standard library does, an IPv6 address with a zone, or a name.
    ///
    /// # Errors
    /// What is wrong with it, for everything that is neither.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.contains(':') {
            return parse_ipv6(text);
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(Self::Address(address.into())),
            Err(_) => Name::parse(text).map(Self::Name),
        }
    }
}

/// Longest name of an interface: IFNAMSIZ, less the NUL at its end (netdevice(7)).
const LONGEST_ZONE: usize = 15;

fn parse_ipv6(text: &str) -> Result<Host, HostError> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address: Ipv6Addr = address
        .parse()
        .map_err(|_| HostError::Ipv6(text.to_owned()))?;
    let Some(zone) = zone else {
        return Ok(Host::Address(address.into()));
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !(1..=LONGEST_ZONE).contains(&zone.len()) || !zone.bytes().all(plain) {
        return Err(HostError::Zone(text.to_owned()));
    }
    Ok(Host::Zoned(address, zone.into()))
}

/// A host, and the port on it where one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Where to.
    pub host: Host,
    /// The port, if the text has one.
    pub port: Option<u16>,
}

impl Destination {
    /// Reads `ADDR`, `ADDR:PORT`, `[V6]:PORT`, `NAME` or `NAME:PORT`.
    ///
    /// # Errors
    /// What is wrong with the host or the port.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let (host, port) = split_port(text)?;
        let host = match host {
            Bracketed::Yes(inside) => parse_ipv6(inside)?,
            Bracketed::No(host) => Host::parse(host)?,
        };
        let port = port.map(parse_port).transpose()?;
        Ok(Self { host, port })
    }
}

/// What stands before a port.
pub(super) enum Bracketed<'a> {
    Yes(&'a str),
    No(&'a str),
}

/// Splits a port, or ports, off the end. A colon is only taken for theirs where no other is, or after brackets.
pub(super) fn split_port(text: &str) -> Result<(Bracketed<'_>, Option<&str>), HostError> {
    if let Some(rest) = text.strip_prefix('[') {
        let wrong = || HostError::Brackets(text.to_owned());
        let (inside, after) = rest.split_once(']').ok_or_else(wrong)?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or_else(wrong)?),
        };
        return Ok((Bracketed::Yes(inside), port));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((Bracketed::No(host), Some(port))),
        _ => Ok((Bracketed::No(text), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_in_every_form() {
        let address = |text: &str| Host::Address(text.parse().unwrap());
        let name = |text| Host::Name(Name::parse(text).unwrap());
        for (text, host, port) in [
            ("192.0.2.1", address("192.0.2.1"), None),
            ("192.0.2.1:80", address("192.0.2.1"), Some(80)),
            ("2001:DB8::1", address("2001:db8::1"), None),
            ("::1:80", address("::1:80"), None),
            ("[::1]:80", address("::1"), Some(80)),
            ("[::1]", address("::1"), None),
            ("::ffff:1.2.3.4", address("::ffff:1.2.3.4"), None),
            ("Example.com.", name("example.com"), None),
            ("example.com:443", name("example.com"), Some(443)),
        ] {
            assert_eq!(
                Destination::parse(text),
                Ok(Destination { host, port }),
                "{text}"
            );
        }
        let zoned = Host::Zoned("fe80::1".parse().unwrap(), "eth0".into());
        for text in ["fe80::1%eth0", "[fe80::1%eth0]:80"] {
            assert_eq!(Destination::parse(text).unwrap().host, zoned, "{text}");
        }
    }

    #[test]
    fn deceptive_addresses_are_errors_and_no_names() {
        for text in [
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.001",
            "0x7f.0.0.1",
            "0x7f000001",
            "0X7F000001",
            "127.0.0.0x1",
            "127.0.0.0x",
            "2130706433",
            "017700000001",
            "127.0.0.1.",
            "127.0.0.1.2",
            "256.0.0.1",
            "1.2.3.999",
            "0",
            "1。0.0.1",
        ] {
            assert_eq!(Host::parse(text), Err(HostError::Number(text.to_owned())));
        }
        for (text, character) in [
            ("１２７.0.0.1", '１'),
            ("127.0.0.１", '１'),
            ("127.0.0.①", '①'),
            ("١٢٧.0.0.1", '١'),
            (" 127.0.0.1", ' '),
            ("127.0.0.1 ", ' '),
            ("127.0.0.1\n", '\n'),
            ("127.0.0.1\0.example", '\0'),
            ("example.com\0", '\0'),
            ("a b.example", ' '),
            ("%31.example", '%'),
            ("user@example", '@'),
            ("example/24", '/'),
            ("*.example", '*'),
        ] {
            let error = HostError::Character(text.to_owned(), character);
            assert_eq!(Host::parse(text), Err(error));
        }
    }

    #[test]
    fn what_is_no_host_says_why() {
        for (text, piece) in [
            ("", "names no host"),
            (".", "names no host"),
            ("a..b", "no name"),
            (".a", "no name"),
            ("\u{2488}com", "in it"),
            ("xn--\u{fc}.example", "international"),
            (":::", "no IPv6"),
            ("1::2::3", "no IPv6"),
            ("::1 ", "no IPv6"),
            ("::ffff:127.0.0.01", "no IPv6"),
            ("::ffff:127.1", "no IPv6"),
            ("[::1", "bracketed"),
            ("[::1]80", "bracketed"),
            ("[127.0.0.1]:80", "no IPv6"),
            ("[example.com]", "no IPv6"),
            ("fe80::1%", "zone"),
            ("fe80::1%a b", "zone"),
            ("fe80::1%0123456789abcdef", "zone"),
            ("example.com:", "no port"),
            ("example.com:0", "no port"),
            ("example.com:http", "no port"),
            ("1.2.3.4:65536", "no port"),
            (":80", "names no host"),
        ] {
            let error = Destination::parse(text).unwrap_err().to_string();
            assert!(error.contains(piece), "{text}: {error}");
        }
    }
}
