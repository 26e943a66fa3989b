use super::*;
use crate::load::command::Command;
use crate::load::handshake::Route;
use crate::protocol::{Destination, Kind, json};
use proptest::prelude::*;

const OFFSET: usize = 77;

fn destination() -> Destination {
    "127.0.0.1:9000".parse().unwrap()
}

fn workload(protocol: Option<Kind>, kind: RequestKind, message: usize) -> Workload {
    let route = match protocol {
        None => Route::Direct,
        Some(protocol) => Route::Proxied(protocol, destination(), None),
    };
    Workload::new(route, kind, message)
}

/// The bytes to send now, marked as sent.
fn send(state: &mut RequestState, workload: &Workload) -> Vec<u8> {
    let sent = state.outgoing(workload).concat();
    state.sent(sent.len());
    sent
}

fn text(workload: &Workload, offset: usize) -> Vec<u8> {
    workload.payload.slice(offset, workload.message).to_vec()
}

fn error_kind(step: Result<Step, RequestError>) -> ErrorKind {
    step.unwrap_err().kind
}

#[test]
fn kept_connection_sends_the_prefix_once_and_then_echoes() {
    let workload = workload(None, RequestKind::KeepAlive, 10);
    let mut state = RequestState::new(&workload, OFFSET);
    let first = send(&mut state, &workload);
    assert_eq!(first, text(&workload, OFFSET));
    assert_eq!(send(&mut state, &workload), b"");
    let answer = [PREFIX, &first].concat();
    assert_eq!(state.receive(&workload, &answer), Ok(Step::Answered));
    assert!(state.can_continue(&workload));
    state.start_next(5);
    let second = send(&mut state, &workload);
    assert_ne!(second, first);
    assert_eq!(state.receive(&workload, &second), Ok(Step::Answered));
    // The previous answer is not the next one.
    state.start_next(9);
    send(&mut state, &workload);
    assert_eq!(
        error_kind(state.receive(&workload, &second)),
        ErrorKind::Corrupt
    );
}

#[test]
fn one_shot_request_starts_with_a_command_and_ends_with_the_connection() {
    let workload = workload(None, RequestKind::OneShot, 10);
    let mut state = RequestState::new(&workload, OFFSET);
    let sent = send(&mut state, &workload);
    assert_eq!(sent[..16], Command::Once(10).encode());
    assert_eq!(sent[16..], text(&workload, OFFSET));
    let answer = [PREFIX, &sent[16..]].concat();
    assert_eq!(state.receive(&workload, &answer), Ok(Step::Answered));
    assert!(!state.can_continue(&workload));
    assert_eq!(
        error_kind(state.receive(&workload, b"x")),
        ErrorKind::Corrupt
    );
    assert_eq!(state.on_eof(&workload), Ok(Step::Closed));
}

#[test]
fn json_request_equals_the_protocols_own_encoding() {
    let workload = workload(Some(Kind::Json), RequestKind::OneShot, 10);
    let mut state = RequestState::new(&workload, OFFSET);
    let message = text(&workload, OFFSET);
    let whole = json::request(&destination(), str::from_utf8(&message).unwrap());
    assert_eq!(send(&mut state, &workload), whole);
    let answer = [PREFIX, &message].concat();
    assert_eq!(state.receive(&workload, &answer), Ok(Step::Answered));
    assert_eq!(state.on_eof(&workload), Ok(Step::Closed));
}

#[test]
fn json_error_line_is_a_refusal_in_any_split() {
    let line = b"{\"error\": \"unreachable\", \"detail\": \"no\"}\n";
    for kind in [RequestKind::OneShot, RequestKind::Refused] {
        let workload = workload(Some(Kind::Json), kind, 10);
        let mut state = RequestState::new(&workload, OFFSET);
        for byte in &line[..line.len() - 1] {
            assert_eq!(state.receive(&workload, &[*byte]), Ok(Step::Incomplete));
        }
        let error = state.receive(&workload, b"\n").unwrap_err();
        assert_eq!(error.kind, ErrorKind::RefusedByProxy);
        assert_eq!(error.detail, "unreachable: no");
    }
    let workload = workload(Some(Kind::Json), RequestKind::OneShot, 10);
    let mut cut = RequestState::new(&workload, OFFSET);
    assert_eq!(cut.receive(&workload, &line[..9]), Ok(Step::Incomplete));
    assert_eq!(error_kind(cut.on_eof(&workload)), ErrorKind::Corrupt);
}

