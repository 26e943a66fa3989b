//! Credit-based flow control of a lossless run: the receiver grants credit, and the sender never exceeds it.
//!
//! A credit is cumulative: the sender may send up to a sequence number. The next credit therefore replaces a lost one. The receiver
//! counts from the highest number that it has *received*, not from the number of arrivals, so it does not wait for a lost datagram
//! either. When a whole window is lost, no credit follows; the sender then requests credit
//! ([`Kind::Probe`](crate::udp::wire::header::Kind::Probe)), and continues from its own sequence number.

use crate::engine::ZeroCopy;

/// Largest window, in datagrams. A larger one gains nothing, and needs more of the receive buffer.
pub const MAX_WINDOW: u64 = 4_096;

/// Largest window, in bytes, if both ends share a CPU: the datagrams in flight then stay in its cache. Twice as much is 10 % slower.
/// With a CPU for each end, more is faster.
const CACHED: usize = 768 << 10;

/// Largest window, in bytes, of a sender whose pages are spliced into the socket: the datagrams in flight then stay in the cache.
const PAGES: usize = 2 << 20;

/// The receiver's side: decides when to grant credit and how much.
#[derive(Debug, Clone)]
pub struct CreditIssuer {
    window: u64,
    granted: u64,
}

impl CreditIssuer {
    /// An issuer with a window of `window` datagrams, at least one.
    pub fn new(window: u64) -> Self {
        Self {
            window: window.max(1),
            granted: 0,
        }
    }

    /// How many datagrams of `datagram` bytes can be in flight without overflowing a receive buffer of `buffer` bytes as the kernel
    /// reports it, and without exceeding the cache.
    ///
    /// The kernel charges a datagram by the memory that it occupies (`skb->truesize`): its data with the packet headers, rounded up
    /// to a power of two or a page, and two descriptors of about 600 bytes. Half the buffer stays free, because the kernel uncharges
    /// datagrams that were read in batches of up to a quarter (`udp_rmem_release` in net/ipv4/udp.c). With `MSG_ZEROCOPY` the data
    /// occupies whole pages, and is copied to as many on loopback (`skb_copy_ubufs`).
    pub fn window_for(buffer: usize, datagram: usize, zerocopy: ZeroCopy, shared_cpu: bool) -> u64 {
        const HEADROOM: usize = 400;
        const DESCRIPTORS: usize = 640;
        let data = datagram + HEADROOM;
        let occupied = match zerocopy {
            ZeroCopy::Msg => HEADROOM.next_power_of_two() + (datagram.div_ceil(4_096) + 1) * 4_096,
            ZeroCopy::Off | ZeroCopy::Splice if data <= 4_096 => data.next_power_of_two(),
            ZeroCopy::Off | ZeroCopy::Splice => data.next_multiple_of(4_096),
        };
        let fitting = buffer / 2 / (occupied + DESCRIPTORS);
        let most = match zerocopy {
            _ if shared_cpu => CACHED,
            ZeroCopy::Splice => PAGES,
            ZeroCopy::Off | ZeroCopy::Msg => usize::MAX,
        };
        (fitting.min(most / datagram.max(1)) as u64).clamp(1, MAX_WINDOW)
    }

    /// The present window, in datagrams.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// The credit to grant when `next` is one above the highest sequence number received; `None` until the credit grows by a quarter
    /// of the window.
    #[inline]
    pub fn due(&mut self, next: u64) -> Option<u64> {
        let limit = next.saturating_add(self.window);
        let step = (self.window / 4).max(1);
        (limit >= self.granted.saturating_add(step)).then(|| {
            self.granted = limit;
            limit
        })
    }

    /// The credit for a sender that requests it after `sent` datagrams. The request follows the datagrams on the same path, so
    /// datagrams that have not arrived by now count as lost.
    pub fn on_probe(&mut self, sent: u64, next: u64) -> u64 {
        self.granted = self.granted.max(sent.max(next).saturating_add(self.window));
        self.granted
    }

    /// Halves the window, after the receive buffer has overflowed.
    pub fn shrink(&mut self) {
        self.window = (self.window / 2).max(1);
    }
}

/// The sender's side: the highest sequence number granted.
#[derive(Debug, Clone, Default)]
pub struct CreditBalance {
    limit: u64,
}

impl CreditBalance {
    /// Adds a credit. A credit that arrives after a higher one has no effect.
    pub fn grant(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// The first sequence number that may not be sent yet.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many datagrams may be sent now, from sequence number `next` on.
    #[inline]
    pub fn available(&self, next: u64) -> u64 {
        self.limit.saturating_sub(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn credit_is_granted_every_quarter_of_the_window() {
        let mut issuer = CreditIssuer::new(100);
        assert_eq!(issuer.on_probe(0, 0), 100);
        assert_eq!(issuer.due(24), None);
        assert_eq!(issuer.due(25), Some(125));
        assert_eq!(issuer.due(49), None);
    }

    #[test]
    fn a_probe_after_a_lost_window_grants_a_new_one() {
        let mut issuer = CreditIssuer::new(10);
        assert_eq!(issuer.on_probe(0, 0), 10);
        assert_eq!(issuer.on_probe(10, 0), 20);
    }

    #[test]
    fn the_window_fits_half_the_buffer() {
        assert_eq!(
            CreditIssuer::window_for(8 << 20, 1_032, ZeroCopy::Off, false),
            (4 << 20) / (2_048 + 640)
        );
        assert_eq!(
            CreditIssuer::window_for(8 << 20, 1_032, ZeroCopy::Off, true),
            (768 << 10) / 1_032
        );
        assert_eq!(
            CreditIssuer::window_for(1 << 30, 33, ZeroCopy::Off, true),
            MAX_WINDOW
        );
        assert_eq!(
            CreditIssuer::window_for(4_608, 65_507, ZeroCopy::Off, true),
            1
        );
    }

    proptest! {
        /// With any loss of data and credits, the sender stays within the window and never gets stuck.
        #[test]
        fn the_sender_never_exceeds_the_window_and_never_gets_stuck(
            window in 1u64..200,
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 1u64..50), 1..300),
        ) {
            let mut issuer = CreditIssuer::new(window);
            let mut balance = CreditBalance::default();
            let (mut sent, mut seen) = (0u64, 0u64);
            for (data_lost, credit_lost, burst) in steps {
                let burst = burst.min(balance.available(sent));
                sent += burst;
                prop_assert!(sent - seen <= window || burst == 0);
                if burst == 0 {
                    balance.grant(issuer.on_probe(sent, seen));
                    seen = seen.max(sent);
                    prop_assert!(balance.available(sent) > 0);
                } else if !data_lost {
                    seen = sent;
                    if let Some(limit) = issuer.due(seen) && !credit_lost {
                        balance.grant(limit);
                    }
                }
            }
        }
    }
}
