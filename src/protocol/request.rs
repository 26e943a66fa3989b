//! The vocabulary of the front ends: what is accepted, what was asked for, and what came of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;

use super::credentials::Credentials;
use crate::destination::Destination;

/// Most bytes of a JSON request, unless told otherwise.
pub const MAX_REQUEST: usize = 1 << 20;

/// How a client speaks to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One JSON object that is the whole request.
    Json,
    /// SOCKS version 5 (RFC 1928).
    Socks5,
    /// The CONNECT method of HTTP/1 (RFC 9110, 9.3.6).
    Connect,
    /// Not at all: every connection goes to one place.
    Forward,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Json, Self::Socks5, Self::Connect, Self::Forward];

    /// Its place in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name in logs and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Socks5 => "socks5",
            Self::Connect => "connect",
            Self::Forward => "forward",
        }
    }
}

/// Which kinds a port takes. Where all connections are forwarded, this has no reply.
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
    /// Every kind, told apart by the first byte.
    pub const ALL: Self = Self {
        json: true,
        socks5: true,
        connect: true,
    };

    /// One kind and no other.
    pub const fn only(kind: Kind) -> Self {
        Self {
            json: matches!(kind, Kind::Json),
            socks5: matches!(kind, Kind::Socks5),
            connect: matches!(kind, Kind::Connect),
        }
    }

    /// Whether `kind` is among them.
    pub const fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Json => self.json,
            Kind::Socks5 => self.socks5,
            Kind::Connect => self.connect,
            Kind::Forward => false,
        }
    }

    /// The kind there is, if there is no choice.
    pub(super) const fn sole(self) -> Option<Kind> {
        match (self.json, self.socks5, self.connect) {
            (true, false, false) => Some(Kind::Json),
            (false, true, false) => Some(Kind::Socks5),
            (false, false, true) => Some(Kind::Connect),
            _ => None,
        }
    }
}

/// The kinds in words, like `JSON and SOCKS5 requests`.
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

/// What a port offers. Shared by all its connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The kinds it takes.
    pub accept: Accept,
    /// Most bytes of a JSON request.
    pub max_request: usize,
    /// Who may use it; nobody is asked where this is `None`. A JSON request has no place for a
    /// password, so with credentials it is refused.
    pub credentials: Option<Arc<Credentials>>,
    /// Where every connection goes, whatever it says. [`Settings::accept`] and
    /// [`Settings::credentials`] have no say then.
    pub forward: Option<Destination>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            accept: Accept::ALL,
            max_request: MAX_REQUEST,
            credentials: None,
            forward: None,
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How it asked.
    pub kind: Kind,
    /// Where it wants to go.
    pub destination: Destination,
    /// What the server is sent first: the JSON message, or what came behind the request.
    pub upstream: Vec<u8>,
    /// Nothing the client sends after this is part of it (JSON), so nothing of that is relayed.
    pub whole: bool,
}

/// What follows from the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The request goes on.
    More,
    /// The client is sent this and the request goes on; what is already here may be enough, so push again,
    /// nothing if there is nothing new.
    Reply(Vec<u8>),
    /// The request is whole.
    Ready(Request),
    /// The client is sent this, if anything, and that is the end.
    Refuse {
        /// In the client's own protocol; empty where there is nobody to tell.
        reply: Vec<u8>,
        /// For the log.
        reason: Refusal,
    },
}

/// Why a request goes no further than its own bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not a request of any kind that is taken.
    #[error("{0}")]
    BadRequest(String),
    /// More bytes than a request may have.
    #[error("{0}")]
    TooLarge(String),
    /// No user, an unknown one, or the wrong password.
    #[error("{0}")]
    Unauthenticated(String),
    /// The client left before it asked for anything.
    #[error("the client closed the connection before it sent a request")]
    Closed,
}

impl Refusal {
    /// Its name in logs and counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::TooLarge(_) => "too_large",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Closed => "closed",
        }
    }
}

/// What became of a request, or of a client that never finished one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server is reached, from this local address.
    Connected(SocketAddr),
    /// Policy forbids the destination; the detail says which entry does.
    Blocked(String),
    /// The server's host refused the connection.
    Refused,
    /// No route to the host.
    HostUnreachable,
    /// No route to its network.
    NetworkUnreachable,
    /// The name has no address, or none that could be found out.
    NameUnknown,
    /// The server did not answer in time.
    TimedOut,
    /// The proxy has as many connections as it may have.
    Busy,
    /// The client did not finish its request in time.
    RequestTimeout,
    /// Anything else, in words.
    General(String),
}

impl Outcome {
    /// One sentence without a full stop, for clients and logs.
    pub fn detail(&self) -> String {
        match self {
            Self::Connected(local) => format!("connected from {local}"),
            Self::Blocked(detail) | Self::General(detail) => detail.clone(),
            Self::Refused => "the server refused the connection".to_owned(),
            Self::HostUnreachable => "there is no route to the server's host".to_owned(),
            Self::NetworkUnreachable => "there is no route to the server's network".to_owned(),
            Self::NameUnknown => "the server's name could not be looked up".to_owned(),
            Self::TimedOut => "the server did not answer in time".to_owned(),
            Self::Busy => "the proxy has all the connections it may have; try again".to_owned(),
            Self::RequestTimeout => "the request was not complete in time".to_owned(),
        }
    }
}
