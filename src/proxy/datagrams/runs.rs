//! Joins received messages to runs that are sent as one message: pure.
//!
//! A sender without GSO causes a message for each datagram. Those of one flow in a batch are joined if they could be one
//! run: equal length except for the last, which may be shorter, and the same TOS. The order of a flow's datagrams stays.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::sockets::SocketId;
use crate::proxy::slab::Key;
use crate::sys::datagrams::{MAX_RUN, MAX_RUN_BYTES};

/// Datagrams of one flow, end to end in one slot of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The flow.
    pub key: Key,
    /// The slot.
    pub slot: usize,
    /// The first byte in the slot.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
    /// Bytes of each datagram except the last, which may be shorter.
    pub segment: u16,
    /// TOS or traffic class.
    pub tos: u8,
}

impl Piece {
    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Datagrams: 1 if it is empty.
    pub fn datagrams(&self) -> usize {
        self.bytes()
            .div_ceil(usize::from(self.segment).max(1))
            .max(1)
    }

    /// Its datagrams, each a piece.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let segment = usize::from(self.segment).max(1);
        (0..self.datagrams()).map(move |number| {
            let start = self.start + number * segment;
            let end = self.end.min(start + segment);
            let segment = (end - start) as u16;
            Self {
                start,
                end,
                segment,
                ..self
            }
        })
    }
}

/// Where the datagrams of a run are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Path {
    /// The socket that sends them.
    pub socket: SocketId,
    /// Its peer is reached over IPv6, if it is connected.
    pub is_v6: bool,
    /// The destination, unless the socket is connected.
    pub to: Option<SocketAddr>,
    /// The source address, unless the kernel selects it.
    pub from: Option<IpAddr>,
    /// Longer datagrams are sent one by one, as the path refused a run of them.
    pub longest_segment: u16,
    /// Bytes of the header that is put in front of each datagram, which is then a piece of its own.
    pub prefix: u16,
}

/// Pieces that are sent as one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The flow.
    pub key: Key,
    /// Its pieces.
    pub pieces: Range<usize>,
    /// Bytes of each datagram except the last, which may be shorter.
    pub segment: u16,
    /// Datagrams.
    pub datagrams: usize,
    /// Bytes.
    pub bytes: usize,
    /// TOS or traffic class.
    pub tos: u8,
    /// Where they are sent.
    pub path: Path,
    /// The last datagram is shorter than the others, so none may follow.
    is_closed: bool,
}

impl Run {
    fn of(piece: &Piece, place: usize, path: Path) -> Self {
        let bytes = piece.bytes();
        Self {
            key: piece.key,
            pieces: place..place + 1,
            segment: piece.segment,
            datagrams: piece.datagrams(),
            bytes,
            tos: piece.tos,
            path,
            is_closed: !bytes.is_multiple_of(usize::from(piece.segment).max(1)) || bytes == 0,
        }
    }

    /// Appends the next piece if the result is a run. Whether it was appended.
    fn join(&mut self, piece: &Piece) -> bool {
        let (bytes, datagrams) = (piece.bytes(), piece.datagrams());
        let is_last = datagrams == 1 && bytes < usize::from(self.segment);
        let fits = !self.is_closed
            && self.key == piece.key
            && self.tos == piece.tos
            && bytes > 0
            && (piece.segment == self.segment || is_last)
            && self.segment <= self.path.longest_segment
            && self.datagrams + datagrams <= MAX_RUN
            && self.bytes + bytes + (self.datagrams + datagrams) * usize::from(self.path.prefix)
                <= MAX_RUN_BYTES;
        if fits {
            self.pieces.end += 1;
            self.bytes += bytes;
            self.datagrams += datagrams;
            self.is_closed = !bytes.is_multiple_of(usize::from(self.segment).max(1));
        }
        fits
    }
}

