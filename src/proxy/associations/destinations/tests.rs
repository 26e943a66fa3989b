use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::blocklist::policy::Sources;
use crate::blocklist::reload::Policies;
use crate::protocol::Settings;
use proptest::prelude::*;
use tempfile::TempDir;

const SECOND: u64 = 1_000_000_000;

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

fn header(text: &str) -> Vec<u8> {
    let destination: Destination = text.parse().unwrap();
    datagram::header(&destination.host, destination.port)
}

fn resolved(addresses: &[&str], aliases: &[&str]) -> Answer {
    let addresses = addresses.iter().map(|text| text.parse().unwrap());
    let aliases = aliases.iter().map(|text| text.parse().unwrap());
    Ok(Resolved {
        addresses: addresses.collect(),
        aliases: aliases.collect(),
    })
}

fn to(text: &str) -> Route {
    Route::To(text.parse().unwrap())
}

const BLOCKED: Route = Route::Drop(DropCause::Blocked);

/// The route of a header, whose lookup has this answer.
fn look_up(all: &mut Destinations, text: &str, answer: Answer, judge: Judge<'_>) -> Route {
    let found = all.route(&header(text), judge, 1);
    let Some(destination) = found.ask else {
        return found.route;
    };
    assert_eq!(found.route, Route::Wait);
    let key = Key::from_number(7);
    all.asks(&header(text), key, 1);
    let again = all.route(&header(text), judge, 2);
    assert_eq!(
        (again.route, again.lookup, again.ask),
        (Route::Wait, Some(key), None)
    );
    all.on_answer(&header(text), &destination, answer, judge, 3)
}

#[test]
fn destinations_are_decided_by_address_name_alias_and_port() {
    let rules = rules("192.0.2.0/24\n2001:db8::/32\n*.blocked\n203.0.113.9:53\n");
    let own = Arc::new(OwnSockets::default());
    let judge = Judge::new(&rules, &own);
    let none = || Err("no lookup".to_owned());
    for (text, answer, route) in [
        ("203.0.113.1:53", none(), to("203.0.113.1:53")),
        ("192.0.2.1:53", none(), BLOCKED),
        ("[::ffff:192.0.2.1]:53", none(), BLOCKED),
        ("[64:ff9b::192.0.2.1]:53", none(), BLOCKED),
        ("[2002:c000:201::1]:53", none(), BLOCKED),
        ("[2001:db8::1]:53", none(), BLOCKED),
        ("203.0.113.9:53", none(), BLOCKED),
        ("203.0.113.9:54", none(), to("203.0.113.9:54")),
        ("[::ffff:203.0.113.1]:53", none(), to("203.0.113.1:53")),
        ("0.0.0.0:53", none(), to("127.0.0.1:53")),
        ("[::]:53", none(), to("[::1]:53")),
        ("a.blocked:53", none(), BLOCKED),
        ("a.test:53", none(), Route::Drop(DropCause::Unresolved)),
        ("b.test:53", resolved(&["192.0.2.7"], &[]), BLOCKED),
        (
            "c.test:53",
            resolved(&["203.0.113.1"], &["x.blocked"]),
            BLOCKED,
        ),
        (
            "d.test:53",
            resolved(&["192.0.2.7", "203.0.113.1"], &["x.test"]),
            to("203.0.113.1:53"),
        ),
        ("224.0.0.1:53", none(), Route::Drop(DropCause::Unreachable)),
        ("[ff02::1]:53", none(), Route::Drop(DropCause::Unreachable)),
    ] {
        let mut all = Destinations::new(false);
        assert_eq!(look_up(&mut all, text, answer, judge), route, "{text}");
        let is_allowed = matches!(route, Route::To(_));
        assert_eq!(all.count(), u64::from(is_allowed), "{text}");
        if let Route::To(address) = route {
            assert!(all.answers(address, judge, 4), "{text}");
            let answer = datagram::header_of(address);
            assert_eq!(answer, header(&address.to_string()), "{text}");
        }
        let decided = all.take_first();
        let entry = decided.as_ref().and_then(|first| first.decision.entry());
        assert_eq!(entry.is_some(), route == BLOCKED, "{text}");
    }
}

#[test]
fn own_sockets_are_no_destinations_in_any_spelling() {
    let mut rules = rules("");
    rules.own = vec!["127.0.0.1:1080".parse().unwrap()];
    rules.own_datagrams = vec!["0.0.0.0:53".parse().unwrap()];
    let own = Arc::new(OwnSockets::default());
    let _relay = own.add("127.0.0.1:4000".parse().unwrap());
    let _outgoing = own.add("0.0.0.0:5000".parse().unwrap());
    let judge = Judge::new(&rules, &own);
    for (text, is_own) in [
        ("127.0.0.1:1080", true),
        ("127.0.0.1:53", true),
        ("127.0.0.1:4000", true),
        ("0.0.0.0:4000", true),
        ("[::ffff:127.0.0.1]:4000", true),
        ("[::ffff:0.0.0.0]:5000", true),
        ("127.9.9.9:5000", true),
        ("127.9.9.9:4000", false),
        ("203.0.113.1:4000", false),
    ] {
        let found = Destinations::new(false).route(&header(text), judge, 1);
        assert_eq!(found.route == BLOCKED, is_own, "{text}");
    }
}

