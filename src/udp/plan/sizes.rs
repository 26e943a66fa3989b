//! Datagrams of several sizes: a mix with weights, or all sizes of a range. Pure.
//!
//! The size of a datagram follows from its sequence number alone, so that the receiver checks the length of each datagram, and the
//! bytes of a stream are known exactly. Sizes repeat with a period, within which each occurs as often as its weight, in an order that
//! is shuffled once for all: client and server compute the same order.
//!
//! `imix` is the simple Internet mix of 7 frames of 64 bytes, 4 of 594 and 1 of 1518 (Ethernet with FCS). A message has 78 bytes less
//! than its frame over IPv4 (18 of Ethernet, 20 of IPv4, 8 of UDP, 32 of this program), and 98 less over IPv6. The smallest frame with a
//! message, of one byte, has 79 or 99 bytes; it stands for those of 64.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::stats::random::SplitMix;
use crate::udp::wire::header::MAX_CHUNK;

/// Most sizes of a mix.
pub const MAX_SIZES: usize = 64;

/// Longest period in datagrams. A longer range is represented by as many sizes at equal distances.
pub const MAX_PERIOD: u32 = 4_096;

/// `imix` over IPv4 and over IPv6.
const IMIX_V4: [(usize, u32); 3] = [(1, 7), (516, 4), (1_440, 1)];
const IMIX_V6: [(usize, u32); 3] = [(1, 7), (496, 4), (1_420, 1)];

/// The order of all patterns. Another seed is another protocol.
const SEED: u64 = 0x696d_6978;

/// Message bytes of the datagrams of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sizes {
    /// Sizes and their weights.
    Mix(Vec<(usize, u32)>),
    /// All sizes from the first to the second, equally often.
    Range(usize, usize),
}

/// Why sizes are invalid: a sentence with the value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SizesError {
    /// Outside 1 to [`MAX_CHUNK`].
    #[error("a chunk of {0} bytes does not fit; choose 1 to {MAX_CHUNK}")]
    Size(usize),
    /// No size, or more than [`MAX_SIZES`].
    #[error("a mix of {0} sizes cannot be sent; choose 1 to {MAX_SIZES}")]
    Count(usize),
    /// A weight of 0, or weights whose sum exceeds [`MAX_PERIOD`].
    #[error("the weights of a mix must be 1 or more, and {MAX_PERIOD} or less in all")]
    Weights,
    /// A range without sizes.
    #[error("a range of {0} to {1} bytes is empty; write the smaller size first")]
    Range(usize, usize),
}

impl Sizes {
    /// The simple Internet mix.
    pub fn imix(is_v6: bool) -> Self {
        let mix = if is_v6 { IMIX_V6 } else { IMIX_V4 };
        Self::Mix(mix.to_vec())
    }

    /// Checks the sizes.
    ///
    /// # Errors
    /// [`SizesError`], with the first invalid value.
    pub fn validate(&self) -> Result<(), SizesError> {
        let fits = |size: usize| match (1..=MAX_CHUNK).contains(&size) {
            true => Ok(()),
            false => Err(SizesError::Size(size)),
        };
        match self {
            Self::Mix(mix) if !(1..=MAX_SIZES).contains(&mix.len()) => {
                Err(SizesError::Count(mix.len()))
            }
            Self::Mix(mix) => {
                mix.iter().try_for_each(|(size, _)| fits(*size))?;
                let sum = mix
                    .iter()
                    .try_fold(0u32, |sum, (_, weight)| sum.checked_add(*weight));
                let is_zero = mix.iter().any(|(_, weight)| *weight == 0);
                match sum {
                    Some(..=MAX_PERIOD) if !is_zero => Ok(()),
                    _ => Err(SizesError::Weights),
                }
            }
            Self::Range(first, last) => {
                fits(*first)?;
                fits(*last)?;
                match first < last {
                    true => Ok(()),
                    false => Err(SizesError::Range(*first, *last)),
                }
            }
        }
    }

