//! Properties of every front end: splits do not matter, early data is kept, arbitrary bytes do not panic.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// The bytes sent so far and the last step; `None` while more bytes are needed.
type End = (Vec<u8>, Option<Step>);

/// Pushes the pieces in turn, as a proxy does: after a reply, once more without bytes.
pub(super) fn drive<'a>(
    settings: &Arc<Settings>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> End {
    let mut front = FrontEnd::new(settings);
    let mut sent = Vec::new();
    for piece in pieces {
        let mut step = front.push(piece);
        while let Step::Reply(bytes) = step {
            sent.extend(bytes);
            step = front.push(&[]);
        }
        if step != Step::More {
            assert_eq!(front.push(b"more"), Step::More, "later bytes are ignored");
            return (sent, Some(step));
        }
    }
    (sent, None)
}

/// All bytes at once.
pub(super) fn whole(settings: &Arc<Settings>, bytes: &[u8]) -> End {
    drive(settings, [bytes])
}

pub(super) fn open() -> Arc<Settings> {
    Arc::new(Settings::default())
}

pub(super) fn locked() -> Arc<Settings> {
    Arc::new(Settings {
        credentials: Some(Arc::new(Credentials::parse("ann:secret").unwrap())),
        ..Settings::default()
    })
}

pub(super) fn ready(end: &End) -> Option<&Request> {
    match &end.1 {
        Some(Step::Ready(request)) => Some(request),
        _ => None,
    }
}

pub(super) fn destinations() -> impl Strategy<Value = Destination> {
    let host = prop_oneof![
        any::<std::net::IpAddr>().prop_map(Host::Ip),
        "([a-z][a-z0-9_]{0,9}\\.){0,3}[a-z]{1,9}"
            .prop_map(|name| Host::Name(name.parse().unwrap())),
    ];
    (host, 1u16..).prop_map(|(host, port)| Destination { host, port })
}

/// Settings, a valid request as a client sends it, and the expected result.
fn requests() -> impl Strategy<Value = (Arc<Settings>, Vec<u8>, Request)> {
    (destinations(), any::<bool>(), 0..3u8, ".{0,40}").prop_map(
        |(destination, lock, kind, text)| {
            let settings = if lock && kind > 0 { locked() } else { open() };
            let user = lock.then_some(("ann", "secret"));
            let early = text.clone().into_bytes();
            let (kind, mut bytes) = match kind {
                0 => (Kind::Json, json::request(&destination, &text)),
                1 => (Kind::Socks5, socks5_bytes(&destination, user)),
                _ => (Kind::Connect, connect::client::request(&destination, user)),
            };
            if kind != Kind::Json {
                bytes.extend(&early);
            }
            let request = Request {
                kind,
                destination,
                upstream: early,
                whole: kind == Kind::Json,
            };
            (settings, bytes, request)
        },
    )
}

/// The bytes of a SOCKS5 client that does not wait for replies.
fn socks5_bytes(destination: &Destination, user: Option<(&str, &str)>) -> Vec<u8> {
    let mut client = socks5::client::Client::new(destination, user);
    let mut bytes = client.greeting();
    let replies: &[&[u8]] = match user {
        None => &[&[5, 0]],
        Some(_) => &[&[5, 2], &[1, 0]],
    };
    for reply in replies {
        match client.push(reply) {
            ClientStep::Send(more) => bytes.extend(more),
            other => panic!("{other:?}"),
        }
    }
    bytes
}

/// Splits bytes at the given places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|at| at.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|two| &bytes[two[0]..two[1]])
        .collect()
}

/// Bytes that are often almost a request.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 0..400);
    let changed = (
        requests(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    )
        .prop_map(|((_, mut bytes, _), changes)| {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        });
    let alphabet = prop::sample::select(&b"{}[]\":,\\ \r\n\t019aCONNECT\x05\x01\x00\x03"[..]);
    prop_oneof![any_bytes, changed, prop::collection::vec(alphabet, 0..60)]
}

