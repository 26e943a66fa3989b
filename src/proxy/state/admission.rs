//! The limits of connections and of memory that apply to one connection.

use std::net::IpAddr;

use super::{ConnectionState, Phase};
use crate::proxy::context::Turn;
use crate::proxy::handshake::Action;
use crate::proxy::options::REJECTION_TIME;
use crate::proxy::record::BusyCause;

impl ConnectionState {
    /// Applies the limits that depend on what was just read: the client in the PROXY header, which was awaited if `awaited_header`,
    /// and the memory of the request. Returns what follows instead of `action`.
    pub(in crate::proxy) fn limit<B>(
        &mut self,
        action: Action,
        awaited_header: bool,
        turn: &Turn<'_, B>,
    ) -> Action {
        let shared = &turn.context.shared;
        let (handshake, counters) = (&mut self.handshake, &turn.context.counters);
        if matches!(action, Action::Refuse(_)) {
            return action;
        }
        if awaited_header
            && !handshake.awaits_header()
            && let Some(permit) = &mut self.permit
            && let Some(client) = handshake.info.client.ip()
            && !permit.assign(client.ip())
        {
            counters.busy(BusyCause::OverClientLimit);
            if action != Action::Read {
                return handshake.refuse_as_busy(BusyCause::OverClientLimit);
            }
            handshake.set_over_limit(BusyCause::OverClientLimit);
        }
        let memory = handshake.memory();
        if !shared.request_memory.reserve(memory, &mut self.reservation) {
            counters.busy(BusyCause::RequestMemory);
            return handshake.refuse_as_busy(BusyCause::RequestMemory);
        }
        action
    }

    /// The request needs no memory any more.
    pub(in crate::proxy) fn release_memory(&mut self) {
        self.reservation = None;
    }

    /// The client, if the connection has a permit and no complete request.
    pub(in crate::proxy) fn displaceable_client(&self) -> Option<IpAddr> {
        let reads = self.phase == Phase::ReadingRequest && self.permit.is_some();
        let address = self.handshake.info.client.ip()?;
        (reads && !self.handshake.awaits_header()).then_some(address.ip())
    }

    /// Another connection takes the place of this one.
    pub(in crate::proxy) fn give_up_permit(&mut self, cause: BusyCause) {
        self.permit = None;
        self.handshake.info.detail = Some(cause.detail().to_owned());
    }

    /// Whether a client over the limit may be closed in favour of another one: its reply was sent, or it did not send a
    /// request within [`REJECTION_TIME`]. Otherwise when that time ends.
    pub(in crate::proxy) fn may_evict(&self, now: u64) -> Result<(), u64> {
        let until = self.accepted.saturating_add(REJECTION_TIME);
        match self.phase {
            Phase::Closing { .. } if self.relay.to_client.buffered() == 0 => Ok(()),
            _ if until <= now => Ok(()),
            _ => Err(until),
        }
    }

    /// Whether the client exceeds the connection limit.
    pub(in crate::proxy) fn is_over_limit(&self) -> bool {
        self.permit.is_none()
    }
}
