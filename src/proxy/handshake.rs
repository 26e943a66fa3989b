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
//! that was decided on, and goes into connect(2) as it is. Several addresses of one name may be tried at once (RFC 8305,
//! "Happy Eyeballs"): each is known by its address, the first that is connected wins, and the caller closes the others.

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::vec;

use super::facts::{Decision, Ending, Known, without_mapping};
use super::resolver::{Answer, Resolved};
use super::rules::Rules;
use crate::destination::Name;
use crate::protocol::proxy_header::{self, Carried, Decoded};
use crate::protocol::{FrontEnd, Host, Kind, Outcome, Refusal, Request, Step};
use crate::sys::endpoint::{Endpoint, Peer};

/// Addresses of one name that are tried, all at once where none answers: as many as are begun within 5 s.
pub(super) const TRIES: usize = 20;

/// What is to be done next. [`Handshake::take_said`] goes to the client before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Hear more of the client, for [`Handshake::take`].
    Hear,
    /// Look this name up, for [`Handshake::resolved`].
    Resolve(Name),
    /// Connect to this address, beside those that are tried already, for [`Handshake::connected`] or
    /// [`Handshake::connect_failed`].
    Connect(SocketAddr),
    /// Nothing until one of the addresses that are tried answers or fails.
    Await,
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
    /// The request came with bytes for the server.
    spoke: bool,
    name: Option<Name>,
    /// What a dry run has against a name that the requested one is an alias of.
    by_alias: Option<Decision>,
    untried: vec::IntoIter<IpAddr>,
    /// Addresses that are being connected to, and what was decided on each, from the first.
    tried: Vec<(SocketAddr, Decision)>,
    /// What became of the last address that failed, or else of the first that is blocked.
    failure: Option<(Outcome, Ending)>,
    /// Where the client connected to, where a server is to be told and it has an address.
    local: Option<SocketAddr>,
    /// What the client's PROXY header has for the server's, beside addresses.
    carried: Carried,
    pub(super) known: Known,
}

