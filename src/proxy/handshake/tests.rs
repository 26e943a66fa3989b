//! Handshakes of every kind, without a socket.

mod addresses;

use std::fs;
use std::sync::Arc;

use super::*;
use crate::blocklist::policy::Sources;
use crate::blocklist::reload::Policies;
use crate::protocol::connect;
use crate::protocol::json;
use crate::protocol::proxy_header::{encode_v1, encode_v2};
use crate::protocol::{Credentials, Settings};
use crate::proxy::rules::HeaderVersion;

/// The entries that block addresses in these tests.
const LIST: &str = "192.0.2.0/24\n2001:db8:bad::/48\n198.51.100.7:25\n*.blocked.example\n";

fn rules(list: &str) -> Rules {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    fs::write(&file, list).unwrap();
    let sources = Sources {
        block: vec![file],
        allow_empty: true,
        ..Sources::default()
    };
    Rules::new(Settings::default(), Policies::load(sources).unwrap())
}

fn peer() -> SocketAddr {
    "203.0.113.5:4000".parse().unwrap()
}

fn local() -> SocketAddr {
    "203.0.113.1:1080".parse().unwrap()
}

fn handshake(rules: &Rules) -> (Handshake, Action) {
    let mut handshake = Handshake::new(rules, peer().into(), Some(local().into()), false);
    let action = handshake.begin(rules);
    (handshake, action)
}

/// An address that does not matter.
fn any_address() -> SocketAddr {
    "127.0.0.1:80".parse().unwrap()
}

/// The answer of a resolver without aliases.
fn found(addresses: &[IpAddr]) -> Answer {
    Ok(Resolved {
        addresses: addresses.to_vec(),
        aliases: Vec::new(),
    })
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A handshake whose name has these addresses, all at port 80.
fn resolved(rules: &Rules, addresses: &[&str]) -> (Handshake, Action) {
    let (mut handshake, _, _) = read(rules, &socks5(b"many.example", 3, 80), 4_096);
    let addresses: Vec<IpAddr> = addresses.iter().map(|one| one.parse().unwrap()).collect();
    let action = handshake.on_resolved(found(&addresses), rules);
    (handshake, action)
}

/// Passes all bytes to a handshake, in pieces of this length.
fn read(rules: &Rules, bytes: &[u8], piece: usize) -> (Handshake, Action, Vec<u8>) {
    let (mut handshake, mut action) = handshake(rules);
    let mut reply = Vec::new();
    for piece in bytes.chunks(piece) {
        if action != Action::Read {
            break;
        }
        action = handshake.on_read(piece, rules);
        reply.extend(handshake.take_reply());
    }
    (handshake, action, reply)
}

fn socks5(host: &[u8], kind: u8, port: u16) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, 5, 1, 0, kind];
    if kind == 3 {
        bytes.push(host.len() as u8);
    }
    bytes.extend_from_slice(host);
    bytes.extend(port.to_be_bytes());
    bytes
}

fn connect_to(authority: &str) -> Vec<u8> {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes()
}

fn envelope(host: &str, port: u16) -> Vec<u8> {
    format!("{{\"server_ip\": \"{host}\", \"server_port\": {port}, \"message\": \"ping\"}}")
        .into_bytes()
}

/// The request for an address or name, in each protocol that can express it.
fn in_every_protocol(host: &str, port: u16) -> Vec<(&'static str, Vec<u8>)> {
    let mut requests = vec![("json", envelope(host, port))];
    let authority = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    requests.push(("connect", connect_to(&authority)));
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => {
            requests.push(("socks5", socks5(&address.octets(), 1, port)));
        }
        Ok(IpAddr::V6(address)) => {
            requests.push(("socks5", socks5(&address.octets(), 4, port)));
        }
        Err(_) => {}
    }
    // Clients without a resolver send addresses as names, too.
    requests.push(("socks5 name", socks5(host.as_bytes(), 3, port)));
    requests
}

fn is_blocked_reply(protocol: &str, reply: &[u8]) -> bool {
    match protocol {
        "json" => reply.starts_with(b"{\"error\": \"blocked\""),
        "connect" => reply.starts_with(b"HTTP/1.1 403 "),
        _ => reply.starts_with(&[5, 0, 5, 2]),
    }
}

