//! Interarrival jitter as RTP defines it (RFC 3550, section 6.4.1 and appendix A.8).

/// A running estimate of how much the transit time varies from one datagram to the next arriving.
///
/// `J += (|D| - J) / 16`, in integers as the RFC's appendix does it: kept 16 times as large.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jitter {
    scaled: u64,
    last_transit: Option<i64>,
}

impl Jitter {
    /// Takes in the next arrival, its stamps in ns. The clocks' offset cancels out.
    #[inline]
    pub fn record(&mut self, sent: u64, received: u64) {
        let transit = received.wrapping_sub(sent) as i64;
        if let Some(last) = self.last_transit {
            let difference = transit.abs_diff(last);
            let decay = self.scaled.saturating_add(8) >> 4;
            self.scaled = (self.scaled - decay).saturating_add(difference);
        }
        self.last_transit = Some(transit);
    }

    /// The estimate in ns, which begins at 0; `None` before the first arrival.
    pub fn ns(&self) -> Option<f64> {
        (self.last_transit.is_some()).then_some(self.scaled as f64 / 16.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_transit_has_no_jitter_whatever_the_offset() {
        let mut jitter = Jitter::default();
        for n in 0..100u64 {
            jitter.record(1_000_000 + n * 7, n * 7);
        }
        assert_eq!(jitter.ns(), Some(0.0));
    }

    #[test]
    fn an_alternating_transit_converges_to_its_swing() {
        let mut jitter = Jitter::default();
        for n in 0..1_000u64 {
            jitter.record(n * 1_000, n * 1_000 + 5_000 + (n % 2) * 160);
        }
        let told = jitter.ns().unwrap();
        assert!((159.0..=161.0).contains(&told), "{told}");
    }

    #[test]
    fn absurd_stamps_do_not_panic() {
        let mut jitter = Jitter::default();
        for (sent, received) in [
            (0, u64::MAX),
            (u64::MAX, 0),
            (0, 1 << 63),
            (1 << 63, 0),
            (0, 0),
        ] {
            jitter.record(sent, received);
        }
    }
}
