//! Which protocol a client speaks, by the first bytes of its connection. Pure: bytes in, a verdict out.

use super::connect::METHODS;

/// White space that is looked past. A client that sends more is taken for a JSON client, whose reader bounds it.
const MOST_BLANK: usize = 64;

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// The bytes begin more than one protocol; ask again with the same bytes and more.
    Unclear,
    /// A JSON object, white space before it included.
    Json,
    /// SOCKS version 5.
    Socks5,
    /// SOCKS version 4 or 4a.
    Socks4,
    /// HTTP/1: a method in any case, empty lines before it included (RFC 9112, section 2.2).
    Http,
    /// A TLS record with a handshake message (RFC 8446, section 5.1).
    Tls,
    /// The signature of a PROXY header, version 2.
    ProxyHeader,
    /// No protocol starts with this byte.
    Other(u8),
}

/// The protocol that `bytes`, all of a connection so far, begin.
pub(super) fn spoken(bytes: &[u8]) -> Spoken {
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let blanks = bytes.iter().take(MOST_BLANK).take_while(blank).count();
    let (before, rest) = bytes.split_at(blanks);
    let Some(&first) = rest.first() else {
        return Spoken::Unclear;
    };
    match first {
        _ if blanks == MOST_BLANK => Spoken::Json,
        b'{' => Spoken::Json,
        b'A'..=b'Z' => Spoken::Http,
        b'a'..=b'z' => lower_case(rest),
        0 if before == b"\r\n\r\n" => Spoken::ProxyHeader,
        5 if blanks == 0 => Spoken::Socks5,
        4 if blanks == 0 => Spoken::Socks4,
        0x16 if blanks == 0 => Spoken::Tls,
        other => Spoken::Other(other),
    }
}

/// HTTP where a known method and a space come first, in any case.
fn lower_case(bytes: &[u8]) -> Spoken {
    let mut verdict = Spoken::Other(bytes.first().copied().unwrap_or_default());
    for method in METHODS {
        let due = method.as_bytes().iter().chain(b" ");
        let same = bytes
            .iter()
            .zip(due)
            .take_while(|(byte, due)| byte.eq_ignore_ascii_case(due))
            .count();
        if same > method.len() {
            return Spoken::Http;
        }
        if same == bytes.len() {
            verdict = Spoken::Unclear;
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_protocol_is_recognised() {
        for (bytes, verdict) in [
            (&b""[..], Spoken::Unclear),
            (b" \r\n\t", Spoken::Unclear),
            (b"{", Spoken::Json),
            (b"\r\n\r\n {", Spoken::Json),
            (&[b' '; MOST_BLANK], Spoken::Unclear),
            (&[b' '; MOST_BLANK + 1], Spoken::Json),
            (b"C", Spoken::Http),
            (b"\r\nC", Spoken::Http),
            (b"connect", Spoken::Unclear),
            (b"connect ", Spoken::Http),
            (b"\r\ngEt ", Spoken::Http),
            (b"connecting", Spoken::Other(b'c')),
            (b"hello", Spoken::Other(b'h')),
            (b"\x05", Spoken::Socks5),
            (b"\x04\x01", Spoken::Socks4),
            (b"\x16\x03\x01", Spoken::Tls),
            (b"\r\n\r\n\0\r\nQUIT\n", Spoken::ProxyHeader),
            (b"\0", Spoken::Other(0)),
            (b" \x05", Spoken::Other(5)),
            (b"[1]", Spoken::Other(b'[')),
        ] {
            assert_eq!(spoken(bytes), verdict, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_verdict_stands_whatever_follows(bytes in "[ \r\n]{0,70}[a-zA-Z{ \0\x04\x05\x16]{0,9}", more: Vec<u8>) {
            let verdict = spoken(bytes.as_bytes());
            if verdict != Spoken::Unclear {
                prop_assert_eq!(spoken(&[bytes.as_bytes(), &more].concat()), verdict);
            }
        }

        #[test]
        fn a_client_is_unclear_for_few_bytes(bytes in prop::collection::vec(any::<u8>(), 80)) {
            prop_assert_ne!(spoken(&bytes), Spoken::Unclear);
        }
    }
}
