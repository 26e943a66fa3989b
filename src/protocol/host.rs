//! Destinations as text, read strictly: what looks like an address either is one or is refused.
//!
//! Resolvers read `0177.1`, `2130706433` and `0x7f.1` as 127.0.0.1. If such a text passed as a name, a list of
//! blocked addresses would not see what the resolver makes of it. So a name whose last label is a number
//! is refused, as in the URL standard of WHATWG ("ends in a number checker"), and so is all that is not ASCII.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Most characters of a name, without the dot at its end (RFC 1035, 2.3.4).
const MOST_NAME: usize = 253;

/// Most characters of a name's label (RFC 1035, 2.3.4).
const MOST_LABEL: usize = 63;

/// Why a text is no destination. Says what was given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Nothing at all.
    #[error("the host is empty")]
    Empty,
    /// Colons, and not IPv6 as RFC 4291 writes it.
    #[error("{0} is not an IPv6 address")]
    V6(String),
    /// An IPv6 address with a zone, which means something on one host only.
    #[error("{0} has a zone id, and a destination cannot have one")]
    Zone(String),
    /// A number in some form other than four decimal ones.
    #[error(
        "{0} is not an IPv4 address of four decimal numbers, and a name cannot end in a number"
    )]
    Number(String),
    /// Not a host name (RFC 1123, 2.1).
    #[error("{0} is not a host name")]
    Name(String),
    /// Not a host, a colon and a port; IPv6 without brackets is among these.
    #[error("{0} is not HOST:PORT; IPv6 addresses go in brackets")]
    Authority(String),
    /// Not a port in plain decimal.
    #[error("{0} is not a port between 1 and 65535")]
    Port(String),
}

/// A host by address or by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address, as given: one that IPv6 wraps is not unwrapped here.
    Ip(IpAddr),
    /// A name for the resolver, in lower case, without the dot at its end.
    Name(String),
}

impl FromStr for Host {
    type Err = AddressError;

    /// Reads an address without brackets, or a name.
    ///
    /// # Errors
    /// [`AddressError`], for what is neither.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if text.contains(':') {
            if text.contains('%') {
                return Err(AddressError::Zone(shown(text)));
            }
            return match text.parse::<Ipv6Addr>() {
                Ok(address) => Ok(Self::Ip(address.into())),
                Err(_) => Err(AddressError::V6(shown(text))),
            };
        }
        // The standard library takes four decimal numbers without leading zeros and nothing else.
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > MOST_NAME || !name.split('.').all(is_label) {
            return Err(AddressError::Name(shown(text)));
        }
        if name.rsplit('.').next().is_some_and(is_number) {
            return Err(AddressError::Number(shown(text)));
        }
        Ok(Self::Name(name.to_ascii_lowercase()))
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

/// Whether the URL standard's IPv4 parser takes a label for a number: decimal, octal, or hex, which may
/// have no digits.
fn is_number(label: &str) -> bool {
    let decimal = !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let hex = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"))
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    decimal || hex
}

/// RFC 1123, 2.1, and the underscore, which is common in names that resolve.
fn is_label(label: &str) -> bool {
    (1..=MOST_LABEL).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// To which host.
    pub host: Host,
    /// To which port; never 0 when it was read from text or a request.
    pub port: u16,
}

impl FromStr for Destination {
    type Err = AddressError;

    /// Reads `HOST:PORT`, with IPv6 in brackets (RFC 3986, 3.2).
    ///
    /// # Errors
    /// [`AddressError`], for any other text.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::Authority(shown(text));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or_else(wrong)?;
                if !inner.contains(':') {
                    return Err(AddressError::V6(shown(inner)));
                }
                inner.parse()?
            }
            None if host.contains(':') => return Err(wrong()),
            None => host.parse()?,
        };
        let port = parse_port(port)
            .filter(|port| *port > 0)
            .ok_or_else(|| AddressError::Port(shown(port)))?;
        Ok(Self { host, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(out, "[{address}]:{}", self.port),
            host => write!(out, "{host}:{}", self.port),
        }
    }
}

/// A port in decimal digits without sign or leading zero; 0 is one.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok()).flatten()
}

