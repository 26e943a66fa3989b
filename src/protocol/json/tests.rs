use proptest::prelude::*;

use super::super::tests::{destinations, locked, open, ready, whole};
use super::super::{FrontEnd, Outcome, Refusal, Settings, Step};
use super::*;

const GOOD: &str = r#"{"server_ip": "127.0.0.1", "server_port": 9000, "message": "ping"}"#;

fn refused(request: &[u8]) -> ErrorLine {
    match whole(&open(), request).1 {
        Some(Step::Refuse { reply, .. }) => ErrorLine::read(&reply).unwrap(),
        other => panic!("{other:?} for {}", String::from_utf8_lossy(request)),
    }
}

#[test]
fn the_envelope_is_accepted_in_any_order_and_spacing() {
    for text in [
        GOOD,
        " \r\n\t{\"message\":\"ping\",\"server_port\":9000,\"server_ip\":\"127.0.0.1\"}\r\n \t",
        r#"{"server_ip": "127.0.0.1", "server_port": 9000, "message": "ping"}"#,
    ] {
        let end = whole(&open(), text.as_bytes());
        let request = ready(&end).unwrap();
        assert_eq!(request.destination.to_string(), "127.0.0.1:9000");
        assert_eq!(request.upstream, b"ping");
        assert!(request.whole);
    }
    for (given, host) in [
        ("::1", "::1"),
        ("localhost", "localhost"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
    ] {
        let end = whole(&open(), GOOD.replace("127.0.0.1", given).as_bytes());
        assert_eq!(ready(&end).unwrap().destination.host.to_string(), host);
    }
    let tricky = GOOD.replace("ping", r#"}{\"[]\\\u0000\ud83d\ude00"#);
    assert_eq!(
        ready(&whole(&open(), tricky.as_bytes())).unwrap().upstream,
        "}{\"[]\\\0😀".as_bytes()
    );
}

#[test]
fn errors_have_a_detail() {
    for (from, to, part) in [
        (
            "\"message\": \"ping\"",
            "\"message\": \"a\", \"message\": \"b\"",
            "message comes a second time",
        ),
        (
            "\"message\"",
            "\"server_ip\"",
            "server_ip comes a second time",
        ),
        (
            "\"message\"",
            "\"Message\"",
            "the key \"Message\" is unknown",
        ),
        (", \"message\": \"ping\"", "", "message is missing"),
        ("\"server_port\": 9000, ", "", "server_port is missing"),
        ("\"server_ip\": \"127.0.0.1\", ", "", "server_ip is missing"),
        (
            "\"127.0.0.1\"",
            "127",
            "server_ip is a number instead of a text",
        ),
        ("\"ping\"", "null", "message is null instead of a text"),
        (
            "\"ping\"",
            "true",
            "message is true or false instead of a text",
        ),
        (
            "9000",
            "\"9000\"",
            "server_port is a text instead of a whole number",
        ),
        ("9000", "9000.0", "server_port is a number with a fraction"),
        ("9000", "9e3", "server_port is a number with a fraction"),
        ("9000", "-1", "server_port is a negative number"),
        ("9000", "0", "server_port is not between 1 and 65535"),
        ("9000", "65536", "server_port is not between 1 and 65535"),
        ("9000", "09000", "not JSON"),
        ("\"ping\"", "{}", "no value is an object or a list"),
        ("\"ping\"", "[\"ping\"]", "no value is an object or a list"),
        ("\"ping\"", "ping", "not JSON"),
        ("\"ping\"", "\"\\ud800\"", "not JSON"),
        ("\"ping\"", "\"a\nb\"", "not JSON"),
        ("\"ping\"", "\"ping\",", "not JSON"),
        ("127.0.0.1", "0177.0.0.1", "not an IPv4 address"),
        ("127.0.0.1", "2130706433", "not an IPv4 address"),
        ("127.0.0.1", "127.0.0.1\\u0000", "'\\0' in it"),
        ("127.0.0.1", " 127.0.0.1", "' ' in it"),
        ("127.0.0.1", "１２７.0.0.1", "'１' in it"),
        ("127.0.0.1", "[::1]", "not an IPv6 address"),
        ("127.0.0.1", "fe80::1%lo", "zone"),
        ("127.0.0.1", "", "the host is empty"),
        ("}", "}{}", "a second object"),
        ("}", "} x", "something follows"),
        ("}", "}\u{c}", "something follows"),
    ] {
        let request = GOOD.replacen(from, to, 1);
        assert_ne!(request, GOOD);
        let line = refused(request.as_bytes());
        assert_eq!(line.error, ErrorKind::BadRequest, "{request}");
        assert!(line.detail.contains(part), "{request}: {}", line.detail);
    }
    let mut bytes = GOOD.as_bytes().to_vec();
    let at = bytes.len() - 4;
    bytes[at] = 0xFF;
    assert!(refused(&bytes).detail.contains("not UTF-8"));
}

#[test]
fn the_size_limit_is_exact() {
    let exact = Settings {
        max_request: GOOD.len(),
        ..Settings::default()
    };
    let end = whole(&exact.into(), format!("{GOOD}\n").as_bytes());
    assert!(ready(&end).is_some());
    let less = Settings {
        max_request: GOOD.len() - 1,
        ..Settings::default()
    };
    match whole(&less.into(), GOOD.as_bytes()).1 {
        Some(Step::Refuse { reply, reason }) => {
            assert_eq!(ErrorLine::read(&reply).unwrap().error, ErrorKind::TooLarge);
            assert_eq!(reason.name(), "too_large");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_are_read_once() {
    let request = GOOD.replace("ping", &"x".repeat((1 << 20) - GOOD.len() + 4));
    assert_eq!(request.len(), 1 << 20);
    let start = std::time::Instant::now();
    let end = super::super::tests::drive(&open(), request.as_bytes().chunks(1));
    assert!(ready(&end).is_some());
    // Rereading for each byte would take hours.
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn envelopes_are_refused_if_passwords_are_required() {
    match whole(&locked(), GOOD.as_bytes()).1 {
        Some(Step::Refuse {
            reason: Refusal::Unauthenticated(_),
            reply,
        }) => {
            assert_eq!(
                ErrorLine::read(&reply).unwrap().error,
                ErrorKind::BadRequest
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn outcomes_have_their_error() {
    let mut front = FrontEnd::new(&open());
    assert!(matches!(front.push(GOOD.as_bytes()), Step::Ready(_)));
    assert_eq!(
        front.outcome(Outcome::Connected(([127, 0, 0, 1], 1).into())),
        b""
    );
    for (outcome, fault) in [
        (
            Outcome::Blocked("10.0.0.0/8 in \"a\nb\"".to_owned()),
            ErrorKind::Blocked,
        ),
        (Outcome::Refused, ErrorKind::Unreachable),
        (Outcome::HostUnreachable, ErrorKind::Unreachable),
        (Outcome::NetworkUnreachable, ErrorKind::Unreachable),
        (Outcome::NameUnknown, ErrorKind::Unreachable),
        (Outcome::General("odd".to_owned()), ErrorKind::Unreachable),
        (Outcome::TimedOut, ErrorKind::Timeout),
        (Outcome::RequestTimeout, ErrorKind::Timeout),
        (Outcome::Busy, ErrorKind::Busy),
    ] {
        let line = front.outcome(outcome.clone());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read = ErrorLine::read(&line).unwrap();
        assert_eq!(read.detail, outcome.detail());
        assert_eq!(read.error, fault);
    }
    assert_eq!(
        error_line(ErrorKind::Blocked, "no"),
        b"{\"error\": \"blocked\", \"detail\": \"no\"}\n"
    );
}

proptest! {
    #[test]
    fn a_request_is_read_as_written(destination in destinations(), message in any::<String>()) {
        let end = whole(&open(), &request(&destination, &message));
        let read = ready(&end).unwrap();
        prop_assert_eq!(&read.destination, &destination);
        prop_assert_eq!(&read.upstream, message.as_bytes());
    }
}
