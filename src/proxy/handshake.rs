//! From a client that was taken to a server that is there: pure, it owns no socket, clock or thread.
//!
//! ```text
//!  PROXY header -> request -> name looked up -> an address decided on -> connected
//!       |             |             |             |  ^ the next one        |
//!       +-------------+-------------+-------------+--+                     v
//!                     | refused, in the client's own protocol       relayed from here on
//! ```
//!
//! The caller does what [`Next`] says and reports what came of it. An address that [`Next::Connect`] gives is the very one
//! that was decided on, and goes into connect(2) as it is.

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::vec;

use super::facts::{Decision, Ending, Known, without_mapping};
use super::rules::Rules;
use crate::host::Name;
use crate::protocol::proxy_header::{self, Decoded};
use crate::protocol::{FrontEnd, Host, Kind, Outcome, Refusal, Request, Step};

/// Addresses of one name that are tried.
const TRIES: usize = 8;

/// What is to be done next. [`Handshake::take_said`] goes to the client before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Hear more of the client, for [`Handshake::take`].
    Hear,
    /// Look this name up, for [`Handshake::resolved`].
    Resolve(Name),
    /// Connect to this address, for [`Handshake::connected`] or [`Handshake::connect_failed`].
    Connect(SocketAddr),
    /// Nothing comes of it: hang up once the client has heard what was said.
    Refuse(Ending),
}

/// One client's way to its server, and what is known of both from then on.
#[derive(Debug)]
pub struct Handshake {
    /// Gone once there is nothing more to say in the client's protocol.
    front: Option<FrontEnd>,
    /// The PROXY header as far as it came, while one is due.
    header: Option<Vec<u8>>,
    crowded: bool,
    said: Vec<u8>,
    to_server: Vec<u8>,
    whole: bool,
    name: Option<Name>,
    untried: vec::IntoIter<IpAddr>,
    /// What became of the last address that was tried, or else of the first that is blocked.
    failure: Option<(Outcome, Ending)>,
    /// Where the client connected to.
    local: SocketAddr,
    pub(super) known: Known,
}

impl Handshake {
    /// With a client that came from `peer` to `local`. One too many is `crowded`: it is told so as soon as it has said in which
    /// protocol.
    pub fn new(rules: &Rules, peer: SocketAddr, local: SocketAddr, crowded: bool) -> Self {
        Self {
            front: Some(FrontEnd::new(&rules.settings)),
            header: rules.accept_header.then(Vec::new),
            crowded,
            said: Vec::new(),
            to_server: Vec::new(),
            whole: false,
            name: None,
            untried: Vec::new().into_iter(),
            failure: None,
            local: without_mapping(local),
            known: Known::of(peer),
        }
    }

    /// Before the client says anything: where all are forwarded to one server, nothing needs to be said.
    pub fn begin(&mut self, rules: &Rules) -> Next {
        match self.header {
            Some(_) => Next::Hear,
            None => self.push(&[], rules),
        }
    }

    /// More of the client's bytes.
    pub fn take(&mut self, bytes: &[u8], rules: &Rules) -> Next {
        let Some(mut header) = self.header.take() else {
            return self.push(bytes, rules);
        };
        header.extend_from_slice(bytes);
        match proxy_header::decode(&header) {
            Decoded::More => {
                self.header = Some(header);
                Next::Hear
            }
            Decoded::Header(found) => {
                if let Some(ends) = found.addresses {
                    self.known.client = ends.source;
                    self.local = ends.destination;
                }
                self.push(header.get(found.consumed..).unwrap_or_default(), rules)
            }
            // No client sent this, so there is none to be told.
            Decoded::Bad(detail) => {
                self.known.detail = Some(detail);
                Next::Refuse(Ending::Refused)
            }
        }
    }

    /// The client says nothing more.
    pub fn ended(&mut self, rules: &Rules) -> Next {
        let step = match &mut self.front {
            Some(front) if self.header.is_none() => front.eof(),
            _ => return Next::Refuse(Ending::Left),
        };
        self.follow(step, rules)
            .unwrap_or(Next::Refuse(Ending::Left))
    }

    /// The addresses of [`Next::Resolve`].
    pub fn resolved(&mut self, answer: io::Result<Vec<IpAddr>>, rules: &Rules) -> Next {
        match answer {
            Ok(mut addresses) => {
                addresses.truncate(TRIES);
                self.untried = addresses.into_iter();
                self.try_next(rules)
            }
            Err(error) => {
                self.known.detail = Some(error.to_string());
                self.refuse(&Outcome::NameUnknown, Ending::Unreachable)
            }
        }
    }

    /// There is a server, and the client is told so. `from` is the address that it is connected from, where anybody wants to
    /// know.
    pub fn connected(&mut self, from: impl FnOnce() -> Option<SocketAddr>) {
        if let Some(front) = self.front.take() {
            let from = match self.known.protocol {
                Some(Kind::Socks5) => from(),
                _ => None,
            };
            let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            self.said = front.outcome(Outcome::Connected(from.unwrap_or(unknown)));
        }
        self.untried = Vec::new().into_iter();
        self.failure = None;
        self.known.detail = None;
    }