#[test]
fn decisions_are_made_again_after_a_while_and_when_the_policy_changes() {
    let rules = rules("");
    let own = Arc::new(OwnSockets::default());
    let judge = Judge::new(&rules, &own);
    let mut all = Destinations::new(false);
    let (text, address) = ("127.0.0.1:4000", "127.0.0.1:4000".parse().unwrap());
    let other = header("127.0.0.1:4001");
    assert_eq!(all.route(&header(text), judge, 1).route, to(text));
    assert_eq!(all.route(&other, judge, 1).route, to("127.0.0.1:4001"));
    let _relay = own.add(address);
    assert_eq!(all.route(&header(text), judge, KEEP).route, to(text));
    assert_eq!(all.route(&header(text), judge, KEEP + 1).route, BLOCKED);
    // Answers pass until the policy changes.
    assert!(all.answers(address, judge, KEEP + 2));
    let changed = Judge {
        generation: judge.generation + 1,
        ..judge
    };
    assert!(!all.answers(address, changed, KEEP + 3));
    assert!(all.answers("127.0.0.1:4001".parse().unwrap(), changed, KEEP + 3));
}

/// A policy that is reloaded.
struct Reloading {
    rules: Rules,
    file: PathBuf,
    _folder: TempDir,
}

impl Reloading {
    fn new(list: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        fs::write(&file, list).unwrap();
        let sources = Sources {
            block: vec![file.clone()],
            allow_empty: true,
            ..Sources::default()
        };
        Self {
            rules: Rules::new(Settings::default(), Policies::load(sources).unwrap()),
            file,
            _folder: folder,
        }
    }

    fn reload(&self, list: &str) {
        fs::write(&self.file, list).unwrap();
        self.rules.policies.reload().unwrap();
    }
}

#[test]
fn reload_applies_to_a_route_and_to_answers_when_they_are_used_next() {
    let policy = Reloading::new("");
    let own = OwnSockets::default();
    let judge = || Judge::new(&policy.rules, &own);
    let mut all = Destinations::new(false);
    let [one, other] = ["203.0.113.1:53", "203.0.113.2:53"];
    let [one_address, other_address] = [one, other].map(|text| text.parse().unwrap());
    for text in [one, other] {
        assert_eq!(all.route(&header(text), judge(), 1).route, to(text));
    }
    // Both in the same moment, within the time for which a decision is kept.
    policy.reload("203.0.113.1\n");
    assert_eq!(all.route(&header(one), judge(), 1).route, BLOCKED);
    assert!(!all.answers(one_address, judge(), 1));
    // An answer without a datagram of the client before.
    policy.reload("203.0.113.2\n");
    assert!(!all.answers(other_address, judge(), 1));
    // It was forgotten as a source, and its route is known to be blocked.
    policy.reload("");
    assert!(!all.answers(other_address, judge(), 1));
    assert_eq!(all.route(&header(other), judge(), 1).route, to(other));
    assert!(all.answers(other_address, judge(), 1));
    assert_eq!(all.count(), 3);
}

#[test]
fn answers_pass_after_a_reload_as_long_as_one_header_leads_to_their_source() {
    let policy = Reloading::new("");
    let own = OwnSockets::default();
    let judge = || Judge::new(&policy.rules, &own);
    let mut all = Destinations::new(false);
    let address = "203.0.113.1:53".parse().unwrap();
    for number in 0..40 {
        let name = format!("n{number}.test:53");
        let answer = resolved(&["203.0.113.1"], &[]);
        assert_eq!(
            look_up(&mut all, &name, answer, judge()),
            to("203.0.113.1:53")
        );
    }
    // All names but the last are blocked: one answer decides on few of them.
    let blocked: String = (0..39).map(|number| format!("n{number}.test\n")).collect();
    policy.reload(&blocked);
    let passes: Vec<_> = (0..4).map(|_| all.answers(address, judge(), 4)).collect();
    assert_eq!(passes, [false, false, true, true]);
    policy.reload("*.test\n");
    assert!((0..4).all(|_| !all.answers(address, judge(), 4)));
    policy.reload("");
    assert!(!all.answers(address, judge(), 4));
}

#[test]
fn names_are_looked_up_again_while_their_last_addresses_are_used() {
    let rules = rules("");
    let own = OwnSockets::default();
    let judge = Judge::new(&rules, &own);
    let mut all = Destinations::new(false);
    let name = header("a.test:53");
    let first = resolved(&["203.0.113.1"], &[]);
    assert_eq!(
        look_up(&mut all, "a.test:53", first, judge),
        to("203.0.113.1:53")
    );
    assert_eq!(all.route(&name, judge, 5 * SECOND).ask, None);
    let found = all.route(&name, judge, 6 * SECOND);
    assert_eq!(found.route, to("203.0.113.1:53"));
    let destination = found.ask.unwrap();
    all.asks(&name, Key::from_number(8), 6 * SECOND);
    // A failure leaves the addresses.
    all.on_answer(&name, &destination, Err("no".to_owned()), judge, 7 * SECOND);
    assert_eq!(
        all.route(&name, judge, 8 * SECOND).route,
        to("203.0.113.1:53")
    );
    let other = resolved(&["203.0.113.2"], &[]);
    all.on_answer(&name, &destination, other, judge, 9 * SECOND);
    assert_eq!(
        all.route(&name, judge, 9 * SECOND).route,
        to("203.0.113.2:53")
    );
}

