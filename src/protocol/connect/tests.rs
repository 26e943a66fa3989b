use std::sync::Arc;

use super::super::tests::{locked, open, ready, whole};
use super::super::{Accept, ClientStep, FrontEnd, Kind, Outcome, Refusal, Settings, Step};
use super::*;

/// Status and complete response of a refused request.
fn refused(settings: &Arc<Settings>, request: &[u8]) -> (u16, String) {
    match whole(settings, request).1 {
        Some(Step::Refuse { reply, .. }) => status_of(&reply),
        other => panic!("{other:?} for {}", String::from_utf8_lossy(request)),
    }
}

/// Also checks the form of the response.
fn status_of(response: &[u8]) -> (u16, String) {
    let text = String::from_utf8(response.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Connection: close"), "{text}");
    assert!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{text}"
    );
    assert!(
        body.len() > 1 && body.ends_with('\n') && body.lines().count() == 1,
        "{text}"
    );
    (text[9..12].parse().unwrap(), text)
}

#[test]
fn good_requests_are_taken() {
    for (request, destination) in [
        (
            "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
            "a.example:443",
        ),
        (
            "CONNECT [::1]:80 HTTP/1.1\r\nhost:[::1]\r\n\r\n",
            "[::1]:80",
        ),
        (
            "CONNECT 10.0.0.1:1 HTTP/1.1\r\nHost:\r\nX-Odd:\t \u{e9} \r\n\r\n",
            "10.0.0.1:1",
        ),
        ("CONNECT b:2 HTTP/1.0\r\n\r\n", "b:2"),
        // As sent by curl, Python, Java and their libraries.
        (
            "CONNECT b:2 HTTP/1.0\r\nHost: b\r\nContent-Length: 0\r\nProxy-Connection: Keep-Alive\r\n\r\n",
            "b:2",
        ),
        (
            "CONNECT b:2 HTTP/1.1\r\nHost: b:2\r\nUser-Agent: x/1 (y; z)\r\nContent-Length: 0\r\ncontent-length:00\r\nPragma: no-cache\r\nAccept: */*\r\n\r\n",
            "b:2",
        ),
        ("\r\nCONNECT b:2 HTTP/1.1\r\nHost: b:2\r\n\r\n", "b:2"),
        (
            "CONNECT bücher.example:2 HTTP/1.1\r\nHost: bücher.example:2\r\n\r\n",
            "xn--bcher-kva.example:2",
        ),
        (
            "CONNECT b:2 HTTP/1.1\r\nHost: another\r\nProxy-Authorization: Basic QQ==\r\n\r\n",
            "b:2",
        ),
    ] {
        let end = whole(&open(), format!("{request}early\n").as_bytes());
        let asked = ready(&end).unwrap_or_else(|| panic!("{request}: {end:?}"));
        assert_eq!(asked.destination.to_string(), destination);
        assert_eq!(asked.upstream, b"early\n");
    }
}

#[test]
fn invalid_requests_have_their_status() {
    let with = |lines: &str| format!("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{lines}\r\n");
    for (request, status, part) in [
        (
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            405,
            "Allow: CONNECT\r\n",
        ),
        (
            "GET / HTTP/1.0\r\n\r\n".to_owned(),
            405,
            "HTTP CONNECT, SOCKS5 and JSON requests",
        ),
        (
            "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na=b".to_owned(),
            405,
            "--proxytunnel",
        ),
        (
            "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            501,
            "unknown",
        ),
        (
            "connect a:1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "send CONNECT in capitals",
        ),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), 505, "HTTP/1.1 and"),
        (
            "CONNECT a:1 HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
            505,
            "HTTP/1.1 and",
        ),
        ("CONNECT a:1 HTTP/1.1\r\n\r\n".to_owned(), 400, "Host"),
        ("CONNECT a:1\r\n\r\n".to_owned(), 400, "request line"),
        (
            "CONNECT  a:1 HTTP/1.1\r\n\r\n".to_owned(),
            400,
            "request line",
        ),
        (
            "CONNECT a:1 http/1.1\r\n\r\n".to_owned(),
            400,
            "request line",
        ),
        (
            "CONNECT a:1 HTTP/1.1 \r\n\r\n".to_owned(),
            400,
            "request line",
        ),
        (
            "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "HOST:PORT",
        ),
        (
            "CONNECT a:0 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "port",
        ),
        (
            "CONNECT ::1:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "brackets",
        ),
        (
            "CONNECT 0x7f.1:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "IPv4",
        ),
        (
            "CONNECT me@a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "'@' in it",
        ),
        (
            "CONNECT http://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "HOST:PORT",
        ),
        (
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "--accept-proxy",
        ),
        (with("Host: a:1\r\n"), 400, "one Host"),
        (with("Content-Length: 1\r\n"), 400, "no body"),
        (
            with("Content-Length: 0\r\nContent-Length: 1\r\n"),
            400,
            "no body",
        ),
        (with("Content-Length: -0\r\n"), 400, "no body"),
        (with("Content-Length: 0x0\r\n"), 400, "no body"),
        (with("Content-Length:\r\n"), 400, "no body"),
        (
            with("Content-Length: 0\r\nTransfer-Encoding: identity\r\n"),
            400,
            "no body",
        ),
        (with("transfer-encoding: chunked\r\n"), 400, "no body"),
        (with("X : y\r\n"), 400, "header line"),
        (with(" folded\r\n"), 400, "header line"),
        (with(": y\r\n"), 400, "header line"),
        (with("no colon\r\n"), 400, "header line"),
        (with("X: a\0b\r\n"), 400, "control character"),
        (with("X: a\rb\r\n"), 400, "carriage return"),
        (with("X: a\n"), 400, "bare line feed"),
        (
            "CONNECT a:1 HTTP/1.1\nHost: a\n\n".to_owned(),
            400,
            "bare line feed",
        ),
        (
            with("Proxy-Authorization: Basic QTpC\r\nProxy-Authorization: Basic QTpC\r\n"),
            400,
            "two",
        ),
        (
            "CONNECT a:1 HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
            400,
            "Host field",
        ),
    ] {
        let (code, response) = refused(&open(), request.as_bytes());
        assert_eq!(code, status, "{request}: {response}");
        assert!(response.contains(part), "{request}: {response}");
    }
}

