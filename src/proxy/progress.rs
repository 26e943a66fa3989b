//! The deadline of a connection without progress: pure, times and the lengths of send queues are arguments.
//!
//! A byte that the proxy receives or sends is progress, which restarts the deadline. The kernel accepts megabytes that a slow
//! peer takes minutes to read: a byte of them that the peer acknowledges is progress too. The lengths of the queues are
//! system calls, so they are looked at only when the connection was silent for a while, [`LOOKS`] times before the deadline.

/// Looks at the send queues before a deadline. A peer that acknowledges nothing is closed after the timeout, or at most one
/// interval of looks later.
const LOOKS: u64 = 8;

/// The deadline of one connection, in ns of any one clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deadline {
    timeout: u64,
    until: u64,
    /// Bytes that the server and the client had acknowledged at the last look; `None` since progress.
    acknowledged: Option<[i64; 2]>,
}

impl Deadline {
    /// There was progress at `now`. Returns when to call [`Self::look`].
    pub(super) fn restart(&mut self, now: u64, timeout: u64) -> u64 {
        self.timeout = timeout;
        self.until = now.saturating_add(timeout);
        self.acknowledged = None;
        now.saturating_add(timeout / LOOKS)
    }

    /// Looks at the bytes `sent` to the server and to the client, of which so many are `queued`. Returns when to look again;
    /// `None` if the deadline has passed.
    pub(super) fn look(&mut self, now: u64, sent: [u64; 2], queued: [u64; 2]) -> Option<u64> {
        let length = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        // Negative if the kernel counts memory and not bytes, as for a Unix socket.
        let acknowledged =
            [0, 1].map(|end: usize| length(sent[end]).saturating_sub(length(queued[end])));
        let is_queued = queued != [0; 2];
        let has_progress = match self.acknowledged.replace(acknowledged) {
            Some(before) => acknowledged
                .iter()
                .zip(before)
                .any(|(now, before)| *now > before),
            // Some of them may have been acknowledged a moment ago.
            None => is_queued,
        };
        if has_progress {
            self.until = now.saturating_add(self.timeout);
        }
        if self.until <= now {
            return None;
        }
        Some(match is_queued {
            true => self
                .until
                .min(now.saturating_add(self.timeout / LOOKS).max(now + 1)),
            false => self.until,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: u64 = 800;

    /// The time of the close, if the client has acknowledged `acknowledged(time)` of 1,000 bytes sent at 0.
    fn closed_at(acknowledged: impl Fn(u64) -> u64) -> u64 {
        let mut deadline = Deadline::default();
        let mut now = deadline.restart(0, TIMEOUT);
        while let Some(next) = deadline.look(now, [7, 1_000], [0, 1_000 - acknowledged(now)]) {
            assert!(next > now && next <= now + TIMEOUT);
            now = next;
        }
        now
    }

    #[test]
    fn a_connection_with_empty_queues_is_closed_after_the_timeout() {
        assert_eq!(closed_at(|_| 1_000), TIMEOUT);
    }

    #[test]
    fn a_peer_that_acknowledges_nothing_is_closed_one_look_later() {
        assert_eq!(closed_at(|_| 0), TIMEOUT + TIMEOUT / LOOKS);
        assert_eq!(closed_at(|_| 400), TIMEOUT + TIMEOUT / LOOKS);
    }

    #[test]
    fn memory_of_a_unix_socket_that_shrinks_is_progress() {
        let mut deadline = Deadline::default();
        deadline.restart(0, TIMEOUT);
        let looks = [(100, 9_000), (800, 8_000), (1_500, 7_000)];
        for (now, queued) in looks {
            assert!(deadline.look(now, [0, 10], [0, queued]).is_some());
        }
        assert_eq!(deadline.look(2_300, [0, 10], [0, 7_000]), None);
    }

    proptest! {
        #[test]
        fn no_connection_is_closed_within_the_timeout_after_progress(
            steps in prop::collection::vec(1u64..3 * TIMEOUT, 1..20),
        ) {
            // The client acknowledges a byte after each of these pauses.
            let times: Vec<u64> = steps.iter().scan(0, |time, step| { *time += step; Some(*time) }).collect();
            let acknowledged = |now| times.iter().filter(|time| **time <= now).count() as u64;
            let closed = closed_at(acknowledged);
            let last = times.iter().rfind(|time| **time <= closed).copied().unwrap_or(0);
            prop_assert!(closed >= last + TIMEOUT, "{closed} {times:?}");
            prop_assert!(closed <= last + TIMEOUT + 2 * TIMEOUT / LOOKS, "{closed} {times:?}");
        }
    }
}
