//! The resolver, with simulated name servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::system::Servers;
use super::*;
use crate::proxy::slab::Slab;

#[path = "../../../tests/common/dns.rs"]
mod dns;

use dns::{DnsReply, NameServer};

const PATIENCE: Duration = Duration::from_secs(20);

/// A resolver with a client and a name server.
struct World {
    resolver: Resolver,
    inbox: Arc<Inbox>,
    keys: Slab<Key>,
    poll: Poll,
    server: NameServer,
}

impl World {
    /// A resolver with a name server, the contents of hosts(5), and so many concurrent lookups.
    fn new(answer: impl Fn(&str) -> DnsReply + Send + 'static, hosts: &str, most: usize) -> Self {
        let poll = Poll::new().unwrap();
        let wake = EventFd::new().unwrap();
        let mut source = SourceFd(&wake.as_fd().as_raw_fd());
        poll.registry()
            .register(&mut source, Token(0), Interest::READABLE)
            .unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = NameServer::start(any, answer);
        let mut config = NameServerConfig::udp(server.address.ip());
        config.connections[0].port = server.address.port();
        let config = ResolverConfig::from_name_servers(vec![config]);
        let servers = Servers::new(config, ResolverOpts::default(), hosts);
        let sender = start(most, System::fixed(servers)).unwrap();
        let shared = Shared {
            most,
            thread: OnceLock::from(Ok(sender)),
        };
        Self {
            resolver: Resolver(Arc::new(shared)),
            inbox: Arc::new(Inbox::new(wake)),
            keys: Slab::new(),
            poll,
            server,
        }
    }

    fn ask(&mut self, text: &str, client: u8) -> Key {
        let key = self.keys.insert(Ok::<_, ()>).unwrap();
        let client = Ipv4Addr::new(192, 0, 2, client).into();
        self.resolver
            .ask(name(text), Some(client), key, &self.inbox);
        key
    }

    /// The next answers.
    fn answers(&mut self) -> Vec<(Key, Answer)> {
        let mut events = Events::with_capacity(1);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answers = self.inbox.take();
            if !answers.is_empty() {
                return answers;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no answer");
            self.poll.poll(&mut events, Some(left)).unwrap();
        }
    }

    /// The answer to this question; other answers are skipped.
    fn answer(&mut self, to: Key) -> Answer {
        loop {
            for (key, answer) in self.answers() {
                if key == to {
                    return answer;
                }
            }
        }
    }

