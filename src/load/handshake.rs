//! The handshake with a proxy: from a connection to the proxy to one through it to the server.

use super::error::{ErrorKind, RequestError};
use crate::protocol::{ClientStep, Destination, Kind, User, connect, socks5};

/// How the server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// By a connection to the server, or to a proxy with a fixed destination.
    Direct,
    /// By a request of this protocol to a proxy for this destination, signed in as this user if the proxy requires it.
    Proxied(Kind, Destination, Option<User>),
}

/// A handshake in progress.
#[derive(Debug)]
pub enum Handshake {
    /// SOCKS5.
    Socks5(Box<socks5::client::Client>),
    /// HTTP CONNECT.
    Connect(connect::client::Client),
}

/// Result of a proxy's reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// The handshake continues; send these bytes, if any.
    More(Vec<u8>),
    /// Connected. These bytes of the server have already arrived.
    Open(Vec<u8>),
    /// The proxy refused.
    Refused {
        /// Whether its policy forbids the destination.
        forbidden: bool,
        /// The proxy's code and reason.
        detail: String,
    },
}

impl Handshake {
    /// The handshake of `route` and its first bytes. `None` where there is no handshake: the connection leads to the server at
    /// once, or the whole request is one JSON object.
    pub fn start(route: &Route) -> Option<(Self, Vec<u8>)> {
        let Route::Proxied(kind, destination, user) = route else {
            return None;
        };
        let user = user.as_ref().map(User::pair);
        match kind {
            Kind::Socks5 => {
                let client = socks5::client::Client::new(destination, user);
                let greeting = client.greeting();
                Some((Self::Socks5(Box::new(client)), greeting))
            }
            Kind::Connect => {
                let request = connect::client::request(destination, user);
                Some((Self::Connect(connect::client::Client::default()), request))
            }
            Kind::Json | Kind::Forward => None,
        }
    }

    /// Takes bytes of the proxy.
    ///
    /// # Errors
    /// [`ErrorKind::BadReply`] for bytes that are not a reply.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Progress, RequestError> {
        let mut reply = Vec::new();
        let mut answer = self.push(bytes);
        loop {
            match answer {
                ClientStep::More => return Ok(Progress::More(reply)),
                ClientStep::Send(more) => {
                    reply.extend(more);
                    // The bytes at hand may already contain the next reply.
                    answer = self.push(&[]);
                }
                ClientStep::Open { early } => return Ok(Progress::Open(early)),
                ClientStep::Refused { code, detail } => {
                    return Ok(Progress::Refused {
                        forbidden: self.forbids(code),
                        detail: format!("the proxy replied {code} ({detail})"),
                    });
                }
                ClientStep::Bad(detail) => {
                    return Err(RequestError::new(ErrorKind::BadReply, detail));
                }
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> ClientStep {
        match self {
            Self::Socks5(client) => client.push(bytes),
            Self::Connect(client) => client.push(bytes),
        }
    }

    /// RFC 1928, section 6: "connection not allowed by ruleset"; RFC 9110, 15.5.4: 403 Forbidden.
    fn forbids(&self, code: u16) -> bool {
        match self {
            // Before the request, 2 is a status of the password exchange.
            Self::Socks5(client) => client.has_asked() && code == 2,
            Self::Connect(_) => code == 403,
        }
    }
}
