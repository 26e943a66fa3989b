//! What a batch sends in one direction: pieces of received messages, their headers, runs, and the outcomes of these.

use std::iter;

use super::record::Outcome;
use super::runs::{Piece, Run};
use crate::proxy::slab::Key;
use crate::sys::datagrams::{Arrivals, Departure};

/// The slots that pieces refer to.
pub(in crate::proxy) trait Payloads {
    /// The payload in a slot.
    fn bytes(&self, slot: usize) -> &[u8];
}

impl Payloads for Arrivals {
    fn bytes(&self, slot: usize) -> &[u8] {
        Arrivals::bytes(self, slot)
    }
}

/// The headers that precede datagrams, by the number of the key of a piece.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Headers {
    bytes: Vec<u8>,
    /// The end of each in `bytes`.
    ends: Vec<usize>,
}

impl Headers {
    pub(in crate::proxy) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds a header. Its number is that of headers before.
    pub(in crate::proxy) fn push(&mut self, header: &[u8]) {
        self.bytes.extend(header);
        self.ends.push(self.bytes.len());
    }

    /// The header in front of the datagrams of a key.
    pub(in crate::proxy) fn get(&self, key: Key) -> Option<&[u8]> {
        let end = *self.ends.get(key.number())?;
        let before = key.number().checked_sub(1);
        let start = before.and_then(|before| self.ends.get(before));
        self.bytes.get(start.copied().unwrap_or(0)..end)
    }
}

/// The runs of a batch in one direction, in which those of a socket follow each other, and their outcomes.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Sends {
    pub(in crate::proxy) pieces: Vec<Piece>,
    /// Empty unless each piece is a datagram with a header.
    pub(in crate::proxy) headers: Headers,
    pub(in crate::proxy) runs: Vec<Run>,
    /// Of each run, once it is sent.
    pub(in crate::proxy) outcomes: Vec<Outcome>,
}

/// What runs consist of.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Contents<'a> {
    pub(in crate::proxy) pieces: &'a [Piece],
    pub(in crate::proxy) headers: &'a Headers,
}

impl Sends {
    pub(in crate::proxy) fn clear(&mut self) {
        self.pieces.clear();
        self.headers.clear();
        self.runs.clear();
        self.outcomes.clear();
    }

    /// The contents of the runs, the runs, and a function that adds an outcome to that of a run. The outcomes of earlier runs are added
    /// first.
    pub(in crate::proxy) fn split(&mut self) -> (Contents<'_>, &[Run], impl FnMut(&Run, Outcome)) {
        let Self {
            pieces,
            headers,
            runs,
            outcomes,
        } = self;
        outcomes.resize(runs.len(), Outcome::default());
        let mut rows = runs.iter().zip(outcomes).peekable();
        let add = move |run: &Run, outcome| {
            while rows
                .next_if(|(other, _)| other.pieces.start < run.pieces.start)
                .is_some()
            {}
            if let Some((_, all)) = rows.peek_mut() {
                **all = all.and(outcome);
            }
        };
        (Contents { pieces, headers }, runs, add)
    }
}

/// The message of a run.
pub(in crate::proxy) fn departure<'a>(
    run: &Run,
    contents: Contents<'a>,
    payloads: &'a impl Payloads,
) -> Departure<impl Iterator<Item = &'a [u8]>> {
    let Contents { pieces, headers } = contents;
    let pieces = pieces.get(run.pieces.clone()).unwrap_or_default();
    Departure {
        parts: pieces.iter().flat_map(move |piece| {
            let header = headers.get(piece.key).into_iter();
            header.chain(iter::once(payload(payloads, piece)))
        }),
        segment: match run.datagrams {
            0 | 1 => 0,
            _ => run.segment.saturating_add(run.path.prefix),
        },
        to: run.path.to,
        from: run.path.from,
        tos: run.tos,
    }
}

/// The bytes of a piece.
pub(in crate::proxy) fn payload<'a>(payloads: &'a impl Payloads, piece: &Piece) -> &'a [u8] {
    let bytes = payloads.bytes(piece.slot);
    bytes.get(piece.start..piece.end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::runs::{Path, join};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn outcomes_are_those_of_their_runs(adds in prop::collection::vec(0usize..3, 0..20)) {
            let pieces = (0..adds.len()).map(|flow| Piece {
                key: Key::from_number(flow),
                slot: 0,
                start: 0,
                end: 1,
                segment: 1,
                tos: 0,
            });
            let mut sends = Sends { pieces: pieces.collect(), ..Sends::default() };
            join(&sends.pieces, |_| Path::default(), &mut sends.runs);
            let (_, runs, mut add) = sends.split();
            for (run, &times) in runs.iter().zip(&adds) {
                for _ in 0..times {
                    add(run, Outcome::sent(1, 10));
                }
            }
            drop(add);
            let counts = sends.outcomes.iter().map(|outcome| outcome.sent.bytes as usize / 10);
            prop_assert_eq!(counts.collect::<Vec<_>>(), adds);
        }

        #[test]
        fn headers_are_found_by_their_number(all in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..20)) {
            let mut headers = Headers::default();
            all.iter().for_each(|header| headers.push(header));
            for (number, header) in all.iter().enumerate() {
                prop_assert_eq!(headers.get(Key::from_number(number)), Some(&header[..]));
            }
            prop_assert_eq!(headers.get(Key::from_number(all.len())), None);
        }
    }
}
