//! Lossless sending: the receiver grants credit, the sender never overruns it.
//!
//! A credit is cumulative, "you may send up to number n", so a lost one costs nothing: the next says
//! it all. The receiver counts from the highest number it has *seen*, not from how many arrived, so a lost datagram
//! is not waited for either. When the whole window is lost, no credit comes; then the sender asks
//! ([`Kind::Probe`](crate::udp::wire::header::Kind::Probe)) and is told to go on from where it says it is.

use crate::engine::ZeroCopy;

/// Most datagrams granted ahead. More gains nothing, and each needs room in the receiver's buffer.
pub const MOST_WINDOW: u64 = 4_096;

/// Most bytes granted ahead where both ends share a CPU: what is under way then stays in its cache, and twice
/// as much is 10 % slower. With a CPU for each end it is the other way round.
const CACHED: usize = 768 << 10;

/// Most bytes granted ahead to a sender that lends its pages: what is under way then stays in its cache too. More than
/// it has slots would do it no good.
const LENT: usize = 2 << 20;

/// The receiver's side: decides when to grant and how far.
#[derive(Debug, Clone)]
pub struct Grantor {
    window: u64,
    granted: u64,
}

impl Grantor {
    /// Grants `window` datagrams ahead, at least one.
    pub fn new(window: u64) -> Self {
        Self {
            window: window.max(1),
            granted: 0,
        }
    }

    /// How many datagrams of `datagram` bytes may be under way without overrunning a receive buffer
    /// of `buffer` bytes as the kernel reports it, and without leaving the cache.
    ///
    /// The kernel charges a datagram by the memory it occupies (`skb->truesize`): its data with the
    /// packet headers, rounded up to a power of two or a page, and two descriptors of about 600 bytes.
    /// Half the buffer stays free, because what was read is uncharged in batches of up to a quarter
    /// (`udp_rmem_release` in net/ipv4/udp.c).
    /// With `MSG_ZEROCOPY` the data comes in whole pages, and on loopback is copied to as many (`skb_copy_ubufs`).
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
            ZeroCopy::Splice => LENT,
            ZeroCopy::Off | ZeroCopy::Msg => usize::MAX,
        };
        (fitting.min(most / datagram.max(1)) as u64).clamp(1, MOST_WINDOW)
    }

    /// The window in force.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// The credit to send once everything below `seen` has arrived or been overtaken; `None` until
    /// it would grow by a quarter of the window.
    #[inline]
    pub fn due(&mut self, seen: u64) -> Option<u64> {
        let limit = seen.saturating_add(self.window);
        let step = (self.window / 4).max(1);
        (limit >= self.granted.saturating_add(step)).then(|| {
            self.granted = limit;
            limit
        })
    }

    /// The credit for a sender that asks, having sent `sent`. Its question came behind all of that on the same path,
    /// so what has not arrived by now is taken for lost.
    pub fn answer(&mut self, sent: u64, seen: u64) -> u64 {
        self.granted = self.granted.max(sent.max(seen).saturating_add(self.window));
        self.granted
    }

    /// Halves the window: the receive buffer overflowed in spite of it.
    pub fn shrink(&mut self) {
        self.window = (self.window / 2).max(1);
    }
}

/// The sender's side: how far it may go.
#[derive(Debug, Clone, Default)]
pub struct Allowance {
    limit: u64,
}

impl Allowance {
    /// Takes in a credit; one that was overtaken changes nothing.
    pub fn grant(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// How far it may go: the highest number granted.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many datagrams may be sent now, when the next one has number `next`.
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
    fn credit_comes_every_quarter_of_the_window() {
        let mut grantor = Grantor::new(100);
        assert_eq!(grantor.answer(0, 0), 100);
        assert_eq!(grantor.due(24), None);
        assert_eq!(grantor.due(25), Some(125));
        assert_eq!(grantor.due(49), None);
    }

    #[test]
    fn a_window_lost_whole_is_not_waited_for() {
        let mut grantor = Grantor::new(10);
        assert_eq!(grantor.answer(0, 0), 10);
        assert_eq!(grantor.answer(10, 0), 20);
    }

    #[test]
    fn the_window_fits_half_the_buffer() {
        assert_eq!(
            Grantor::window_for(8 << 20, 1_032, ZeroCopy::Off, false),
            (4 << 20) / (2_048 + 640)
        );
        assert_eq!(
            Grantor::window_for(8 << 20, 1_032, ZeroCopy::Off, true),
            (768 << 10) / 1_032
        );
        assert_eq!(
            Grantor::window_for(1 << 30, 33, ZeroCopy::Off, true),
            MOST_WINDOW
        );
        assert_eq!(Grantor::window_for(4_608, 65_507, ZeroCopy::Off, true), 1);
    }

    proptest! {
        /// Any order, loss or repetition of credits leaves the sender within the window and never stuck.
        #[test]
        fn the_sender_never_overruns_and_never_starves(
            window in 1u64..200,
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 1u64..50), 1..300),
        ) {
            let mut grantor = Grantor::new(window);
            let mut allowance = Allowance::default();
            let (mut sent, mut seen) = (0u64, 0u64);
            for (data_lost, credit_lost, burst) in steps {
                let burst = burst.min(allowance.available(sent));
                sent += burst;
                prop_assert!(sent - seen <= window || burst == 0);
                if burst == 0 {
                    allowance.grant(grantor.answer(sent, seen));
                    seen = seen.max(sent);
                    prop_assert!(allowance.available(sent) > 0);
                } else if !data_lost {
                    seen = sent;
                    if let Some(limit) = grantor.due(seen) && !credit_lost {
                        allowance.grant(limit);
                    }
                }
            }
        }
    }
}
