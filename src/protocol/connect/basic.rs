//! User and password in a header field: `Basic` and `user:password` in base64 (RFC 7617, RFC 4648).

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The encoded header field value.
pub(super) fn encode(user: &str, password: &str) -> String {
    let plain = format!("{user}:{password}");
    let mut value = "Basic ".to_owned();
    for three in plain.as_bytes().chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let symbol = ALPHABET.get((bits >> (18 - 6 * at) & 63) as usize);
            value.push(match symbol {
                Some(symbol) if at <= three.len() => char::from(*symbol),
                _ => '=',
            });
        }
    }
    value
}

/// The user and password of a field value, if valid.
pub(super) fn decode(value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let plain = decode_base64(rest.trim_ascii_start())?;
    let mut words = plain.splitn(2, |byte| *byte == b':');
    Some((words.next()?.to_vec(), words.next()?.to_vec()))
}

/// Accepts only canonical base64: groups of four, padding at the end, no stray bits.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let (groups, []) = text.as_chunks::<4>() else {
        return None;
    };
    let mut plain = Vec::with_capacity(groups.len() * 3);
    for (at, group) in groups.iter().enumerate() {
        let symbols = match group {
            [_, _, b'=', b'='] => 2,
            [_, _, _, b'='] => 3,
            _ => 4,
        };
        if symbols < 4 && at + 1 < groups.len() {
            return None;
        }
        let mut bits = 0;
        for symbol in group.iter().take(symbols) {
            bits = bits << 6 | ALPHABET.iter().position(|known| known == symbol)?;
        }
        bits <<= 6 * (4 - symbols);
        let [_, bytes @ ..] = u32::try_from(bits).ok()?.to_be_bytes();
        let (kept, stray) = bytes.split_at_checked(symbols - 1)?;
        if stray.iter().any(|byte| *byte != 0) {
            return None;
        }
        plain.extend_from_slice(kept);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 4648, section 10.
    #[test]
    fn rfc_vectors_are_encoded_and_decoded() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(decode_base64(text.as_bytes()), Some(plain.into()), "{text}");
        }
        // RFC 7617, section 2.
        assert_eq!(
            encode("Aladdin", "open sesame"),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "Zg", "Zg=", "Z===", "====", "Zh==", "Zm9=", "Zg==Zg==", "Zm 9", "Zm9-", "Zm\n9v",
        ] {
            assert_eq!(decode_base64(text.as_bytes()), None, "{text}");
        }
        for value in ["", "Basic", "Basic Zg==", "Bearer QTpC", "BasicQTpC"] {
            assert_eq!(decode(value.as_bytes()), None, "{value}");
        }
        assert_eq!(decode(b"bASIC  QTpC"), Some((b"A".to_vec(), b"B".to_vec())));
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding(user in "[^:]{0,20}", password in ".{0,20}") {
            let value = encode(&user, &password);
            prop_assert_eq!(decode(value.as_bytes()), Some((user.into_bytes(), password.into_bytes())));
        }

        #[test]
        fn a_text_has_one_form(tail in "[A-Za-z0-9+/]{0,5}={0,3}") {
            let value = format!("Basic QTpC{tail}");
            if let Some((user, password)) = decode(value.as_bytes())
                && let (Ok(user), Ok(password)) = (String::from_utf8(user), String::from_utf8(password))
            {
                prop_assert_eq!(encode(&user, &password), value);
            }
        }

        #[test]
        fn no_bytes_do_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let _ = decode(&bytes);
            bytes.splice(0..0, *b"Basic ");
            let _ = decode(&bytes);
        }
    }
}
