//! The payload of messages: a text that differs at every offset, so that a stale, swapped, shifted or truncated answer never
//! matches.
//!
//! A message and its expected answer are slices of one long text, so a request generates and copies nothing.

/// Length after which the text repeats: the largest prime below 2^16, so that a lost or doubled read or write never leaves
/// the rest aligned.
pub const PERIOD: usize = 65_521;

/// Distance between the offsets of consecutive messages: far more than [`PERIOD`] / 3, so that neighbours do not overlap.
const STEP: u64 = 40_503;

/// The payload text.
#[derive(Debug, Clone)]
pub struct Payload {
    bytes: Box<[u8]>,
}

impl Payload {
    /// A payload with slices of up to `longest` bytes.
    pub fn new(longest: usize) -> Self {
        // No letter needs an escape in JSON.
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // Marsaglia's xorshift. Both ends generate the same text.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut bytes: Vec<u8> = (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                LETTERS[(state >> 58) as usize]
            })
            .collect();
        for at in 0..longest {
            bytes.push(bytes[at]);
        }
        Self {
            bytes: bytes.into(),
        }
    }

    /// The offset of message `number`.
    pub fn offset(number: u64) -> usize {
        (number.wrapping_mul(STEP) % PERIOD as u64) as usize
    }

    /// `length` bytes from `offset`, fewer if `length` is larger than the payload was made for.
    #[inline]
    pub fn slice(&self, offset: usize, length: usize) -> &[u8] {
        let end = offset.saturating_add(length).min(self.bytes.len());
        self.bytes.get(offset..end).unwrap_or_default()
    }

    /// The longest contiguous slice from `offset` of the repeated text.
    pub fn from_offset(&self, offset: u64) -> &[u8] {
        let offset = (offset % PERIOD as u64) as usize;
        self.bytes.get(offset..).unwrap_or_default()
    }

    /// How many of `bytes`, received at `offset` of the repeated text, are correct before the first wrong one.
    pub fn matching_prefix(&self, offset: u64, bytes: &[u8]) -> usize {
        let mut right = 0;
        while let Some(rest) = bytes.get(right..).filter(|rest| !rest.is_empty()) {
            let expected = self.from_offset(offset + right as u64);
            let length = rest.len().min(expected.len());
            let (rest, expected) = (&rest[..length], &expected[..length]);
            if rest != expected {
                let same = rest.iter().zip(expected).take_while(|(a, b)| a == b);
                return right + same.count();
            }
            right += length;
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn consecutive_messages_of_eight_bytes_or_more_differ() {
        let payload = Payload::new(8);
        let mut seen = std::collections::HashSet::new();
        for number in 0..PERIOD as u64 {
            assert!(seen.insert(payload.slice(Payload::offset(number), 8).to_vec()));
        }
    }

    proptest! {
        #[test]
        fn the_repeated_text_is_contiguous_in_any_split(offset in 0u64..1 << 40, cuts in prop::collection::vec(1usize..90_000, 1..6)) {
            let payload = Payload::new(1_000);
            let mut at = offset;
            for cut in cuts {
                let mut piece = Vec::new();
                while piece.len() < cut {
                    let more = payload.from_offset(at + piece.len() as u64);
                    piece.extend_from_slice(&more[..more.len().min(cut - piece.len())]);
                }
                prop_assert_eq!(payload.matching_prefix(at, &piece), cut);
                at += cut as u64;
            }
        }

        #[test]
        fn a_wrong_byte_is_found(offset: u32, length in 1usize..70_000, wrong: prop::sample::Index) {
            let payload = Payload::new(1 << 17);
            let mut bytes = payload.from_offset(offset.into())[..length].to_vec();
            let wrong = wrong.index(length);
            bytes[wrong] ^= 1;
            prop_assert_eq!(payload.matching_prefix(offset.into(), &bytes), wrong);
        }
    }
}