proptest! {
    #[test]
    fn any_split_gives_the_same_request(
        (settings, bytes, request) in requests(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let at_once = whole(&settings, &bytes);
        prop_assert_eq!(ready(&at_once), Some(&request));
        // Bytes after a request are early data only if they arrive with it.
        let mut end = drive(&settings, cut(&bytes, &places));
        let pushed_later = match &mut end.1 {
            Some(Step::Ready(split)) => {
                let missing = request.upstream.strip_prefix(&split.upstream[..]);
                prop_assert!(missing.is_some(), "early data is a prefix");
                split.upstream.clone_from(&request.upstream);
                missing.unwrap_or_default()
            }
            _ => &[],
        };
        prop_assert!(bytes.ends_with(pushed_later));
        prop_assert_eq!(&end, &at_once);
        prop_assert_eq!(&drive(&settings, bytes.chunks(1)).0, &at_once.0);
    }

    #[test]
    fn every_prefix_of_a_request_waits_for_more(
        (settings, bytes, request) in requests(),
        at in any::<prop::sample::Index>(),
    ) {
        let behind = match request.kind {
            Kind::Json => 1,
            _ => request.upstream.len(),
        };
        let short = &bytes[..at.index(bytes.len() - behind)];
        prop_assert_eq!(drive(&settings, [short]).1, None);
        let mut front = FrontEnd::new(&settings);
        while let Step::Reply(_) = front.push(short) {}
        let closed = matches!(front.eof(), Step::Refuse { reason: Refusal::Closed, .. });
        prop_assert_eq!(closed, short.is_empty());
    }

    #[test]
    fn no_bytes_do_harm(
        bytes in nearly(),
        lock in any::<bool>(),
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let settings = if lock { locked() } else { open() };
        let at_once = whole(&settings, &bytes);
        let split = drive(&settings, cut(&bytes, &places));
        match (&at_once.1, &split.1) {
            (Some(Step::Ready(one)), Some(Step::Ready(two))) => {
                prop_assert_eq!(&one.destination, &two.destination);
                prop_assert!(one.upstream.starts_with(&two.upstream));
            }
            // Bytes after an envelope are only seen if they arrive with it.
            (Some(Step::Refuse { .. }), Some(Step::Ready(two))) if two.whole => {}
            // Likewise if the envelope is invalid too: the split determines which error is reported.
            (Some(Step::Refuse { .. }), Some(Step::Refuse { reply, .. })) if reply.starts_with(b"{") => {}
            (one, two) => prop_assert_eq!(one, two),
        }
    }

    #[test]
    fn every_client_is_decided_within_the_limits(byte in any::<u8>(), fill in any::<u8>()) {
        let settings = Arc::new(Settings { max_request: 1000, ..Settings::default() });
        let mut bytes = vec![byte];
        bytes.resize(connect::MAX_HEAD + 1, fill);
        prop_assert!(drive(&settings, bytes.chunks(7)).1.is_some());
    }

    #[test]
    fn a_forwarded_connection_is_not_read(bytes in nearly()) {
        let destination: Destination = "[::1]:9".parse().unwrap();
        let settings = Arc::new(Settings { forward: Some(destination.clone()), ..Settings::default() });
        let end = whole(&settings, &bytes);
        let request = Request { kind: Kind::Forward, destination, upstream: bytes, whole: false };
        prop_assert_eq!(ready(&end), Some(&request));
        prop_assert!(ready(&whole(&settings, &[])).is_some());
        let mut front = FrontEnd::new(&settings);
        prop_assert!(matches!(front.eof(), Step::Ready(_)));
        prop_assert_eq!(front.outcome(Outcome::Busy), b"");
    }
}

fn reply_of(step: Option<Step>) -> String {
    match step {
        Some(Step::Refuse { reply, .. }) => String::from_utf8_lossy(&reply).into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_first_byte_is_reported_in_json() {
    for (bytes, part) in [
        (&b"connecting"[..], "0x63"),
        (b"hello", "0x68"),
        (b"[1]", "0x5b"),
        (b" \x05", "0x05"),
        (b"\r\n\r\n\0\r\nQUIT\n", "--accept-proxy"),
        (b"\xEF\xBB\xBF{}", "0xef"),
    ] {
        let line = reply_of(whole(&open(), bytes).1);
        assert!(
            line.starts_with("{\"error\": \"bad_request\"") && line.contains(part),
            "{line}"
        );
    }
}

#[test]
fn a_client_is_refused_in_its_own_protocol() {
    let only = |kind| {
        Arc::new(Settings {
            accept: Accept::only(kind),
            ..Settings::default()
        })
    };
    let socks4 = [0, 0x5b, 0, 0, 0, 0, 0, 0];
    let all = [Kind::Json, Kind::Socks5, Kind::Connect].map(only);
    for settings in all.iter().chain([&open(), &locked()]) {
        // SOCKS4, and SOCKS4a with a name.
        for request in [
            &b"\x04"[..],
            b"\x04\x01\0\x50\x7f\0\0\x01me\0",
            b"\x04\x01\0\x50\0\0\0\x01\0a.example\0",
        ] {
            match whole(settings, request).1 {
                Some(Step::Refuse { reply, reason }) => {
                    assert_eq!(reply, socks4);
                    assert!(reason.to_string().contains("SOCKS4"), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
        for request in [
            "connect a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "Connect a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nconnect a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "get / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            for piece in [1, usize::MAX] {
                let end = drive(
                    settings,
                    request.as_bytes().chunks(piece.min(request.len())),
                );
                let response = reply_of(end.1);
                assert!(response.starts_with("HTTP/1.1 40"), "{request}: {response}");
            }
        }
    }
    // TLS clients that display the answer are web clients.
    let response = reply_of(whole(&open(), b"\x16\x03\x01").1);
    assert!(response.starts_with("HTTP/1.1 400 ") && response.contains("TLS"));
}

#[test]
fn empty_lines_are_skipped_before_http_and_json() {
    for (request, kind) in [
        ("\r\nCONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Kind::Connect),
        (
            "\r\n\r\nCONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            Kind::Connect,
        ),
        (
            "\r\n {\"server_ip\": \"a\", \"server_port\": 1, \"message\": \"\"}",
            Kind::Json,
        ),
    ] {
        let sole = Arc::new(Settings {
            accept: Accept::only(kind),
            ..Settings::default()
        });
        for settings in [open(), sole] {
            for piece in 1..request.len() {
                let end = drive(&settings, request.as_bytes().chunks(piece));
                let asked = ready(&end).unwrap_or_else(|| panic!("{request}: {end:?}"));
                assert_eq!((asked.kind, asked.upstream.len()), (kind, 0));
            }
        }
    }
    for pieces in [&[&b"\r\n"[..], b"{"][..], &[b"\r", b"\n{"], &[b"\r\n{"]] {
        let sole = Arc::new(Settings {
            accept: Accept::only(Kind::Connect),
            ..Settings::default()
        });
        let response = reply_of(drive(&sole, pieces.iter().copied()).1);
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    }
    // An empty line is CR LF; nothing else may precede a request line.
    for request in [
        " CONNECT a:1 HTTP/1.1\r\n\r\n",
        "\nCONNECT a:1 HTTP/1.1\r\n\r\n",
    ] {
        let response = reply_of(whole(&open(), request.as_bytes()).1);
        assert!(
            response.starts_with("HTTP/1.1 400 "),
            "{request}: {response}"
        );
    }
}

#[test]
fn a_protocol_that_is_not_accepted_is_refused_in_its_own_form() {
    let only = |accept| {
        Arc::new(Settings {
            accept,
            ..Settings::default()
        })
    };
    let no_socks = only(Accept {
        socks5: false,
        ..Accept::ALL
    });
    assert_eq!(
        reply_of(whole(&no_socks, &[5, 1, 0]).1).as_bytes(),
        "\u{5}\u{fffd}".as_bytes()
    );
    let no_json = only(Accept {
        json: false,
        ..Accept::ALL
    });
    let words = "json is not accepted on this port, only HTTP CONNECT and SOCKS5 requests";
    assert!(reply_of(whole(&no_json, b"{").1).contains(words));
    let no_connect = only(Accept {
        connect: false,
        ..Accept::ALL
    });
    assert!(reply_of(whole(&no_connect, b"C").1).starts_with("HTTP/1.1 400 "));
}

#[test]
fn errors_take_the_form_of_the_only_protocol() {
    let only = |kind| {
        Arc::new(Settings {
            accept: Accept::only(kind),
            ..Settings::default()
        })
    };
    for bytes in [&b"\x16"[..], b"\0", b"x"] {
        assert!(reply_of(whole(&only(Kind::Json), bytes).1).starts_with("{\"error\""));
        assert_eq!(whole(&only(Kind::Socks5), bytes).1, {
            let reason = Refusal::BadRequest("the greeting is not SOCKS version 5".to_owned());
            Some(Step::Refuse {
                reply: vec![5, 0xFF],
                reason,
            })
        });
    }
    assert!(reply_of(whole(&only(Kind::Connect), b"\x16").1).starts_with("HTTP/1.1 400 "));
    let front = FrontEnd::new(&only(Kind::Connect));
    assert!(front.outcome(Outcome::Busy).starts_with(b"HTTP/1.1 503 "));
    assert_eq!(front.kind(), Some(Kind::Connect));
}
