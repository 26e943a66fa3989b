use std::sync::Arc;

use super::super::tests::{drive, locked, open, ready, whole};
use super::super::{ClientStep, FrontEnd, Outcome, Refusal, Settings, Step};
use super::*;

const GREETING: &[u8] = &[5, 1, 0];

/// A request for each address type.
fn requests() -> [(Vec<u8>, &'static str); 5] {
    let name = [&[5, 1, 0, 3, 11][..], b"example.com", &[1, 187]].concat();
    let address_as_name = [&[5, 1, 0, 3, 8][..], b"10.1.2.3", &[0, 80]].concat();
    let foreign = "Bücher.example";
    let length = foreign.len() as u8;
    let foreign = [&[5, 1, 0, 3, length][..], foreign.as_bytes(), &[0, 80]].concat();
    let mut v6 = vec![5, 1, 0, 4];
    v6.extend([0; 15]);
    v6.extend([1, 0, 80]);
    [
        (vec![5, 1, 0, 1, 10, 0, 0, 1, 0x1F, 0x90], "10.0.0.1:8080"),
        (v6, "[::1]:80"),
        (name, "example.com:443"),
        (address_as_name, "10.1.2.3:80"),
        (foreign, "xn--bcher-kva.example:80"),
    ]
}

#[test]
fn every_split_in_three_gives_the_same_request() {
    for (request, destination) in requests() {
        for (settings, sign_in, replies) in [
            (open(), GREETING.to_vec(), vec![5, 0]),
            (
                locked(),
                [&[5, 2, 0, 2, 1, 3][..], b"ann", &[6], b"secret"].concat(),
                vec![5, 2, 1, 0],
            ),
        ] {
            let bytes = [&sign_in[..], &request, b"early"].concat();
            let end = bytes.len() - 5;
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    let (sent, step) = drive(&settings, pieces);
                    assert_eq!(sent, replies, "{first} {second}");
                    let Some(Step::Ready(request)) = step else {
                        panic!("{first} {second}: {step:?}");
                    };
                    assert_eq!(request.destination.to_string(), destination);
                    assert!(!request.whole);
                    // Bytes that arrived with the request's last byte are early data; the caller reads the rest.
                    let came = *[first, second, bytes.len()]
                        .iter()
                        .find(|at| **at >= end)
                        .unwrap();
                    assert_eq!(request.upstream, &bytes[end..came], "{first} {second}");
                }
            }
        }
    }
}

fn refusal(settings: &Arc<Settings>, bytes: &[u8]) -> (Vec<u8>, Refusal) {
    match whole(settings, bytes).1 {
        Some(Step::Refuse { reply, reason }) => (reply, reason),
        other => panic!("{other:?} for {bytes:?}"),
    }
}

#[test]
fn invalid_requests_have_their_reply() {
    let name = |name: &[u8], port: u8| {
        let length = u8::try_from(name.len()).unwrap();
        [&[5, 1, 0, 3, length][..], name, &[0, port]].concat()
    };
    for (request, reply) in [
        (vec![5, 2, 0, 1, 10, 0, 0, 1, 0, 80], 7),
        (vec![5, 3, 0, 1, 10, 0, 0, 1, 0, 80], 7),
        (vec![5, 0, 0, 1, 10, 0, 0, 1, 0, 80], 7),
        (vec![5, 1, 0, 2], 8),
        (vec![5, 1, 0, 0], 8),
        (vec![4], 1),
        (vec![5, 1, 1, 1, 10, 0, 0, 1, 0, 80], 1),
        (vec![5, 1, 0, 1, 10, 0, 0, 1, 0, 0], 1),
        (name(b"", 80), 1),
        (name(b"0x7f.1", 80), 1),
        (name(b"127.0.0.1\0", 80), 1),
        (name(b"[::1]", 80), 1),
        (name(b"\xFF", 80), 1),
        (name(b"example.com", 0), 1),
        (name(&[b'a'; 255], 80), 1),
    ] {
        let (sent, reason) = refusal(&open(), &[GREETING, &request].concat());
        assert_eq!(sent, [5, reply, 0, 1, 0, 0, 0, 0, 0, 0], "{request:?}");
        assert_eq!(reason.name(), "bad_request");
    }
}

