//! The destinations of one association: routes of headers, and the addresses whose answers pass. Pure, times are arguments.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::own::OwnSockets;
use super::recent::Recent;
use super::record::Decided;
use crate::blocklist::embedded;
use crate::destination::{Destination, Host};
use crate::protocol::socks5::datagram::{self, DatagramError, V6_HEADER};
use crate::proxy::datagrams::record::DropCause;
use crate::proxy::handshake::MAX_ATTEMPTS;
use crate::proxy::record::Decision;
use crate::proxy::resolver::{Answer, Resolved};
use crate::proxy::rules::Rules;
use crate::proxy::slab::Key;
use crate::sys::route::is_routed;

/// How long a decision is kept while the policy is unchanged, in ns. Addresses of this host and own sockets may change. A
/// name without an address is looked up again after this long.
pub const KEEP: u64 = 1_000_000_000;

/// How long the addresses of a name are used before it is looked up again, in ns. The resolver keeps an answer for as long as
/// it is valid.
const REFRESH: u64 = 5_000_000_000;

/// Headers, and addresses that were asked, that are remembered; at most twice as many for a while.
pub const REMEMBERED: usize = 256;

/// Most aliases of a name. The lookup of one with more has failed, as they would be remembered.
const ALIASES: usize = 64;

/// What follows for the datagrams with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Send them to this address.
    To(SocketAddr),
    /// Drop them.
    Drop(DropCause),
    /// They wait for the lookup of their name.
    Wait,
}

/// The route of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The route.
    pub route: Route,
    /// The lookup in progress.
    pub lookup: Option<Key>,
    /// The name in it is to be looked up; then [`Destinations::asks`] follows.
    pub ask: Option<Destination>,
}

/// The rules, and the sockets that are no destinations.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The rules.
    pub rules: &'a Rules,
    /// The sockets of all associations.
    pub own: &'a OwnSockets,
}

#[derive(Debug)]
struct Known {
    destination: Destination,
    /// Of a name: the last answer, without addresses if the lookup failed.
    answer: Option<Resolved>,
    route: Route,
    decided_at: Option<u64>,
    asked_at: u64,
    lookup: Option<Key>,
}

/// The header of datagrams from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; V6_HEADER],
    length: u8,
}

impl Header {
    /// The header of datagrams from this address.
    pub fn of(source: SocketAddr) -> Self {
        let header = datagram::header_of(source);
        let mut bytes = [0; V6_HEADER];
        bytes
            .iter_mut()
            .zip(&header)
            .for_each(|(place, byte)| *place = *byte);
        let length = header.len() as u8;
        Self { bytes, length }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// An address that was asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// The header of its answers.
    pub header: Header,
    /// The longest datagrams that are sent to it in runs.
    pub longest_segment: u16,
}

/// The destinations of an association.
#[derive(Debug)]
pub struct Destinations {
    known: Recent<Box<[u8]>, Known>,
    asked: Recent<SocketAddr, Asked>,
    first: Option<Decided>,
    count: u64,
    is_v6: bool,
}

/// The cause to drop a datagram with such a header.
pub fn cause(error: &DatagramError) -> DropCause {
    match error {
        DatagramError::Fragment(_) => DropCause::Fragment,
        _ => DropCause::BadHeader,
    }
}

impl Destinations {
    /// No destinations yet. A name is an address of IPv6 rather than of IPv4 if `is_v6`, as the client's is: a datagram cannot try
    /// one after the other.
    pub fn new(is_v6: bool) -> Self {
        Self {
            known: Recent::new(REMEMBERED),
            asked: Recent::new(REMEMBERED),
            first: None,
            count: 0,
            is_v6,
        }
    }