#[test]
fn every_spelling_of_a_blocked_address_is_blocked_in_every_protocol() {
    let rules = rules(LIST);
    for (host, port) in [
        ("192.0.2.1", 80),
        ("::ffff:192.0.2.1", 80),
        ("::ffff:c000:201", 80),
        ("0:0:0:0:0:FFFF:192.0.2.1", 80),
        ("::192.0.2.1", 80),
        ("::c000:201", 80),
        ("::ffff:0:192.0.2.1", 80),
        ("64:ff9b::192.0.2.1", 80),
        ("64:ff9b::c000:201", 80),
        ("64:ff9b:1::192.0.2.1", 80),
        ("2002:c000:201::1", 80),
        ("2002:c000:0201:1:2:3:4:5", 80),
        // Teredo: the server, and the client inverted.
        ("2001:0:c000:201::1", 80),
        ("2001:0:1:1:0:0:3fff:fdfe", 80),
        ("2001:db8:bad::1", 443),
        ("2001:0DB8:0BAD:0:0:0:0:1", 443),
        ("198.51.100.7", 25),
        ("::ffff:198.51.100.7", 25),
        ("www.blocked.example", 80),
        ("WWW.Blocked.EXAMPLE", 80),
        ("www.blocked.example.", 80),
    ] {
        for (protocol, request) in in_every_protocol(host, port) {
            for piece in [1, 7, 4_096] {
                let (handshake, action, reply) = read(&rules, &request, piece);
                let case = format!("{host}:{port} by {protocol} in pieces of {piece}");
                assert_eq!(action, Action::Refuse(CloseReason::Blocked), "{case}");
                assert!(is_blocked_reply(protocol, &reply), "{case}: {reply:?}");
                let ConnectionInfo {
                    decision, server, ..
                } = handshake.info;
                assert!(decision.entry().unwrap().contains("list:"), "{case}");
                assert_eq!(server, None, "{case}");
            }
        }
    }
}

#[test]
fn nonstandard_spellings_of_addresses_are_errors_and_never_looked_up() {
    let rules = rules(LIST);
    for host in [
        "0300.0.2.1",
        "192.0.2.01",
        "192.0.2.1.",
        "0xc0.0.2.1",
        "0xc0000201",
        "3221225985",
        "030000001001",
        "192.513",
        "192.0.513",
        "192.0.2.1\\u0000",
        "\u{ff11}92.0.2.1",
        "192\u{3002}0.2.1",
        " 192.0.2.1",
        "192.0.2.1 ",
        "fe80::1%eth0",
        "[[::1]]",
        "",
    ] {
        let request = envelope(host, 80);
        let (_, action, reply) = read(&rules, &request, 4_096);
        assert_eq!(
            action,
            Action::Refuse(CloseReason::Refused),
            "{host:?} by json"
        );
        assert!(
            reply.starts_with(b"{\"error\": \"bad_request\""),
            "{host:?}: {}",
            String::from_utf8_lossy(&reply)
        );
        let (_, action, reply) = read(&rules, &socks5(host.as_bytes(), 3, 80), 4_096);
        assert_eq!(
            action,
            Action::Refuse(CloseReason::Refused),
            "{host:?} by socks5"
        );
        assert_ne!(reply.get(3), Some(&0), "{host:?} by socks5");
        let (_, action, reply) = read(&rules, &connect_to(&format!("{host}:80")), 4_096);
        assert_eq!(
            action,
            Action::Refuse(CloseReason::Refused),
            "{host:?} by connect"
        );
        assert!(reply.starts_with(b"HTTP/1.1 400 "), "{host:?} by connect");
    }
}

#[test]
fn an_allowed_address_is_connected_to_unchanged() {
    let rules = rules(LIST);
    for (host, port) in [
        ("192.0.3.1", 80),
        ("198.51.100.7", 26),
        ("2001:db8:baf::1", 80),
        ("::ffff:192.0.3.1", 80),
    ] {
        for (protocol, request) in in_every_protocol(host, port) {
            let (handshake, action, _) = read(&rules, &request, 1);
            let address = SocketAddr::new(host.parse().unwrap(), port);
            assert_eq!(action, Action::Connect(address), "{host} by {protocol}");
            assert_eq!(handshake.info.decision, Decision::Allowed);
            assert_eq!(handshake.info.server, Some(address));
        }
    }
}

