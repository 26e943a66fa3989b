//! From a connection to a proxy to one through it to the server: what is said first, and what comes of the replies.

use super::fault::{Failure, Fault};
use crate::protocol::{Answer, Destination, Kind, User, connect, socks5};

/// How the server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// By a connection to it, or to a proxy that forwards to it without being asked.
    Straight,
    /// Through a proxy that is asked for this destination in this way, by this user if it wants one.
    Asked(Kind, Destination, Option<User>),
}

/// A request for a connection that goes on.
#[derive(Debug)]
pub enum Handshake {
    /// By SOCKS5.
    Socks5(Box<socks5::client::Client>),
    /// By HTTP CONNECT.
    Connect(connect::client::Client),
}

/// What a proxy's reply has come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on; this is to be said now, if anything.
    More(Vec<u8>),
    /// The connection is the server's. It said this already, if anything.
    Open(Vec<u8>),
    /// The proxy refuses; whether by its policy.
    Refused {
        /// Because the destination is forbidden.
        forbidden: bool,
        /// The proxy's code and words.
        detail: String,
    },
}

impl Handshake {
    /// What is said first on `route`, and who takes the replies. `None` where nothing is to be said: the connection is the
    /// server's at once, or the whole request is one JSON object.
    pub fn begin(route: &Route) -> Option<(Self, Vec<u8>)> {
        let Route::Asked(kind, destination, user) = route else {
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

    /// Takes what the proxy said.
    ///
    /// # Errors
    /// [`Fault::BadReply`]: that is no reply.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Progress, Failure> {
        let mut say = Vec::new();
        let mut answer = self.push(bytes);
        loop {
            match answer {
                Answer::More => return Ok(Progress::More(say)),
                Answer::Say(more) => {
                    say.extend(more);
                    // What is here already may be enough for the next.
                    answer = self.push(&[]);
                }
                Answer::Open { early } => return Ok(Progress::Open(early)),
                Answer::Refused { code, detail } => {
                    return Ok(Progress::Refused {
                        forbidden: self.forbids(code),
                        detail: format!("{code} {detail}"),
                    });
                }
                Answer::Bad(detail) => return Err(Failure::new(Fault::BadReply, detail)),
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Answer {
        match self {
            Self::Socks5(client) => client.push(bytes),
            Self::Connect(client) => client.push(bytes),
        }
    }

    /// RFC 1928, section 6: "connection not allowed by ruleset"; RFC 9110, 15.5.4: 403 Forbidden.
    fn forbids(&self, code: u16) -> bool {
        match self {
            // A status of 2 would be one of the password's.
            Self::Socks5(client) => client.has_asked() && code == 2,
            Self::Connect(_) => code == 403,
        }
    }
}
