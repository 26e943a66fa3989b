//! A decoder of the lines that this program writes, which takes a third of the time of a decoder of any JSON. Pure.

use std::collections::BTreeMap;

use super::RunHistograms;
use crate::stats::latency::OutOfRange;
use crate::stats::saved_histogram::SavedHistogram;

/// Digits of a number that cannot overflow.
const DIGITS: usize = 19;

/// The histograms of a line; `None` for a line in another form, which may be JSON too.
pub(super) fn decode(line: &[u8]) -> Option<RunHistograms> {
    let mut rest = Rest(line);
    rest.skip(b"{\"run\":")?;
    let run = usize::try_from(rest.number()?).ok()?;
    rest.skip(b",\"latency\":")?;
    let latency = rest.histogram()?;
    rest.skip(b",\"intended\":")?;
    let intended = rest.histogram()?;
    let mut more = BTreeMap::new();
    if rest.skip(b",\"more\":{").is_some() {
        loop {
            let name = rest.text()?;
            rest.skip(b":")?;
            more.insert(name, rest.histogram()?);
            if rest.skip(b",").is_none() {
                break;
            }
        }
        rest.skip(b"}")?;
    }
    rest.skip(b"}")?;
    rest.0.is_empty().then_some(RunHistograms {
        run,
        latency,
        intended,
        more,
    })
}

/// The bytes that are not decoded yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// Skips these bytes; `None` if others are next.
    fn skip(&mut self, bytes: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(bytes)?;
        Some(())
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        let mut length = 0;
        while let Some(digit @ b'0'..=b'9') = self.0.get(length) {
            if length == DIGITS {
                return None;
            }
            value = value * 10 + u64::from(digit - b'0');
            length += 1;
        }
        let has_zero = length > 1 && self.0.first() == Some(&b'0');
        self.0 = self.0.get(length..)?;
        (length > 0 && !has_zero).then_some(value)
    }

    /// A text of plain ASCII.
    fn text(&mut self) -> Option<String> {
        self.skip(b"\"")?;
        let length = self.0.iter().position(|byte| *byte == b'"')?;
        let (text, rest) = self.0.split_at(length);
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
        if !text.iter().all(is_plain) {
            return None;
        }
        self.0 = rest;
        self.skip(b"\"")?;
        String::from_utf8(text.to_vec()).ok()
    }

    fn histogram(&mut self) -> Option<SavedHistogram> {
        self.skip(b"{\"counts\":[")?;
        let mut counts = Vec::new();
        if self.skip(b"]").is_none() {
            loop {
                self.skip(b"[")?;
                let value = self.number()?;
                self.skip(b",")?;
                counts.push((value, self.number()?));
                if self.skip(b"],").is_none() {
                    break;
                }
            }
            self.skip(b"]]")?;
        }
        self.skip(b",\"sum_ns\":")?;
        let sum_ns = self.text()?;
        self.skip(b",\"out_of_range\":{\"negative\":")?;
        let negative = self.number()?;
        self.skip(b",\"too_long\":")?;
        let too_long = self.number()?;
        self.skip(b"}}")?;
        Some(SavedHistogram {
            counts,
            sum_ns,
            out_of_range: OutOfRange { negative, too_long },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Figures of lines as they are written.
    fn histogram() -> impl Strategy<Value = SavedHistogram> {
        let counts = prop::collection::vec((any::<u64>(), any::<u64>()), 0..4);
        (counts, any::<u128>(), any::<u64>(), 0u64..3).prop_map(
            |(counts, sum, negative, too_long)| {
                let few = counts
                    .into_iter()
                    .map(|(value, count)| (value >> 4, count >> 4));
                SavedHistogram {
                    counts: few.collect(),
                    sum_ns: sum.to_string(),
                    out_of_range: OutOfRange {
                        negative: negative >> 4,
                        too_long,
                    },
                }
            },
        )
    }

    fn histograms() -> impl Strategy<Value = RunHistograms> {
        let more = prop::collection::btree_map("[ -~]{0,4}", histogram(), 0..3);
        (0usize..1_000, histogram(), histogram(), more).prop_map(
            |(run, latency, intended, more)| RunHistograms {
                run,
                latency,
                intended,
                more,
            },
        )
    }

    /// Compares by the line that is written.
    fn text(of: &RunHistograms) -> Vec<u8> {
        serde_json::to_vec(of).unwrap()
    }

    proptest! {
        #[test]
        fn written_lines_are_decoded(of in histograms()) {
            let line = text(&of);
            let is_plain = of.more.keys().all(|name| !name.contains(['"', '\\']));
            prop_assert_eq!(decode(&line).map(|of| text(&of)), is_plain.then_some(line));
        }

        #[test]
        fn changed_lines_are_decoded_as_json_or_not(
            of in histograms(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..4),
        ) {
            let mut line = text(&of);
            for (place, byte, inserts) in changes {
                let place = place.index(line.len());
                // Of the bytes that lines have, and others.
                let byte = if byte < 200 { b"0123456789,[]{}\":-.e\\ "[usize::from(byte) % 22] } else { byte };
                match inserts {
                    true => line.insert(place, byte),
                    false => line[place] = byte,
                }
            }
            if let Some(decoded) = decode(&line) {
                let json: RunHistograms = serde_json::from_slice(&line).unwrap();
                prop_assert_eq!(text(&decoded), text(&json));
            }
        }
    }
}