    fn look_up(&mut self, text: &str) -> Answer {
        let key = self.ask(text, 1);
        self.answer(key)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.resolver.close();
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn each_of_many_answers_reaches_its_connection() {
    let answer = |_: &str| DnsReply::Records(vec![], addresses(&["192.0.2.7"]));
    let mut world = World::new(answer, "", 8);
    let mut keys: Vec<Key> = (0..100)
        .map(|number| {
            world.ask(
                if number % 2 == 0 {
                    "localhost"
                } else {
                    "same.test"
                },
                1,
            )
        })
        .collect();
    let mut answered = Vec::new();
    while answered.len() < keys.len() {
        for (key, answer) in world.answers() {
            let expected: IpAddr = match keys.iter().position(|one| *one == key).unwrap() % 2 {
                0 => Ipv4Addr::LOCALHOST.into(),
                _ => [192, 0, 2, 7].into(),
            };
            assert!(answer.unwrap().addresses.contains(&expected));
            answered.push(key);
        }
    }
    keys.sort();
    answered.sort();
    assert_eq!(answered, keys);
    // One name, one lookup, one question for each family; the answer is cached for as long as it is valid.
    assert_eq!(world.server.asked(), 2);
}

#[test]
fn every_name_of_a_chain_of_aliases_is_returned() {
    let answer = |name: &str| match name {
        "metrics.store.test" => DnsReply::Records(
            vec!["middle.test", "tracker.test"],
            addresses(&["192.0.2.7", "2001:db8::7"]),
        ),
        _ => DnsReply::NoSuchName,
    };
    let resolved = World::new(answer, "", 8)
        .look_up("metrics.store.test")
        .unwrap();
    assert_eq!(
        resolved.aliases,
        [name("middle.test"), name("tracker.test")]
    );
    let mut found = resolved.addresses;
    found.sort();
    assert_eq!(found, addresses(&["192.0.2.7", "2001:db8::7"]));
}

/// Name servers may return one link of a chain at a time, so the names of several chains are asked for one by one.
#[test]
fn chains_that_share_names_do_not_share_aliases() {
    let answer = |name: &str| match name {
        "metrics.store.test" => DnsReply::Records(vec!["tracker.test"], vec![]),
        "tracker.test" | "www.store.test" => DnsReply::Records(vec!["cdn.test"], vec![]),
        "cdn.test" => DnsReply::Records(vec![], addresses(&["192.0.2.7"])),
        _ => DnsReply::NoSuchName,
    };
    let names = [
        ("cdn.test", &[][..]),
        ("metrics.store.test", &["tracker.test", "cdn.test"]),
        ("www.store.test", &["cdn.test"]),
        ("tracker.test", &["cdn.test"]),
    ];
    // In any order, and once more from the cache.
    for first in 0..names.len() {
        let mut world = World::new(answer, "", 8);
        for number in 0..2 * names.len() {
            let (asked, aliases) = names[(first + number) % names.len()];
            let resolved = world.look_up(asked).unwrap();
            let expected: Vec<Name> = aliases.iter().map(|alias| name(alias)).collect();
            assert_eq!(resolved.aliases, expected, "{asked}, from {first}");
            assert_eq!(resolved.addresses, addresses(&["192.0.2.7"]));
        }
    }
}

#[test]
fn silent_names_do_not_delay_other_names_of_the_client() {
    let answer = |name: &str| match name.ends_with("dead.test") {
        true => DnsReply::Nothing,
        false => DnsReply::Records(vec![], addresses(&["192.0.2.7"])),
    };
    let mut world = World::new(answer, "", 4);
    let begin = Instant::now();
    for number in 0..200 {
        world.ask(&format!("x{number}.dead.test"), 1);
        if number % 10 == 9 {
            let resolved = world.look_up(&format!("x{number}.live.test")).unwrap();
            assert_eq!(resolved.addresses, addresses(&["192.0.2.7"]));
        }
    }
    // A silent name alone takes 10 s.
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_failed_name_is_not_asked_for_again_at_once() {
    let mut world = World::new(|_| DnsReply::NoSuchName, "", 4);
    let first = world.look_up("none.test").unwrap_err();
    assert_eq!(first, "the name does not exist");
    let asked = world.server.asked();
    assert_eq!(world.look_up("none.test").unwrap_err(), first);
    assert_eq!(world.server.asked(), asked);
}

#[test]
fn a_name_without_an_address_is_an_error() {
    let mut world = World::new(|_| DnsReply::Records(vec![], vec![]), "", 4);
    let reason = world.look_up("empty.test").unwrap_err();
    assert_eq!(reason, "the name has no address");
}

#[test]
fn the_hosts_file_takes_precedence() {
    let hosts =
        "# none.test\n192.0.2.1 one.test ONE # two.test\nno address.test\n2001:db8::1\tone.test\n";
    let mut world = World::new(|_| DnsReply::NoSuchName, hosts, 4);
    let mut found = world.look_up("one.test").unwrap().addresses;
    found.sort();
    assert_eq!(found, addresses(&["192.0.2.1", "2001:db8::1"]));
    assert_eq!(
        world.look_up("one").unwrap().addresses,
        addresses(&["192.0.2.1"])
    );
    assert_eq!(world.server.asked(), 0);
    assert!(world.look_up("two.test").is_err());
    let mut local = world.look_up("www.localhost").unwrap().addresses;
    local.sort();
    assert_eq!(local, addresses(&["127.0.0.1", "::1"]));
}

#[test]
fn a_closed_resolver_refuses_questions() {
    let mut world = World::new(|_| DnsReply::NoSuchName, "", 4);
    world.resolver.close();
    // The command may arrive before the thread ends. Then it is never answered, and its client times out.
    let reason = loop {
        let key = world.ask("late.test", 1);
        if let Some((_, answer)) = world.inbox.take().into_iter().find(|(one, _)| *one == key) {
            break answer.unwrap_err();
        }
    };
    assert_eq!(reason, "the resolver is closed");
}
