//! The destinations of one association: routes of headers, and the addresses whose answers pass. Pure, times are arguments.
//!
//! A route carries the generation of the policy by which it was decided. After a reload it is decided again when a datagram uses
//! it next: one of the client with its header, or an answer from its address. So a reload itself costs nothing, however many
//! associations and destinations there are.
//!
//! Memory is bounded: [`REMEMBERED`] headers and as many addresses, of [`BYTES`] in all for one of each, and [`NAME_BYTES`] for
//! names and what they resolved to. A full association takes 36 kB, and 64 kB more if all its destinations have names.

use std::net::SocketAddr;

use super::own::OwnSockets;
use super::recent::Recent;
use super::record::Decided;
use crate::destination::Destination;
use crate::protocol::socks5::datagram::{self, DatagramError};
use crate::proxy::datagrams::record::DropCause;
use crate::proxy::handshake::MAX_ATTEMPTS;
use crate::proxy::record::Decision;
use crate::proxy::resolver::{Answer, Resolved};
use crate::proxy::rules::Rules;
use crate::proxy::slab::Key;

mod decide;
mod header;
mod stored;

use decide::{AddressDecision, decide};
use header::HeaderKey;
use stored::{Asked, Known, Source, StoredAnswer, StoredRoute};

/// How long a decision is kept while the policy is unchanged, in ns. Addresses of this host and own sockets may change. A
/// name without an address is looked up again after this long.
pub const KEEP: u64 = 1_000_000_000;

/// How long the addresses of a name are used before it is looked up again, in ns. The resolver keeps an answer for as long as
/// it is valid.
const REFRESH: u64 = 5_000_000_000;

/// Headers, and addresses whose answers pass, that are remembered: those that were used last.
pub const REMEMBERED: u16 = 256;

/// Most bytes of an address as a destination: its header and its source. A name takes memory beside, of [`NAME_BYTES`].
pub const BYTES: usize = Recent::<HeaderKey, Known>::BYTES + Recent::<Source, Asked>::BYTES;

const _: () = assert!(BYTES <= 150);

/// Most bytes of all names, their addresses and aliases in an association. Beyond, the headers that were used longest ago are
/// forgotten.
pub const NAME_BYTES: usize = 64 << 10;

/// Most aliases of a name. The lookup of one with more has failed, as they would be remembered.
const ALIASES: usize = 64;

/// Most routes that are decided again for one answer. The answers that need more are dropped.
const DECISIONS: usize = 16;

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
    /// The [generation](crate::blocklist::reload::Policies::generation) of their policy, read before the policy is used.
    pub generation: u64,
    /// The sockets of all associations.
    pub own: &'a OwnSockets,
}

impl<'a> Judge<'a> {
    /// By the present policy.
    pub fn new(rules: &'a Rules, own: &'a OwnSockets) -> Self {
        let generation = rules.policies.generation();
        Self {
            rules,
            generation,
            own,
        }
    }

    /// Whether datagrams of this source pass where it does not matter whether it was asked.
    pub fn allows(&self, source: SocketAddr) -> bool {
        let relays = self.own.with_port(source.port());
        let decision = self.rules.decide_associated(&relays, source, None);
        !matches!(decision, Decision::Blocked(_))
    }
}

/// The destinations of an association.
#[derive(Debug)]
pub struct Destinations {
    known: Recent<HeaderKey, Known>,
    /// Bytes of `known` on the heap, of names.
    name_bytes: usize,
    asked: Recent<Source, Asked>,
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

fn is_after(now: u64, then: u64, time: u64) -> bool {
    now >= then.saturating_add(time)
}

impl Destinations {
    /// No destinations yet. A name is an address of IPv6 rather than of IPv4 if `is_v6`, as the client's is: a datagram cannot try
    /// one after the other.
    pub fn new(is_v6: bool) -> Self {
        Self {
            known: Recent::new(REMEMBERED),
            name_bytes: 0,
            asked: Recent::new(REMEMBERED),
            first: None,
            count: 0,
            is_v6,
        }
    }

    /// The route of a whole header.
    pub fn route(&mut self, header: &[u8], judge: Judge<'_>, now: u64) -> Found {
        let (first, is_v6) = (&mut self.first, self.is_v6);
        let is_known = match self.known.get_mut(header) {
            None => false,
            Some(known) => {
                if known.generation != judge.generation || is_after(now, known.decided_at, KEEP) {
                    match datagram::read(header) {
                        Ok(destination) => known.decide(&destination, is_v6, judge, now, first),
                        Err(error) => return Found::drop(cause(&error)),
                    }
                }
                true
            }
        };
        if !is_known {
            let destination = match datagram::read(header) {
                Ok(destination) => destination,
                Err(error) => return Found::drop(cause(&error)),
            };
            let mut known = Known {
                route: StoredRoute::Wait,
                generation: 0,
                decided_at: 0,
                name: None,
            };
            known.decide(&destination, is_v6, judge, now, first);
            let key = HeaderKey::new(header);
            self.name_bytes += key.heap();
            let removed = self.known.insert(key, known);
            self.forget(removed);
        }
        let Some(known) = self.known.get_mut(header) else {
            return Found::drop(DropCause::OverLimit);
        };
        let (asked_at, lookup) = known
            .name
            .as_ref()
            .map_or((0, None), |name| (name.asked_at, name.lookup));
        let unresolved = StoredRoute::Drop(DropCause::Unresolved);
        let is_due = match (known.answer(), known.route) {
            (None, StoredRoute::Wait) => true,
            (Some(_), route) if route == unresolved => is_after(now, asked_at, KEEP),
            (Some(_), _) => is_after(now, asked_at, REFRESH),
            _ => false,
        };
        let ask = match is_due && lookup.is_none() {
            true => datagram::read(header).ok(),
            false => None,
        };
        if ask.is_some() && known.route == unresolved {
            known.route = StoredRoute::Wait;
            let before = known.heap();
            if let Some(name) = &mut known.name {
                name.answer = None;
            }
            self.name_bytes = (self.name_bytes + known.heap()).saturating_sub(before);
        }
        let route = known.route.into();
        self.asks_address(route, judge);
        Found { route, lookup, ask }
    }