#[test]
fn the_response_to_head_has_no_body() {
    let of =
        |method: &str| match whole(&open(), format!("{method} / HTTP/1.1\r\n\r\n").as_bytes()).1 {
            Some(Step::Refuse { reply, .. }) => String::from_utf8(reply).unwrap(),
            other => panic!("{other:?}"),
        };
    let (get, head) = (of("GET"), of("HEAD"));
    let (same, page) = get.split_once("\r\n\r\n").unwrap();
    assert!(!page.is_empty());
    assert_eq!(head, format!("{same}\r\n\r\n"));
}

#[test]
fn the_size_limit_is_exact() {
    let start = "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nX: ";
    let filled = |length: usize| format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4));
    assert!(
        ready(&whole(
            &open(),
            format!("{}behind", filled(MAX_HEAD)).as_bytes()
        ))
        .is_some()
    );
    assert_eq!(refused(&open(), filled(MAX_HEAD + 1).as_bytes()).0, 431);
    // Empty lines before the head count too.
    let preceded = format!("\r\n{}", filled(MAX_HEAD - 1));
    assert_eq!(refused(&open(), preceded.as_bytes()).0, 431);
    let sole = Arc::new(Settings {
        accept: Accept::only(Kind::Connect),
        ..Settings::default()
    });
    let endless = "\r\n".repeat(MAX_HEAD / 2 + 1);
    assert_eq!(refused(&sole, endless.as_bytes()).0, 431);
    match whole(&open(), filled(MAX_HEAD + 1).as_bytes()).1 {
        Some(Step::Refuse { reason, .. }) => assert!(matches!(reason, Refusal::TooLarge(_))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sign_in_requires_the_right_password() {
    let destination = "a:1".parse().unwrap();
    for user in [
        None,
        Some(("ann", "wrong")),
        Some(("bob", "secret")),
        Some(("", "")),
    ] {
        let (status, response) = refused(&locked(), &client::request(&destination, user));
        assert_eq!(status, 407, "{user:?}");
        assert!(
            response.contains("Proxy-Authenticate: Basic "),
            "{response}"
        );
    }
    let right = client::request(&destination, Some(("ann", "secret")));
    assert!(ready(&whole(&locked(), &right)).is_some());
}

#[test]
fn outcomes_have_their_status() {
    let mut front = FrontEnd::new(&open());
    assert_eq!(front.push(b"CONNECT"), Step::More);
    for (outcome, status) in [
        (Outcome::Blocked("by a list".to_owned()), 403),
        (Outcome::RequestTimeout, 408),
        (Outcome::Refused, 502),
        (Outcome::HostUnreachable, 502),
        (Outcome::NetworkUnreachable, 502),
        (Outcome::NameUnknown, 502),
        (Outcome::General("odd".to_owned()), 502),
        (Outcome::Busy, 503),
        (Outcome::TimedOut, 504),
    ] {
        let detail = outcome.detail();
        let response = front.outcome(outcome);
        let (code, text) = status_of(&response);
        assert_eq!(code, status);
        assert!(text.ends_with(&format!("\r\n\r\n{detail}\n")), "{text}");
        let mut client = client::Client::default();
        assert!(
            matches!(client.push(&response), ClientStep::Refused { code, .. } if code == status)
        );
    }
    let open = front.outcome(Outcome::Connected(([127, 0, 0, 1], 1).into()));
    let mut client = client::Client::default();
    let early = [&open[..], b"hi"].concat();
    assert_eq!(
        client.push(&early),
        ClientStep::Open {
            early: b"hi".to_vec()
        }
    );
    assert!(!String::from_utf8(open).unwrap().contains("Content-Length"));
}

#[test]
fn a_client_reads_a_response_in_any_split_and_rejects_others() {
    let response = b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n";
    for at in 0..response.len() {
        let mut client = client::Client::default();
        assert_eq!(client.push(&response[..at]), ClientStep::More);
        assert_eq!(
            client.push(&response[at..]),
            ClientStep::Open { early: Vec::new() }
        );
    }
    let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nhi";
    for at in 0..interim.len() - 2 {
        let mut client = client::Client::default();
        assert_eq!(client.push(&interim[..at]), ClientStep::More, "{at}");
        assert_eq!(
            client.push(&interim[at..]),
            ClientStep::Open {
                early: b"hi".to_vec()
            }
        );
    }
    let mut client = client::Client::default();
    let switched = client.push(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
    assert!(matches!(switched, ClientStep::Refused { code: 101, .. }));
    for response in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1 099\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n",
    ] {
        let mut client = client::Client::default();
        assert!(
            matches!(client.push(response.as_bytes()), ClientStep::Bad(_)),
            "{response}"
        );
    }
    let mut client = client::Client::default();
    assert!(matches!(
        client.push(&[b'x'; MAX_HEAD + 1]),
        ClientStep::Bad(_)
    ));
}
