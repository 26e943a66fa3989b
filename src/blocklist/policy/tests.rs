//! Every way to spell a blocked destination, and what rules say together.

use std::fs;

use proptest::prelude::*;

use super::*;

fn load(block: &[&str], allow: &[&str], deny_private: bool) -> Policy {
    let folder = tempfile::tempdir().unwrap();
    let write = |kind: &str, lists: &[&str]| -> Vec<PathBuf> {
        let files = lists.iter().enumerate().map(|(number, content)| {
            let file = folder.path().join(format!("{kind}{number}"));
            fs::write(&file, content).unwrap();
            file
        });
        files.collect()
    };
    let sources = Sources {
        block: write("block", block),
        allow: write("allow", allow),
        deny_private,
    };
    Policy::load(&sources).unwrap()
}

/// `block0:1 (entry)` without the folder, or nothing.
fn why(policy: &Policy, address: &str, name: Option<&str>) -> String {
    let name = name.map(|name| name.parse::<Name>().unwrap());
    match policy.decide(address.parse().unwrap(), name.as_ref()) {
        Verdict::Allowed => String::new(),
        Verdict::Blocked(Reason::Listed(by)) => {
            let file = by.file.file_name().unwrap().to_str().unwrap();
            format!("{file}:{} ({})", by.line, by.entry)
        }
        Verdict::Blocked(reason) => reason.to_string(),
    }
}

fn check<'a>(policy: &'a Policy, target: &str) -> Verdict<'a> {
    policy.check(&target.parse().unwrap())
}

#[test]
fn a_listed_address_is_blocked_in_every_spelling() {
    let policy = load(&["# one\n203.0.113.7\n"], &[], false);
    for spelling in [
        "203.0.113.7:80",
        "[::ffff:203.0.113.7]:80",
        "[::FFFF:CB00:7107]:80",
        "[0:0:0:0:0:ffff:cb00:7107]:80",
        "[::203.0.113.7]:80",
        "[::ffff:0:203.0.113.7]:80",
        "[64:ff9b::203.0.113.7]:80",
        "[64:ff9b:1::cb00:7107]:80",
        "[64:ff9b:1:cb00:71:700::]:80",
        "[2002:cb00:7107::1]:80",
        "[2001:0:cb00:7107::]:80",
        "[2001:0:808:808:0:0:34ff:8ef8]:80",
        "[2001:db8::5efe:203.0.113.7]:80",
        "[::ffff:203.0.113.7%3]:80",
    ] {
        assert_eq!(
            why(&policy, spelling, None),
            "block0:2 (203.0.113.7)",
            "{spelling}"
        );
    }
    assert_eq!(why(&policy, "203.0.113.8:80", None), "");
    assert_eq!(why(&policy, "[64:ff9b::203.0.113.8]:80", None), "");
}

#[test]
fn a_zone_hides_nothing() {
    let policy = load(&["fe80::/10"], &[], false);
    assert_eq!(why(&policy, "[fe80::1%2]:80", None), "block0:1 (fe80::/10)");
    assert_ne!(check(&policy, "fe80::1%eth0"), Verdict::Allowed);
}

#[test]
fn the_unspecified_address_is_decided_on_as_this_host() {
    let policy = load(&["127.0.0.0/8\n::1"], &[], false);
    for address in [
        "0.0.0.0:80",
        "[::]:80",
        "[::ffff:0.0.0.0]:80",
        "[::ffff:127.0.0.1]:80",
    ] {
        assert_ne!(why(&policy, address, None), "", "{address}");
    }
    let policy = load(&[], &["127.0.0.1"], false);
    assert_eq!(why(&policy, "0.0.0.0:80", None), "");
}

#[test]
fn a_name_is_blocked_in_every_spelling_and_so_is_its_address() {
    let policy = load(
        &["ads.example\n*.tracker.example\nbücher.example\n198.51.100.0/24"],
        &[],
        false,
    );
    for (name, expected) in [
        ("ads.example", "block0:1 (ads.example)"),
        ("ADS.Example.", "block0:1 (ads.example)"),
        ("sub.ads.example", ""),
        ("tracker.example", ""),
        ("a.tracker.example", "block0:2 (*.tracker.example)"),
        ("a.b.TRACKER.example.", "block0:2 (*.tracker.example)"),
        ("xtracker.example", ""),
        ("xn--bcher-kva.example", "block0:3 (bücher.example)"),
        ("BÜCHER.example", "block0:3 (bücher.example)"),
    ] {
        assert_eq!(
            why(&policy, "203.0.113.7:80", Some(name)),
            expected,
            "{name}"
        );
    }
    let by_address = why(&policy, "198.51.100.1:80", Some("good.example"));
    assert_eq!(by_address, "block0:4 (198.51.100.0/24)");
}

#[test]
fn entries_with_ports_block_those_ports() {
    let policy = load(
        &["192.0.2.1:25\n192.0.2.0/24:80-89\nmail.example:25"],
        &[],
        false,
    );
    assert_eq!(
        why(&policy, "192.0.2.1:25", None),
        "block0:1 (192.0.2.1:25)"
    );
    assert_eq!(why(&policy, "192.0.2.1:26", None), "");
    assert_ne!(why(&policy, "192.0.2.1:89", None), "");
    assert_eq!(why(&policy, "203.0.113.7:26", Some("mail.example")), "");
    assert_ne!(why(&policy, "203.0.113.7:25", Some("mail.example")), "");
    // Without a port, what any port is.
    assert_ne!(check(&policy, "192.0.2.1"), Verdict::Allowed);
    assert_eq!(check(&policy, "192.0.2.1:1"), Verdict::Allowed);
}