    /// The smallest and the largest size; 0 of an empty mix.
    pub fn bounds(&self) -> (usize, usize) {
        match self {
            Self::Range(first, last) => (*first, *last),
            Self::Mix(mix) => {
                let sizes = || mix.iter().map(|(size, _)| *size);
                (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0))
            }
        }
    }

    /// The sizes of a period, in ascending order. Only of valid sizes.
    fn period(&self) -> Vec<u16> {
        let size = |size: usize| u16::try_from(size).unwrap_or(u16::MAX);
        let mut period: Vec<u16> = match self {
            Self::Mix(mix) => {
                let each = mix.iter().flat_map(|(bytes, weight)| {
                    std::iter::repeat_n(size(*bytes), *weight as usize)
                });
                each.take(MAX_PERIOD as usize).collect()
            }
            Self::Range(first, last) => {
                let span = last.saturating_sub(*first);
                let steps = span.clamp(1, MAX_PERIOD as usize - 1);
                (0..=steps)
                    .map(|step| size(first + span * step / steps))
                    .collect()
            }
        };
        period.sort_unstable();
        period
    }
}

/// As in the option: `imix`, `100:7,500:4,1400:1` or `64-1400`.
impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mix(mix) if *mix == IMIX_V4 || *mix == IMIX_V6 => write!(f, "imix"),
            Self::Mix(mix) => {
                let each = mix.iter().map(|(size, weight)| format!("{size}:{weight}"));
                write!(f, "{}", each.collect::<Vec<_>>().join(","))
            }
            Self::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// The size of each datagram of a stream, by its sequence number.
#[derive(Debug, Clone)]
pub struct SizePattern {
    period: Arc<[u16]>,
    /// Bytes of a period.
    bytes: u64,
}

impl SizePattern {
    /// The pattern of valid sizes.
    pub fn new(sizes: &Sizes) -> Self {
        let mut period = sizes.period();
        let mut random = SplitMix::new(SEED);
        // Fisher and Yates.
        for end in (1..period.len()).rev() {
            period.swap(end, random.below(end + 1));
        }
        if period.is_empty() {
            period.push(1);
        }
        Self {
            bytes: period.iter().copied().map(u64::from).sum(),
            period: period.into(),
        }
    }

    /// Message bytes of a datagram.
    #[inline]
    pub fn size(&self, sequence: u64) -> usize {
        let place = (sequence % self.period.len() as u64) as usize;
        usize::from(self.period[place])
    }

    /// Message bytes of the first `datagrams` datagrams.
    pub fn bytes(&self, datagrams: u64) -> u64 {
        let length = self.period.len() as u64;
        let rest = (datagrams % length) as usize;
        let rest: u64 = self.period.iter().take(rest).copied().map(u64::from).sum();
        (datagrams / length)
            .saturating_mul(self.bytes)
            .saturating_add(rest)
    }

