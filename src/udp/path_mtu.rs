//! The MTU of a path, and the errors of a run whose datagrams exceed it. Pure.

use thiserror::Error;

use crate::udp::engine::Path;
use crate::udp::wire::header::HEADER;

/// A datagram that exceeds the path MTU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// UDP payload in bytes.
    pub datagram: usize,
    /// Path MTU in bytes.
    pub mtu: usize,
    /// Bytes of the IP and UDP headers.
    pub headers: usize,
    /// Bytes of the header of a relay, as part of the datagram.
    pub front: usize,
}

impl TooLong {
    /// `None` if a datagram of `datagram` bytes fits, or the MTU is unknown.
    pub fn of(datagram: usize, path: Path) -> Option<Self> {
        let mtu = path.mtu?;
        (datagram + path.headers > mtu).then_some(Self {
            datagram,
            mtu,
            headers: path.headers,
            front: 0,
        })
    }

    /// Of a datagram that has a relay's header of `front` bytes.
    pub fn behind(self, front: usize) -> Self {
        Self { front, ..self }
    }

    /// The largest chunk that fits; `None` if not even a header fits.
    pub fn chunk_that_fits(self) -> Option<usize> {
        let chunk = self.mtu.checked_sub(self.headers + self.front + HEADER)?;
        (chunk > 0).then_some(chunk)
    }

    /// `use --chunk N or less, or `, if a chunk fits, and then `otherwise`.
    pub fn way_out(self, otherwise: &str) -> String {
        match self.chunk_that_fits() {
            Some(chunk) => format!("use --chunk {chunk} or less, or {otherwise}"),
            None => format!("use {otherwise}"),
        }
    }
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            datagram,
            mtu,
            headers,
            front: _,
        } = self;
        write!(
            f,
            "a datagram of {datagram} B with {headers} B of IP and UDP headers exceeds the path MTU of {mtu} B"
        )
    }
}

/// Why a sender cannot use its path.
#[derive(Debug, Error)]
pub enum PathError {
    /// `--df on`.
    #[error("{too_long}, and --df on forbids fragments; {way_out}", too_long = .0, way_out = .0.way_out("--df auto or off"))]
    NoFragments(TooLong),
    /// `--df on`, and the kernel refuses a datagram that fits the MTU it reports.
    #[error(
        "the kernel refuses a datagram of {0} B as too long for the path, and --df on forbids fragments; use a smaller --chunk, or --df auto or off"
    )]
    Refused(usize),
    /// `--df on`, and the path drops long datagrams.
    #[error(
        "datagrams of {datagram} B do not arrive while short ones do: a router on the path drops them and its ICMP error is lost, and --df on forbids fragments; {}",
        fitting(*.longest)
    )]
    BlackHole {
        /// UDP payload in bytes.
        datagram: usize,
        /// The longest UDP payload that arrives, in bytes without the header of a relay.
        longest: usize,
    },
    /// The path drops long datagrams, whole or in fragments.
    #[error(
        "datagrams of {datagram} B do not arrive while short ones do, and neither do their fragments: a router on the path drops them and its ICMP error is lost; {}",
        chunk_for(*.longest)
    )]
    NoWay {
        /// UDP payload in bytes.
        datagram: usize,
        /// The longest UDP payload that arrives, in bytes without the header of a relay.
        longest: usize,
    },
    /// `--gso on`, and the path MTU has become smaller.
    #[error("GSO is required (--gso on), but {too_long}; {way_out}", too_long = .0, way_out = .0.way_out("--gso auto or off"))]
    NoSegments(TooLong),
    /// `--gso on`, and segmented sends are refused for another reason.
    #[error(
        "GSO is required (--gso on), but the path refuses segmented sends: {0}; use --gso auto or off"
    )]
    SegmentsRefused(std::io::Error),
}

/// Advice: a chunk that arrives, or another `--df`.
fn fitting(longest: usize) -> String {
    match chunk_in(longest) {
        Some(chunk) => format!("use --chunk {chunk} or less, or --df auto or off"),
        None => "use --df auto or off".to_owned(),
    }
}

/// Advice: a chunk that arrives.
fn chunk_for(longest: usize) -> String {
    let chunk = chunk_in(longest).unwrap_or(1);
    format!("use --chunk {chunk} or less")
}

fn chunk_in(longest: usize) -> Option<usize> {
    longest.checked_sub(HEADER).filter(|chunk| *chunk > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(mtu: usize, headers: usize) -> Path {
        Path {
            mtu: Some(mtu),
            headers,
        }
    }

    #[test]
    fn the_chunk_that_fits_is_the_mtu_minus_all_headers() {
        let v4 = TooLong::of(1_432, path(1_300, 28)).unwrap();
        assert_eq!(v4.chunk_that_fits(), Some(1_240));
        let v6 = TooLong::of(1_432, path(1_300, 48)).unwrap();
        assert_eq!(v6.chunk_that_fits(), Some(1_220));
        assert_eq!(TooLong::of(1_272, path(1_300, 28)), None);
        assert!(TooLong::of(1_273, path(1_300, 28)).is_some());
        let relayed = TooLong::of(1_432, path(1_300, 28)).unwrap().behind(10);
        assert_eq!(relayed.chunk_that_fits(), Some(1_230));
        let tiny = TooLong::of(100, path(60, 28)).unwrap();
        assert_eq!(tiny.chunk_that_fits(), None);
        let unknown = Path {
            mtu: None,
            headers: 28,
        };
        assert_eq!(TooLong::of(60_000, unknown), None);
    }

    #[test]
    fn an_error_contains_the_mtu_and_the_chunk_that_fits() {
        let too_long = TooLong::of(1_432, path(1_300, 28)).unwrap();
        for error in [
            PathError::NoFragments(too_long),
            PathError::NoSegments(too_long),
        ] {
            let sentence = error.to_string();
            for word in ["1300 B", "--chunk 1240 or less"] {
                assert!(sentence.contains(word), "{sentence}");
            }
        }
    }
}
