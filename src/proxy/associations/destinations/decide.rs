//! The decision on a destination.

use std::net::{IpAddr, SocketAddr};
use std::slice;

use super::{Judge, Route};
use crate::blocklist::embedded;
use crate::destination::{Destination, Host, Name};
use crate::proxy::datagrams::record::DropCause;
use crate::proxy::record::Decision;
use crate::sys::route::is_routed;

pub(super) type AddressDecision = Option<(Option<SocketAddr>, Decision)>;

/// The route to a destination, with the decision on its name or address if there was one. As for CONNECT, a name is decided on
/// before its lookup, by its aliases, and at each address.
pub(super) fn decide(
    destination: &Destination,
    answer: Option<(&[IpAddr], &[Name])>,
    is_v6: bool,
    judge: Judge<'_>,
) -> (Route, AddressDecision) {
    let port = destination.port;
    let (name, addresses, aliases): (_, &[IpAddr], &[Name]) = match &destination.host {
        Host::Ip(ip) => (None, slice::from_ref(ip), &[]),
        Host::Name(name) => {
            let decision = judge.rules.decide_name(name, port);
            if let Decision::Blocked(_) = decision {
                return (Route::Drop(DropCause::Blocked), Some((None, decision)));
            }
            let Some((addresses, aliases)) = answer else {
                return (Route::Wait, None);
            };
            (Some(name), addresses, aliases)
        }
    };
    let by_alias = judge.rules.decide_aliases(name, aliases, port);
    let by_alias = by_alias.map(|(_, decision)| decision);
    if let Some(Decision::Blocked(_)) = by_alias {
        let decided = by_alias.map(|decision| (None, decision));
        return (Route::Drop(DropCause::Blocked), decided);
    }
    let relays = judge.own.with_port(port);
    let (mut blocked, mut allowed) = (None, Vec::new());
    for ip in addresses {
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
    match (blocked, addresses.is_empty()) {
        (Some(blocked), _) => (Route::Drop(DropCause::Blocked), Some(blocked)),
        (None, true) => (Route::Drop(DropCause::Unresolved), None),
        (None, false) => (Route::Drop(DropCause::Unreachable), None),
    }
}
