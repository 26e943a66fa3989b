//! The server's clock, as a rank without a session estimates it over the connection of the fleet.
//!
//! No message arrives before it was sent. The offset (the server's clock minus the rank's) is therefore at least `at - received` and
//! at most `at - sent` of each exchange.

use std::time::{Duration, Instant};

use super::member::{FleetError, Member};
use crate::sys::clock::{self, monotonic_ns};
use crate::udp::wire::fleet::{FleetReply, FleetRequest};

/// Exchanges of an estimate. The fastest ones count.
const EXCHANGES: usize = 8;

/// Longest time of all exchanges.
const LONGEST: Duration = Duration::from_secs(5);

/// The offset of the server's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerClock {
    /// The server's clock minus the rank's, in ns.
    pub offset_ns: i64,
    /// Largest error of the offset, in ns.
    pub error_ns: u64,
}

impl ServerClock {
    /// The offset that all exchanges allow. Each has three times in ns: sent and received by the rank's clock, and read by the
    /// server's between them.
    fn of(exchanges: &[(u64, u64, u64)]) -> Option<Self> {
        let bounds = exchanges.iter().map(|&(sent, at, received)| {
            let [sent, at, received] = [sent, at, received].map(i128::from);
            (at - received, at - sent)
        });
        // Clocks that drift may leave nothing that all exchanges allow: the bounds of the fastest one are kept then.
        let (low, high) = bounds.reduce(|one, other| {
            let both = (one.0.max(other.0), one.1.min(other.1));
            match both.0 <= both.1 {
                true => both,
                false => std::cmp::min_by_key(one, other, |bounds| bounds.1 - bounds.0),
            }
        })?;
        let middle = low + (high - low) / 2;
        Some(Self {
            offset_ns: i64::try_from(middle).ok()?,
            error_ns: u64::try_from(high - middle).ok()?,
        })
    }

    /// The rank's time of a time of the server, both in ns.
    pub fn here(self, server_ns: u64) -> u64 {
        server_ns.saturating_add_signed(self.offset_ns.saturating_neg())
    }

    /// The server's time of a time of the rank, both in ns.
    pub fn there(self, rank_ns: u64) -> u64 {
        rank_ns.saturating_add_signed(self.offset_ns)
    }
}

impl Member {
    /// Estimates the server's clock. Call it while no other messages are due: before the rank is ready for a run.
    ///
    /// # Errors
    /// [`FleetError::Lost`], also of a server that does not answer.
    pub fn clock(&self) -> Result<ServerClock, FleetError> {
        let until = Instant::now() + LONGEST;
        let own = clock::identity();
        let mut exchanges = Vec::with_capacity(EXCHANGES);
        while exchanges.len() < EXCHANGES {
            let sent = monotonic_ns();
            self.send(FleetRequest::Clock { sent_ns: sent })?;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                let reply = self.reply_within(left)?;
                let received = monotonic_ns();
                match reply {
                    Some(FleetReply::Clock {
                        sent_ns,
                        at_ns,
                        clock,
                    }) if sent_ns == sent => {
                        if own.is_some() && clock == own {
                            return Ok(ServerClock::default());
                        }
                        exchanges.push((sent, at_ns, received));
                        break;
                    }
                    Some(_) => {}
                    None => return Err(self.silent()),
                }
            }
        }
        ServerClock::of(&exchanges).ok_or_else(|| self.silent())
    }

    fn silent(&self) -> FleetError {
        FleetError::Lost(self.server(), "it does not send its time".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn error_contains_the_true_offset(
            offset in -1_000_000_000_000i64..1_000_000_000_000,
            ways in prop::collection::vec((0u64..10_000_000, 0u64..10_000_000, 0u64..1_000_000_000), 1..20),
        ) {
            let start = 2_000_000_000_000u64;
            let exchanges = ways.iter().map(|&(there, back, later)| {
                let sent = start + later;
                let at = sent + there;
                (sent, at.wrapping_add_signed(offset), at + back)
            });
            let exchanges: Vec<_> = exchanges.collect();
            let clock = ServerClock::of(&exchanges).unwrap();
            prop_assert!(clock.offset_ns.abs_diff(offset) <= clock.error_ns);
            let best = ways.iter().map(|(there, back, _)| there + back).min().unwrap();
            prop_assert!(clock.error_ns <= best / 2 + 1);
            prop_assert_eq!(clock.here(clock.there(start)), start);
        }

        #[test]
        fn no_exchange_panics(exchanges: Vec<(u64, u64, u64)>, time: u64) {
            if let Some(clock) = ServerClock::of(&exchanges) {
                let _ = (clock.here(time), clock.there(time));
            }
        }
    }
}
