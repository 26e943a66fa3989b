//! Types shared by all front ends: settings, requests, refusals and outcomes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;

use super::credentials::Credentials;
use crate::destination::Destination;

/// Default limit of a JSON request in bytes.
pub const MAX_REQUEST: usize = 1 << 20;

/// A request protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One JSON object is the whole request.
    Json,
    /// SOCKS version 5 (RFC 1928).
    Socks5,
    /// The CONNECT method of HTTP/1 (RFC 9110, 9.3.6).
    Connect,
    /// No request: every connection goes to one destination.
    Forward,
}

impl Kind {
    /// Every protocol.
    pub const ALL: [Self; 4] = [Self::Json, Self::Socks5, Self::Connect, Self::Forward];

    /// Index in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in logs and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Socks5 => "socks5",
            Self::Connect => "connect",
            Self::Forward => "forward",
        }
    }
}

/// The protocols that a port accepts. Ignored with a fixed destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// JSON envelopes.
    pub json: bool,
    /// SOCKS5.
    pub socks5: bool,
    /// HTTP CONNECT.
    pub connect: bool,
}

impl Accept {
    /// Every protocol, detected by the first bytes.
    pub const ALL: Self = Self {
        json: true,
        socks5: true,
        connect: true,
    };

    /// One protocol.
    pub const fn only(kind: Kind) -> Self {
        Self {
            json: matches!(kind, Kind::Json),
            socks5: matches!(kind, Kind::Socks5),
            connect: matches!(kind, Kind::Connect),
        }
    }

    /// Whether `kind` is accepted.
    pub const fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Json => self.json,
            Kind::Socks5 => self.socks5,
            Kind::Connect => self.connect,
            Kind::Forward => false,
        }
    }

    /// The protocol, if only one is accepted.
    pub(super) const fn sole(self) -> Option<Kind> {
        match (self.json, self.socks5, self.connect) {
            (true, false, false) => Some(Kind::Json),
            (false, true, false) => Some(Kind::Socks5),
            (false, false, true) => Some(Kind::Connect),
            _ => None,
        }
    }
}

/// The protocols in words, like `JSON and SOCKS5 requests`.
impl fmt::Display for Accept {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.connect, "HTTP CONNECT"),
            (self.socks5, "SOCKS5"),
            (self.json, "JSON"),
        ];
        let words: Vec<&str> = all
            .iter()
            .filter(|(has, _)| *has)
            .map(|(_, word)| *word)
            .collect();
        let words = match &words[..] {
            [one, two, three] => format!("{one}, {two} and {three}"),
            few => few.join(" and "),
        };
        write!(out, "{words} requests")
    }
}

/// Settings of a port, shared by its connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The accepted protocols.
    pub accept: Accept,
    /// Limit of a JSON request in bytes.
    pub max_request: usize,
    /// The users; `None` if no sign-in is required. JSON requests cannot carry a password, so with credentials they are refused.
    pub credentials: Option<Arc<Credentials>>,
    /// Whether SOCKS5 clients may exchange datagrams with any destination (UDP ASSOCIATE).
    pub associate: bool,
    /// A fixed destination. [`Settings::accept`] and [`Settings::credentials`] are then ignored.
    pub forward: Option<Destination>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            accept: Accept::ALL,
            max_request: MAX_REQUEST,
            credentials: None,
            associate: false,
            forward: None,
        }
    }
}

/// A client's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its protocol.
    pub kind: Kind,
    /// The requested destination.
    pub destination: Destination,
    /// First bytes for the server: the JSON message, or bytes that followed the request.
    pub upstream: Vec<u8>,
    /// Whether the request is the client's whole data (JSON): later bytes are not relayed.
    pub whole: bool,
}

/// A client's request for an association of datagrams (RFC 1928, section 4: UDP ASSOCIATE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Associate {
    /// The address from which the client expects to send; `None` if it named none.
    pub ip: Option<IpAddr>,
    /// The port from which the client expects to send; 0 if it is not known yet.
    pub port: u16,
}

/// Result of the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The request is incomplete.
    More,
    /// Send these bytes; the request continues. Bytes at hand may already contain the rest, so push again, with nothing if there
    /// is nothing new.
    Reply(Vec<u8>),
    /// The request is complete.
    Ready(Request),
    /// The request is complete, and is for an association of datagrams.
    Associate(Associate),
    /// Send this reply, if any, and close the connection.
    Refuse {
        /// In the client's protocol; empty if the client is gone.
        reply: Vec<u8>,
        /// The reason, for the log.
        reason: Refusal,
    },
}

/// Why a request is refused before it is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not a valid request of an accepted protocol.
    #[error("{0}")]
    BadRequest(String),
    /// The request is too large.
    #[error("{0}")]
    TooLarge(String),
    /// No user, an unknown user, or a wrong password.
    #[error("{0}")]
    Unauthenticated(String),
    /// The client closed the connection before it sent a request.
    #[error("the client closed the connection before it sent a request")]
    Closed,
}

impl Refusal {
    /// The name in logs and counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::TooLarge(_) => "too_large",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Closed => "closed",
        }
    }
}

/// The outcome of a request, or of a client that never completed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Connected to the server, from this local address.
    Connected(SocketAddr),
    /// Policy forbids the destination; the detail names the entry.
    Blocked(String),
    /// The server's host refused the connection.
    Refused,
    /// No route to the server's host.
    HostUnreachable,
    /// No route to the server's network.
    NetworkUnreachable,
    /// The name has no address, or the lookup failed.
    NameUnknown,
    /// The server did not answer in time.
    TimedOut,
    /// The proxy is at its connection limit.
    Busy,
    /// The client did not complete its request in time.
    RequestTimeout,
    /// Any other failure, in words.
    General(String),
}

impl Outcome {
    /// A sentence without a full stop, for clients and logs.
    pub fn detail(&self) -> String {
        match self {
            Self::Connected(local) => format!("connected from {local}"),
            Self::Blocked(detail) | Self::General(detail) => detail.clone(),
            Self::Refused => "the server refused the connection".to_owned(),
            Self::HostUnreachable => "there is no route to the server's host".to_owned(),
            Self::NetworkUnreachable => "there is no route to the server's network".to_owned(),
            Self::NameUnknown => "the server's name could not be looked up".to_owned(),
            Self::TimedOut => "the server did not answer in time".to_owned(),
            Self::Busy => "the proxy is at its connection limit; try again".to_owned(),
            Self::RequestTimeout => "the request was not complete in time".to_owned(),
        }
    }
}
