//! What is remembered of a header and of an address, in few bytes.

use std::net::{IpAddr, SocketAddr};

use super::decide::decide;
use super::{Judge, Route, note};
use crate::destination::{Destination, Name};
use crate::proxy::associations::record::Decided;
use crate::proxy::datagrams::record::DropCause;
use crate::proxy::slab::Key;

/// An address with its port, in 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source {
    ip: IpAddr,
    port: u16,
}

impl From<SocketAddr> for Source {
    fn from(address: SocketAddr) -> Self {
        Self {
            ip: address.ip(),
            port: address.port(),
        }
    }
}

/// A [`Route`] in 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredRoute {
    To(Source),
    Drop(DropCause),
    Wait,
}

impl From<Route> for StoredRoute {
    fn from(route: Route) -> Self {
        match route {
            Route::To(address) => Self::To(address.into()),
            Route::Drop(cause) => Self::Drop(cause),
            Route::Wait => Self::Wait,
        }
    }
}

impl From<StoredRoute> for Route {
    fn from(route: StoredRoute) -> Self {
        match route {
            StoredRoute::To(Source { ip, port }) => Self::To(SocketAddr::new(ip, port)),
            StoredRoute::Drop(cause) => Self::Drop(cause),
            StoredRoute::Wait => Self::Wait,
        }
    }
}

/// A header that was used.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) route: StoredRoute,
    /// The generation of the policy by which the route was decided.
    pub(super) generation: u64,
    pub(super) decided_at: u64,
    /// Of a name that was looked up.
    pub(super) name: Option<Box<NameState>>,
}

#[derive(Debug, Default)]
pub(super) struct NameState {
    /// The last answer, without addresses if the lookup failed.
    pub(super) answer: Option<StoredAnswer>,
    pub(super) asked_at: u64,
    pub(super) lookup: Option<Key>,
}

#[derive(Debug, Default)]
pub(super) struct StoredAnswer {
    pub(super) addresses: Box<[IpAddr]>,
    pub(super) aliases: Box<[Name]>,
}

/// An address that was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The generation of the policy by which its answers pass.
    pub(super) generation: u64,
    /// The longest datagrams that are sent to it in runs.
    pub(super) longest_segment: u16,
}

/// Bytes that an allocation takes, as malloc(3) of glibc rounds them.
pub(super) fn heap(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        _ => (bytes + size_of::<usize>()).next_multiple_of(16).max(32),
    }
}

impl Known {
    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        let Some(name) = &self.name else {
            return 0;
        };
        let answer = name.answer.as_ref().map_or(0, |answer| {
            let names = answer.aliases.iter().map(|name| heap(name.as_str().len()));
            heap(size_of_val(&*answer.addresses))
                + heap(size_of_val(&*answer.aliases))
                + names.sum::<usize>()
        });
        heap(size_of::<NameState>()) + answer
    }

    pub(super) fn answer(&self) -> Option<(&[IpAddr], &[Name])> {
        let answer = self.name.as_ref()?.answer.as_ref()?;
        Some((&answer.addresses, &answer.aliases))
    }

    /// Decides again.
    pub(super) fn decide(
        &mut self,
        destination: &Destination,
        is_v6: bool,
        judge: Judge<'_>,
        now: u64,
        first: &mut Option<Decided>,
    ) {
        let (route, decided) = decide(destination, self.answer(), is_v6, judge);
        self.set(route, judge, now);
        note(first, destination, decided);
    }

    pub(super) fn set(&mut self, route: Route, judge: Judge<'_>, now: u64) {
        self.route = route.into();
        self.generation = judge.generation;
        self.decided_at = now;
    }
}