#[test]
fn only_a_policy_refusal_satisfies_a_refused_request() {
    for (protocol, replies, other) in [
        (
            Kind::Json,
            &b"{\"error\": \"blocked\", \"detail\": \"\"}\n"[..],
            &b"{\"error\": \"busy\", \"detail\": \"\"}\n"[..],
        ),
        (
            Kind::Socks5,
            b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0",
            b"\x05\x00\x05\x04\x00\x01\0\0\0\0\0\0",
        ),
        (
            Kind::Connect,
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n",
            b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
        ),
    ] {
        let workload = workload(Some(protocol), RequestKind::Refused, 10);
        let mut right = RequestState::new(&workload, OFFSET);
        send(&mut right, &workload);
        assert_eq!(
            right.receive(&workload, replies),
            Ok(Step::Answered),
            "{protocol:?}"
        );
        assert_eq!(right.receive(&workload, b"more"), Ok(Step::Answered));
        assert_eq!(right.on_eof(&workload), Ok(Step::Closed));
        let mut wrong = RequestState::new(&workload, OFFSET);
        assert_eq!(
            error_kind(wrong.receive(&workload, other)),
            ErrorKind::RefusedByProxy
        );
    }
    let workload = workload(Some(Kind::Connect), RequestKind::Refused, 10);
    let mut open = RequestState::new(&workload, OFFSET);
    let opened = open.receive(&workload, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(error_kind(opened), ErrorKind::NotRefused);
}

#[test]
fn the_message_is_sent_after_the_proxy_connected() {
    let workload = workload(Some(Kind::Socks5), RequestKind::KeepAlive, 10);
    let mut state = RequestState::new(&workload, OFFSET);
    assert_eq!(send(&mut state, &workload), b"\x05\x01\x00");
    assert_eq!(state.receive(&workload, b"\x05\x00"), Ok(Step::Incomplete));
    assert_eq!(send(&mut state, &workload)[..4], *b"\x05\x01\x00\x01");
    let reply = b"\x05\x00\x00\x01\0\0\0\0\0\0";
    assert_eq!(state.receive(&workload, reply), Ok(Step::Incomplete));
    assert_eq!(send(&mut state, &workload), text(&workload, OFFSET));
}

#[test]
fn wrong_bytes_have_their_error_kind() {
    let socks = workload(Some(Kind::Socks5), RequestKind::KeepAlive, 10);
    let reject = |workload: &Workload, bytes: &[u8]| {
        let mut state = RequestState::new(workload, OFFSET);
        error_kind(state.receive(workload, bytes))
    };
    assert_eq!(
        reject(&socks, b"HTTP/1.1 200 OK\r\n\r\n"),
        ErrorKind::BadReply
    );
    let early = b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0RESPONSE || ";
    assert_eq!(reject(&socks, early), ErrorKind::Corrupt);
    let connect = workload(Some(Kind::Connect), RequestKind::KeepAlive, 10);
    assert_eq!(reject(&connect, b"\x05\x00\r\n\r\n"), ErrorKind::BadReply);
    let json = workload(Some(Kind::Json), RequestKind::OneShot, 10);
    assert_eq!(reject(&json, b"RESPONSE: "), ErrorKind::Corrupt);
    let mut closed = RequestState::new(&connect, OFFSET);
    assert_eq!(error_kind(closed.on_eof(&connect)), ErrorKind::ClosedEarly);
    let mut short = RequestState::new(&json, OFFSET);
    assert_eq!(short.receive(&json, PREFIX), Ok(Step::Incomplete));
    assert_eq!(error_kind(short.on_eof(&json)), ErrorKind::ClosedEarly);
}

fn protocols() -> impl Strategy<Value = Option<Kind>> {
    prop::sample::select(vec![
        None,
        Some(Kind::Json),
        Some(Kind::Socks5),
        Some(Kind::Connect),
    ])
}

fn request_kinds() -> impl Strategy<Value = RequestKind> {
    prop::sample::select(vec![
        RequestKind::KeepAlive,
        RequestKind::OneShot,
        RequestKind::Refused,
    ])
}

proptest! {
    #[test]
    fn answer_passes_in_any_split_and_fails_with_any_byte_changed(
        length in 1usize..300,
        cuts in prop::collection::vec(1usize..40, 1..40),
        wrong: prop::sample::Index,
    ) {
        let workload = workload(None, RequestKind::KeepAlive, length);
        let mut answer = [PREFIX, &text(&workload, OFFSET)].concat();
        let take = |answer: &[u8]| {
            let mut state = RequestState::new(&workload, OFFSET);
            let (mut rest, mut cuts) = (answer, cuts.iter().cycle());
            loop {
                let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                match state.receive(&workload, piece) {
                    Ok(Step::Incomplete) => rest = behind,
                    over => return (over, behind.len()),
                }
            }
        };
        prop_assert_eq!(take(&answer), (Ok(Step::Answered), 0));
        let wrong = wrong.index(answer.len());
        answer[wrong] ^= 1;
        prop_assert_eq!(error_kind(take(&answer).0), ErrorKind::Corrupt);
    }

    #[test]
    fn no_bytes_panic(
        protocol in protocols(),
        kind in request_kinds(),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6),
    ) {
        let workload = workload(protocol, kind, 10);
        let mut state = RequestState::new(&workload, OFFSET);
        for piece in pieces {
            send(&mut state, &workload);
            if state.receive(&workload, &piece).is_err() {
                return Ok(());
            }
        }
        let _ = state.on_eof(&workload);
    }
}
