//! Which clients are accepted, refused and displaced.
//!
//! A client over a limit gets a refusal in its own protocol, so it has a connection until its protocol is known. If the proxy is
//! full, a client takes the place of another one that has at least two connections more, one of which has no complete request
//! yet. Connections that have one are never closed in favour of others. The places of other threads are not considered.

use std::io;
use std::net::IpAddr;

use super::Worker;
use crate::proxy::backend::{Accepted, Backend};
use crate::proxy::connection::{Connection, Status};
use crate::proxy::context::Turn;
use crate::proxy::limits::{ConnectionPermit, Limit};
use crate::proxy::record::{BusyCause, CloseReason, ConnectionRecord};
use crate::proxy::slab::Key;
use crate::sys::endpoint::Peer;

/// Most connections without a complete request of which one is displaced.
const CANDIDATES: usize = 128;

impl<B: Backend> Worker<B> {
    /// Serves a client that was accepted, or starts to refuse it.
    pub(super) fn admit(&mut self, accepted: Accepted<B::Stream>, now: u64) {
        let Accepted { stream, peer } = accepted;
        self.context.counters.accepted();
        let Some(peer) = peer else {
            return self
                .context
                .counters
                .closed_unknown(CloseReason::ClientReset);
        };
        let permit = self.permit(peer, now);
        let over_limit = permit.as_ref().err().copied();
        if let Some(cause) = over_limit {
            self.context.counters.busy(cause);
        }
        let mut first_status = Status::Waiting;
        let admitted = self.connections.insert(|key| {
            let context = &mut self.context;
            let mut turn = Turn { key, context, now };
            let (connection, status) = Connection::new(stream, peer, permit, &mut turn)?;
            first_status = status;
            Ok::<_, io::Error>(connection)
        });
        match admitted {
            Ok(key) => {
                match over_limit {
                    None => {}
                    Some(BusyCause::OverClientLimit) => self.limit_refusals(key, now),
                    Some(_) => self.over_limit.push_back(key),
                }
                self.apply(key, first_status, now);
                self.on_admitted(key);
            }
            // It has disconnected, or memory for its events ran out.
            Err(error) => {
                let (reason, detail) = (CloseReason::ClientReset, error.to_string());
                self.record(ConnectionRecord::at_once(peer, now, reason, detail));
            }
        }
    }

    /// Clients over their own limit leave half of the refusals to others: a new one replaces the oldest.
    fn limit_refusals(&mut self, newcomer: Key, now: u64) {
        let most = self.context.shared.capacity.refusals.div_ceil(2);
        if self.over_client_limit.len() >= most
            && let Some(oldest) = self.over_client_limit.pop_front()
        {
            self.close(oldest, CloseReason::Busy, now);
        }
        self.over_client_limit.push_back(newcomer);
    }

    /// A permit for a connection of this peer, perhaps that of a connection that is displaced.
    fn permit(&mut self, peer: Peer, now: u64) -> Result<ConnectionPermit, BusyCause> {
        let client = match self.context.rules.accept_header {
            true => None,
            false => peer.ip().map(|address| address.ip()),
        };
        let mut permit = self.context.shared.connections.take(client);
        if let (Err(Limit::All), Some(client)) = (&permit, client)
            && self.displace(client, now)
        {
            permit = self.context.shared.connections.take(Some(client));
        }
        permit.map_err(|limit| match limit {
            Limit::All => BusyCause::OverLimit,
            Limit::Client => BusyCause::OverClientLimit,
        })
    }

    /// Remembers a connection that may be displaced.
    fn on_admitted(&mut self, key: Key) {
        while let Some(oldest) = self.handshakes.front()
            && self.displaceable(*oldest).is_none()
        {
            self.handshakes.pop_front();
        }
        if self.displaceable(key).is_none() {
            return;
        }
        if self.handshakes.len() > 2 * self.connections.len() + CANDIDATES {
            let mut handshakes = std::mem::take(&mut self.handshakes);
            handshakes.retain(|key| self.displaceable(*key).is_some());
            self.handshakes = handshakes;
        }
        self.handshakes.push_back(key);
    }

    /// The client of a connection without a complete request.
    fn displaceable(&self, key: Key) -> Option<IpAddr> {
        self.connections
            .get(key)
            .and_then(Connection::displaceable_client)
    }

    /// Closes the oldest connection without a complete request of the client with the most connections, unless `newcomer` has about
    /// as many.
    fn displace(&mut self, newcomer: IpAddr, now: u64) -> bool {
        let candidates: Vec<(Key, IpAddr)> = self
            .handshakes
            .iter()
            .filter_map(|key| Some((*key, self.displaceable(*key)?)))
            .take(CANDIDATES)
            .collect();
        let clients = candidates.iter().map(|(_, client)| *client);
        let limits = &self.context.shared.connections;
        let Some(&(key, _)) = limits
            .largest(newcomer, clients)
            .and_then(|place| candidates.get(place))
        else {
            return false;
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.give_up_permit(BusyCause::Displaced);
            self.context.counters.busy(BusyCause::Displaced);
        }
        self.close(key, CloseReason::Busy, now);
        true
    }

    /// Whether there are as many clients over the limit as may be, and none of them may be evicted yet.
    pub(super) fn is_full(&mut self, now: u64) -> bool {
        self.full_until = None;
        let shared = &self.context.shared;
        let refusals = self.over_limit.len() + self.over_client_limit.len();
        if refusals < shared.capacity.refusals || !shared.is_full() {
            return false;
        }
        let Some(&oldest) = self.over_limit.front() else {
            return false;
        };
        match self.connections.get_mut(oldest).map(|it| it.may_evict(now)) {
            Some(Err(until)) => {
                self.full_until = Some(until);
                true
            }
            Some(Ok(())) | None => {
                // Its socket may be closed later, once none of its operations is in flight.
                self.over_limit.pop_front();
                self.close(oldest, CloseReason::Busy, now);
                false
            }
        }
    }
}