    /// The name in a header is looked up.
    pub fn asks(&mut self, header: &[u8], lookup: Key, now: u64) {
        if let Some(known) = self.known.get_mut(header) {
            let before = known.heap();
            let name = known.name.get_or_insert_default();
            name.lookup = Some(lookup);
            name.asked_at = now;
            self.name_bytes = (self.name_bytes + known.heap()).saturating_sub(before);
            self.forget_beyond();
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
        let Resolved { addresses, aliases } = &answer;
        let (route, decided) = decide(destination, Some((addresses, aliases)), self.is_v6, judge);
        note(&mut self.first, destination, decided);
        if let Some(known) = self.known.get_mut(header) {
            let before = known.heap();
            // Later datagrams may use the addresses of the last successful lookup.
            let is_failure = answer.addresses.is_empty();
            let keeps = is_failure && matches!(known.route, StoredRoute::To(_));
            let name = known.name.get_or_insert_default();
            name.lookup = None;
            name.asked_at = now;
            if !keeps {
                name.answer = Some(StoredAnswer {
                    addresses: answer.addresses.into(),
                    aliases: answer.aliases.into(),
                });
                known.set(route, judge, now);
            }
            self.name_bytes = (self.name_bytes + known.heap()).saturating_sub(before);
            self.forget_beyond();
        }
        self.asks_address(route, judge);
        route
    }

    /// Datagrams leave to this address, so that its answers pass.
    fn asks_address(&mut self, route: Route, judge: Judge<'_>) {
        let Route::To(address) = route else {
            return;
        };
        let generation = judge.generation;
        match self.asked.get_mut(&address.into()) {
            Some(asked) => asked.generation = generation,
            None => {
                let asked = Asked {
                    generation,
                    longest_segment: u16::MAX,
                };
                self.asked.insert(address.into(), asked);
                self.count += 1;
            }
        }
    }

    /// Whether answers from this address pass: it was asked, and is a destination by the present policy.
    pub fn answers(&mut self, address: SocketAddr, judge: Judge<'_>, now: u64) -> bool {
        let source = address.into();
        match self.asked.get_mut(&source) {
            None => return false,
            Some(asked) if asked.generation == judge.generation => return true,
            Some(_) => {}
        }
        let (first, is_v6) = (&mut self.first, self.is_v6);
        let mut decisions = 0;
        for (key, known) in self.known.iter_mut() {
            if known.route != StoredRoute::To(source) {
                continue;
            }
            if known.generation != judge.generation {
                if decisions == DECISIONS {
                    // The next answer continues.
                    return false;
                }
                decisions += 1;
                let Ok(destination) = datagram::read(key.bytes()) else {
                    continue;
                };
                known.decide(&destination, is_v6, judge, now, first);
            }
            if known.route == StoredRoute::To(source) {
                if let Some(asked) = self.asked.get_mut(&source) {
                    asked.generation = judge.generation;
                }
                return true;
            }
        }
        self.asked.remove(&source);
        false
    }

    /// The longest datagrams that are sent to this address in runs.
    pub fn longest_segment(&mut self, address: SocketAddr) -> u16 {
        let asked = self.asked.get_mut(&address.into());
        asked.map_or(u16::MAX, |asked| asked.longest_segment)
    }

    /// The path to this address refused a run of datagrams of this length.
    pub fn on_split(&mut self, address: SocketAddr, segment: u16) {
        if let Some(asked) = self.asked.get_mut(&address.into()) {
            asked.longest_segment = asked.longest_segment.min(segment.saturating_sub(1));
        }
    }

    /// Forgets the headers that were used longest ago, as long as names take too many bytes.
    fn forget_beyond(&mut self) {
        while self.name_bytes > NAME_BYTES && self.known.len() > 1 {
            let removed = self.known.remove_oldest();
            self.forget(removed);
        }
    }

    /// A header was removed.
    fn forget(&mut self, removed: Option<(HeaderKey, Known)>) {
        if let Some((key, known)) = removed {
            let bytes = key.heap() + known.heap();
            self.name_bytes = self.name_bytes.saturating_sub(bytes);
        }
        self.forget_beyond();
    }

    /// Bytes of all memory apart from the first decision.
    pub fn bytes(&self) -> usize {
        self.known.bytes() + self.asked.bytes() + self.name_bytes
    }

    /// The number of addresses that were asked. One that was not asked for long may count again.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The first decision, or else the first against a destination.
    pub fn take_first(&mut self) -> Option<Decided> {
        self.first.take()
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

fn note(first: &mut Option<Decided>, destination: &Destination, decided: AddressDecision) {
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

#[cfg(test)]
mod tests;