    /// connect(2) failed.
    pub fn connect_failed(&mut self, error: &io::Error, rules: &Rules) -> Next {
        let outcome = match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::HostUnreachable => Outcome::HostUnreachable,
            ErrorKind::NetworkUnreachable => Outcome::NetworkUnreachable,
            ErrorKind::TimedOut => Outcome::TimedOut,
            _ => Outcome::General(format!("the server cannot be connected to: {error}")),
        };
        self.known.detail = Some(error.to_string());
        self.failure = Some((outcome, Ending::Unreachable));
        self.try_next(rules)
    }

    /// The client has not said in time what it wants.
    pub fn request_timed_out(&mut self) -> Next {
        self.refuse(&Outcome::RequestTimeout, Ending::RequestTimeout)
    }

    /// The name was not looked up in time.
    pub fn lookup_timed_out(&mut self) -> Next {
        self.known.detail = Some("the name was not looked up in time".to_owned());
        self.refuse(&Outcome::TimedOut, Ending::ConnectTimeout)
    }

    /// The server did not answer in time.
    pub fn connect_timed_out(&mut self, rules: &Rules) -> Next {
        self.known.detail = Some(Outcome::TimedOut.detail());
        self.failure = Some((Outcome::TimedOut, Ending::ConnectTimeout));
        self.try_next(rules)
    }

    /// What the client is told next.
    pub fn take_said(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.said)
    }

    /// What the server is told first of all.
    pub fn take_to_server(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.to_server)
    }

    /// All that the client has for the server is in [`Self::take_to_server`]: what it may say later is not for anybody.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    fn push(&mut self, bytes: &[u8], rules: &Rules) -> Next {
        let mut bytes = bytes;
        loop {
            let Some(front) = &mut self.front else {
                return Next::Hear;
            };
            let step = front.push(bytes);
            if self.known.user.is_none() {
                let user = front.user().map(String::from_utf8_lossy);
                self.known.user = user.map(Cow::into_owned);
            }
            let said = matches!(step, Step::Say(_));
            match self.follow(step, rules) {
                Some(next) => return next,
                None if said => bytes = &[],
                None => return Next::Hear,
            }
        }
    }

    /// `None` where the request goes on.
    fn follow(&mut self, step: Step, rules: &Rules) -> Option<Next> {
        match step {
            Step::More => None,
            Step::Say(said) => {
                self.said.extend(said);
                None
            }
            Step::Ready(request) => Some(self.asked(request, rules)),
            Step::Refuse { say, why } => {
                self.known.protocol = self.front.as_ref().and_then(FrontEnd::kind);
                self.said.extend(say);
                self.known.detail = Some(why.to_string());
                Some(Next::Refuse(match why {
                    Refusal::Closed => Ending::Left,
                    _ => Ending::Refused,
                }))
            }
        }
    }

    fn asked(&mut self, request: Request, rules: &Rules) -> Next {
        let Request {
            kind,
            destination,
            upstream,
            whole,
        } = request;
        self.known.protocol = Some(kind);
        let port = destination.port;
        let host = destination.host.clone();
        self.known.asked = Some(destination);
        if self.crowded {
            return self.refuse(&Outcome::Busy, Ending::Busy);
        }
        self.to_server = rules.header(self.known.client, self.local);
        self.to_server.extend(upstream);
        self.whole = whole;
        match host {
            Host::Ip(address) => {
                self.untried = vec![address].into_iter();
                self.try_next(rules)
            }
            Host::Name(name) => self.named(name, port, rules),
        }
    }

    fn named(&mut self, name: Name, port: u16, rules: &Rules) -> Next {
        match rules.decide_name(&name, port) {
            Decision::Blocked(entry) => {
                self.known.decision = Decision::Blocked(entry);
                self.refuse(&self.blocked(), Ending::Blocked)
            }
            _ => {
                self.name = Some(name.clone());
                Next::Resolve(name)
            }
        }
    }

    /// The next address that may be connected to.
    fn try_next(&mut self, rules: &Rules) -> Next {
        let port = self.known.asked.as_ref().map_or(0, |asked| asked.port);
        while let Some(ip) = self.untried.next() {
            let address = SocketAddr::new(ip, port);
            match rules.decide(address, self.name.as_ref()) {
                decision @ Decision::Blocked(_) => {
                    if self.failure.is_none() {
                        self.known.decision = decision;
                        self.failure = Some((self.blocked(), Ending::Blocked));
                    }
                }
                decision => {
                    self.known.decision = decision;
                    self.known.server = Some(address);
                    return Next::Connect(address);
                }
            }
        }
        let (outcome, ending) = self
            .failure
            .take()
            .unwrap_or((Outcome::NameUnknown, Ending::Unreachable));
        self.refuse(&outcome, ending)
    }

    /// Which entry of which file it is, is for the log: clients are not told how the lists are kept.
    fn blocked(&self) -> Outcome {
        Outcome::Blocked(match &self.known.asked {
            Some(asked) => format!("{asked} is blocked by the proxy's policy"),
            None => "the proxy's policy is against it".to_owned(),
        })
    }

    fn refuse(&mut self, outcome: &Outcome, ending: Ending) -> Next {
        if self.known.detail.is_none() {
            self.known.detail = Some(outcome.detail());
        }
        // Where the PROXY header is still due, it is not the client who is there.
        if let (Some(front), None) = (&self.front, &self.header) {
            self.known.protocol = front.kind();
            self.said.extend(front.outcome(outcome.clone()));
        }
        Next::Refuse(ending)
    }
}

#[cfg(test)]
mod tests;
