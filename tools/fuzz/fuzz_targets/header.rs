//! Any bytes are a header that encodes to them, or are rejected for a true reason.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wirebench::udp::wire::header::{HEADER, Header, MOST_SHORT, NotOurs};

fuzz_target!(|bytes: &[u8]| {
    match Header::decode(bytes) {
        Ok(header) => {
            assert_eq!(&header.encode()[..], &bytes[..HEADER]);
            assert!(header.sequence <= MOST_SHORT && header.lateness <= MOST_SHORT);
        }
        Err(NotOurs::Short) => assert!(bytes.len() < HEADER),
        Err(NotOurs::Malformed) => assert!(bytes.len() >= HEADER),
    }
});