    /// The fewest datagrams with `bytes` message bytes, the last of which may be short.
    pub fn datagrams(&self, bytes: u64) -> u64 {
        let periods = bytes / self.bytes.max(1);
        let mut left = bytes % self.bytes.max(1);
        let mut count = periods.saturating_mul(self.period.len() as u64);
        for size in self.period.iter().copied().map(u64::from) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(size);
            count = count.saturating_add(1);
        }
        count
    }

    /// Mean of the message bytes.
    pub fn mean(&self) -> f64 {
        self.bytes as f64 / self.period.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizes() -> impl Strategy<Value = Sizes> {
        let mix = prop::collection::vec((1..=MAX_CHUNK, 1u32..60), 1..=MAX_SIZES);
        let range = (1..MAX_CHUNK).prop_flat_map(|first| {
            (first + 1..=MAX_CHUNK).prop_map(move |last| Sizes::Range(first, last))
        });
        prop_oneof![mix.prop_map(Sizes::Mix), range]
    }

    proptest! {
        #[test]
        fn bytes_are_the_sum_of_the_sizes(sizes in sizes(), datagrams in 0u64..10_000) {
            prop_assert_eq!(sizes.validate(), Ok(()));
            let pattern = SizePattern::new(&sizes);
            let sum: u64 = (0..datagrams).map(|sequence| pattern.size(sequence) as u64).sum();
            prop_assert_eq!(pattern.bytes(datagrams), sum);
            prop_assert_eq!(pattern.datagrams(sum), datagrams);
            if datagrams > 0 {
                // One byte more needs one datagram more, and one less as many.
                prop_assert_eq!(pattern.datagrams(sum + 1), datagrams + 1);
                let last = pattern.size(datagrams - 1) as u64;
                prop_assert_eq!(pattern.datagrams(sum - last + 1), datagrams);
            }
        }

        #[test]
        fn a_period_has_each_size_as_often_as_its_weight(mix in prop::collection::vec((1..=MAX_CHUNK, 1u32..60), 1..=MAX_SIZES)) {
            let pattern = SizePattern::new(&Sizes::Mix(mix.clone()));
            let all: u32 = mix.iter().map(|(_, weight)| weight).sum();
            prop_assert_eq!(pattern.period.len(), all as usize);
            for (size, _) in &mix {
                let weight: u32 = mix.iter().filter(|(other, _)| other == size).map(|(_, weight)| weight).sum();
                let found = (0..u64::from(all)).filter(|sequence| pattern.size(*sequence) == *size);
                prop_assert_eq!(found.count(), weight as usize);
            }
        }

        #[test]
        fn any_numbers_are_sizes_or_an_error(mix in prop::collection::vec((any::<usize>(), any::<u32>()), 0..100), first: usize, last: usize, datagrams: u64) {
            for sizes in [Sizes::Mix(mix), Sizes::Range(first, last)] {
                if sizes.validate().is_ok() {
                    let pattern = SizePattern::new(&sizes);
                    let (least, most) = sizes.bounds();
                    prop_assert!((least..=most).contains(&pattern.size(datagrams)));
                    pattern.datagrams(pattern.bytes(datagrams));
                }
                let _ = sizes.to_string();
            }
        }
    }

    #[test]
    fn a_range_has_its_ends_and_all_sizes_between_if_they_are_few() {
        let pattern = SizePattern::new(&Sizes::Range(64, 1_400));
        let mut period = pattern.period.to_vec();
        assert!(!period.is_sorted());
        period.sort_unstable();
        assert!(period.iter().copied().eq(64..=1_400));
        assert_eq!(pattern.mean(), 732.0);
        let pattern = SizePattern::new(&Sizes::Range(1, MAX_CHUNK));
        let mut period = pattern.period.to_vec();
        period.sort_unstable();
        assert_eq!(period.len(), MAX_PERIOD as usize);
        assert_eq!((period[0], period[4_095]), (1, MAX_CHUNK as u16));
        assert!((pattern.mean() - (MAX_CHUNK + 1) as f64 / 2.0).abs() < 1.0);
    }

    /// Client and server compute the pattern apart. A change here is a change of the protocol.
    #[test]
    fn patterns_have_this_order() {
        let first = |sizes: &Sizes| -> Vec<usize> {
            let pattern = SizePattern::new(sizes);
            (0..12).map(|sequence| pattern.size(sequence)).collect()
        };
        assert_eq!(
            first(&Sizes::imix(false)),
            [1, 1, 1, 1, 516, 1, 516, 516, 1, 1, 1_440, 516]
        );
        assert_eq!(
            first(&Sizes::Range(64, 1_400)),
            [
                1_049, 1_256, 161, 123, 1_332, 386, 345, 434, 481, 804, 693, 890
            ]
        );
    }

    #[test]
    fn imix_fills_its_frames() {
        for (is_v6, below) in [(false, 78), (true, 98)] {
            let Sizes::Mix(mix) = Sizes::imix(is_v6) else {
                panic!("imix is a mix");
            };
            let frames: Vec<_> = mix
                .iter()
                .map(|(size, weight)| (size + below, *weight))
                .collect();
            assert_eq!(frames, [(below + 1, 7), (594, 4), (1_518, 1)]);
            assert_eq!(Sizes::imix(is_v6).to_string(), "imix");
        }
    }

    #[test]
    fn invalid_sizes_have_their_error() {
        for (sizes, error) in [
            (Sizes::Mix(vec![]), SizesError::Count(0)),
            (Sizes::Mix(vec![(1, 1); 65]), SizesError::Count(65)),
            (Sizes::Mix(vec![(1, 1), (0, 1)]), SizesError::Size(0)),
            (
                Sizes::Mix(vec![(MAX_CHUNK + 1, 1)]),
                SizesError::Size(MAX_CHUNK + 1),
            ),
            (Sizes::Mix(vec![(1, 1), (2, 0)]), SizesError::Weights),
            (Sizes::Mix(vec![(1, u32::MAX), (2, 1)]), SizesError::Weights),
            (
                Sizes::Mix(vec![(1, MAX_PERIOD), (2, 1)]),
                SizesError::Weights,
            ),
            (Sizes::Range(0, 5), SizesError::Size(0)),
            (Sizes::Range(5, 5), SizesError::Range(5, 5)),
        ] {
            assert_eq!(sizes.validate(), Err(error));
        }
    }
}
