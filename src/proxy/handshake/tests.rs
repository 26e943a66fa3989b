//! Handshakes of every kind, without a socket.

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

/// What blocks an address in every test that needs one.
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

fn handshake(rules: &Rules) -> (Handshake, Next) {
    let mut handshake = Handshake::new(rules, peer().into(), Some(local().into()), false);
    let next = handshake.begin(rules);
    (handshake, next)
}

/// Where nobody looks.
fn any_address() -> SocketAddr {
    "127.0.0.1:80".parse().unwrap()
}

/// The answer of a resolver that knows of no alias.
fn found(addresses: &[IpAddr]) -> Answer {
    Ok(Resolved {
        addresses: addresses.to_vec(),
        aliases: Vec::new(),
    })
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// One whose name has these addresses, all at port 80.
fn resolved(rules: &Rules, addresses: &[&str]) -> (Handshake, Next) {
    let (mut handshake, _, _) = hear(rules, &socks5(b"many.example", 3, 80), 4_096);
    let addresses: Vec<IpAddr> = addresses.iter().map(|one| one.parse().unwrap()).collect();
    let next = handshake.resolved(found(&addresses), rules);
    (handshake, next)
}

/// Gives it all bytes, in pieces of so many.
fn hear(rules: &Rules, bytes: &[u8], piece: usize) -> (Handshake, Next, Vec<u8>) {
    let (mut handshake, mut next) = handshake(rules);
    let mut said = Vec::new();
    for piece in bytes.chunks(piece) {
        if next != Next::Hear {
            break;
        }
        next = handshake.take(piece, rules);
        said.extend(handshake.take_said());
    }
    (handshake, next, said)
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

/// The request for an address or name, in each protocol that can say it.
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
    // Clients that look nothing up send addresses as names, too.
    requests.push(("socks5 name", socks5(host.as_bytes(), 3, port)));
    requests
}

fn is_blocked_reply(protocol: &str, said: &[u8]) -> bool {
    match protocol {
        "json" => said.starts_with(b"{\"error\": \"blocked\""),
        "connect" => said.starts_with(b"HTTP/1.1 403 "),
        _ => said.starts_with(&[5, 0, 5, 2]),
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
                let (handshake, next, said) = hear(&rules, &request, piece);
                let case = format!("{host}:{port} by {protocol} in pieces of {piece}");
                assert_eq!(next, Next::Refuse(Ending::Blocked), "{case}");
                assert!(is_blocked_reply(protocol, &said), "{case}: {said:?}");
                let Known {
                    decision, server, ..
                } = handshake.known;
                assert!(decision.entry().unwrap().contains("list:"), "{case}");
                assert_eq!(server, None, "{case}");
            }
        }
    }
}

#[test]
fn what_is_spelled_like_no_standard_address_is_an_error_and_never_looked_up() {
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
        let (_, next, said) = hear(&rules, &request, 4_096);
        assert_eq!(next, Next::Refuse(Ending::Refused), "{host:?} by json");
        assert!(
            said.starts_with(b"{\"error\": \"bad_request\""),
            "{host:?}: {}",
            String::from_utf8_lossy(&said)
        );
        let (_, next, said) = hear(&rules, &socks5(host.as_bytes(), 3, 80), 4_096);
        assert_eq!(next, Next::Refuse(Ending::Refused), "{host:?} by socks5");
        assert_ne!(said.get(3), Some(&0), "{host:?} by socks5");
        let (_, next, said) = hear(&rules, &connect_to(&format!("{host}:80")), 4_096);
        assert_eq!(next, Next::Refuse(Ending::Refused), "{host:?} by connect");
        assert!(said.starts_with(b"HTTP/1.1 400 "), "{host:?} by connect");
    }
}

#[test]
fn an_allowed_address_is_connected_to_as_it_was_decided_on() {
    let rules = rules(LIST);
    for (host, port) in [
        ("192.0.3.1", 80),
        ("198.51.100.7", 26),
        ("2001:db8:baf::1", 80),
        ("::ffff:192.0.3.1", 80),
    ] {
        for (protocol, request) in in_every_protocol(host, port) {
            let (handshake, next, _) = hear(&rules, &request, 1);
            let address = SocketAddr::new(host.parse().unwrap(), port);
            assert_eq!(next, Next::Connect(address), "{host} by {protocol}");
            assert_eq!(handshake.known.decision, Decision::Allowed);
            assert_eq!(handshake.known.server, Some(address));
        }
    }
}

