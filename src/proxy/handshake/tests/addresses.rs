//! Attempts to the addresses of a name, and its aliases.

use super::*;

#[test]
fn each_address_of_a_name_is_decided_on_separately() {
    let rules = rules(LIST);
    let request = socks5(b"many.example", 3, 80);
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let (mut handshake, action, _) = read(&rules, &request, 4_096);
    assert_eq!(
        action,
        Action::Resolve("many.example".parse::<Name>().unwrap())
    );
    let addresses = [
        "192.0.2.1",
        "203.0.113.9",
        "::ffff:192.0.2.2",
        "2001:db8::9",
    ]
    .map(ip);
    let first = "203.0.113.9:80".parse().unwrap();
    let second = "[2001:db8::9]:80".parse().unwrap();
    let action = handshake.on_resolved(found(&addresses), &rules);
    assert_eq!(action, Action::Connect(first));
    let refused = io::Error::from(ErrorKind::ConnectionRefused);
    let action = handshake.on_connect_failed(first, &refused, &rules);
    assert_eq!(action, Action::Connect(second));
    let action = handshake.on_connect_timeout();
    assert_eq!(action, Action::Refuse(CloseReason::ConnectTimeout));
    // TTL expired, RFC 1928.
    assert_eq!(handshake.take_reply()[..2], [5, 6]);

    let (mut handshake, _, _) = read(&rules, &request, 4_096);
    let action = handshake.on_resolved(found(&[ip("192.0.2.1"), ip("::192.0.2.1")]), &rules);
    assert_eq!(action, Action::Refuse(CloseReason::Blocked));
    assert_eq!(handshake.take_reply()[..2], [5, 2]);

    let (mut handshake, _, _) = read(&rules, &request, 4_096);
    let action = handshake.on_resolved(Err("no such name".to_owned()), &rules);
    assert_eq!(action, Action::Refuse(CloseReason::Unreachable));
    assert_eq!(handshake.info.detail.as_deref(), Some("no such name"));
    assert_eq!(handshake.take_reply()[..2], [5, 4]);
}

#[test]
fn families_alternate_and_the_first_connected_address_is_used() {
    let rules = rules("");
    let listed = ["2001:db8::1", "2001:db8::2", "203.0.113.1", "203.0.113.2"];
    let turn = [
        "[2001:db8::1]:80",
        "203.0.113.1:80",
        "[2001:db8::2]:80",
        "203.0.113.2:80",
    ];
    let (mut handshake, mut action) = resolved(&rules, &listed);
    for tried in turn {
        assert_eq!(action, Action::Connect(address(tried)));
        action = handshake.try_in_parallel(&rules);
    }
    assert_eq!(action, Action::Wait);
    assert!(!handshake.has_untried());
    assert!(handshake.attempts().eq(turn.map(address)));
    handshake.on_connected(address(turn[1]), any_address());
    assert_eq!(handshake.info.server, Some(address(turn[1])));
    assert_eq!(handshake.info.detail, None);
    assert_eq!(handshake.attempts().len(), 0);
}

