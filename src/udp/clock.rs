//! How far another host's clock is ahead of ours, and how sure we are.
//!
//! One exchange gives four stamps (as in NTP, RFC 5905, section 8):
//!
//! ```text
//!   sender    asked ---\              /---> answered
//!   receiver            \-> arrived  / left
//! ```
//!
//! `offset = ((arrived - asked) + (left - answered)) / 2` is exact when both ways take equally long,
//! and never wrong by more than half of the round trip. So only the exchanges with the shortest round trips are
//! believed: those queued nowhere.

/// The stamps of one exchange, in ns of the clock of the side that took them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Sender, before it asked.
    pub asked: u64,
    /// Receiver, when the question came.
    pub arrived: u64,
    /// Receiver, when its answer left.
    pub left: u64,
    /// Sender, when the answer came.
    pub answered: u64,
}

impl Exchange {
    /// Time on the way, both ways together, in ns.
    fn round_trip(&self) -> u64 {
        let total = self.answered.saturating_sub(self.asked);
        total.saturating_sub(self.left.saturating_sub(self.arrived))
    }

    /// The receiver's clock less the sender's, in ns.
    fn offset(&self) -> i64 {
        let there = i128::from(self.arrived) - i128::from(self.asked);
        let back = i128::from(self.left) - i128::from(self.answered);
        ((there + back) / 2).clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

/// An estimate of the offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offset {
    /// The receiver's clock less the sender's, in ns.
    pub ns: i64,
    /// It is within this many ns of the truth, however lopsided the path: half the slowest round trip believed.
    pub error_ns: u64,
}

/// Takes the third of the exchanges with the shortest round trips and, of those, the median offset.
/// `None` without any exchange.
pub fn estimate(exchanges: &[Exchange]) -> Option<Offset> {
    let mut sorted = exchanges.to_vec();
    sorted.sort_by_key(Exchange::round_trip);
    sorted.truncate(sorted.len().div_ceil(3));
    let slowest = sorted.last()?.round_trip();
    let mut offsets: Vec<i64> = sorted.iter().map(Exchange::offset).collect();
    offsets.sort_unstable();
    let ns = *offsets.get(offsets.len() / 2)?;
    Some(Offset {
        ns,
        error_ns: slowest.div_ceil(2),
    })
}

/// What two estimates, before and after a run that used the first, say together: the error bar grows by
/// the distance that the clocks moved apart.
pub fn with_drift(before: Offset, after: Offset) -> (Offset, i64) {
    let drift = after.ns.saturating_sub(before.ns);
    let error_ns = before
        .error_ns
        .max(after.error_ns)
        .saturating_add(drift.unsigned_abs());
    (
        Offset {
            ns: before.ns,
            error_ns,
        },
        drift,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An exchange as it would be stamped with the receiver's clock `offset` ns ahead.
    fn exchange(offset: i64, there: u64, back: u64) -> Exchange {
        let asked = 1_000_000_000_000u64;
        let arrived = (asked + there).wrapping_add_signed(offset);
        let left = arrived + 700;
        Exchange {
            asked,
            arrived,
            left,
            answered: asked + there + 700 + back,
        }
    }

    #[test]
    fn nothing_to_go_by_is_no_estimate() {
        assert_eq!(estimate(&[]), None);
    }

    #[test]
    fn a_queued_exchange_is_not_believed() {
        let mut exchanges = vec![exchange(5_000, 900_000, 10_000); 6];
        exchanges.extend([exchange(5_000, 10_000, 10_000); 3]);
        assert_eq!(
            estimate(&exchanges),
            Some(Offset {
                ns: 5_000,
                error_ns: 10_000
            })
        );
    }

    #[test]
    fn drift_widens_the_error_bar() {
        let before = Offset {
            ns: 100,
            error_ns: 10,
        };
        let after = Offset {
            ns: 160,
            error_ns: 20,
        };
        assert_eq!(
            with_drift(before, after),
            (
                Offset {
                    ns: 100,
                    error_ns: 80
                },
                60
            )
        );
    }

    proptest! {
        #[test]
        fn the_truth_lies_within_the_error_bar(
            offset in -1_000_000_000_000i64..1_000_000_000_000,
            paths in prop::collection::vec((1u64..1_000_000, 1u64..1_000_000), 1..60),
        ) {
            let exchanges: Vec<_> = paths.iter().map(|&(there, back)| exchange(offset, there, back)).collect();
            let told = estimate(&exchanges).unwrap();
            prop_assert!(told.ns.abs_diff(offset) <= told.error_ns);
        }

        #[test]
        fn no_stamps_panic(stamps in prop::collection::vec(any::<(u64, u64, u64, u64)>(), 0..20)) {
            let exchanges: Vec<_> = stamps.into_iter()
                .map(|(asked, arrived, left, answered)| Exchange { asked, arrived, left, answered })
                .collect();
            estimate(&exchanges);
        }
    }
}
