//! The handshake, from an accepted client to a connected server: pure, it owns no socket, clock or thread.
//!
//! ```text
//!  PROXY header -> request -> name lookup -> decision on an address -> connected
//!       |             |           |             |   ^ next address        |
//!       +-------------+-----------+-------------+---+                     v
//!                     | refused, in the client's protocol             relayed
//! ```
//!
//! The caller performs each [`Action`] and reports its outcome. The address of [`Action::Connect`] is exactly the one on
//! which the rules decided, and is passed to connect(2) unchanged. Several addresses of one name may be tried at a time
//! (RFC 8305, "Happy Eyeballs"). The first that is connected is used, and the caller closes the others.

mod limits;

use std::borrow::Cow;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::vec;

use super::record::{CloseReason, ConnectionInfo, Decision, without_mapping};
use super::resolver::{Answer, Resolved};
use super::rules::Rules;
use crate::destination::Name;
use crate::protocol::proxy_header::{self, Carried, Decoded};
use crate::protocol::{Associate, FrontEnd, Host, Kind, Outcome, Refusal, Request, Step};
use crate::sys::endpoint::{Endpoint, Peer};

/// Most addresses of one name that are tried. If none answers, as many attempts start within 5 s.
pub(super) const MAX_ATTEMPTS: usize = 20;

/// What the caller does next, after it has sent [`Handshake::take_reply`] to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read from the client, then call [`Handshake::on_read`].
    Read,
    /// Look up this name, then call [`Handshake::on_resolved`].
    Resolve(Name),
    /// Connect to this address, in parallel to attempts in progress, then call [`Handshake::on_connected`] or
    /// [`Handshake::on_connect_failed`].
    Connect(SocketAddr),
    /// Open an association of datagrams, then call [`Handshake::on_associated`] or [`Handshake::on_associate_failed`].
    Associate(Associate),
    /// Wait for an attempt in progress.
    Wait,
    /// Send the reply and close the connection.
    Refuse(CloseReason),
}

/// The handshake of one client, and the information about it and its server.
#[derive(Debug)]
pub struct Handshake {
    /// `None` once nothing is left to reply in the client's protocol.
    front: Option<FrontEnd>,
    /// The part of the PROXY header received so far, while one is expected.
    header: Option<Vec<u8>>,
    over_limit: bool,
    reply: Vec<u8>,
    preamble: Vec<u8>,
    is_complete: bool,
    /// Bytes for the server arrived with the request.
    has_early_data: bool,
    name: Option<Name>,
    /// The decision of a dry run against a name of which the requested name is an alias.
    alias_decision: Option<Decision>,
    untried: vec::IntoIter<IpAddr>,
    /// Addresses to which attempts are in progress, the oldest first, with the decision on each.
    attempts: Vec<(SocketAddr, Decision)>,
    /// The failure of the last attempt, or else the decision on the first blocked address.
    failure: Option<(Outcome, CloseReason)>,
    /// The address to which the client connected, if a header for the server contains it.
    local: Option<SocketAddr>,
    /// The parts of the client's PROXY header that the server's repeats, apart from addresses.
    carried: Carried,
    pub(super) info: ConnectionInfo,
}

impl Handshake {
    /// The handshake of a client that connected from `peer` to `local`. Only a PROXY header for the server contains
    /// `local`, so it may be `None` if none is sent. A client `over_limit` is refused as soon as its protocol is known.
    pub fn new(rules: &Rules, peer: Peer, local: Option<Endpoint>, over_limit: bool) -> Self {
        let (local, carried) = match local {
            Some(Endpoint::Unix(path)) => (None, Carried::of_unix(path.as_os_str().as_bytes())),
            other => (other.as_ref().and_then(Endpoint::ip), Carried::default()),
        };
        Self {
            front: Some(FrontEnd::new(&rules.settings)),
            header: rules.accept_header.then(Vec::new),
            over_limit,
            reply: Vec::new(),
            preamble: Vec::new(),
            is_complete: false,
            has_early_data: false,
            name: None,
            alias_decision: None,
            untried: Vec::new().into_iter(),
            attempts: Vec::new(),
            failure: None,
            local: local.map(without_mapping),
            carried,
            info: ConnectionInfo::of(peer),
        }
    }