#[test]
fn a_dry_run_connects_and_records_the_entry_that_would_block() {
    let mut rules = rules(LIST);
    rules.dry_run = true;
    let (handshake, action, _) = read(&rules, &envelope("192.0.2.1", 80), 4_096);
    assert_eq!(action, Action::Connect("192.0.2.1:80".parse().unwrap()));
    assert!(matches!(handshake.info.decision, Decision::WouldBlock(_)));
    let (mut handshake, action, _) = read(&rules, &envelope("www.blocked.example", 80), 4_096);
    assert!(matches!(action, Action::Resolve(_)));
    let answer = found(&["203.0.113.9".parse().unwrap()]);
    assert!(matches!(
        handshake.on_resolved(answer, &rules),
        Action::Connect(_)
    ));
    assert!(matches!(handshake.info.decision, Decision::WouldBlock(_)));
}

#[test]
fn early_data_reaches_the_server_once_and_in_order() {
    let rules = rules("");
    let early: Vec<u8> = (0..=255).collect();
    for request in [socks5(&[127, 0, 0, 1], 1, 80), connect_to("127.0.0.1:80")] {
        let whole = [&request[..], &early].concat();
        for split in 0..=whole.len() {
            let (mut handshake, mut action) = handshake(&rules);
            let mut relayed = Vec::new();
            for piece in [&whole[..split], &whole[split..]] {
                match action {
                    Action::Read if !piece.is_empty() => action = handshake.on_read(piece, &rules),
                    Action::Read => {}
                    _ => relayed.extend_from_slice(piece),
                }
            }
            assert!(matches!(action, Action::Connect(_)), "{split}");
            handshake.on_connected(any_address(), any_address());
            let first = handshake.take_preamble();
            assert_eq!([first, relayed].concat(), early, "{split}");
            assert!(!handshake.is_complete());
        }
    }
}

#[test]
fn a_connected_client_gets_a_reply_in_its_protocol_and_an_envelope_gets_none() {
    let rules = rules("");
    let from: SocketAddr = "127.0.0.1:5555".parse().unwrap();
    let cases = [
        (envelope("127.0.0.1", 80), vec![], &b"ping"[..], true),
        (
            connect_to("127.0.0.1:80"),
            connect_reply(&rules),
            b"",
            false,
        ),
        (
            socks5(&[127, 0, 0, 1], 1, 80),
            vec![5, 0, 0, 1, 127, 0, 0, 1, 0x15, 0xb3],
            b"",
            false,
        ),
    ];
    for (request, words, to_server, whole) in cases {
        let (mut handshake, _, _) = read(&rules, &request, 4_096);
        handshake.on_connected(any_address(), from);
        assert_eq!(handshake.take_reply(), words);
        assert_eq!(handshake.take_preamble(), to_server);
        assert_eq!(handshake.is_complete(), whole);
    }
}

fn connect_reply(rules: &Rules) -> Vec<u8> {
    let mut front = FrontEnd::new(&rules.settings);
    front.push(&connect_to("127.0.0.1:80"));
    let reply = front.outcome(Outcome::Connected(peer()));
    assert!(reply.starts_with(b"HTTP/1.1 200 "));
    let mut client = connect::client::Client::default();
    assert!(matches!(
        client.push(&reply),
        crate::protocol::ClientStep::Open { .. }
    ));
    reply
}

#[test]
fn a_header_names_the_client_and_a_missing_header_is_refused() {
    let mut rules = rules("");
    rules.accept_header = true;
    let who: SocketAddr = "198.51.100.1:1111".parse().unwrap();
    let to: SocketAddr = "198.51.100.2:2222".parse().unwrap();
    for header in [encode_v1(who, to), encode_v2(who, to)] {
        let bytes = [header, envelope("127.0.0.1", 80)].concat();
        for piece in [1, 4_096] {
            let (handshake, action, _) = read(&rules, &bytes, piece);
            assert!(matches!(action, Action::Connect(_)));
            assert_eq!(handshake.info.client, who.into());
            assert_eq!(handshake.info.peer, peer().into());
        }
    }
    let (handshake, action, reply) = read(&rules, &envelope("127.0.0.1", 80), 1);
    assert_eq!(action, Action::Refuse(CloseReason::Refused));
    assert!(handshake.info.detail.is_some() && reply.is_empty());
    let (mut handshake, _) = self::handshake(&rules);
    assert_eq!(
        handshake.on_request_timeout(),
        Action::Refuse(CloseReason::RequestTimeout)
    );
    assert!(handshake.take_reply().is_empty());
}

