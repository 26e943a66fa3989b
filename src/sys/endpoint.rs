//! Address of a stream socket: IP address and port, or path (unix(7)).

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// Longest path in bytes: the field `sun_path` without its NUL (unix(7)).
pub const MOST_PATH: usize = 107;

/// Prefix of a path where an IP address is also accepted.
const SCHEME: &str = "unix:";

/// An address to listen on or connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An IP address and a TCP port.
    Ip(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Neither an address nor a path.
    #[error("expected ADDR:PORT, [V6]:PORT or {SCHEME}PATH")]
    Neither,
    /// A path that is too long, empty or contains a NUL.
    #[error("expected a socket path of 1 to {MOST_PATH} bytes without NUL")]
    Path,
}

impl Endpoint {
    /// The IP address and port, if any.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text.strip_prefix(SCHEME) {
            None => text
                .parse()
                .map(Self::Ip)
                .map_err(|_| EndpointError::Neither),
            Some(path) => {
                let bytes = Path::new(path).as_os_str().as_bytes();
                match (1..=MOST_PATH).contains(&bytes.len()) && !bytes.contains(&0) {
                    true => Ok(Self::Unix(path.into())),
                    false => Err(EndpointError::Path),
                }
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(out),
            Self::Unix(path) => write!(out, "{SCHEME}{}", path.display()),
        }
    }
}

/// Address of a client of a stream socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A client at this address and port.
    Ip(SocketAddr),
    /// A process of this host. Clients of a path have no address (unix(7)).
    Unix,
}

impl Peer {
    /// The IP address and port, if any.
    pub fn ip(self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unix => None,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(out),
            Self::Unix => out.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsed_addresses_are_written_alike() {
        let long = format!("unix:{}", "x".repeat(MOST_PATH));
        for text in [
            "127.0.0.1:80",
            "[::1]:0",
            "unix:/run/x.sock",
            "unix:x",
            &long,
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(endpoint.ip().is_none(), text.starts_with("unix:"));
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_expected_form() {
        let long = format!("unix:{}", "x".repeat(MOST_PATH + 1));
        for (text, error) in [
            ("", EndpointError::Neither),
            ("80", EndpointError::Neither),
            ("localhost:80", EndpointError::Neither),
            ("/run/x.sock", EndpointError::Neither),
            ("unix:", EndpointError::Path),
            ("unix:a\0b", EndpointError::Path),
            (&long, EndpointError::Path),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }
}
