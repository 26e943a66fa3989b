//! PROXY headers: any bytes are an incomplete header, a header, or neither; more bytes do not change the result, and addresses and
//! passed-on fields survive re-encoding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wirebench::protocol::proxy_header::{
    Decoded, MAX_FIELDS, MAX_V1, MAX_V2, decode, encode_v1, encode_v2,
};

fuzz_target!(|bytes: &[u8]| {
    let verdict = decode(bytes);
    match &verdict {
        Decoded::More => assert!(bytes.len() < MAX_V2, "no end to it"),
        Decoded::Bad(reason) => assert!(!reason.is_empty()),
        Decoded::Header(header) => {
            assert!(header.consumed <= bytes.len());
            assert!(header.version == 2 || header.consumed <= MAX_V1);
            for at in 0..header.consumed {
                assert_eq!(decode(&bytes[..at]), Decoded::More, "whole before its end");
            }
            let carried = &header.carried;
            assert!(carried.fields().len() <= MAX_FIELDS);
            let next = carried.encode_v2(header.addresses);
            match decode(&next) {
                Decoded::Header(second) => {
                    // A LOCAL header carries nothing.
                    let nothing = header.addresses.is_none() && !carried.has_paths();
                    assert!(second.carried == *carried || nothing, "{next:?}");
                    assert_eq!(second.consumed, next.len());
                }
                other => panic!("passed on, and {other:?}: {next:?}"),
            }
            assert!(carried.encode_v1(header.addresses).len() <= MAX_V1);
            if let Some(ends) = header.addresses {
                for encode in [encode_v1, encode_v2] {
                    let written = encode(ends.source, ends.destination);
                    let Decoded::Header(second) = decode(&written) else {
                        panic!("encoded, and not decoded again: {written:?}");
                    };
                    let second = second.addresses.map(|ends| (ends.source, ends.destination));
                    let plain = |end: std::net::SocketAddr| (end.ip().to_canonical(), end.port());
                    let ends = (plain(ends.source), plain(ends.destination));
                    assert_eq!(
                        second.map(|(from, to)| (plain(from), plain(to))),
                        Some(ends)
                    );
                }
            }
        }
    }
    if verdict != Decoded::More {
        let more = [bytes, b"PROXY \r\n\0"].concat();
        match (&verdict, &decode(&more)) {
            (Decoded::Bad(_), Decoded::Bad(_)) => {}
            (one, two) => assert_eq!(one, two, "what follows matters"),
        }
    }
});
