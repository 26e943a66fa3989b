use super::*;
use proptest::prelude::*;

const PLACE: usize = 77;

fn destination() -> Destination {
    "127.0.0.1:9000".parse().unwrap()
}

fn script(kind: Option<Kind>, exchange: Exchange, message: usize) -> Script {
    let route = match kind {
        None => Route::Straight,
        Some(kind) => Route::Asked(kind, destination(), None),
    };
    Script::new(route, exchange, message)
}

/// All that is to be sent now, taken.
fn say(dialogue: &mut Dialogue, script: &Script) -> Vec<u8> {
    let said = dialogue.outgoing(script).concat();
    dialogue.sent(said.len());
    said
}

fn text(script: &Script, place: usize) -> Vec<u8> {
    script.pattern.stretch(place, script.message).to_vec()
}

fn fault(step: Result<Step, Failure>) -> Fault {
    step.unwrap_err().fault
}

#[test]
fn a_kept_connection_has_the_prefix_once_and_then_echoes() {
    let script = script(None, Exchange::Kept, 10);
    let mut dialogue = Dialogue::new(&script, PLACE);
    let first = say(&mut dialogue, &script);
    assert_eq!(first, text(&script, PLACE));
    assert_eq!(say(&mut dialogue, &script), b"");
    let answer = [PREFIX, &first].concat();
    assert_eq!(dialogue.take(&script, &answer), Ok(Step::Answered));
    assert!(dialogue.goes_on(&script));
    dialogue.next(5);
    let second = say(&mut dialogue, &script);
    assert_ne!(second, first);
    assert_eq!(dialogue.take(&script, &second), Ok(Step::Answered));
    // What is one behind is not right.
    dialogue.next(9);
    say(&mut dialogue, &script);
    assert_eq!(fault(dialogue.take(&script, &second)), Fault::Corrupt);
}

#[test]
fn one_request_a_connection_comes_with_an_order_and_is_over_at_the_end() {
    let script = script(None, Exchange::Once, 10);
    let mut dialogue = Dialogue::new(&script, PLACE);
    let said = say(&mut dialogue, &script);
    assert_eq!(said[..16], Order::Once(10).encode());
    assert_eq!(said[16..], text(&script, PLACE));
    let answer = [PREFIX, &said[16..]].concat();
    assert_eq!(dialogue.take(&script, &answer), Ok(Step::Answered));
    assert!(!dialogue.goes_on(&script));
    assert_eq!(fault(dialogue.take(&script, b"x")), Fault::Corrupt);
    assert_eq!(dialogue.end(&script), Ok(Step::Over));
}

#[test]
fn a_json_request_is_the_protocols_own() {
    let script = script(Some(Kind::Json), Exchange::Once, 10);
    let mut dialogue = Dialogue::new(&script, PLACE);
    let message = text(&script, PLACE);
    let whole = json::request(&destination(), str::from_utf8(&message).unwrap());
    assert_eq!(say(&mut dialogue, &script), whole);
    let answer = [PREFIX, &message].concat();
    assert_eq!(dialogue.take(&script, &answer), Ok(Step::Answered));
    assert_eq!(dialogue.end(&script), Ok(Step::Over));
}

#[test]
fn a_json_error_line_is_a_refusal_however_it_is_cut() {
    let line = b"{\"error\": \"unreachable\", \"detail\": \"no\"}\n";
    for exchange in [Exchange::Once, Exchange::Refusal] {
        let script = script(Some(Kind::Json), exchange, 10);
        let mut dialogue = Dialogue::new(&script, PLACE);
        for byte in &line[..line.len() - 1] {
            assert_eq!(dialogue.take(&script, &[*byte]), Ok(Step::More));
        }
        let failure = dialogue.take(&script, b"\n").unwrap_err();
        assert_eq!(failure.fault, Fault::RefusedByProxy);
        assert_eq!(failure.detail, "unreachable: no");
    }
    let script = script(Some(Kind::Json), Exchange::Once, 10);
    let mut cut = Dialogue::new(&script, PLACE);
    assert_eq!(cut.take(&script, &line[..9]), Ok(Step::More));
    assert_eq!(fault(cut.end(&script)), Fault::Corrupt);
}