impl Handshake {
    /// The handshake of a client that connected from `peer` to `local`. Only a PROXY header for the server contains `local`,
    /// so it may be `None` where none is sent. A client that exceeds the limit is `crowded`: it is refused as soon as its
    /// protocol is known.
    pub fn new(rules: &Rules, peer: Peer, local: Option<Endpoint>, crowded: bool) -> Self {
        let (local, carried) = match local {
            Some(Endpoint::Unix(path)) => (None, Carried::of_unix(path.as_os_str().as_bytes())),
            other => (other.as_ref().and_then(Endpoint::ip), Carried::default()),
        };
        Self {
            front: Some(FrontEnd::new(&rules.settings)),
            header: rules.accept_header.then(Vec::new),
            crowded,
            said: Vec::new(),
            to_server: Vec::new(),
            whole: false,
            spoke: false,
            name: None,
            by_alias: None,
            untried: Vec::new().into_iter(),
            tried: Vec::new(),
            failure: None,
            local: local.map(without_mapping),
            carried,
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
                    self.known.client = ends.source.into();
                    self.local = Some(ends.destination);
                }
                // Where the sender speaks for itself, the connection's own ends count.
                if found.addresses.is_some() || found.carried.has_paths() {
                    self.carried = found.carried;
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

    /// The answer to [`Next::Resolve`]. Every name that the requested one is an alias of is judged as that one was, unless
    /// the requested one is excepted.
    pub fn resolved(&mut self, answer: Answer, rules: &Rules) -> Next {
        let Resolved { addresses, aliases } = match answer {
            Ok(resolved) => resolved,
            Err(error) => {
                self.known.detail = Some(error.to_string());
                return self.refuse(&Outcome::NameUnknown, Ending::Unreachable);
            }
        };
        let port = self.port();
        let name = self.name.as_ref();
        let is_excepted =
            !aliases.is_empty() && name.is_some_and(|name| rules.excepts_name(name, port));
        for alias in aliases.into_iter().filter(|_| !is_excepted) {
            match rules.decide_name(&alias, port) {
                blocked @ Decision::Blocked(_) => {
                    self.known.decision = blocked;
                    self.known.detail = Some(match &self.name {
                        Some(name) => format!("{name} is an alias of {alias}"),
                        None => format!("the name is an alias of {alias}"),
                    });
                    return self.refuse(&self.blocked(), Ending::Blocked);
                }
                noted @ Decision::WouldBlock(_) => {
                    self.by_alias.get_or_insert(noted);
                }
                Decision::Allowed | Decision::Undecided => {}
            }
        }
        let mut addresses = interleaved(addresses);
        addresses.truncate(TRIES);
        self.untried = addresses.into_iter();
        self.try_next(rules)
    }

    /// An address that was tried is connected, and the client is told so. `from` is the local address.
    pub fn connected(&mut self, address: SocketAddr, from: SocketAddr) {
        if let Some(front) = self.front.take() {
            let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            let from = match self.known.protocol {
                Some(Kind::Socks5) => from,
                _ => unknown,
            };
            self.said.extend(front.outcome(Outcome::Connected(from)));
        }
        self.leave(address);
        self.tried.clear();
        self.untried = Vec::new().into_iter();
        self.failure = None;
        self.known.detail = None;
    }

    /// An address that was tried failed; the next one is tried at once.
    pub fn connect_failed(
        &mut self,
        address: SocketAddr,
        error: &io::Error,
        rules: &Rules,
    ) -> Next {
        let outcome = match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::HostUnreachable => Outcome::HostUnreachable,
            ErrorKind::NetworkUnreachable => Outcome::NetworkUnreachable,
            ErrorKind::TimedOut => Outcome::TimedOut,
            _ => Outcome::General(format!("the server cannot be connected to: {error}")),
        };
        self.known.detail = Some(error.to_string());
        self.failure = Some((outcome, Ending::Unreachable));
        self.leave(address);
        self.try_next(rules)
    }

    /// An address that was tried is given up for the next one, as there are no sockets for both.
    pub fn gave_up(&mut self, address: SocketAddr, rules: &Rules) -> Next {
        self.known.detail = Some(Outcome::TimedOut.detail());
        self.failure = Some((Outcome::TimedOut, Ending::ConnectTimeout));
        self.leave(address);
        self.try_next(rules)
    }

    /// None of the addresses that are tried has answered yet; the next one is tried beside them.
    pub fn hurry(&mut self, rules: &Rules) -> Next {
        self.try_next(rules)
    }

    /// An address of the name was not tried yet.
    pub fn has_more(&self) -> bool {
        !self.untried.as_slice().is_empty()
    }

    /// The addresses that are being connected to, from the first.
    pub fn tried(&self) -> impl ExactSizeIterator<Item = SocketAddr> {
        self.tried.iter().map(|(address, _)| *address)
    }

    /// The client has not said in time what it wants.
    pub fn request_timed_out(&mut self) -> Next {
        match self.crowded {
            true => self.refuse(&Outcome::Busy, Ending::Busy),
            false => self.refuse(&Outcome::RequestTimeout, Ending::RequestTimeout),
        }
    }

    /// The name was not looked up in time.
    pub fn lookup_timed_out(&mut self) -> Next {
        self.known.detail = Some("the name was not looked up in time".to_owned());
        self.refuse(&Outcome::TimedOut, Ending::ConnectTimeout)
    }

    /// No server was connected in time, at any address.
    pub fn connect_timed_out(&mut self) -> Next {
        self.known.detail = Some(Outcome::TimedOut.detail());
        self.refuse(&Outcome::TimedOut, Ending::ConnectTimeout)
    }

    /// The client hung up before there was a server.
    pub fn hung_up(&mut self, ending: Ending) {
        let what = match ending {
            Ending::ClientReset => {
                "the client reset the connection before its server was connected"
            }
            _ => "the client closed the connection before its server was connected",
        };
        self.known.detail = Some(what.to_owned());
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

    /// The name that is looked up, or was.
    pub fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// The request came with bytes for the server.
    pub fn has_spoken(&self) -> bool {
        self.spoke
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
            let said = matches!(step, Step::Reply(_));
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
            Step::Reply(said) => {
                self.said.extend(said);
                None
            }
            Step::Ready(request) => Some(self.asked(request, rules)),
            Step::Refuse { reply, reason } => {
                self.known.protocol = self.front.as_ref().and_then(FrontEnd::kind);
                self.said.extend(reply);
                self.known.detail = Some(reason.to_string());
                Some(Next::Refuse(match reason {
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
        self.to_server = rules.header(self.known.client.ip(), self.local, &self.carried);
        self.spoke = !upstream.is_empty();
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
        let port = self.port();
        while let Some(ip) = self.untried.next() {
            let address = SocketAddr::new(ip, port);
            match rules.decide(address, self.name.as_ref()) {
                decision @ Decision::Blocked(_) => {
                    if self.failure.is_none() {
                        if self.tried.is_empty() {
                            self.known.decision = decision;
                        }
                        self.failure = Some((self.blocked(), Ending::Blocked));
                    }
                }
                decision => {
                    let decision = match (&self.by_alias, decision) {
                        (Some(noted), Decision::Allowed) => noted.clone(),
                        (_, decision) => decision,
                    };
                    self.known.decision = decision.clone();
                    self.known.server = Some(address);
                    self.tried.push((address, decision));
                    return Next::Connect(address);
                }
            }
        }
        if !self.tried.is_empty() {
            return Next::Await;
        }
        let (outcome, ending) = self
            .failure
            .take()
            .unwrap_or((Outcome::NameUnknown, Ending::Unreachable));
        self.refuse(&outcome, ending)
    }

    /// An address is not tried any more: what is known from now on is of this one, until the next is tried.
    fn leave(&mut self, address: SocketAddr) {
        let place = self.tried().position(|tried| tried == address);
        if let Some(place) = place {
            let (address, decision) = self.tried.remove(place);
            self.known.server = Some(address);
            self.known.decision = decision;
        }
    }

    fn port(&self) -> u16 {
        self.known.asked.as_ref().map_or(0, |asked| asked.port)
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

/// The same addresses, families in turn, the family of the first one first (RFC 8305, section 4).
fn interleaved(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let first = addresses.first().is_some_and(IpAddr::is_ipv4);
    let (mut one, mut other): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first);
    one.reverse();
    other.reverse();
    let mut all = Vec::with_capacity(one.len() + other.len());
    while !(one.is_empty() && other.is_empty()) {
        all.extend(one.pop());
        all.extend(other.pop());
    }
    all
}

#[cfg(test)]
mod tests;