    /// The route of a whole header.
    pub fn route(&mut self, header: &[u8], judge: Judge<'_>, now: u64) -> Found {
        if self.known.get_mut(header).is_none() {
            let destination = match datagram::read(header) {
                Ok(destination) => destination,
                Err(error) => return Found::drop(cause(&error)),
            };
            let known = Known {
                destination,
                answer: None,
                route: Route::Wait,
                decided_at: None,
                asked_at: 0,
                lookup: None,
            };
            self.known.insert(header.into(), known);
        }
        let Some(known) = self.known.get_mut(header) else {
            return Found::drop(DropCause::OverLimit);
        };
        let is_after = |then: u64, time: u64| now >= then.saturating_add(time);
        if known.decided_at.is_none_or(|then| is_after(then, KEEP)) {
            let answer = known.answer.as_ref();
            let (route, decided) = decide(&known.destination, answer, self.is_v6, judge);
            known.route = route;
            known.decided_at = Some(now);
            note(&mut self.first, &known.destination, decided);
        }
        let is_due = match (&known.answer, known.route) {
            (None, Route::Wait) => true,
            (Some(_), Route::Drop(DropCause::Unresolved)) => is_after(known.asked_at, KEEP),
            (Some(_), _) => is_after(known.asked_at, REFRESH),
            _ => false,
        };
        let ask = (is_due && known.lookup.is_none()).then(|| known.destination.clone());
        if ask.is_some() && known.route == Route::Drop(DropCause::Unresolved) {
            known.route = Route::Wait;
            known.answer = None;
        }
        let (route, lookup) = (known.route, known.lookup);
        self.asks_address(route);
        Found { route, lookup, ask }
    }

    /// The name in a header is looked up.
    pub fn asks(&mut self, header: &[u8], lookup: Key, now: u64) {
        if let Some(known) = self.known.get_mut(header) {
            known.lookup = Some(lookup);
            known.asked_at = now;
        }
    }

    /// The answer to a lookup: the route of the datagrams that waited for it.
    pub fn on_answer(
        &mut self,
        header: &[u8],
        destination: &Destination,
        answer: Answer,
        judge: Judge<'_>,
        now: u64,
    ) -> Route {
        let mut answer = answer.unwrap_or_default();
        answer.addresses.truncate(MAX_ATTEMPTS);
        if answer.aliases.len() > ALIASES {
            answer = Resolved::default();
        }
        let (route, decided) = decide(destination, Some(&answer), self.is_v6, judge);
        note(&mut self.first, destination, decided);
        if let Some(known) = self.known.get_mut(header) {
            // Later datagrams may use the addresses of the last successful lookup.
            let is_failure = answer.addresses.is_empty();
            let keeps = is_failure && matches!(known.route, Route::To(_));
            known.lookup = None;
            known.asked_at = now;
            if !keeps {
                known.answer = Some(answer);
                known.route = route;
                known.decided_at = Some(now);
            }
        }
        self.asks_address(route);
        route
    }

    /// Datagrams leave to this address, so that its answers pass.
    fn asks_address(&mut self, route: Route) {
        let Route::To(address) = route else {
            return;
        };
        if self.asked.get_mut(&address).is_none() {
            let asked = Asked {
                header: Header::of(address),
                longest_segment: u16::MAX,
            };
            self.asked.insert(address, asked);
            self.count += 1;
        }
    }

    /// The address, if it was asked.
    pub fn asked(&mut self, address: SocketAddr) -> Option<&mut Asked> {
        self.asked.get_mut(&address)
    }

    /// The policy has changed: decides again, and drops the addresses that are no destination any longer.
    pub fn obey(&mut self, judge: Judge<'_>, now: u64) {
        let mut allowed = HashSet::new();
        let (first, is_v6) = (&mut self.first, self.is_v6);
        self.known.retain(|_, known| {
            let answer = known.answer.as_ref();
            let (route, decided) = decide(&known.destination, answer, is_v6, judge);
            known.route = route;
            known.decided_at = Some(now);
            note(first, &known.destination, decided);
            if let Route::To(address) = route {
                allowed.insert(address);
            }
            true
        });
        self.asked.retain(|address, _| allowed.contains(address));
    }

