//! The 32 bytes at the head of every datagram, both ways.
//!
//! ```text
//!  0        2                 8                16               24    25    26             32
//!  +--------+-----------------+----------------+----------------+-----+-----+--------------+
//!  | magic  | sequence        | token          | sent           | kind|flags| lateness     |
//!  +--------+-----------------+----------------+----------------+-----+-----+--------------+
//!    16 bit   48 bit            64 bit           64 bit ns        8     8     48 bit ns
//! ```
//!
//! Network byte order. All stamps are ns of the *receiver's* monotonic clock: a sender on another
//! host adds the estimated offset before it writes them. Decoding is total: any bytes are either a
//! header or a [`NotOurs`].

/// Bytes of a header.
pub const HEADER: usize = 32;

/// Most message bytes a datagram holds: 65,535 less the IPv4, UDP and our own header (RFC 791, RFC 768).
pub const MOST_CHUNK: usize = 65_535 - 20 - 8 - HEADER;

/// Sequence numbers and latenesses have this many bits.
const SHORT_BITS: u32 = 48;

/// The largest sequence number and the largest lateness in ns (78 hours).
pub const MOST_SHORT: u64 = (1 << SHORT_BITS) - 1;

/// `W` and the version of this layout.
const MAGIC: u64 = 0x5701;

/// Flag: the last datagram of its stream, which alone may be shorter than the others.
const LAST: u8 = 1;

/// What a datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A piece of the message; `sequence` counts from 0.
    Data = 1,
    /// Sender to receiver: how far may I go? `sequence` is how many were sent so far.
    Probe = 2,
    /// Receiver to sender: the first sequence number that may *not* be sent yet.
    Credit = 3,
    /// Sender to receiver: what time is it? `sequence` numbers the question.
    Ping = 4,
    /// Receiver to sender: `sent` is when the ping arrived, `lateness` how long the answer took.
    Pong = 5,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Data),
            2 => Some(Self::Probe),
            3 => Some(Self::Credit),
            4 => Some(Self::Ping),
            5 => Some(Self::Pong),
            _ => None,
        }
    }
}

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the datagram is.
    pub kind: Kind,
    /// Whether it is its stream's last.
    pub last: bool,
    /// At most [`MOST_SHORT`].
    pub sequence: u64,
    /// The run it belongs to.
    pub token: u64,
    /// Stamp of the actual send, in ns.
    pub sent: u64,
    /// How long after the intended time that was, in ns; at most [`MOST_SHORT`].
    pub lateness: u64,
}

/// Why bytes are not one of our headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOurs {
    /// Fewer bytes than a header has.
    Short,
    /// Another magic number, kind or flag than any we send.
    Malformed,
}

impl Header {
    /// A header without stamps.
    pub const fn bare(kind: Kind, token: u64, sequence: u64) -> Self {
        Self {
            kind,
            last: false,
            sequence,
            token,
            sent: 0,
            lateness: 0,
        }
    }

    /// The header as bytes. A sequence number or lateness past 48 bits is cut to the largest there is.
    #[inline]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let words = [
            MAGIC << SHORT_BITS | self.sequence.min(MOST_SHORT),
            self.token,
            self.sent,
            (self.kind as u64) << 56
                | u64::from(if self.last { LAST } else { 0 }) << SHORT_BITS
                | self.lateness.min(MOST_SHORT),
        ];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Reads the header at the front of a datagram.
    ///
    /// # Errors
    /// [`NotOurs`], for anything that [`Self::encode`] did not write.
    #[inline]
    pub fn decode(datagram: &[u8]) -> Result<Self, NotOurs> {
        let bytes: &[u8; HEADER] = datagram.first_chunk().ok_or(NotOurs::Short)?;
        let ([first, token, sent, fourth], []) = bytes.as_chunks() else {
            return Err(NotOurs::Short);
        };
        let [first, token, sent, fourth] =
            [first, token, sent, fourth].map(|word| u64::from_be_bytes(*word));
        let kind = Kind::from_byte((fourth >> 56) as u8).ok_or(NotOurs::Malformed)?;
        let flags = (fourth >> SHORT_BITS) as u8;
        if first >> SHORT_BITS != MAGIC || flags & !LAST != 0 {
            return Err(NotOurs::Malformed);
        }
        Ok(Self {
            kind,
            last: flags & LAST != 0,
            sequence: first & MOST_SHORT,
            token,
            sent,
            lateness: fourth & MOST_SHORT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers() -> impl Strategy<Value = Header> {
        let kinds = [
            Kind::Data,
            Kind::Probe,
            Kind::Credit,
            Kind::Ping,
            Kind::Pong,
        ];
        (
            0..5usize,
            any::<bool>(),
            0..=MOST_SHORT,
            any::<u64>(),
            any::<u64>(),
            0..=MOST_SHORT,
        )
            .prop_map(
                move |(kind, last, sequence, token, sent, lateness)| Header {
                    kind: kinds[kind],
                    last,
                    sequence,
                    token,
                    sent,
                    lateness,
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(header in headers(), tail in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut datagram = header.encode().to_vec();
            datagram.extend(tail);
            prop_assert_eq!(Header::decode(&datagram), Ok(header));
        }

        #[test]
        fn any_bytes_are_a_header_that_encodes_to_them_or_not_ours(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..HEADER]);
            }
        }

        #[test]
        fn one_wrong_bit_in_magic_or_flags_is_noticed(header in headers(), bit in 0usize..16) {
            let mut datagram = header.encode();
            datagram[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Header::decode(&datagram), Err(NotOurs::Malformed));
        }
    }

    #[test]
    fn the_layout_is_the_one_drawn_above() {
        let header = Header {
            kind: Kind::Data,
            last: true,
            sequence: 0x0102_0304_0506,
            token: 0x1112_1314_1516_1718,
            sent: 0x2122_2324_2526_2728,
            lateness: 0x3132_3334_3536,
        };
        let expected = [
            0x57, 0x01, 1, 2, 3, 4, 5, 6, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x21,
            0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 1, 1, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36,
        ];
        assert_eq!(header.encode(), expected);
    }

    #[test]
    fn too_few_bytes_are_short() {
        assert_eq!(Header::decode(&[0; HEADER - 1]), Err(NotOurs::Short));
    }

    #[test]
    fn the_largest_chunk_fills_the_largest_datagram() {
        assert_eq!(MOST_CHUNK, 65_475);
    }
}