    /// Called before any byte of the client. A proxy that forwards all clients to one server needs no request.
    pub fn begin(&mut self, rules: &Rules) -> Action {
        match self.header {
            Some(_) => Action::Read,
            None => self.push(&[], rules),
        }
    }

    /// The client sent these bytes.
    pub fn on_read(&mut self, bytes: &[u8], rules: &Rules) -> Action {
        let Some(mut header) = self.header.take() else {
            return self.push(bytes, rules);
        };
        header.extend_from_slice(bytes);
        match proxy_header::decode(&header) {
            Decoded::More => {
                self.header = Some(header);
                Action::Read
            }
            Decoded::Header(found) => {
                if let Some(ends) = found.addresses {
                    self.info.client = ends.source.into();
                    self.local = Some(ends.destination);
                }
                // If the sender speaks on its own behalf (LOCAL), the addresses of the connection itself apply.
                if found.addresses.is_some() || found.carried.has_paths() {
                    self.carried = found.carried;
                }
                self.push(header.get(found.consumed..).unwrap_or_default(), rules)
            }
            // A sender of invalid headers is not a client that understands a reply.
            Decoded::Bad(detail) => {
                self.info.detail = Some(detail);
                Action::Refuse(CloseReason::Refused)
            }
        }
    }

    /// The client ended its side of the connection.
    pub fn on_eof(&mut self, rules: &Rules) -> Action {
        let step = match &mut self.front {
            Some(front) if self.header.is_none() => front.eof(),
            _ => return Action::Refuse(CloseReason::Left),
        };
        self.on_step(step, rules)
            .unwrap_or(Action::Refuse(CloseReason::Left))
    }

    /// The answer to [`Action::Resolve`].
    pub fn on_resolved(&mut self, answer: Answer, rules: &Rules) -> Action {
        let Resolved { addresses, aliases } = match answer {
            Ok(resolved) => resolved,
            Err(error) => {
                self.info.detail = Some(error.to_string());
                return self.refuse(&Outcome::NameUnknown, CloseReason::Unreachable);
            }
        };
        let port = self.port();
        match rules.decide_aliases(self.name.as_ref(), &aliases, port) {
            Some((alias, blocked @ Decision::Blocked(_))) => {
                self.info.decision = blocked;
                self.info.detail = Some(match &self.name {
                    Some(name) => format!("{name} is an alias of {alias}"),
                    None => format!("the name is an alias of {alias}"),
                });
                return self.refuse(&self.blocked(), CloseReason::Blocked);
            }
            Some((_, decision)) => self.alias_decision = Some(decision),
            None => {}
        }
        let mut addresses = interleaved(addresses);
        addresses.truncate(MAX_ATTEMPTS);
        self.untried = addresses.into_iter();
        self.try_next(rules)
    }

    /// The attempt to connect to `address` succeeded, from the local address `from`. The client gets a reply, and other
    /// attempts are forgotten.
    pub fn on_connected(&mut self, address: SocketAddr, from: SocketAddr) {
        if let Some(front) = self.front.take() {
            let unknown = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            let from = match self.info.protocol {
                Some(Kind::Socks5) => from,
                _ => unknown,
            };
            self.reply.extend(front.outcome(Outcome::Connected(from)));
        }
        self.remove_attempt(address);
        self.attempts.clear();
        self.untried = Vec::new().into_iter();
        self.failure = None;
        self.info.detail = None;
    }

    /// An association is open, whose datagrams the client sends to `relay`.
    pub fn on_associated(&mut self, relay: SocketAddr) {
        self.info.is_association = true;
        if let Some(front) = self.front.take() {
            self.reply.extend(front.outcome(Outcome::Connected(relay)));
        }
    }

    /// No association was opened.
    pub fn on_associate_failed(&mut self, outcome: &Outcome) -> Action {
        let reason = match outcome {
            Outcome::Busy => CloseReason::Busy,
            _ => CloseReason::Refused,
        };
        self.refuse(outcome, reason)
    }