#[test]
fn sign_in_requires_the_right_password() {
    let none_will_do = vec![5, 0xFF];
    assert_eq!(refusal(&open(), &[5, 0]).0, none_will_do);
    assert_eq!(refusal(&open(), &[5, 2, 1, 2]).0, none_will_do);
    assert_eq!(refusal(&locked(), &[5, 2, 0, 1]).0, none_will_do);
    for words in [
        &b"\x03ann\x05wrong"[..],
        b"\x03bob\x06secret",
        b"\x00\x00",
        b"\x00\x06secret",
        b"\x03ann\x00",
    ] {
        let (reply, reason) = refusal(&locked(), &[&[5, 1, 2, 1], words].concat());
        assert_eq!(reply, [1, 1], "{words:?}");
        assert!(matches!(reason, Refusal::Unauthenticated(_)));
    }
    let (reply, reason) = refusal(&locked(), &[5, 1, 2, 5, 1]);
    assert_eq!((reply, reason.name()), (vec![1, 1], "bad_request"));
}

#[test]
fn outcomes_have_their_code() {
    let mut front = FrontEnd::new(&open());
    assert_eq!(front.push(GREETING), Step::Reply(vec![5, 0]));
    for (outcome, code) in [
        (Outcome::Connected(([127, 0, 0, 1], 0x1234).into()), 0),
        (Outcome::General("odd".to_owned()), 1),
        (Outcome::Busy, 1),
        (Outcome::RequestTimeout, 1),
        (Outcome::Blocked("by a list".to_owned()), 2),
        (Outcome::NetworkUnreachable, 3),
        (Outcome::HostUnreachable, 4),
        (Outcome::NameUnknown, 4),
        (Outcome::Refused, 5),
        (Outcome::TimedOut, 6),
    ] {
        let reply = front.outcome(outcome);
        let bound: &[u8] = if code == 0 {
            &[127, 0, 0, 1, 0x12, 0x34]
        } else {
            &[0; 6]
        };
        assert_eq!(reply, [&[5, code, 0, 1], bound].concat());
    }
    let v6 = front.outcome(Outcome::Connected("[::1]:80".parse().unwrap()));
    assert_eq!((v6.len(), v6[3]), (22, 4));
}

#[test]
fn a_timeout_has_the_format_of_the_expected_reply() {
    let mut front = FrontEnd::new(&locked());
    assert_eq!(front.push(&[5]), Step::More);
    assert_eq!(front.outcome(Outcome::RequestTimeout), [5, 0xFF]);
    assert_eq!(front.push(&[1, 2]), Step::Reply(vec![5, 2]));
    assert_eq!(front.outcome(Outcome::RequestTimeout), [1, 1]);
}

/// Feeds the proxy's replies to a client, a byte at a time.
fn converse(client: &mut client::Client, replies: &[u8]) -> (Vec<u8>, ClientStep) {
    let mut sent = client.greeting();
    for reply in replies.chunks(1) {
        match client.push(reply) {
            ClientStep::More => {}
            ClientStep::Send(bytes) => sent.extend(bytes),
            other => return (sent, other),
        }
    }
    (sent, ClientStep::More)
}

