//! The header of every datagram: 32 bytes, in both directions.
//!
//! ```text
//!  0        2                 8                16               24    25    26             32
//!  +--------+-----------------+----------------+----------------+-----+-----+--------------+
//!  | magic  | sequence        | token          | sent           | kind|flags| lateness     |
//!  +--------+-----------------+----------------+----------------+-----+-----+--------------+
//!    16 bit   48 bit            64 bit           64 bit ns        8     8     48 bit ns
//! ```
//!
//! Network byte order. All stamps are in ns of the *server's* monotonic clock: a client on another host adds the estimated offset.
//! Decoding is total: any bytes are a header or a [`HeaderError`].

/// Bytes of a header.
pub const HEADER: usize = 32;

/// Most message bytes of a datagram: 65,535 minus the IPv4, UDP and this header (RFC 791, RFC 768).
pub const MAX_CHUNK: usize = 65_535 - 20 - 8 - HEADER;

/// Bits of a sequence number and of a lateness.
const FIELD_BITS: u32 = 48;

/// The largest sequence number and the largest lateness in ns (78 hours).
pub const MAX_48_BIT: u64 = (1 << FIELD_BITS) - 1;

/// `W` and the version of this layout.
const MAGIC: u64 = 0x5701;

/// Flag: the last datagram of its stream, the only one that may be shorter than the others.
const LAST: u8 = 1;

/// The kind of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A part of the message; `sequence` counts from 0.
    Data = 1,
    /// Requests credit, or opens a flow; `sequence` is the number of datagrams sent so far.
    Probe = 2,
    /// Response to a probe, and grant of credit: `sequence` is the first sequence number that may *not* be sent yet.
    Credit = 3,
    /// Request of a clock exchange or a path probe; `sequence` is its number.
    Ping = 4,
    /// Response to a ping with the same `sequence`: `sent` is when the ping arrived, `lateness` the time from then to the response.
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
    /// The kind.
    pub kind: Kind,
    /// Whether the datagram is the last of its stream.
    pub last: bool,
    /// At most [`MAX_48_BIT`].
    pub sequence: u64,
    /// Identifies the flow.
    pub token: u64,
    /// Stamp of the actual send, in ns.
    pub sent: u64,
    /// Time from the intended to the actual send, in ns; at most [`MAX_48_BIT`].
    pub lateness: u64,
}

/// Why bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer bytes than a header.
    Short,
    /// An unknown magic number, kind or flag.
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

    /// The header as bytes. Sequence number and lateness saturate at [`MAX_48_BIT`].
    #[inline]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        self.write(&mut bytes);
        bytes
    }

    /// Writes [`Self::encode`] to `place`, by whole words: a copy of bytes that were written one word at a time would wait for them.
    #[inline]
    pub fn write(&self, place: &mut [u8; HEADER]) {
        if let ([first, token, sent, fourth], []) = place.as_chunks_mut() {
            *first = (MAGIC << FIELD_BITS | self.sequence.min(MAX_48_BIT)).to_be_bytes();
            *token = self.token.to_be_bytes();
            *sent = self.sent.to_be_bytes();
            let flags = u64::from(if self.last { LAST } else { 0 });
            let fourth_word = (self.kind as u64) << 56 | flags << FIELD_BITS;
            *fourth = (fourth_word | self.lateness.min(MAX_48_BIT)).to_be_bytes();
        }
    }

    /// Reads the header at the front of a datagram.
    ///
    /// # Errors
    /// [`HeaderError`], for bytes that [`Self::encode`] cannot write.
    #[inline]
    pub fn decode(datagram: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER] = datagram.first_chunk().ok_or(HeaderError::Short)?;
        let ([first, token, sent, fourth], []) = bytes.as_chunks() else {
            return Err(HeaderError::Short);
        };
        let (first, fourth) = (u64::from_be_bytes(*first), u64::from_be_bytes(*fourth));
        let kind = Kind::from_byte((fourth >> 56) as u8).ok_or(HeaderError::Malformed)?;
        let flags = (fourth >> FIELD_BITS) as u8;
        if first >> FIELD_BITS != MAGIC || flags & !LAST != 0 {
            return Err(HeaderError::Malformed);
        }
        Ok(Self {
            kind,
            last: flags & LAST != 0,
            sequence: first & MAX_48_BIT,
            token: u64::from_be_bytes(*token),
            sent: u64::from_be_bytes(*sent),
            lateness: fourth & MAX_48_BIT,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::wire::VERSION;
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
            0..=MAX_48_BIT,
            any::<u64>(),
            any::<u64>(),
            0..=MAX_48_BIT,
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
        fn an_encoded_header_decodes_to_itself(header in headers(), tail in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut datagram = header.encode().to_vec();
            datagram.extend(tail);
            prop_assert_eq!(Header::decode(&datagram), Ok(header));
        }

        #[test]
        fn bytes_that_decode_encode_to_themselves(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(header) = Header::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..HEADER]);
            }
        }

        #[test]
        fn a_wrong_bit_in_the_magic_number_is_malformed(header in headers(), bit in 0usize..16) {
            let mut datagram = header.encode();
            datagram[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Header::decode(&datagram), Err(HeaderError::Malformed));
        }
    }

    /// The bytes of each kind of header. A change here is a change of the protocol, and needs a new version.
    #[test]
    fn every_kind_of_header_has_these_bytes() {
        assert_eq!(VERSION, 3, "the bytes below are those of version 3");
        for (kind, byte) in [
            (Kind::Data, 1),
            (Kind::Probe, 2),
            (Kind::Credit, 3),
            (Kind::Ping, 4),
            (Kind::Pong, 5),
        ] {
            for last in [false, true] {
                let header = Header {
                    kind,
                    last,
                    sequence: 0x0102_0304_0506,
                    token: 0x1112_1314_1516_1718,
                    sent: 0x2122_2324_2526_2728,
                    lateness: 0x3132_3334_3536,
                };
                let flags = u8::from(last);
                let expected = [
                    0x57, 0x01, 1, 2, 3, 4, 5, 6, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
                    0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, byte, flags, 0x31, 0x32, 0x33,
                    0x34, 0x35, 0x36,
                ];
                assert_eq!(header.encode(), expected);
            }
        }
    }

    #[test]
    fn fewer_bytes_than_a_header_are_short() {
        assert_eq!(Header::decode(&[0; HEADER - 1]), Err(HeaderError::Short));
    }

    #[test]
    fn the_largest_chunk_fills_the_largest_datagram() {
        assert_eq!(MAX_CHUNK, 65_475);
    }
}