    /// The attempt to connect to `address` failed. The next address is tried at once.
    pub fn on_connect_failed(
        &mut self,
        address: SocketAddr,
        error: &io::Error,
        rules: &Rules,
    ) -> Action {
        let outcome = match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::HostUnreachable => Outcome::HostUnreachable,
            ErrorKind::NetworkUnreachable => Outcome::NetworkUnreachable,
            ErrorKind::TimedOut => Outcome::TimedOut,
            _ => Outcome::General(format!("the server cannot be connected to: {error}")),
        };
        self.info.detail = Some(error.to_string());
        self.failure = Some((outcome, CloseReason::Unreachable));
        self.remove_attempt(address);
        self.try_next(rules)
    }

    /// The attempt to connect to `address` was given up in favour of the next address, as no parallel attempt is permitted.
    pub fn gave_up(&mut self, address: SocketAddr, rules: &Rules) -> Action {
        self.info.detail = Some(Outcome::TimedOut.detail());
        self.failure = Some((Outcome::TimedOut, CloseReason::ConnectTimeout));
        self.remove_attempt(address);
        self.try_next(rules)
    }

    /// No attempt has completed yet. The next address is tried in parallel.
    pub fn try_in_parallel(&mut self, rules: &Rules) -> Action {
        self.try_next(rules)
    }

    /// Whether addresses of the name have not been tried yet.
    pub fn has_untried(&self) -> bool {
        !self.untried.as_slice().is_empty()
    }

    /// The addresses to which attempts are in progress, the oldest first.
    pub fn attempts(&self) -> impl ExactSizeIterator<Item = SocketAddr> {
        self.attempts.iter().map(|(address, _)| *address)
    }

    /// The client sent no complete request in time.
    pub fn on_request_timeout(&mut self) -> Action {
        match self.over_limit {
            true => self.refuse(&Outcome::Busy, CloseReason::Busy),
            false => self.refuse(&Outcome::RequestTimeout, CloseReason::RequestTimeout),
        }
    }

    /// The name was not looked up in time.
    pub fn on_lookup_timeout(&mut self) -> Action {
        self.info.detail = Some("the name was not looked up in time".to_owned());
        self.refuse(&Outcome::TimedOut, CloseReason::ConnectTimeout)
    }

    /// No attempt succeeded in time.
    pub fn on_connect_timeout(&mut self) -> Action {
        self.info.detail = Some(Outcome::TimedOut.detail());
        self.refuse(&Outcome::TimedOut, CloseReason::ConnectTimeout)
    }

    /// The client hung up before its server was connected.
    pub fn on_client_gone(&mut self, reason: CloseReason) {
        let what = match reason {
            CloseReason::ClientReset => {
                "the client reset the connection before its server was connected"
            }
            _ => "the client closed the connection before its server was connected",
        };
        self.info.detail = Some(what.to_owned());
    }

    /// Takes the bytes for the client.
    pub fn take_reply(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.reply)
    }

    /// Takes the bytes that the server gets first.
    pub fn take_preamble(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.preamble)
    }

    /// Whether [`Self::take_preamble`] is all that the client sends to the server. Later bytes are discarded.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The name of the request, if it has one.
    pub fn name(&self) -> Option<&Name> {
        self.name.as_ref()
    }

    /// Whether bytes for the server arrived with the request.
    pub fn has_early_data(&self) -> bool {
        self.has_early_data
    }

    fn push(&mut self, bytes: &[u8], rules: &Rules) -> Action {
        let mut bytes = bytes;
        loop {
            let Some(front) = &mut self.front else {
                return Action::Read;
            };
            let step = front.push(bytes);
            if self.info.user.is_none() {
                let user = front.user().map(String::from_utf8_lossy);
                self.info.user = user.map(Cow::into_owned);
            }
            let has_reply = matches!(step, Step::Reply(_));
            match self.on_step(step, rules) {
                Some(action) => return action,
                None if has_reply => bytes = &[],
                None => return Action::Read,
            }
        }
    }

    /// `None` if the request is incomplete.
    fn on_step(&mut self, step: Step, rules: &Rules) -> Option<Action> {
        match step {
            Step::More => None,
            Step::Reply(reply) => {
                self.reply.extend(reply);
                None
            }
            Step::Ready(request) => Some(self.on_request(request, rules)),
            Step::Associate(request) => {
                self.info.protocol = Some(Kind::Socks5);
                Some(match self.over_limit {
                    true => self.refuse(&Outcome::Busy, CloseReason::Busy),
                    false => Action::Associate(request),
                })
            }
            Step::Refuse { reply, reason } => {
                self.info.protocol = self.front.take().and_then(|front| front.kind());
                self.reply.extend(reply);
                self.info.detail = Some(reason.to_string());
                Some(Action::Refuse(match reason {
                    Refusal::Closed => CloseReason::Left,
                    _ => CloseReason::Refused,
                }))
            }
        }
    }

    fn on_request(&mut self, request: Request, rules: &Rules) -> Action {
        let Request {
            kind,
            destination,
            upstream,
            whole: is_complete,
        } = request;
        self.info.protocol = Some(kind);
        let port = destination.port;
        let host = destination.host.clone();
        self.info.asked = Some(destination);
        if self.over_limit {
            return self.refuse(&Outcome::Busy, CloseReason::Busy);
        }
        self.preamble = rules.header(self.info.client.ip(), self.local, &self.carried);
        self.has_early_data = !upstream.is_empty();
        self.preamble.extend(upstream);
        self.is_complete = is_complete;
        match host {
            Host::Ip(address) => {
                self.untried = vec![address].into_iter();
                self.try_next(rules)
            }
            Host::Name(name) => self.on_name(name, port, rules),
        }
    }

    fn on_name(&mut self, name: Name, port: u16, rules: &Rules) -> Action {
        match rules.decide_name(&name, port) {
            Decision::Blocked(entry) => {
                self.info.decision = Decision::Blocked(entry);
                self.refuse(&self.blocked(), CloseReason::Blocked)
            }
            _ => {
                self.name = Some(name.clone());
                Action::Resolve(name)
            }
        }
    }

    /// Starts an attempt to the next address that the rules allow.
    fn try_next(&mut self, rules: &Rules) -> Action {
        let port = self.port();
        while let Some(ip) = self.untried.next() {
            let address = SocketAddr::new(ip, port);
            match rules.decide(address, self.name.as_ref()) {
                decision @ Decision::Blocked(_) => {
                    if self.failure.is_none() {
                        if self.attempts.is_empty() {
                            self.info.decision = decision;
                        }
                        self.failure = Some((self.blocked(), CloseReason::Blocked));
                    }
                }
                decision => {
                    let decision = match (&self.alias_decision, decision) {
                        (Some(decision), Decision::Allowed) => decision.clone(),
                        (_, decision) => decision,
                    };
                    self.info.decision = decision.clone();
                    self.info.server = Some(address);
                    self.attempts.push((address, decision));
                    return Action::Connect(address);
                }
            }
        }
        if !self.attempts.is_empty() {
            return Action::Wait;
        }
        let (outcome, reason) = self
            .failure
            .take()
            .unwrap_or((Outcome::NameUnknown, CloseReason::Unreachable));
        self.refuse(&outcome, reason)
    }

    /// Removes an attempt. The record describes its address until the next attempt starts.
    fn remove_attempt(&mut self, address: SocketAddr) {
        let place = self.attempts().position(|tried| tried == address);
        if let Some(place) = place {
            let (address, decision) = self.attempts.remove(place);
            self.info.server = Some(address);
            self.info.decision = decision;
        }
    }

    fn port(&self) -> u16 {
        self.info.asked.as_ref().map_or(0, |asked| asked.port)
    }

    /// The reply to a blocked request. The entry is in the log only: clients do not learn how the lists are organised.
    fn blocked(&self) -> Outcome {
        Outcome::Blocked(match &self.info.asked {
            Some(asked) => format!("{asked} is blocked by the proxy's policy"),
            None => "the proxy's policy is against it".to_owned(),
        })
    }

    fn refuse(&mut self, outcome: &Outcome, reason: CloseReason) -> Action {
        if self.info.detail.is_none() {
            self.info.detail = Some(outcome.detail());
        }
        // While a PROXY header is expected, the peer is not a client that understands a reply.
        if self.header.is_none()
            && let Some(front) = self.front.take()
        {
            self.info.protocol = front.kind();
            self.reply.extend(front.outcome(outcome.clone()));
        }
        Action::Refuse(reason)
    }
}

/// The addresses with alternating families, starting with that of the first one (RFC 8305, section 4).
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