/// The runs of `pieces`, in which those of a flow follow each other. Appended to `runs`.
pub fn join(pieces: &[Piece], mut path: impl FnMut(Key) -> Path, runs: &mut Vec<Run>) {
    for (place, piece) in pieces.iter().enumerate() {
        let joined = runs.last_mut().is_some_and(|run| run.join(piece));
        if !joined {
            let path = match runs.last() {
                Some(run) if run.key == piece.key => run.path,
                _ => path(piece.key),
            };
            runs.push(Run::of(piece, place, path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(flow: usize, slot: usize, bytes: usize, segment: u16, tos: u8) -> Piece {
        Piece {
            key: Key::from_number(flow),
            slot,
            start: 0,
            end: bytes,
            segment,
            tos,
        }
    }

    fn path(_: Key) -> Path {
        Path {
            longest_segment: 1_400,
            ..Path::default()
        }
    }

    fn joined(pieces: &[Piece]) -> Vec<Run> {
        let mut runs = Vec::new();
        join(pieces, path, &mut runs);
        runs
    }

    /// Flow, TOS and lengths of the datagrams, in order.
    fn datagrams(piece: &Piece) -> Vec<(Key, u8, usize)> {
        let each = piece.each();
        each.map(|one| (one.key, one.tos, one.bytes())).collect()
    }

    #[test]
    fn pieces_of_a_piece_are_its_datagrams() {
        let whole = Piece {
            start: 7,
            ..piece(1, 2, 257, 100, 0)
        };
        let each: Vec<_> = whole.each().map(|one| (one.start, one.end)).collect();
        assert_eq!(each, [(7, 107), (107, 207), (207, 257)]);
        let empty: Vec<_> = piece(1, 2, 0, 0, 0).each().collect();
        assert_eq!(empty, [piece(1, 2, 0, 0, 0)]);
    }

    #[test]
    fn equal_datagrams_and_a_shorter_last_one_are_a_run() {
        let sizes = [100, 100, 100, 60, 100, 0, 100, 101];
        let pieces: Vec<_> = sizes
            .iter()
            .zip(0..)
            .map(|(&bytes, slot)| piece(1, slot, bytes, bytes as u16, 0))
            .collect();
        let lengths: Vec<_> = joined(&pieces).iter().map(|run| run.datagrams).collect();
        assert_eq!(lengths, [4, 1, 1, 1, 1]);
    }

    #[test]
    fn runs_of_one_size_are_joined_up_to_the_limit_of_a_message() {
        let pieces: Vec<_> = (0..4)
            .map(|slot| piece(1, slot, 20_000, 1_000, 2))
            .collect();
        let runs = joined(&pieces);
        assert_eq!(runs.len(), 2);
        assert_eq!((runs[0].datagrams, runs[0].bytes), (60, 60_000));
    }

    #[test]
    fn long_datagrams_are_not_joined_on_a_path_that_refused_them() {
        let pieces: Vec<_> = (0..3).map(|slot| piece(1, slot, 1_401, 1_401, 0)).collect();
        assert_eq!(joined(&pieces).len(), 3);
    }

    proptest! {
        #[test]
        fn joining_keeps_every_datagram_and_their_order(
            each in prop::collection::vec((0usize..3, prop_oneof![Just(100u16), Just(60), Just(1_000), 0u16..2_000], 1usize..70, 0usize..100, 0u8..2), 0..100),
        ) {
            let pieces: Vec<_> = each.iter().zip(0..).map(|(&(flow, segment, whole, short, tos), slot)| {
                let segment_bytes = usize::from(segment);
                let bytes = (segment_bytes * whole + short.min(segment_bytes.saturating_sub(1))).min(MAX_RUN_BYTES);
                piece(flow, slot, bytes, segment, tos)
            }).collect();
            let runs = joined(&pieces);
            let mut place = 0;
            for run in &runs {
                prop_assert_eq!(run.pieces.start, place);
                place = run.pieces.end;
                let parts = &pieces[run.pieces.clone()];
                let before: Vec<_> = parts.iter().flat_map(datagrams).collect();
                let whole = Piece { end: run.bytes, ..piece(0, 0, 0, run.segment, run.tos) };
                let whole = Piece { key: run.key, ..whole };
                prop_assert_eq!(before, datagrams(&whole));
                prop_assert_eq!(run.datagrams, whole.datagrams());
                prop_assert!(run.bytes <= MAX_RUN_BYTES);
                prop_assert!(parts.len() == 1 || run.datagrams <= MAX_RUN && run.segment <= 1_400);
            }
            prop_assert_eq!(place, pieces.len());
        }
    }
}