/// What a client wrote, fit for a log: quoted, on one line, and not too much of it.
pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 60;
    let mut start: String = text.chars().take(MOST).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_addresses() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "::",
            "2001:db8::7:0",
            "::ffff:1.2.3.4",
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(text.parse(), Ok(Host::Ip(address)), "{text}");
        }
    }

    #[test]
    fn names_are_names() {
        for text in [
            "localhost",
            "a",
            "example.com",
            "xn--bcher-kva.example",
            "_dmarc.example",
            "1e100.net",
            "3com",
            "0x7g",
            "127.0.0.1.nip.io",
            "a--b",
        ] {
            assert_eq!(text.parse(), Ok(Host::Name(text.to_owned())), "{text}");
        }
        assert_eq!(
            "EXAMPLE.Com.".parse(),
            Ok(Host::Name("example.com".to_owned()))
        );
    }

    #[test]
    fn deceptive_addresses_are_no_names() {
        for text in [
            "0177.0.0.1",
            "127.0.0.01",
            "0x7f.0.0.1",
            "0x7f000001",
            "0X7F.1",
            "2130706433",
            "127.1",
            "127.0.1",
            "1",
            "0",
            "0x",
            "127.0.0.1.",
            "1.2.3.4.5",
            "256.0.0.1",
            "example.1",
            "example.0x",
            "example.0x7f.",
            "a.b.09",
            "127.0.0.0x1",
        ] {
            assert!(
                matches!(text.parse::<Host>(), Err(AddressError::Number(_))),
                "{text}: {:?}",
                text.parse::<Host>()
            );
        }
    }

    #[test]
    fn other_texts_are_neither() {
        let long_label = "a".repeat(64);
        let long_name = [&"a".repeat(63)[..]; 4].join(".");
        for text in [
            " 127.0.0.1",
            "127.0.0.1 ",
            "127.0.0.1\0",
            "127.0.0.1\n",
            "local\0host",
            "１２７.0.0.1",
            "127.0.0.１",
            "127。0。0。1",
            "bücher.example",
            "..",
            ".",
            "a..b",
            ".a",
            "-a",
            "a-",
            "a.-b",
            "a b",
            "a/b",
            "a@b",
            "a%b",
            "[",
            "]",
            "*",
            "١٢٧.0.0.1",
            &long_label,
            &long_name,
        ] {
            assert!(
                matches!(text.parse::<Host>(), Err(AddressError::Name(_))),
                "{text:?}: {:?}",
                text.parse::<Host>()
            );
        }
        for text in [
            "[::1]",
            ":",
            "::1 ",
            "1::2::3",
            "::ffff:0177.0.0.1",
            "::12345",
            "1:2:3:4:5:6:7",
            "a:80",
        ] {
            assert!(
                matches!(text.parse::<Host>(), Err(AddressError::V6(_))),
                "{text:?}"
            );
        }
        assert!(matches!(
            "fe80::1%eth0".parse::<Host>(),
            Err(AddressError::Zone(_))
        ));
        assert_eq!("".parse::<Host>(), Err(AddressError::Empty));
    }

    #[test]
    fn the_longest_name_and_label_still_pass() {
        let label = "a".repeat(63);
        let name = format!("{label}.{label}.{label}.{}", &label[2..]);
        assert_eq!(name.len(), MOST_NAME);
        assert!(name.parse::<Host>().is_ok());
        assert!(format!("{name}.").parse::<Host>().is_ok());
        assert!(format!("{name}a").parse::<Host>().is_err());
    }

    #[test]
    fn destinations_have_brackets_where_ipv6_needs_them() {
        for text in ["127.0.0.1:1", "[::1]:65535", "localhost:9000"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        for text in [
            "",
            ":",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:080",
            "host:+80",
            "host: 80",
            "host:80 ",
            "host:８０",
            "::1:80",
            "[::1]",
            "[::1]80",
            "[::1:80",
            "::1]:80",
            "[127.0.0.1]:80",
            "[localhost]:80",
            "[]:80",
            "user@host:80",
            "host:80:80",
            "[[::1]]:80",
            "[fe80::1%1]:80",
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_on_one_line() {
        let shown = shown(&"a\n".repeat(500));
        assert!(shown.len() < 200 && !shown.contains('\n'));
    }

    proptest! {
        #[test]
        fn what_passes_is_written_as_it_is_read(text in "\\PC{0,20}(:[0-9]{1,5})?") {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse::<Destination>(), Ok(destination));
            }
        }

        #[test]
        fn what_c_takes_for_an_address_is_no_name(text in "((0[xX])?[0-9a-fA-F]{1,9}\\.){0,3}(0[xX])?[0-9a-fA-F]{1,9}\\.?") {
            // Stricter than inet_aton, which also bounds the numbers' sizes.
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
