//! The control connection: bytes decode to the same messages or errors however they are split, and a message that is encoded and
//! decoded again is unchanged. The values derived from a valid plan are in range.
//!
//! The first byte is the length of the pieces in which the rest arrives.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wirebench::udp::wire::control::{Preface, Reply, Request};
use wirebench::udp::wire::framing::{self, Decoder, FrameError, MAX_MESSAGE};
use wirebench::udp::plan::{Amount, Plan};

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, wire)) = bytes.split_first() else {
        return;
    };
    let in_pieces = messages(wire, usize::from(piece) + 1);
    assert_eq!(in_pieces, messages(wire, usize::MAX), "the split changes the messages");
    for json in in_pieces {
        let _ = serde_json::from_slice::<Preface>(&json);
        again::<Reply>(&json);
        if let Some(Request::Hello(hello)) = again::<Request>(&json) {
            plan(&Plan::from(hello.plan));
        }
    }
    // Most inputs reach the JSON decoder faster without a frame.
    again::<Reply>(wire);
    if let Some(Request::Hello(hello)) = again::<Request>(wire) {
        plan(&Plan::from(hello.plan));
    }
});

/// All complete messages in `wire`, up to the first error.
fn messages(wire: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::default();
    let mut messages = Vec::new();
    for bytes in wire.chunks(piece.min(wire.len().max(1))) {
        decoder.push(bytes);
        loop {
            match decoder.next_json() {
                Ok(Some(json)) => messages.push(json.to_vec()),
                Ok(None) => break,
                Err(FrameError::TooLong(length)) => {
                    assert!(length as usize > MAX_MESSAGE);
                    return messages;
                }
                Err(FrameError::Invalid(error)) => panic!("JSON is not decoded yet: {error}"),
            }
        }
    }
    messages
}

/// The message in `json`, if there is one. Checks that the message survives a frame unchanged.
fn again<T: Serialize + DeserializeOwned>(json: &[u8]) -> Option<T> {
    let message: T = serde_json::from_slice(json).ok()?;
    let mut wire = Vec::new();
    if let Err(error) = framing::encode(&message, &mut wire) {
        assert!(matches!(error, FrameError::TooLong(_)), "{error}");
        return Some(message);
    }
    let mut decoder = Decoder::default();
    decoder.push(&wire);
    let second = match decoder.next_message::<T>() {
        Ok(Some(second)) => second,
        other => panic!("encoded but not decoded: {:?}", other.err()),
    };
    let mut rewritten = Vec::new();
    assert!(framing::encode(&second, &mut rewritten).is_ok());
    assert_eq!(wire, rewritten);
    Some(message)
}

/// Checks the values that a server derives from a client's valid plan.
fn plan(plan: &Plan) {
    if plan.validate().is_err() {
        return;
    }
    let mut packets = Some(0u64);
    let mut bytes = 0u128;
    for stream in 0..plan.streams {
        let quota = plan.quota(stream);
        assert!((1..=plan.chunk).contains(&quota.last_chunk));
        packets = packets.zip(quota.packets).map(|(sum, share)| sum + share);
        if let Some(share @ 1..) = quota.packets {
            let full = match plan.pattern() {
                Some(pattern) => u128::from(pattern.bytes(share - 1)),
                None => u128::from(share - 1) * plan.chunk as u128,
            };
            bytes += full + quota.last_chunk as u128;
        }
        if let Some((pps, _)) = plan.stream_pace(stream) {
            assert!(pps.is_finite() && pps > 0.0);
        }
    }
    assert_eq!(packets, plan.packets());
    if let Amount::Bytes(planned) = plan.amount {
        assert_eq!(bytes, u128::from(planned));
    }
    let _ = plan.expected_time();
}