#[test]
fn only_a_refusal_by_policy_is_what_a_refusal_should_be() {
    for (kind, replies, other) in [
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
        let script = script(Some(kind), Exchange::Refusal, 10);
        let mut right = Dialogue::new(&script, PLACE);
        say(&mut right, &script);
        assert_eq!(right.take(&script, replies), Ok(Step::Answered), "{kind:?}");
        assert_eq!(right.take(&script, b"more"), Ok(Step::Answered));
        assert_eq!(right.end(&script), Ok(Step::Over));
        let mut wrong = Dialogue::new(&script, PLACE);
        assert_eq!(fault(wrong.take(&script, other)), Fault::RefusedByProxy);
    }
    let script = script(Some(Kind::Connect), Exchange::Refusal, 10);
    let mut open = Dialogue::new(&script, PLACE);
    let opened = open.take(&script, b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(fault(opened), Fault::NotRefused);
}

#[test]
fn the_server_is_spoken_to_once_the_proxy_has_agreed() {
    let script = script(Some(Kind::Socks5), Exchange::Kept, 10);
    let mut dialogue = Dialogue::new(&script, PLACE);
    assert_eq!(say(&mut dialogue, &script), b"\x05\x01\x00");
    assert_eq!(dialogue.take(&script, b"\x05\x00"), Ok(Step::More));
    assert_eq!(say(&mut dialogue, &script)[..4], *b"\x05\x01\x00\x01");
    let reply = b"\x05\x00\x00\x01\0\0\0\0\0\0";
    assert_eq!(dialogue.take(&script, reply), Ok(Step::More));
    assert_eq!(say(&mut dialogue, &script), text(&script, PLACE));
}

#[test]
fn a_proxy_that_lies_is_found_out() {
    let socks = script(Some(Kind::Socks5), Exchange::Kept, 10);
    let lies = |script: &Script, bytes: &[u8]| {
        let mut dialogue = Dialogue::new(script, PLACE);
        fault(dialogue.take(script, bytes))
    };
    assert_eq!(lies(&socks, b"HTTP/1.1 200 OK\r\n\r\n"), Fault::BadReply);
    let early = b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0RESPONSE || ";
    assert_eq!(lies(&socks, early), Fault::Corrupt);
    let connect = script(Some(Kind::Connect), Exchange::Kept, 10);
    assert_eq!(lies(&connect, b"\x05\x00\r\n\r\n"), Fault::BadReply);
    let json = script(Some(Kind::Json), Exchange::Once, 10);
    assert_eq!(lies(&json, b"RESPONSE: "), Fault::Corrupt);
    let mut silent = Dialogue::new(&connect, PLACE);
    assert_eq!(fault(silent.end(&connect)), Fault::ClosedEarly);
    let mut short = Dialogue::new(&json, PLACE);
    assert_eq!(short.take(&json, PREFIX), Ok(Step::More));
    assert_eq!(fault(short.end(&json)), Fault::ClosedEarly);
}

fn kinds() -> impl Strategy<Value = Option<Kind>> {
    prop::sample::select(vec![
        None,
        Some(Kind::Json),
        Some(Kind::Socks5),
        Some(Kind::Connect),
    ])
}

fn exchanges() -> impl Strategy<Value = Exchange> {
    prop::sample::select(vec![Exchange::Kept, Exchange::Once, Exchange::Refusal])
}

proptest! {
    #[test]
    fn an_answer_is_right_however_it_is_cut_and_wrong_in_any_byte(
        length in 1usize..300,
        cuts in prop::collection::vec(1usize..40, 1..40),
        wrong: prop::sample::Index,
    ) {
        let script = script(None, Exchange::Kept, length);
        let mut answer = [PREFIX, &text(&script, PLACE)].concat();
        let take = |answer: &[u8]| {
            let mut dialogue = Dialogue::new(&script, PLACE);
            let (mut rest, mut cuts) = (answer, cuts.iter().cycle());
            loop {
                let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                match dialogue.take(&script, piece) {
                    Ok(Step::More) => rest = behind,
                    over => return (over, behind.len()),
                }
            }
        };
        prop_assert_eq!(take(&answer), (Ok(Step::Answered), 0));
        let wrong = wrong.index(answer.len());
        answer[wrong] ^= 1;
        prop_assert_eq!(fault(take(&answer).0), Fault::Corrupt);
    }

    #[test]
    fn no_bytes_panic(
        kind in kinds(),
        exchange in exchanges(),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6),
    ) {
        let script = script(kind, exchange, 10);
        let mut dialogue = Dialogue::new(&script, PLACE);
        for piece in pieces {
            say(&mut dialogue, &script);
            if dialogue.take(&script, &piece).is_err() {
                return Ok(());
            }
        }
        let _ = dialogue.end(&script);
    }
}