#[test]
fn with_an_allow_list_only_that_is_allowed() {
    let policy = load(
        &["192.0.2.66"],
        &["192.0.2.0/24:443", "*.good.example"],
        false,
    );
    assert_eq!(why(&policy, "192.0.2.1:443", None), "");
    assert_eq!(why(&policy, "[::ffff:192.0.2.1]:443", None), "");
    assert_eq!(why(&policy, "203.0.113.7:80", Some("a.good.example")), "");
    let refused = "--allow (not on the list)";
    assert_eq!(why(&policy, "192.0.2.1:80", None), refused);
    assert_eq!(
        why(&policy, "203.0.113.7:443", Some("bad.example")),
        refused
    );
    // To carry an allowed address is no permission.
    assert_eq!(why(&policy, "[64:ff9b::192.0.2.1]:443", None), refused);
    // A block has the last word.
    assert_eq!(
        why(&policy, "192.0.2.66:443", None),
        "block0:1 (192.0.2.66)"
    );
    assert_ne!(
        check(&policy, "192.0.2.1"),
        Verdict::Allowed,
        "not on every port"
    );
    let empty = load(&[], &["# nothing\n"], false);
    assert_eq!(why(&empty, "192.0.2.1:443", None), refused);
}

#[test]
fn before_a_name_is_resolved_only_a_block_is_certain() {
    let policy = load(&["ads.example:80"], &["192.0.2.1"], false);
    let [ads, other] = ["ads.example", "other.example"].map(|name| name.parse::<Name>().unwrap());
    assert_ne!(policy.decide_name(&ads, 80), Verdict::Allowed);
    assert_eq!(policy.decide_name(&ads, 81), Verdict::Allowed);
    assert_eq!(policy.decide_name(&other, 80), Verdict::Allowed);
    assert_eq!(why(&policy, "192.0.2.1:80", Some("other.example")), "");
}

#[test]
fn private_networks_are_denied_on_demand() {
    let policy = load(&[], &[], true);
    let loopback = "--deny-private (127.0.0.0/8, loopback)";
    assert_eq!(why(&policy, "127.0.0.1:80", None), loopback);
    assert_eq!(why(&policy, "[64:ff9b::127.0.0.1]:80", None), loopback);
    assert_eq!(why(&policy, "1.1.1.1:80", None), "");
    assert_eq!(why(&load(&[], &[], false), "127.0.0.1:80", None), "");
}

#[test]
fn everything_that_is_wrong_is_told_up_to_a_point() {
    let folder = tempfile::tempdir().unwrap();
    let [bad, absent] = ["bad", "absent"].map(|name| folder.path().join(name));
    fs::write(&bad, "192.0.2\n".repeat(13)).unwrap();
    let sources = Sources {
        block: vec![bad.clone(), absent.clone()],
        ..Sources::default()
    };
    let error = Policy::load(&sources).unwrap_err().to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 12, "{error}");
    assert!(
        lines[0].starts_with(&format!("{}:1: ", bad.display())),
        "{error}"
    );
    assert!(
        lines[10].starts_with(&format!("cannot read {}: ", absent.display())),
        "{error}"
    );
    assert_eq!(lines[11], "and 3 more bad lines");
}

#[test]
fn a_file_says_what_it_turned_out_to_be() {
    let policy = load(
        &["192.0.2.1", "0.0.0.0 a.example b.example", "# none"],
        &[],
        false,
    );
    let told: Vec<_> = policy.files().iter().map(ToString::to_string).collect();
    assert!(told[0].ends_with("block0: 1 entry (lines)"), "{told:?}");
    assert!(told[1].ends_with("block1: 2 entries (hosts)"), "{told:?}");
    assert!(
        told[2].ends_with("block2: an empty list, it has no entries"),
        "{told:?}"
    );
}

proptest! {
    #[test]
    fn what_blocks_an_ipv4_address_blocks_all_that_carries_it(bits in prop_oneof![any::<u32>(), Just(0), 0u32..1 << 24], length in 0u8..=32, high: u64) {
        let address = std::net::Ipv4Addr::from_bits(bits);
        let network = ipnet::Ipv4Net::new(address, length).unwrap().trunc();
        let policy = load(&[&network.to_string()], &[], false);
        let low = u128::from(bits);
        let forms = [
            0xffff << 32 | low,
            0xffff << 48 | low,
            0x64_ff9b << 96 | low,
            0x64_ff9b_0001 << 80 | low,
            0x2002 << 112 | low << 80 | u128::from(high),
            0x2001 << 112 | low << 64 | u128::from(high),
            0x2001 << 112 | u128::from(high >> 32) << 64 | u128::from(!bits),
            u128::from(high) << 64 | 0x5efe << 32 | low,
        ];
        for form in forms {
            let address = SocketAddr::new(std::net::Ipv6Addr::from_bits(form).into(), 80);
            prop_assert_ne!(policy.decide(address, None), Verdict::Allowed, "{} by {}", address, network);
        }
    }
}
