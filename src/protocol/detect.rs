//! Detection of a client's protocol by the first bytes of its connection. Pure.

use super::connect::METHODS;

/// White space that is skipped. With more, the client is treated as JSON, whose reader limits it.
const MAX_BLANK: usize = 64;

/// The detected protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detected {
    /// Several protocols are possible: retry with more bytes.
    Unclear,
    /// A JSON object, possibly after white space.
    Json,
    /// SOCKS version 5.
    Socks5,
    /// SOCKS version 4 or 4a.
    Socks4,
    /// HTTP/1: a method in any case, possibly after empty lines (RFC 9112, section 2.2).
    Http,
    /// A TLS record with a handshake message (RFC 8446, section 5.1).
    Tls,
    /// The signature of a PROXY header of version 2.
    ProxyHeader,
    /// No protocol starts with this byte.
    Other(u8),
}

/// The protocol of a connection that begins with `bytes`.
pub(super) fn detect(bytes: &[u8]) -> Detected {
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let blanks = bytes.iter().take(MAX_BLANK).take_while(blank).count();
    let (before, rest) = bytes.split_at(blanks);
    let Some(&first) = rest.first() else {
        return Detected::Unclear;
    };
    match first {
        _ if blanks == MAX_BLANK => Detected::Json,
        b'{' => Detected::Json,
        b'A'..=b'Z' => Detected::Http,
        b'a'..=b'z' => lower_case(rest),
        0 if before == b"\r\n\r\n" => Detected::ProxyHeader,
        5 if blanks == 0 => Detected::Socks5,
        4 if blanks == 0 => Detected::Socks4,
        0x16 if blanks == 0 => Detected::Tls,
        other => Detected::Other(other),
    }
}

/// HTTP if a known method and a space come first, in any case.
fn lower_case(bytes: &[u8]) -> Detected {
    let mut verdict = Detected::Other(bytes.first().copied().unwrap_or_default());
    for method in METHODS {
        let due = method.as_bytes().iter().chain(b" ");
        let same = bytes
            .iter()
            .zip(due)
            .take_while(|(byte, due)| byte.eq_ignore_ascii_case(due))
            .count();
        if same > method.len() {
            return Detected::Http;
        }
        if same == bytes.len() {
            verdict = Detected::Unclear;
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn protocols_are_detected() {
        for (bytes, verdict) in [
            (&b""[..], Detected::Unclear),
            (b" \r\n\t", Detected::Unclear),
            (b"{", Detected::Json),
            (b"\r\n\r\n {", Detected::Json),
            (&[b' '; MAX_BLANK], Detected::Unclear),
            (&[b' '; MAX_BLANK + 1], Detected::Json),
            (b"C", Detected::Http),
            (b"\r\nC", Detected::Http),
            (b"connect", Detected::Unclear),
            (b"connect ", Detected::Http),
            (b"\r\ngEt ", Detected::Http),
            (b"connecting", Detected::Other(b'c')),
            (b"hello", Detected::Other(b'h')),
            (b"\x05", Detected::Socks5),
            (b"\x04\x01", Detected::Socks4),
            (b"\x16\x03\x01", Detected::Tls),
            (b"\r\n\r\n\0\r\nQUIT\n", Detected::ProxyHeader),
            (b"\0", Detected::Other(0)),
            (b" \x05", Detected::Other(5)),
            (b"[1]", Detected::Other(b'[')),
        ] {
            assert_eq!(detect(bytes), verdict, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn more_bytes_do_not_change_the_result(bytes in "[ \r\n]{0,70}[a-zA-Z{ \0\x04\x05\x16]{0,9}", more: Vec<u8>) {
            let verdict = detect(bytes.as_bytes());
            if verdict != Detected::Unclear {
                prop_assert_eq!(detect(&[bytes.as_bytes(), &more].concat()), verdict);
            }
        }

        #[test]
        fn few_bytes_are_enough(bytes in prop::collection::vec(any::<u8>(), 80)) {
            prop_assert_ne!(detect(&bytes), Detected::Unclear);
        }
    }
}
