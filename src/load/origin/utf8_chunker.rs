//! Splits a client's bytes into chunks that end at UTF-8 character boundaries, for printing.

use crate::sys::endpoint::Peer;

/// The state of one client's byte stream.
#[derive(Debug, Default)]
pub(super) struct Utf8Chunker {
    /// The beginning of an incomplete character.
    partial: Vec<u8>,
}

impl Utf8Chunker {
    /// Passes on the bytes up to the last complete character. Empty `bytes` marks the end and flushes the rest.
    pub(super) fn push(
        &mut self,
        from: Peer,
        bytes: &[u8],
        on_message: &mut impl FnMut(Peer, &[u8]),
    ) {
        if self.partial.is_empty() {
            let (whole, partial) = bytes.split_at(bytes.len() - incomplete_tail(bytes));
            if !whole.is_empty() {
                on_message(from, whole);
            }
            self.partial.extend_from_slice(partial);
            return;
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        if bytes.is_empty() {
            on_message(from, &all);
        } else {
            self.push(from, &all, on_message);
        }
    }
}

/// Length of the incomplete UTF-8 character at the end (RFC 3629, section 3).
fn incomplete_tail(bytes: &[u8]) -> usize {
    // A character has at most four bytes, and all but the first match 10xxxxxx.
    let mut last = bytes.iter().rev().take(3);
    let Some(follow) = last.position(|byte| byte & 0xC0 != 0x80) else {
        return 0;
    };
    let due = match bytes.get(bytes.len() - 1 - follow) {
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => 4,
        _ => 0,
    };
    if follow + 1 < due { follow + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_an_incomplete_valid_character_is_held_back() {
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"a", 0),
            ("ß".as_bytes(), 0),
            (b"a\xc3", 1),
            (b"a\xf0\x9f\x98", 3),
            (b"\xf0\x9f\x98\x80", 0),
            (b"\x80\x80\x80\x80", 0),
            (b"\xff", 0),
            (b"\xc3\xc3", 1),
            (b"\xe2\x82a", 0),
        ] {
            assert_eq!(incomplete_tail(bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn chunks_of_valid_text_are_valid_text(text in any::<String>(), at in any::<prop::sample::Index>()) {
            let at = at.index(text.len() + 1);
            let first = &text.as_bytes()[..at];
            let whole = &first[..at - incomplete_tail(first)];
            prop_assert!(std::str::from_utf8(whole).is_ok());
            prop_assert!(incomplete_tail(first) < 4);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            prop_assert!(incomplete_tail(&bytes) <= bytes.len());
        }
    }
}