#[test]
fn the_header_for_a_server_precedes_other_data() {
    let mut rules = rules("");
    for (version, header) in [
        (HeaderVersion::V1, encode_v1(peer(), local())),
        (HeaderVersion::V2, encode_v2(peer(), local())),
    ] {
        rules.send_header = Some(version);
        let (mut handshake, _, _) = read(&rules, &envelope("127.0.0.1", 80), 4_096);
        handshake.on_connected(any_address(), any_address());
        assert_eq!(handshake.take_preamble(), [&header[..], b"ping"].concat());
    }
}

#[test]
fn a_forwarded_client_sends_no_request_unless_a_header_is_expected() {
    let mut rules = rules("192.0.2.0/24");
    let forward = |to: &str| {
        let forward = Some(to.parse().unwrap());
        Arc::new(Settings {
            forward,
            ..Settings::default()
        })
    };
    rules.settings = forward("127.0.0.1:80");
    let to = Action::Connect("127.0.0.1:80".parse().unwrap());
    assert_eq!(handshake(&rules).1, to);
    rules.accept_header = true;
    let (mut handshake, action) = handshake(&rules);
    assert_eq!(action, Action::Read);
    let bytes = [&encode_v1(peer(), local())[..], b"early"].concat();
    assert_eq!(handshake.on_read(&bytes, &rules), to);
    handshake.on_connected(any_address(), any_address());
    assert_eq!(handshake.take_preamble(), b"early");
    rules.accept_header = false;
    rules.settings = forward("192.0.2.1:80");
    assert_eq!(
        self::handshake(&rules).1,
        Action::Refuse(CloseReason::Blocked)
    );
}

#[test]
fn a_client_over_the_limit_is_refused_in_its_own_protocol() {
    let rules = rules("");
    let cases = [
        (envelope("127.0.0.1", 80), &b"{\"error\": \"busy\""[..]),
        (connect_to("127.0.0.1:80"), b"HTTP/1.1 503 "),
        (socks5(&[127, 0, 0, 1], 1, 80), &[5, 0, 5, 1]),
    ];
    for (request, words) in cases {
        let mut handshake = Handshake::new(&rules, peer().into(), Some(local().into()), true);
        assert_eq!(handshake.begin(&rules), Action::Read);
        assert_eq!(
            handshake.on_read(&request, &rules),
            Action::Refuse(CloseReason::Busy)
        );
        assert!(handshake.take_reply().starts_with(words));
    }
}

#[test]
fn a_client_that_leaves_before_its_request_is_no_error_and_one_within_it_is() {
    let rules = rules("");
    let (mut handshake, _) = handshake(&rules);
    assert_eq!(handshake.on_eof(&rules), Action::Refuse(CloseReason::Left));
    assert!(handshake.take_reply().is_empty());
    let (mut handshake, _, _) = read(&rules, b"{\"server_ip\"", 4_096);
    assert_eq!(
        handshake.on_eof(&rules),
        Action::Refuse(CloseReason::Refused)
    );
    let reply = handshake.take_reply();
    let line = json::ErrorLine::read(&reply).unwrap();
    assert_eq!(line.error.name(), "bad_request");
}

#[test]
fn clients_authenticate_if_there_are_users() {
    let mut rules = rules("");
    rules.settings = Arc::new(Settings {
        credentials: Some(Arc::new(Credentials::parse("ann:secret").unwrap())),
        ..Settings::default()
    });
    let (handshake, action, reply) = read(&rules, &envelope("127.0.0.1", 80), 4_096);
    assert_eq!(action, Action::Refuse(CloseReason::Refused));
    assert!(reply.starts_with(b"{\"error\""), "{reply:?}");
    assert_eq!(handshake.info.server, None);
    let (_, action, reply) = read(&rules, &socks5(&[127, 0, 0, 1], 1, 80), 4_096);
    assert_eq!(
        (action, &reply[..2]),
        (Action::Refuse(CloseReason::Refused), &[5, 0xff][..])
    );
    let (_, action, reply) = read(&rules, &connect_to("127.0.0.1:80"), 4_096);
    assert_eq!(action, Action::Refuse(CloseReason::Refused));
    assert!(reply.starts_with(b"HTTP/1.1 407 "));
}

#[test]
fn a_silent_client_over_the_limit_is_refused_as_busy() {
    let rules = rules("");
    let mut handshake = Handshake::new(&rules, peer().into(), Some(local().into()), true);
    handshake.begin(&rules);
    assert_eq!(
        handshake.on_request_timeout(),
        Action::Refuse(CloseReason::Busy)
    );
    assert!(handshake.take_reply().starts_with(b"{\"error\": \"busy\""));
}
