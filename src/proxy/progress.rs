//! How far a connection has come, on whichever engine: what of it is counted, and what is left of it at the end.

use super::facts::{Ending, Facts};
use super::handshake::Known;
use super::relay::Relay;
use super::tally::Tally;
use crate::sys::clock::realtime_ns;

/// When things happened, in ns of [`crate::sys::clock::monotonic_ns`], and the bytes that are counted already.
#[derive(Debug)]
pub(super) struct Progress {
    accepted: u64,
    connected: Option<u64>,
    /// To the server and to the client.
    moved: [u64; 2],
}

impl Progress {
    /// A client was accepted.
    pub(super) fn new(now: u64) -> Self {
        Self {
            accepted: now,
            connected: None,
            moved: [0; 2],
        }
    }

    /// Its server is there.
    pub(super) fn connected(&mut self, now: u64) {
        self.connected = Some(now);
    }

    /// Counts the bytes that moved since last time; whether there were any.
    pub(super) fn count(&mut self, relay: &Relay, tally: &Tally) -> bool {
        let moved = [&relay.to_server, &relay.to_client].map(|flow| flow.counts().drained);
        if moved == self.moved {
            return false;
        }
        let [to_server, to_client] = moved;
        let [before_to_server, before_to_client] = self.moved;
        tally.moved(to_server - before_to_server, to_client - before_to_client);
        self.moved = moved;
        true
    }

    /// It is over.
    pub(super) fn facts(self, known: Known, relay: &Relay, ending: Ending, now: u64) -> Facts {
        let Known {
            peer,
            client,
            protocol,
            asked,
            server,
            decision,
            detail,
        } = known;
        Facts {
            peer,
            client,
            protocol,
            asked,
            server,
            decision,
            detail,
            accepted_at: realtime_ns().saturating_sub(now.saturating_sub(self.accepted)),
            accepted: self.accepted,
            connected: self.connected,
            closed: now,
            to_server: relay.to_server.counts(),
            to_client: relay.to_client.counts(),
            ending,
        }
    }
}
