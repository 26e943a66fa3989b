//! A host and a port, as `HOST:PORT`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::error::{HostError, quoted};
use super::{Host, read_ipv6};

/// The destination of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The host.
    pub host: Host,
    /// The port; never 0 if it was parsed from text or a request.
    pub port: u16,
}

impl FromStr for Destination {
    type Err = HostError;

    /// Reads `HOST:PORT`, with IPv6 in brackets.
    ///
    /// # Errors
    /// [`HostError`] for any other text.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let authority = Authority::split(text)?;
        let port = authority
            .port
            .ok_or_else(|| HostError::NoPort(quoted(text)))?;
        Ok(Self {
            host: authority.host()?,
            port: parse_port(port)?,
        })
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

/// A text split into host and port, both unparsed (RFC 3986, section 3.2).
#[derive(Debug)]
pub struct Authority<'a> {
    /// The host, without brackets.
    pub host: &'a str,
    /// Whether the host was in brackets, which means IPv6.
    pub bracketed: bool,
    /// The text after the colon behind the host.
    pub port: Option<&'a str>,
}

impl<'a> Authority<'a> {
    /// Splits a port off the end. A colon separates a port only if it is the only one, or follows brackets.
    ///
    /// # Errors
    /// [`HostError::Brackets`].
    pub fn split(text: &'a str) -> Result<Self, HostError> {
        let Some(rest) = text.strip_prefix('[') else {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            };
            return Ok(Self {
                host,
                bracketed: false,
                port,
            });
        };
        let wrong = || HostError::Brackets(quoted(text));
        let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or_else(wrong)?),
        };
        Ok(Self {
            host,
            bracketed: true,
            port,
        })
    }

    /// Parses the host.
    ///
    /// # Errors
    /// [`HostError`] for an invalid host.
    pub fn host(&self) -> Result<Host, HostError> {
        if self.bracketed {
            return read_ipv6(self.host).map(Host::from);
        }
        self.host.parse()
    }
}

/// Reads a port from 1 to 65535: decimal digits without sign or leading zero.
///
/// # Errors
/// [`HostError::Port`].
pub fn parse_port(text: &str) -> Result<u16, HostError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    match text.parse() {
        Ok(port) if plain => Ok(port),
        _ => Err(HostError::Port(quoted(text))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn display_is_the_parsed_form() {
        for text in ["127.0.0.1:1", "[::1]:65535", "localhost:9000"] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        let spelled: Destination = "BÜCHER.example.:80".parse().unwrap();
        assert_eq!(spelled.to_string(), "xn--bcher-kva.example:80");
    }

    #[test]
    fn invalid_destinations_have_a_reason() {
        for (text, piece) in [
            ("", "not HOST:PORT"),
            (":", "is empty"),
            (":80", "is empty"),
            ("host", "not HOST:PORT"),
            ("127.0.0.1", "not HOST:PORT"),
            ("host:80:80", "not HOST:PORT"),
            ("::1:80", "in brackets"),
            ("::1]:80", "in brackets"),
            ("[::1]", "in brackets"),
            ("host:", "not a port"),
            ("host:0", "not a port"),
            ("host:65536", "not a port"),
            ("host:080", "not a port"),
            ("host:+80", "not a port"),
            ("host: 80", "not a port"),
            ("host:80 ", "not a port"),
            ("host:８０", "not a port"),
            ("host:http", "not a port"),
            ("[::1]80", "bracketed"),
            ("[::1:80", "bracketed"),
            ("[[::1]]:80", "bracketed"),
            ("[127.0.0.1]:80", "IPv6"),
            ("[localhost]:80", "IPv6"),
            ("[]:80", "IPv6"),
            ("[fe80::1%1]:80", "zone id"),
            ("user@host:80", "'@' in it"),
        ] {
            let error = text.parse::<Destination>().unwrap_err().to_string();
            assert!(error.contains(piece), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn display_parses_to_the_same_destination(text in "\\PC{0,20}(:[0-9]{1,5})?") {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse::<Destination>(), Ok(destination));
            }
        }
    }
}