#[test]
fn each_address_of_a_name_is_decided_on_for_itself() {
    let rules = rules(LIST);
    let request = socks5(b"many.example", 3, 80);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let (mut handshake, next, _) = hear(&rules, &request, 4_096);
    assert_eq!(next, Next::Resolve("many.example".parse::<Name>().unwrap()));
    let addresses = [
        "192.0.2.1",
        "203.0.113.9",
        "::ffff:192.0.2.2",
        "2001:db8::9",
    ]
    .map(ip);
    let first = "203.0.113.9:80".parse().unwrap();
    let second = "[2001:db8::9]:80".parse().unwrap();
    let next = handshake.resolved(found(&addresses), &rules);
    assert_eq!(next, Next::Connect(first));
    let refused = io::Error::from(ErrorKind::ConnectionRefused);
    let next = handshake.connect_failed(first, &refused, &rules);
    assert_eq!(next, Next::Connect(second));
    let next = handshake.connect_timed_out();
    assert_eq!(next, Next::Refuse(Ending::ConnectTimeout));
    // TTL expired, RFC 1928.
    assert_eq!(handshake.take_said()[..2], [5, 6]);

    let (mut handshake, _, _) = hear(&rules, &request, 4_096);
    let next = handshake.resolved(found(&[ip("192.0.2.1"), ip("::192.0.2.1")]), &rules);
    assert_eq!(next, Next::Refuse(Ending::Blocked));
    assert_eq!(handshake.take_said()[..2], [5, 2]);

    let (mut handshake, _, _) = hear(&rules, &request, 4_096);
    let next = handshake.resolved(Err("no such name".to_owned()), &rules);
    assert_eq!(next, Next::Refuse(Ending::Unreachable));
    assert_eq!(handshake.known.detail.as_deref(), Some("no such name"));
    assert_eq!(handshake.take_said()[..2], [5, 4]);
}

#[test]
fn a_dry_run_connects_and_remembers_what_would_have_been_blocked() {
    let mut rules = rules(LIST);
    rules.dry_run = true;
    let (handshake, next, _) = hear(&rules, &envelope("192.0.2.1", 80), 4_096);
    assert_eq!(next, Next::Connect("192.0.2.1:80".parse().unwrap()));
    assert!(matches!(handshake.known.decision, Decision::WouldBlock(_)));
    let (mut handshake, next, _) = hear(&rules, &envelope("www.blocked.example", 80), 4_096);
    assert!(matches!(next, Next::Resolve(_)));
    let answer = found(&["203.0.113.9".parse().unwrap()]);
    assert!(matches!(
        handshake.resolved(answer, &rules),
        Next::Connect(_)
    ));
    assert!(matches!(handshake.known.decision, Decision::WouldBlock(_)));
}

#[test]
fn early_data_is_the_servers_once_and_in_order() {
    let rules = rules("");
    let early: Vec<u8> = (0..=255).collect();
    for request in [socks5(&[127, 0, 0, 1], 1, 80), connect_to("127.0.0.1:80")] {
        let whole = [&request[..], &early].concat();
        for split in 0..=whole.len() {
            let (mut handshake, mut next) = handshake(&rules);
            let mut relayed = Vec::new();
            for piece in [&whole[..split], &whole[split..]] {
                match next {
                    Next::Hear if !piece.is_empty() => next = handshake.take(piece, &rules),
                    Next::Hear => {}
                    _ => relayed.extend_from_slice(piece),
                }
            }
            assert!(matches!(next, Next::Connect(_)), "{split}");
            handshake.connected(any_address(), any_address());
            let first = handshake.take_to_server();
            assert_eq!([first, relayed].concat(), early, "{split}");
            assert!(!handshake.is_whole());
        }
    }
}

