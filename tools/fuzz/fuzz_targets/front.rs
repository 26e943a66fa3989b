//! The front ends: bytes in any split give the same request or refusal, and no byte is lost or invented.
//!
//! The first byte selects the settings, the second the first split, the third the length of further pieces.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use wirebench::protocol::{
    Accept, Credentials, FrontEnd, Kind, Outcome, Refusal, Request, Settings, Step, connect, json,
};

/// Small enough for the fuzzer to exceed it.
const MOST: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let [choice, first, length, wire @ ..] = bytes else {
        return;
    };
    let settings = Arc::new(settings(*choice));
    let (start, rest) = wire.split_at(usize::from(*first).min(wire.len()));
    let pieces = [start]
        .into_iter()
        .chain(rest.chunks(usize::from(*length) + 1));
    let (replies, whole) = drive(&settings, [wire].into_iter());
    let (replies_in_pieces, split) = drive(&settings, pieces);
    match (whole, split) {
        (Some(Ok(whole)), Some(Ok(split))) => {
            assert_eq!(replies, replies_in_pieces);
            assert_eq!(
                (whole.kind, &whole.destination),
                (split.kind, &split.destination)
            );
            if whole.kind == Kind::Json {
                assert_eq!(whole.upstream, split.upstream);
            } else {
                assert!(
                    wire.ends_with(&whole.upstream),
                    "early data is the end of what came"
                );
                assert!(
                    whole.upstream.starts_with(&split.upstream),
                    "early data in order"
                );
            }
            again(&whole);
        }
        // Bytes after an envelope are only seen if they arrive with it.
        (Some(Err(_)), Some(Ok(split))) => assert!(split.whole, "the split matters"),
        (Some(Err(whole)), Some(Err(split))) => {
            assert_eq!(whole.name(), split.name(), "the split matters");
        }
        (None, None) => assert!(wire.len() <= connect::MAX_HEAD, "no end to it"),
        (whole, split) => panic!("{whole:?} at once, {split:?} in pieces"),
    }
});

fn settings(choice: u8) -> Settings {
    let accept = match choice & 3 {
        0 => Accept::ALL,
        1 => Accept::only(Kind::Json),
        2 => Accept::only(Kind::Socks5),
        _ => Accept::only(Kind::Connect),
    };
    let credentials = Credentials::parse("ann:secret")
        .ok()
        .filter(|_| choice & 4 != 0)
        .map(Arc::new);
    Settings {
        accept,
        max_request: MOST,
        credentials,
        associate: choice & 8 != 0,
        forward: None,
    }
}

/// The replies to the client, and the result.
fn drive<'a>(
    settings: &Arc<Settings>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Option<Result<Request, Refusal>>) {
    let mut front = FrontEnd::new(settings);
    let mut replies = Vec::new();
    for piece in pieces {
        let mut step = front.push(piece);
        loop {
            match step {
                Step::More => break,
                Step::Reply(bytes) => replies.extend(bytes),
                Step::Associate(_) => {
                    assert!(settings.associate);
                    return (replies, None);
                }
                Step::Ready(request) => return (replies, Some(Ok(request))),
                Step::Refuse { reply, reason } => {
                    assert!(!reply.is_empty(), "a refusal has a reply");
                    return (replies, Some(Err(reason)));
                }
            }
            step = front.push(&[]);
        }
    }
    assert!(!front.outcome(Outcome::RequestTimeout).is_empty());
    assert!(matches!(front.eof(), Step::Refuse { .. }));
    (replies, None)
}

/// A parsed destination is written in a form that parses to it.
fn again(request: &Request) {
    let text = request.destination.to_string();
    assert_eq!(text.parse().as_ref(), Ok(&request.destination));
    let head = connect::client::request(&request.destination, None);
    let envelope = json::request(&request.destination, "");
    for wire in [head, envelope] {
        match drive(&Arc::default(), [&wire[..]].into_iter()).1 {
            Some(Ok(second)) => assert_eq!(second.destination, request.destination),
            other => panic!("{text}: {other:?}"),
        }
    }
}
