//! Interarrival jitter as RTP defines it (RFC 3550, section 6.4.1 and appendix A.8).

/// A running estimate of the variation of the transit time between successive arrivals.
///
/// `J += (|D| - J) / 16`, in integers as in the RFC's appendix; the stored value is 16 times as large.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jitter {
    scaled: u64,
    last_transit: Option<i64>,
}

impl Jitter {
    /// Adds the next arrival; both stamps in ns. The clocks' offset cancels.
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

    /// The estimate in ns, 0 after the first arrival; `None` before it.
    pub fn ns(&self) -> Option<f64> {
        (self.last_transit.is_some()).then_some(self.scaled as f64 / 16.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_transit_has_no_jitter_at_any_offset() {
        let mut jitter = Jitter::default();
        for n in 0..100u64 {
            jitter.record(1_000_000 + n * 7, n * 7);
        }
        assert_eq!(jitter.ns(), Some(0.0));
    }

    #[test]
    fn jitter_of_an_alternating_transit_converges_to_its_swing() {
        let mut jitter = Jitter::default();
        for n in 0..1_000u64 {
            jitter.record(n * 1_000, n * 1_000 + 5_000 + (n % 2) * 160);
        }
        let ns = jitter.ns().unwrap();
        assert!((159.0..=161.0).contains(&ns), "{ns}");
    }

    #[test]
    fn extreme_stamps_do_not_panic() {
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