#[test]
fn who_is_connected_hears_so_in_its_own_words_and_an_envelope_says_no_more() {
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
        let (mut handshake, _, _) = hear(&rules, &request, 4_096);
        handshake.connected(any_address(), from);
        assert_eq!(handshake.take_said(), words);
        assert_eq!(handshake.take_to_server(), to_server);
        assert_eq!(handshake.is_whole(), whole);
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
fn a_header_says_who_the_client_is_and_none_is_a_refusal() {
    let mut rules = rules("");
    rules.accept_header = true;
    let who: SocketAddr = "198.51.100.1:1111".parse().unwrap();
    let to: SocketAddr = "198.51.100.2:2222".parse().unwrap();
    for header in [encode_v1(who, to), encode_v2(who, to)] {
        let bytes = [header, envelope("127.0.0.1", 80)].concat();
        for piece in [1, 4_096] {
            let (handshake, next, _) = hear(&rules, &bytes, piece);
            assert!(matches!(next, Next::Connect(_)));
            assert_eq!(handshake.known.client, who.into());
            assert_eq!(handshake.known.peer, peer().into());
        }
    }
    let (handshake, next, said) = hear(&rules, &envelope("127.0.0.1", 80), 1);
    assert_eq!(next, Next::Refuse(Ending::Refused));
    assert!(handshake.known.detail.is_some() && said.is_empty());
    let (mut handshake, _) = self::handshake(&rules);
    assert_eq!(
        handshake.request_timed_out(),
        Next::Refuse(Ending::RequestTimeout)
    );
    assert!(handshake.take_said().is_empty());
}

#[test]
fn a_server_is_told_who_the_client_is_before_anything_else() {
    let mut rules = rules("");
    for (version, header) in [
        (HeaderVersion::V1, encode_v1(peer(), local())),
        (HeaderVersion::V2, encode_v2(peer(), local())),
    ] {
        rules.send_header = Some(version);
        let (mut handshake, _, _) = hear(&rules, &envelope("127.0.0.1", 80), 4_096);
        handshake.connected(any_address(), any_address());
        assert_eq!(handshake.take_to_server(), [&header[..], b"ping"].concat());
    }
}

#[test]
fn a_forwarded_client_says_nothing_unless_a_header_is_due() {
    let mut rules = rules("192.0.2.0/24");
    let forward = |to: &str| {
        let forward = Some(to.parse().unwrap());
        Arc::new(Settings {
            forward,
            ..Settings::default()
        })
    };
    rules.settings = forward("127.0.0.1:80");
    let to = Next::Connect("127.0.0.1:80".parse().unwrap());
    assert_eq!(handshake(&rules).1, to);
    rules.accept_header = true;
    let (mut handshake, next) = handshake(&rules);
    assert_eq!(next, Next::Hear);
    let bytes = [&encode_v1(peer(), local())[..], b"early"].concat();
    assert_eq!(handshake.take(&bytes, &rules), to);
    handshake.connected(any_address(), any_address());
    assert_eq!(handshake.take_to_server(), b"early");
    rules.accept_header = false;
    rules.settings = forward("192.0.2.1:80");
    assert_eq!(self::handshake(&rules).1, Next::Refuse(Ending::Blocked));
}

#[test]
fn one_too_many_is_told_so_in_its_own_protocol() {
    let rules = rules("");
    let cases = [
        (envelope("127.0.0.1", 80), &b"{\"error\": \"busy\""[..]),
        (connect_to("127.0.0.1:80"), b"HTTP/1.1 503 "),
        (socks5(&[127, 0, 0, 1], 1, 80), &[5, 0, 5, 1]),
    ];
    for (request, words) in cases {
        let mut handshake = Handshake::new(&rules, peer().into(), Some(local().into()), true);
        assert_eq!(handshake.begin(&rules), Next::Hear);
        assert_eq!(handshake.take(&request, &rules), Next::Refuse(Ending::Busy));
        assert!(handshake.take_said().starts_with(words));
    }
}

#[test]
fn who_leaves_says_nothing_wrong_and_who_stops_halfway_does() {
    let rules = rules("");
    let (mut handshake, _) = handshake(&rules);
    assert_eq!(handshake.ended(&rules), Next::Refuse(Ending::Left));
    assert!(handshake.take_said().is_empty());
    let (mut handshake, _, _) = hear(&rules, b"{\"server_ip\"", 4_096);
    assert_eq!(handshake.ended(&rules), Next::Refuse(Ending::Refused));
    let said = handshake.take_said();
    let line = json::ErrorLine::read(&said).unwrap();
    assert_eq!(line.error.name(), "bad_request");
}

#[test]
fn users_are_asked_where_there_are_any() {
    let mut rules = rules("");
    rules.settings = Arc::new(Settings {
        credentials: Some(Arc::new(Credentials::parse("ann:secret").unwrap())),
        ..Settings::default()
    });
    let (handshake, next, said) = hear(&rules, &envelope("127.0.0.1", 80), 4_096);
    assert_eq!(next, Next::Refuse(Ending::Refused));
    assert!(said.starts_with(b"{\"error\""), "{said:?}");
    assert_eq!(handshake.known.server, None);
    let (_, next, said) = hear(&rules, &socks5(&[127, 0, 0, 1], 1, 80), 4_096);
    assert_eq!(
        (next, &said[..2]),
        (Next::Refuse(Ending::Refused), &[5, 0xff][..])
    );
    let (_, next, said) = hear(&rules, &connect_to("127.0.0.1:80"), 4_096);
    assert_eq!(next, Next::Refuse(Ending::Refused));
    assert!(said.starts_with(b"HTTP/1.1 407 "));
}

#[test]
fn families_are_tried_in_turn_and_the_first_that_answers_is_the_server() {
    let rules = rules("");
    let listed = ["2001:db8::1", "2001:db8::2", "203.0.113.1", "203.0.113.2"];
    let turn = [
        "[2001:db8::1]:80",
        "203.0.113.1:80",
        "[2001:db8::2]:80",
        "203.0.113.2:80",
    ];
    let (mut handshake, mut next) = resolved(&rules, &listed);
    for tried in turn {
        assert_eq!(next, Next::Connect(address(tried)));
        next = handshake.hurry(&rules);
    }
    assert_eq!(next, Next::Await);
    assert!(!handshake.has_more());
    assert!(handshake.tried().eq(turn.map(address)));
    handshake.connected(address(turn[1]), any_address());
    assert_eq!(handshake.known.server, Some(address(turn[1])));
    assert_eq!(handshake.known.detail, None);
    assert_eq!(handshake.tried().len(), 0);
}

#[test]
fn a_failure_brings_the_next_address_at_once_and_the_last_one_ends_it() {
    let rules = rules("");
    let refused = io::Error::from(ErrorKind::ConnectionRefused);
    let unreachable = io::Error::from(ErrorKind::NetworkUnreachable);
    let (mut handshake, next) = resolved(&rules, &["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
    let [one, two, three] = ["203.0.113.1:80", "203.0.113.2:80", "203.0.113.3:80"].map(address);
    assert_eq!(next, Next::Connect(one));
    assert_eq!(handshake.hurry(&rules), Next::Connect(two));
    assert_eq!(
        handshake.connect_failed(one, &refused, &rules),
        Next::Connect(three)
    );
    assert_eq!(
        handshake.connect_failed(three, &refused, &rules),
        Next::Await
    );
    // What is known is of the one that failed last, and the client is told its failure.
    let next = handshake.connect_failed(two, &unreachable, &rules);
    assert_eq!(next, Next::Refuse(Ending::Unreachable));
    assert_eq!(handshake.known.server, Some(two));
    assert_eq!(handshake.take_said()[..2], [5, 3]);
}

#[test]
fn an_address_can_give_way_to_the_next_and_all_of_them_have_one_deadline() {
    let rules = rules("");
    let (mut handshake, _) = resolved(&rules, &["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
    let next = handshake.gave_up(address("203.0.113.1:80"), &rules);
    assert_eq!(next, Next::Connect(address("203.0.113.2:80")));
    assert_eq!(handshake.tried().len(), 1);
    assert_eq!(
        handshake.connect_timed_out(),
        Next::Refuse(Ending::ConnectTimeout)
    );
    assert_eq!(handshake.take_said()[..2], [5, 6]);
}

#[test]
fn a_name_that_is_an_alias_of_a_blocked_one_is_blocked() {
    let aliases = |names: &[&str]| {
        Ok(Resolved {
            addresses: vec!["203.0.113.9".parse().unwrap()],
            aliases: names.iter().map(|name| name.parse().unwrap()).collect(),
        })
    };
    let mut rules = rules(LIST);
    let request = socks5(b"metrics.shop.example", 3, 80);
    for (chain, is_blocked) in [
        (&["www.blocked.example"][..], true),
        (&["www.blocked.example", "cdn.example"], true),
        (&["cdn.example", "www.blocked.example"], true),
        (&["cdn.example", "edge.example"], false),
        (&["notblocked.example"], false),
    ] {
        let (mut handshake, _, _) = hear(&rules, &request, 4_096);
        let next = handshake.resolved(aliases(chain), &rules);
        if !is_blocked {
            assert_eq!(next, Next::Connect(address("203.0.113.9:80")), "{chain:?}");
            continue;
        }
        assert_eq!(next, Next::Refuse(Ending::Blocked), "{chain:?}");
        assert_eq!(handshake.take_said()[..2], [5, 2]);
        assert_eq!(
            handshake.known.detail.as_deref(),
            Some("metrics.shop.example is an alias of www.blocked.example")
        );
        let entry = handshake.known.decision.entry().unwrap();
        assert!(entry.ends_with("list:4 (*.blocked.example)"), "{entry}");
    }
    rules.dry_run = true;
    let (mut handshake, _, _) = hear(&rules, &request, 4_096);
    let next = handshake.resolved(aliases(&["www.blocked.example"]), &rules);
    assert_eq!(next, Next::Connect(address("203.0.113.9:80")));
    handshake.connected(address("203.0.113.9:80"), any_address());
    assert!(matches!(handshake.known.decision, Decision::WouldBlock(_)));
}

#[test]
fn an_allow_list_names_what_is_asked_for_and_a_blocklist_has_the_last_word() {
    let folder = tempfile::tempdir().unwrap();
    let [allow, block] = ["allow", "block"].map(|name| folder.path().join(name));
    fs::write(&allow, "shop.example\n").unwrap();
    fs::write(&block, "tracker.example\n").unwrap();
    let sources = Sources {
        block: vec![block],
        allow: vec![allow],
        ..Sources::default()
    };
    let rules = Rules::new(Settings::default(), Policies::load(sources).unwrap());
    for (asked, alias, expected) in [
        ("shop.example", "cdn.example", None),
        ("shop.example", "tracker.example", Some(Ending::Blocked)),
        // Whoever owns a name could make it an alias of an allowed one.
        ("other.example", "shop.example", Some(Ending::Blocked)),
    ] {
        let (mut handshake, _, _) = hear(&rules, &socks5(asked.as_bytes(), 3, 80), 4_096);
        let answer = Ok(Resolved {
            addresses: vec!["203.0.113.9".parse().unwrap()],
            aliases: vec![alias.parse().unwrap()],
        });
        let next = match expected {
            Some(ending) => Next::Refuse(ending),
            None => Next::Connect(address("203.0.113.9:80")),
        };
        assert_eq!(handshake.resolved(answer, &rules), next, "{asked} {alias}");
    }
}

#[test]
fn an_excepted_name_may_be_an_alias_of_a_blocked_one() {
    let folder = tempfile::tempdir().unwrap();
    let [block, except] = ["block", "except"].map(|name| folder.path().join(name));
    fs::write(&block, "*.tracker.example\n203.0.113.0/24\n").unwrap();
    fs::write(&except, "shop.example:443\nok.tracker.example\n").unwrap();
    let sources = Sources {
        block: vec![block],
        except: vec![except],
        ..Sources::default()
    };
    let rules = Rules::new(Settings::default(), Policies::load(sources).unwrap());
    for (asked, port, alias, is_blocked) in [
        ("shop.example", 443, "a.tracker.example", false),
        ("shop.example", 80, "a.tracker.example", true),
        ("other.example", 443, "a.tracker.example", true),
        // An alias that is excepted is not blocked for its name, but the address is that of another name.
        ("other.example", 443, "ok.tracker.example", true),
        ("ok.tracker.example", 443, "a.tracker.example", false),
    ] {
        let (mut handshake, _, _) = hear(&rules, &socks5(asked.as_bytes(), 3, port), 4_096);
        let answer = Ok(Resolved {
            addresses: vec!["203.0.113.9".parse().unwrap()],
            aliases: vec![alias.parse().unwrap()],
        });
        let next = match is_blocked {
            true => Next::Refuse(Ending::Blocked),
            false => Next::Connect(SocketAddr::new("203.0.113.9".parse().unwrap(), port)),
        };
        assert_eq!(handshake.resolved(answer, &rules), next, "{asked} {alias}");
    }
}

#[test]
fn a_client_over_the_limit_that_says_nothing_is_told_that_the_proxy_is_busy() {
    let rules = rules("");
    let mut handshake = Handshake::new(&rules, peer().into(), Some(local().into()), true);
    handshake.begin(&rules);
    assert_eq!(handshake.request_timed_out(), Next::Refuse(Ending::Busy));
    assert!(handshake.take_said().starts_with(b"{\"error\": \"busy\""));
}