    /// The number of addresses that were asked. One that was not asked for long may count again.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first decision, or else the first against a destination.
    pub fn into_first(self) -> Option<Decided> {
        self.first
    }
}

impl Found {
    fn drop(cause: DropCause) -> Self {
        Self {
            route: Route::Drop(cause),
            lookup: None,
            ask: None,
        }
    }
}

fn note(
    first: &mut Option<Decided>,
    destination: &Destination,
    decided: Option<(Option<SocketAddr>, Decision)>,
) {
    let Some((server, decision)) = decided else {
        return;
    };
    let is_noted = first
        .as_ref()
        .is_some_and(|first| first.decision.entry().is_some() || decision.entry().is_none());
    if !is_noted {
        *first = Some(Decided {
            asked: destination.to_string(),
            server,
            decision,
        });
    }
}

type AddressDecision = Option<(Option<SocketAddr>, Decision)>;

/// The route to a destination, with the decision on its name or address if there was one. As for CONNECT, a name is decided on
/// before its lookup, by its aliases, and at each address.
fn decide(
    destination: &Destination,
    answer: Option<&Resolved>,
    is_v6: bool,
    judge: Judge<'_>,
) -> (Route, AddressDecision) {
    let port = destination.port;
    let (name, resolved) = match &destination.host {
        Host::Ip(ip) => {
            let addresses = vec![*ip];
            let aliases = Vec::new();
            (None, &Resolved { addresses, aliases })
        }
        Host::Name(name) => {
            let decision = judge.rules.decide_name(name, port);
            if let Decision::Blocked(_) = decision {
                return (Route::Drop(DropCause::Blocked), Some((None, decision)));
            }
            let Some(resolved) = answer else {
                return (Route::Wait, None);
            };
            (Some(name), resolved)
        }
    };
    let by_alias = judge.rules.decide_aliases(name, &resolved.aliases, port);
    let by_alias = by_alias.map(|(_, decision)| decision);
    if let Some(Decision::Blocked(_)) = by_alias {
        let decided = by_alias.map(|decision| (None, decision));
        return (Route::Drop(DropCause::Blocked), decided);
    }
    let relays = judge.own.with_port(port);
    let (mut blocked, mut allowed) = (None, Vec::new());
    for ip in &resolved.addresses {
        let address = SocketAddr::new(*ip, port);
        // As the kernel interprets it, so that it is the source of answers.
        let to = SocketAddr::new(embedded::canonical(*ip), port);
        match judge.rules.decide_associated(&relays, address, name) {
            decision @ Decision::Blocked(_) => {
                blocked.get_or_insert((Some(address), decision));
            }
            // One datagram would be many, which no connection can do.
            _ if to.ip().is_multicast() => {}
            decision => allowed.push((to, decision)),
        }
    }
    // Stable.
    allowed.sort_by_key(|(to, _)| to.is_ipv6() != is_v6);
    let is_usable = |to: &SocketAddr| allowed.len() == 1 || is_routed(to.ip());
    let usable = allowed.iter().position(|(to, _)| is_usable(to));
    let place = usable.unwrap_or(0);
    if place < allowed.len() {
        let (to, decision) = allowed.swap_remove(place);
        let decision = match (by_alias, decision) {
            (Some(by_alias), Decision::Allowed) => by_alias,
            (_, decision) => decision,
        };
        return (Route::To(to), Some((Some(to), decision)));
    }
    match (blocked, resolved.addresses.is_empty()) {
        (Some(blocked), _) => (Route::Drop(DropCause::Blocked), Some(blocked)),
        (None, true) => (Route::Drop(DropCause::Unresolved), None),
        (None, false) => (Route::Drop(DropCause::Unreachable), None),
    }
}

#[cfg(test)]
mod tests;
