//! Bytes that decode to a header encode to the same bytes; other bytes are refused with the right error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wirebench::udp::wire::header::{HEADER, Header, MAX_48_BIT, HeaderError};

fuzz_target!(|bytes: &[u8]| {
    match Header::decode(bytes) {
        Ok(header) => {
            assert_eq!(&header.encode()[..], &bytes[..HEADER]);
            assert!(header.sequence <= MAX_48_BIT && header.lateness <= MAX_48_BIT);
        }
        Err(HeaderError::Short) => assert!(bytes.len() < HEADER),
        Err(HeaderError::Malformed) => assert!(bytes.len() >= HEADER),
    }
});
