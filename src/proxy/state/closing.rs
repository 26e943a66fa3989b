//! What remains of a connection when it is closed.

use super::{ConnectionState, Phase};
use crate::proxy::context::Turn;
use crate::proxy::counters::Counters;
use crate::proxy::forwarding::Traffic;
use crate::proxy::options::{FLUSH_INTERVAL, MAX_DISCARDED};
use crate::proxy::record::{CloseReason, ConnectionRecord};
use crate::proxy::relay::{Counts, Side};
use crate::sys::clock::realtime_ns;

impl ConnectionState {
    /// Waits until the end that is left has acknowledged all. The deadline is that of a half-closed connection without progress.
    pub(in crate::proxy) fn start_flushing<B>(
        &mut self,
        reason: CloseReason,
        to: Side,
        turn: &mut Turn<'_, B>,
    ) {
        self.enter(Phase::Flushing { reason, to }, turn);
        let first = turn.now.saturating_add(FLUSH_INTERVAL);
        let timers = &mut turn.context.timers;
        timers.set(turn.key, &mut self.timer, first);
    }

    /// Whether everything was sent when the connection closes for this `reason`. If not, it closes with a reset, so that
    /// truncated data does not look complete.
    pub(in crate::proxy) fn is_complete(&self, reason: CloseReason) -> bool {
        match self.phase {
            // A client that continues to send is not waited for.
            Phase::Closing { discarded, .. } => discarded <= MAX_DISCARDED,
            Phase::Associated => true,
            _ => reason == CloseReason::Finished,
        }
    }

    /// Bytes that the pipes to the server and to the client still contain when the connection closes. A broken flow has
    /// dropped its bytes from [`crate::proxy::relay::Flow::buffered`].
    pub(in crate::proxy) fn unsent(&self) -> [usize; 2] {
        [&self.relay.to_server, &self.relay.to_client].map(|flow| {
            let Counts {
                filled, drained, ..
            } = flow.counts();
            usize::try_from(filled - drained).unwrap_or(usize::MAX)
        })
    }

    /// The record of the closed connection. A reset has discarded `dropped` bytes of the send queues to the server and to the
    /// client, where the end of the stream counts as one.
    pub(in crate::proxy) fn into_record(
        mut self,
        reason: CloseReason,
        dropped: [u64; 2],
        counters: &Counters,
        now: u64,
    ) -> ConnectionRecord {
        self.count(counters, &mut Traffic::default());
        let [to_server, to_client] = [
            (&self.relay.to_server, dropped[0]),
            (&self.relay.to_client, dropped[1]),
        ]
        .map(|(flow, dropped)| {
            let dropped = dropped.saturating_sub(u64::from(flow.is_shut()));
            let counts = flow.counts();
            Counts {
                drained: counts.drained.saturating_sub(dropped),
                ..counts
            }
        });
        ConnectionRecord {
            info: self.handshake.info,
            accepted_at: realtime_ns().saturating_sub(now.saturating_sub(self.accepted)),
            accepted: self.accepted,
            connected: self.connected,
            closed: now,
            to_server,
            to_client,
            reason,
        }
    }
}