#[test]
fn name_without_an_address_is_looked_up_again_later() {
    let rules = rules("");
    let own = OwnSockets::default();
    let judge = Judge::new(&rules, &own);
    let mut all = Destinations::new(false);
    let name = header("a.test:53");
    let unresolved = Route::Drop(DropCause::Unresolved);
    let failed = Err("no".to_owned());
    assert_eq!(look_up(&mut all, "a.test:53", failed, judge), unresolved);
    let found = all.route(&name, judge, KEEP);
    assert_eq!((found.route, found.ask), (unresolved, None));
    let found = all.route(&name, judge, KEEP + 3);
    assert_eq!(found.route, Route::Wait);
    assert!(found.ask.is_some());
}

/// Names of 40 bytes with 2 addresses and an alias.
#[test]
fn memory_of_many_destinations_is_bounded() {
    let rules = rules("");
    let own = OwnSockets::default();
    let judge = Judge::new(&rules, &own);
    let most = usize::from(REMEMBERED);
    let mut addresses = Destinations::new(false);
    for number in 0..3_000u32 {
        let ip = IpAddr::from((0xcb00_0000 + number).to_be_bytes());
        let header = datagram::header_of(SocketAddr::new(ip, 53));
        addresses.route(&header, judge, 1);
    }
    assert_eq!(addresses.count(), 3_000);
    let each = addresses.bytes() / most;
    println!("{each} bytes for each of {most} addresses, at most {BYTES}");
    assert!(addresses.bytes() <= most * BYTES + 100);
    let mut names = Destinations::new(false);
    for number in 0..3_000u32 {
        let ips =
            [0xcb00_0000, 0xcc00_0000].map(|first| IpAddr::from((first + number).to_be_bytes()));
        let answer = Resolved {
            addresses: ips.to_vec(),
            aliases: vec![format!("alias{number}.test").parse().unwrap()],
        };
        let text = format!("{}{number:05}.test:53", "n".repeat(30));
        assert!(matches!(
            look_up(&mut names, &text, Ok(answer), judge),
            Route::To(_)
        ));
        let counted: usize = names
            .known
            .iter_mut()
            .map(|(key, known)| key.heap() + known.heap())
            .sum();
        assert_eq!(counted, names.name_bytes);
    }
    let remembered = names.known.len();
    println!(
        "{} bytes beside for each of {remembered} names",
        names.name_bytes / remembered
    );
    assert!(names.bytes() <= most * BYTES + 100 + NAME_BYTES);
    // One with as many aliases as are allowed leaves nothing else.
    let alias = |number: usize| {
        let label = format!("{}{number:03}", "a".repeat(60));
        [label.as_str(); 3].join(".").parse().unwrap()
    };
    for number in 0..20 {
        let answer = Resolved {
            addresses: vec![[203, 0, 113, 1].into()],
            aliases: (0..ALIASES).map(alias).collect(),
        };
        look_up(&mut names, &format!("m{number}.test:53"), Ok(answer), judge);
        assert!(names.name_bytes <= NAME_BYTES);
    }
    assert_eq!(names.known.len(), NAME_BYTES / (ALIASES * (16 + 208)));
}

proptest! {
    #[test]
    fn memory_is_bounded_and_nothing_blocked_is_asked(
        bytes in prop::collection::vec((0u8..4, any::<u8>(), any::<u16>(), any::<bool>()), 1..600),
    ) {
        let rules = rules("127.0.0.0/30\n");
        let own = OwnSockets::default();
        let judge = Judge::new(&rules, &own);
        let mut all = Destinations::new(false);
        for (number, (kind, last, port, mapped)) in (0u64..).zip(bytes) {
            let header = match mapped {
                false => vec![0, 0, 0, kind, 127, 0, 0, last, (port >> 8) as u8, port as u8],
                true => {
                    let port = port.to_be_bytes();
                    [&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, last][..], &port].concat()
                }
            };
            let found = all.route(&header, judge, number);
            if let Route::To(address) = found.route {
                prop_assert!(last >= 4 && address.port() == port && address.is_ipv4());
            }
            if last < 4 && port > 0 && (mapped || kind == 1) {
                prop_assert_eq!(found.route, BLOCKED);
            }
            let most = usize::from(REMEMBERED);
            prop_assert!(all.known.len() <= most && all.asked.len() <= most);
            prop_assert!(all.bytes() <= most * BYTES + 100);
        }
    }
}
