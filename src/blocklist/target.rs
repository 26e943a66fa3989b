//! Destinations of `bench blocklist check`, with optional port and zone.

use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::destination::authority::{Authority, parse_port};
use crate::destination::{Host, HostError};

/// A host and an optional port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host without its zone: lists have no zones, so the address decides.
    pub host: Host,
    /// The port, if given.
    pub port: Option<u16>,
}

impl FromStr for Target {
    type Err = HostError;

    /// Parses `ADDR`, `ADDR:PORT`, `[V6]:PORT`, `NAME` or `NAME:PORT`; an IPv6 address may have a zone.
    ///
    /// # Errors
    /// [`HostError`] for an invalid host or port.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let mut authority = Authority::split(text)?;
        authority.host = without_zone(authority.host);
        Ok(Self {
            host: authority.host()?,
            port: authority.port.map(parse_port).transpose()?,
        })
    }
}

/// Longest interface name: IFNAMSIZ without the NUL (netdevice(7)).
const LONGEST_ZONE: usize = 15;

/// An IPv6 address without its zone (RFC 4007, section 11); any other text unchanged.
pub(super) fn without_zone(text: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let is_zone = |zone: &str| (1..=LONGEST_ZONE).contains(&zone.len()) && zone.bytes().all(plain);
    match text.split_once('%') {
        Some((address, zone)) if is_zone(zone) && address.parse::<Ipv6Addr>().is_ok() => address,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_parse_in_every_form() {
        for (text, host, port) in [
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
            ("2001:DB8::1", "2001:db8::1", None),
            ("::1:80", "::1:80", None),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4", None),
            ("Example.com.", "example.com", None),
            ("example.com:443", "example.com", Some(443)),
            ("fe80::1%eth0", "fe80::1", None),
            ("[fe80::1%eth0.7]:80", "fe80::1", Some(80)),
        ] {
            let host = host.parse().unwrap();
            assert_eq!(text.parse(), Ok(Target { host, port }), "{text}");
        }
    }

    #[test]
    fn invalid_targets_have_a_reason() {
        for (text, piece) in [
            ("[::1", "bracketed"),
            ("[127.0.0.1]:80", "IPv6"),
            ("fe80::1%", "zone"),
            ("fe80::1%a b", "zone"),
            ("fe80::1%0123456789abcdef", "zone"),
            ("192.0.2.1%eth0", "'%' in it"),
            ("example.com:", "not a port"),
            ("example.com:0", "not a port"),
            ("1.2.3.4:65536", "not a port"),
            (":80", "is empty"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(piece), "{text}: {error}");
        }
    }
}