#[test]
fn a_client_passes_its_own_server() {
    for (user, settings, sign_in) in [
        (None, open(), &[5, 0][..]),
        (Some(("ann", "secret")), locked(), &[5, 2, 1, 0]),
        (Some(("ann", "secret")), open(), &[5, 0]),
    ] {
        for (_, text) in requests() {
            let asked: Destination = text.parse().unwrap();
            let ok = [sign_in, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
            let (sent, answer) = converse(&mut client::Client::new(&asked, user), &ok);
            assert_eq!(answer, ClientStep::Open { early: Vec::new() });
            let end = whole(&settings, &sent);
            assert_eq!(end.0, sign_in);
            assert_eq!(ready(&end).unwrap().destination, asked);
        }
    }
}

#[test]
fn a_client_requests_a_udp_relay_and_reads_its_address() {
    for (source, reply, bound) in [
        (
            "0.0.0.0:0",
            &[5, 0, 0, 1, 192, 0, 2, 1, 0, 53][..],
            Some("192.0.2.1:53"),
        ),
        ("192.0.2.9:7", &[5, 0, 0, 3, 1, b'x', 0, 1], None),
    ] {
        let source: SocketAddr = source.parse().unwrap();
        let mut client = client::Client::associate(source, None);
        let (sent, step) = converse(&mut client, &[&[5, 0][..], reply].concat());
        assert!(matches!(step, ClientStep::Open { .. }));
        let mut request = vec![5, 3, 0];
        put_address(&mut request, &Host::Ip(source.ip()), source.port());
        assert_eq!(sent, [GREETING, &request].concat());
        assert_eq!(client.bound(), bound.map(|of| of.parse().unwrap()));
    }
}

#[test]
fn a_client_reads_every_refusal() {
    let destination: Destination = "localhost:1".parse().unwrap();
    for code in 1..=9 {
        let replies = [5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0];
        let (_, answer) = converse(&mut client::Client::new(&destination, None), &replies);
        let detail = Reply::words(code).to_owned();
        assert_eq!(
            answer,
            ClientStep::Refused {
                code: code.into(),
                detail
            }
        );
    }
    let user = Some(("ann", "secret"));
    for (replies, code) in [(&[5, 0xFF][..], 255), (&[5, 2, 1, 1], 1)] {
        let (_, answer) = converse(&mut client::Client::new(&destination, user), replies);
        assert!(
            matches!(answer, ClientStep::Refused { code: received, .. } if received == code),
            "{answer:?}"
        );
    }
    for replies in [
        &b"HTTP"[..],
        &[5, 2],
        &[5, 7],
        &[5, 0, 4],
        &[5, 0, 5, 0, 0, 9],
    ] {
        let (_, answer) = converse(&mut client::Client::new(&destination, None), replies);
        assert!(
            matches!(answer, ClientStep::Bad(_)),
            "{replies:?}: {answer:?}"
        );
    }
    let mut client = client::Client::new(&destination, None);
    assert!(matches!(client.push(&[5, 0]), ClientStep::Send(_)));
    let with_early = [&[5, 0, 0, 3, 1, b'x', 0, 1][..], b"hi"].concat();
    assert_eq!(
        client.push(&with_early),
        ClientStep::Open {
            early: b"hi".to_vec()
        }
    );
}

#[test]
fn association_is_requested_with_any_address_and_port() {
    let settings = Arc::new(Settings {
        associate: true,
        ..Settings::default()
    });
    let v4 = "192.0.2.1".parse().ok();
    let name = [&[5, 3, 0, 3, 4][..], b"host", &[0, 9]].concat();
    let mut mapped = vec![5, 3, 0, 4];
    mapped.extend([0; 10]);
    mapped.extend([255, 255, 192, 0, 2, 1, 0, 9]);
    for (request, ip, port) in [
        (vec![5, 3, 0, 1, 0, 0, 0, 0, 0, 0], None, 0),
        (vec![5, 3, 0, 1, 192, 0, 2, 1, 0, 9], v4, 9),
        (mapped, v4, 9),
        (name, None, 9),
    ] {
        let (sent, step) = whole(&settings, &[GREETING, &request].concat());
        assert_eq!(sent, [5, 0]);
        let associate = super::super::Associate { ip, port };
        assert_eq!(step, Some(Step::Associate(associate)), "{request:?}");
    }
    for (request, reply) in [
        (vec![5, 3, 1, 1, 0, 0, 0, 0, 0, 0], 1),
        (vec![5, 3, 0, 2], 8),
        (vec![5, 2, 0, 1, 10, 0, 0, 1, 0, 80], 7),
    ] {
        let (sent, _) = refusal(&settings, &[GREETING, &request].concat());
        assert_eq!(sent.get(1), Some(&reply), "{request:?}");
    }
}
