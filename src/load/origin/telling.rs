//! What a client says, given on as it comes but in whole characters, so that nobody prints half of one.

use crate::sys::endpoint::Peer;

/// What of a client's words was not given on yet.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// The beginning of a character whose rest has not come yet.
    begun: Vec<u8>,
}

impl Telling {
    /// Tells what was said, up to its last whole character; nothing is the end, and the rest is told.
    pub(super) fn tell(&mut self, from: Peer, said: &[u8], heard: &mut impl FnMut(Peer, &[u8])) {
        if self.begun.is_empty() {
            let (whole, begun) = said.split_at(said.len() - cut_off(said));
            if !whole.is_empty() {
                heard(from, whole);
            }
            self.begun.extend_from_slice(begun);
            return;
        }
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(said);
        if said.is_empty() {
            heard(from, &all);
        } else {
            self.tell(from, &all, heard);
        }
    }
}

/// How many bytes at the end begin a character of UTF-8 that is not all there (RFC 3629, section 3).
fn cut_off(bytes: &[u8]) -> usize {
    // A character has four bytes at most, all but the first of the form 10xxxxxx.
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
    fn only_a_character_that_may_yet_be_whole_is_held_back() {
        for (bytes, held) in [
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
            assert_eq!(cut_off(bytes), held, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_cut_anywhere_is_told_in_whole_characters(text in any::<String>(), at in any::<prop::sample::Index>()) {
            let at = at.index(text.len() + 1);
            let first = &text.as_bytes()[..at];
            let whole = &first[..at - cut_off(first)];
            prop_assert!(std::str::from_utf8(whole).is_ok());
            prop_assert!(cut_off(first) < 4);
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            prop_assert!(cut_off(&bytes) <= bytes.len());
        }
    }
}
