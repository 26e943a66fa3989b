//! Decisions on every spelling of a destination, and precedence of the rules.

use std::fs;

use proptest::prelude::*;

use super::*;

mod every_format;

fn load(block: &[&str], allow: &[&str], deny_private: bool) -> Policy {
    load_with(block, &[], allow, &[], deny_private)
}

fn load_with(
    block: &[&str],
    subdomains: &[&str],
    allow: &[&str],
    except: &[&str],
    deny_private: bool,
) -> Policy {
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
        block_subdomains: write("subdomains", subdomains),
        allow: write("allow", allow),
        except: write("except", except),
        deny_private,
        ..Sources::default()
    };
    Policy::load(&sources).unwrap()
}

/// The deciding entry as `block0:1 (entry)`, without the folder; empty if allowed.
fn why(policy: &Policy, address: &str, name: Option<&str>) -> String {
    let name = name.map(|name| name.parse::<Name>().unwrap());
    let place = |by: EntryRef| {
        let file = by.file().file_name().unwrap().to_str().unwrap();
        format!("{file}:{} ({})", by.line(), by.text())
    };
    match policy.decide(address.parse().unwrap(), name.as_ref()) {
        Verdict::Allowed => String::new(),
        Verdict::Excepted(by) => format!("excepted {}", place(by)),
        Verdict::Blocked(Reason::Listed(by)) => place(by),
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
fn the_unspecified_address_is_this_host() {
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
fn a_name_is_blocked_in_every_spelling_and_by_its_address() {
    let policy = load(
        &["ads.example\n*.tracker.example\nbücher.example\n198.51.100.0/24"],
        &[],
        false,
    );
    for (name, expected) in [
        ("ads.example", "block0:1 (ads.example)"),
        ("ADS.Example.", "block0:1 (ads.example)"),
        ("sub.ads.example", ""),
        ("tracker.example", "block0:2 (*.tracker.example)"),
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
    // Without a port, any blocked port counts.
    assert_ne!(check(&policy, "192.0.2.1"), Verdict::Allowed);
    assert_eq!(check(&policy, "192.0.2.1:1"), Verdict::Allowed);
}

#[test]
fn an_allow_list_blocks_everything_else() {
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
    // An embedded allowed address is not sufficient.
    assert_eq!(why(&policy, "[64:ff9b::192.0.2.1]:443", None), refused);
    // Blocklists take precedence.
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
fn only_a_block_is_certain_before_the_lookup() {
    let policy = load(&["ads.example:80"], &["192.0.2.1"], false);
    let [ads, other] = ["ads.example", "other.example"].map(|name| name.parse::<Name>().unwrap());
    assert_ne!(policy.decide_name(&ads, 80), Verdict::Allowed);
    assert_eq!(policy.decide_name(&ads, 81), Verdict::Allowed);
    assert_eq!(policy.decide_name(&other, 80), Verdict::Allowed);
    assert_eq!(why(&policy, "192.0.2.1:80", Some("other.example")), "");
}

#[test]
fn private_networks_are_denied_by_option() {
    let policy = load(&[], &[], true);
    let loopback = "--deny-private (127.0.0.0/8, loopback)";
    assert_eq!(why(&policy, "127.0.0.1:80", None), loopback);
    assert_eq!(why(&policy, "[64:ff9b::127.0.0.1]:80", None), loopback);
    assert_eq!(why(&policy, "1.1.1.1:80", None), "");
    assert_eq!(why(&load(&[], &[], false), "127.0.0.1:80", None), "");
}

#[test]
fn errors_are_listed_up_to_a_limit() {
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
fn a_file_has_a_summary() {
    let policy = load(
        &["192.0.2.1", "0.0.0.0 a.example b.example", "# none"],
        &[],
        false,
    );
    let files: Vec<_> = policy.files().iter().map(ToString::to_string).collect();
    assert!(files[0].ends_with("block0: 1 entry (lines)"), "{files:?}");
    assert!(files[1].ends_with("block1: 2 entries (hosts)"), "{files:?}");
    assert!(
        files[2].ends_with("block2: an empty list, it has no entries"),
        "{files:?}"
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

#[test]
fn subdomains_are_included_by_entry_or_option() {
    let policy = load_with(
        &["a.example\n.b.example"],
        &["c.example\n0.0.0.0", "0.0.0.0 d.example"],
        &[],
        &[],
        false,
    );
    for (name, expected) in [
        ("a.example", "block0:1 (a.example)"),
        ("x.a.example", ""),
        ("b.example", "block0:2 (.b.example)"),
        ("x.b.example", "block0:2 (.b.example)"),
        ("c.example", "subdomains0:1 (c.example)"),
        ("x.y.c.example", "subdomains0:1 (c.example)"),
        ("xc.example", ""),
        ("x.d.example", "subdomains1:1 (d.example)"),
        ("example", ""),
    ] {
        assert_eq!(
            why(&policy, "203.0.113.7:80", Some(name)),
            expected,
            "{name}"
        );
    }
}

#[test]
fn exceptions_take_precedence_over_blocks() {
    let policy = load_with(
        &["192.0.2.0/24\n*.ads.example"],
        &[],
        &[],
        &["10.0.0.7:443\n192.0.2.7\ngood.ads.example\nfd00::/64\n"],
        true,
    );
    let private = "--deny-private (10.0.0.0/8, private)";
    for (address, name, expected) in [
        ("10.0.0.7:443", None, "excepted except0:1 (10.0.0.7:443)"),
        (
            "[::ffff:10.0.0.7]:443",
            None,
            "excepted except0:1 (10.0.0.7:443)",
        ),
        ("10.0.0.7:80", None, private),
        ("10.0.0.8:443", None, private),
        // An embedded excepted address is not sufficient.
        ("[64:ff9b::10.0.0.7]:443", None, private),
        ("192.0.2.7:80", None, "excepted except0:2 (192.0.2.7)"),
        ("192.0.2.8:80", None, "block0:1 (192.0.2.0/24)"),
        ("[fd00::1]:80", None, "excepted except0:4 (fd00::/64)"),
        // An excepted name is allowed at any address, an excepted address only if its name is not blocked.
        (
            "10.0.0.9:80",
            Some("good.ads.example"),
            "excepted except0:3 (good.ads.example)",
        ),
        (
            "192.0.2.7:80",
            Some("bad.ads.example"),
            "block0:2 (*.ads.example)",
        ),
        (
            "192.0.2.7:80",
            Some("other.example"),
            "excepted except0:2 (192.0.2.7)",
        ),
        (
            "203.0.114.1:80",
            Some("x.good.ads.example"),
            "block0:2 (*.ads.example)",
        ),
    ] {
        assert_eq!(why(&policy, address, name), expected, "{address} {name:?}");
    }
    let name = "good.ads.example".parse::<Name>().unwrap();
    assert!(matches!(
        policy.decide_name(&name, 80),
        Verdict::Excepted(_)
    ));
}

#[test]
fn exceptions_take_precedence_over_allow_lists() {
    let policy = load_with(&[], &[], &["198.51.100.1"], &["10.0.0.7"], true);
    assert_eq!(
        why(&policy, "10.0.0.7:80", None),
        "excepted except0:1 (10.0.0.7)"
    );
    assert_eq!(
        why(&policy, "1.1.1.1:80", None),
        "--allow (not on the list)"
    );
}

#[test]
fn without_a_port_each_port_is_checked() {
    let policy = load_with(
        &["192.0.2.1:25\n192.0.2.2:25-26"],
        &[],
        &[],
        &["192.0.2.1:20-30\n192.0.2.2:25"],
        false,
    );
    assert!(matches!(
        check(&policy, "192.0.2.1:25"),
        Verdict::Excepted(_)
    ));
    assert_eq!(check(&policy, "192.0.2.1"), Verdict::Allowed);
    assert!(matches!(check(&policy, "192.0.2.2"), Verdict::Blocked(_)));
    let halves = load(&[], &["192.0.2.3:1-100\n192.0.2.3:101-65535"], false);
    assert_eq!(check(&halves, "192.0.2.3"), Verdict::Allowed);
}

#[test]
fn exceptions_of_a_blocklist_apply_to_itself_only() {
    let adblock = "||ads.example^\n||192.0.2.7^\n||narrow.fine.example^\n\
                   @@||good.ads.example^\n@@||192.0.2.7^\n@@||fine.example^\n";
    let policy = load(&[adblock, "x.good.ads.example\n"], &[], false);
    for (address, name, expected) in [
        (
            "203.0.114.1:80",
            Some("ads.example"),
            "block0:1 (||ads.example^)",
        ),
        (
            "203.0.114.1:80",
            Some("a.ads.example"),
            "block0:1 (||ads.example^)",
        ),
        ("203.0.114.1:80", Some("good.ads.example"), ""),
        ("203.0.114.1:80", Some("narrow.fine.example"), ""),
        ("203.0.114.1:80", Some("y.good.ads.example"), ""),
        (
            "203.0.114.1:80",
            Some("x.good.ads.example"),
            "block1:1 (x.good.ads.example)",
        ),
        ("192.0.2.7:80", None, ""),
    ] {
        assert_eq!(why(&policy, address, name), expected, "{address} {name:?}");
    }
}

#[test]
fn local_addresses_are_private() {
    // Loopback addresses are private anyway; all others are covered as local.
    let policy = load(&[], &[], true);
    for (first, _) in crate::sys::local::networks().unwrap() {
        let address = SocketAddr::new(first, 80);
        assert_ne!(policy.decide(address, None), Verdict::Allowed, "{first}");
    }
    let own = policy.with_local_addresses(LocalAddresses::default());
    assert_eq!(
        why(&own, "127.0.0.1:80", None),
        "--deny-private (127.0.0.0/8, loopback)"
    );
}

#[test]
fn up_to_one_percent_of_invalid_lines_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    let load = |bad: usize, good: usize| {
        let lines = "# comment\n".repeat(1_000) + &"not an entry\n".repeat(bad);
        fs::write(&file, lines + &"192.0.2.1\n".repeat(good)).unwrap();
        let sources = Sources {
            block: vec![file.clone()],
            skip_bad_lines: true,
            ..Sources::default()
        };
        Policy::load(&sources)
    };
    let policy = load(2, 198).unwrap();
    let [loaded] = policy.files() else { panic!() };
    assert_eq!(loaded.entries, 198);
    let skipped = loaded.skipped.as_ref().unwrap().to_string();
    let expected = "skipped 2 of 200 lines, the first is line 1001: \"not an entry\" has ' ' in it";
    assert!(skipped.starts_with(expected), "{skipped}");
    let error = load(2, 197).unwrap_err().to_string();
    assert!(error.contains(": 2 of 199 lines are not valid"), "{error}");
    assert!(error.contains("the first is line 1001: "), "{error}");
    assert_eq!(load(0, 1).unwrap().files()[0].skipped, None);
}

#[test]
fn a_list_of_words_without_dots_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    let load = |content: &str| {
        fs::write(&file, content).unwrap();
        let sources = Sources {
            block: vec![file.clone()],
            ..Sources::default()
        };
        Policy::load(&sources)
    };
    for content in [
        "password\n123456a\nqwerty\n",
        "intranet\n",
        "0.0.0.0 kaput\n",
    ] {
        let error = load(content).unwrap_err().to_string();
        assert!(
            error.contains("names has a dot") && !error.contains('\n'),
            "{error}"
        );
    }
    for content in [
        "intranet.\n",
        ".zip\n",
        "localhost\n",
        "intranet\nads.example\n",
        "intranet\n192.0.2.1\n",
        "# nothing\n",
    ] {
        assert!(load(content).is_ok(), "{content}");
    }
}