#[test]
fn a_failed_attempt_starts_the_next_and_the_last_failure_is_final() {
    let rules = rules("");
    let refused = io::Error::from(ErrorKind::ConnectionRefused);
    let unreachable = io::Error::from(ErrorKind::NetworkUnreachable);
    let (mut handshake, action) = resolved(&rules, &["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
    let [one, two, three] = ["203.0.113.1:80", "203.0.113.2:80", "203.0.113.3:80"].map(address);
    assert_eq!(action, Action::Connect(one));
    assert_eq!(handshake.try_in_parallel(&rules), Action::Connect(two));
    assert_eq!(
        handshake.on_connect_failed(one, &refused, &rules),
        Action::Connect(three)
    );
    assert_eq!(
        handshake.on_connect_failed(three, &refused, &rules),
        Action::Wait
    );
    // The record and the reply describe the last failure.
    let action = handshake.on_connect_failed(two, &unreachable, &rules);
    assert_eq!(action, Action::Refuse(CloseReason::Unreachable));
    assert_eq!(handshake.info.server, Some(two));
    assert_eq!(handshake.take_reply()[..2], [5, 3]);
}

#[test]
fn an_attempt_can_be_replaced_and_all_attempts_share_one_deadline() {
    let rules = rules("");
    let (mut handshake, _) = resolved(&rules, &["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
    let action = handshake.gave_up(address("203.0.113.1:80"), &rules);
    assert_eq!(action, Action::Connect(address("203.0.113.2:80")));
    assert_eq!(handshake.attempts().len(), 1);
    assert_eq!(
        handshake.on_connect_timeout(),
        Action::Refuse(CloseReason::ConnectTimeout)
    );
    assert_eq!(handshake.take_reply()[..2], [5, 6]);
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
    let request = socks5(b"metrics.store.example", 3, 80);
    for (chain, is_blocked) in [
        (&["www.blocked.example"][..], true),
        (&["www.blocked.example", "cdn.example"], true),
        (&["cdn.example", "www.blocked.example"], true),
        (&["cdn.example", "edge.example"], false),
        (&["notblocked.example"], false),
    ] {
        let (mut handshake, _, _) = read(&rules, &request, 4_096);
        let action = handshake.on_resolved(aliases(chain), &rules);
        if !is_blocked {
            assert_eq!(
                action,
                Action::Connect(address("203.0.113.9:80")),
                "{chain:?}"
            );
            continue;
        }
        assert_eq!(action, Action::Refuse(CloseReason::Blocked), "{chain:?}");
        assert_eq!(handshake.take_reply()[..2], [5, 2]);
        assert_eq!(
            handshake.info.detail.as_deref(),
            Some("metrics.store.example is an alias of www.blocked.example")
        );
        let entry = handshake.info.decision.entry().unwrap();
        assert!(entry.ends_with("list:4 (*.blocked.example)"), "{entry}");
    }
    rules.dry_run = true;
    let (mut handshake, _, _) = read(&rules, &request, 4_096);
    let action = handshake.on_resolved(aliases(&["www.blocked.example"]), &rules);
    assert_eq!(action, Action::Connect(address("203.0.113.9:80")));
    handshake.on_connected(address("203.0.113.9:80"), any_address());
    assert!(matches!(handshake.info.decision, Decision::WouldBlock(_)));
}

#[test]
fn an_allow_list_applies_to_the_requested_name_and_a_blocklist_to_aliases_too() {
    let folder = tempfile::tempdir().unwrap();
    let [allow, block] = ["allow", "block"].map(|name| folder.path().join(name));
    fs::write(&allow, "store.example\n").unwrap();
    fs::write(&block, "tracker.example\n").unwrap();
    let sources = Sources {
        block: vec![block],
        allow: vec![allow],
        ..Sources::default()
    };
    let rules = Rules::new(Settings::default(), Policies::load(sources).unwrap());
    for (asked, alias, expected) in [
        ("store.example", "cdn.example", None),
        (
            "store.example",
            "tracker.example",
            Some(CloseReason::Blocked),
        ),
        // Otherwise the owner of a name could make it an alias of an allowed one.
        ("other.example", "store.example", Some(CloseReason::Blocked)),
    ] {
        let (mut handshake, _, _) = read(&rules, &socks5(asked.as_bytes(), 3, 80), 4_096);
        let answer = Ok(Resolved {
            addresses: vec!["203.0.113.9".parse().unwrap()],
            aliases: vec![alias.parse().unwrap()],
        });
        let action = match expected {
            Some(reason) => Action::Refuse(reason),
            None => Action::Connect(address("203.0.113.9:80")),
        };
        assert_eq!(
            handshake.on_resolved(answer, &rules),
            action,
            "{asked} {alias}"
        );
    }
}

#[test]
fn an_excepted_name_may_be_an_alias_of_a_blocked_one() {
    let folder = tempfile::tempdir().unwrap();
    let [block, except] = ["block", "except"].map(|name| folder.path().join(name));
    fs::write(&block, "*.tracker.example\n203.0.113.0/24\n").unwrap();
    fs::write(&except, "store.example:443\nok.tracker.example\n").unwrap();
    let sources = Sources {
        block: vec![block],
        except: vec![except],
        ..Sources::default()
    };
    let rules = Rules::new(Settings::default(), Policies::load(sources).unwrap());
    for (asked, port, alias, is_blocked) in [
        ("store.example", 443, "a.tracker.example", false),
        ("store.example", 80, "a.tracker.example", true),
        ("other.example", 443, "a.tracker.example", true),
        // An excepted alias is not blocked for its name, but the address belongs to another name.
        ("other.example", 443, "ok.tracker.example", true),
        ("ok.tracker.example", 443, "a.tracker.example", false),
    ] {
        let (mut handshake, _, _) = read(&rules, &socks5(asked.as_bytes(), 3, port), 4_096);
        let answer = Ok(Resolved {
            addresses: vec!["203.0.113.9".parse().unwrap()],
            aliases: vec![alias.parse().unwrap()],
        });
        let action = match is_blocked {
            true => Action::Refuse(CloseReason::Blocked),
            false => Action::Connect(SocketAddr::new("203.0.113.9".parse().unwrap(), port)),
        };
        assert_eq!(
            handshake.on_resolved(answer, &rules),
            action,
            "{asked} {alias}"
        );
    }
}

#[test]
fn association_is_answered_by_its_outcome() {
    let mut rules = rules("");
    rules.settings = Arc::new(Settings {
        associate: true,
        ..Settings::default()
    });
    let request = [5, 1, 0, 5, 3, 0, 1, 203, 0, 113, 5, 0, 9];
    let associate = Action::Associate(Associate {
        ip: Some(peer().ip()),
        port: 9,
    });
    for (outcome, reply, reason) in [
        (None, 0, None),
        (Some(Outcome::Busy), 1, Some(CloseReason::Busy)),
        (
            Some(Outcome::General("no files".to_owned())),
            1,
            Some(CloseReason::Refused),
        ),
    ] {
        let (mut handshake, action, _) = read(&rules, &request, 1);
        assert_eq!(action, associate);
        match outcome {
            None => handshake.on_associated(local()),
            Some(outcome) => {
                let action = handshake.on_associate_failed(&outcome);
                assert_eq!(Some(action), reason.map(Action::Refuse));
            }
        }
        assert_eq!(handshake.info.is_association, reply == 0);
        let sent = handshake.take_reply();
        assert_eq!(sent[..4], [5, reply, 0, 1]);
        assert_eq!(sent[4..8] == [203, 0, 113, 1], reply == 0);
    }
    let mut over_limit = Handshake::new(&rules, peer().into(), Some(local().into()), true);
    over_limit.begin(&rules);
    let action = over_limit.on_read(&request, &rules);
    assert_eq!(action, Action::Refuse(CloseReason::Busy));
}
