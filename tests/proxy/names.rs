//! `bench proxy serve` and the names of servers: aliases are checked, addresses are tried in parallel, and dead names delay
//! no others.
//!
//! Each test has its own network and mounts, with a name server on 127.0.0.1 and addresses that drop every packet.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::associate;
use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::network::in_own_network_and_mounts;
use crate::common::{PATIENCE, Running, start, until};
use crate::dns::{DnsReply, NameServer};
use socket2::SockRef;

on_both_engines!(
    a_name_that_is_an_alias_of_a_blocked_one_is_blocked,
    all_addresses_of_a_name_share_one_timeout,
    the_next_address_is_tried_in_parallel_to_a_silent_one,
    a_live_name_is_not_delayed_by_dead_ones,
    clients_that_disconnect_leave_no_lookup_and_no_permit,
    a_closed_port_is_refused_and_stays_free,
    names_of_datagrams_are_decided_by_alias_and_address_and_dead_ones_delay_no_others,
);

/// 198.51.100.1 to 198.51.100.40 and 2001:db8::1 drop every packet.
const SET_UP: &str = r#"
    set -e
    echo nameserver 127.0.0.1 >"$1/resolv.conf"
    echo 127.0.0.1 localhost >"$1/hosts"
    mount --bind "$1/resolv.conf" /etc/resolv.conf
    mount --bind "$1/hosts" /etc/hosts
    ip link add hole0 type veth peer name hole1
    ip link set hole0 up
    ip link set hole1 up
    ip addr add 198.51.100.254/24 dev hole0
    for last in $(seq 1 40); do
        ip neigh add 198.51.100.$last lladdr 02:00:00:00:00:01 dev hole0 nud permanent
    done
    if ip addr add 2001:db8::254/64 dev hole0 nodad 2>/dev/null; then
        ip neigh add 2001:db8::1 lladdr 02:00:00:00:00:01 dev hole0 nud permanent
    fi
"#;

/// Runs `body` in a network and with mounts that are set up for it.
fn alone(body: impl FnOnce() + Send) {
    in_own_network_and_mounts(|| {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", SET_UP, "sh"]).arg(folder.path());
        let output = shell.output().unwrap();
        match output.status.success() {
            true => body(),
            false => println!("skipped: {}", String::from_utf8_lossy(&output.stderr)),
        }
    });
}

/// A proxy with a name server.
struct World {
    proxy: Running,
    address: SocketAddr,
    names: NameServer,
    origin: SocketAddr,
}

impl World {
    fn start(
        engine: Engine,
        more: &[&str],
        answer: impl Fn(&str) -> DnsReply + Send + 'static,
    ) -> Self {
        let names = NameServer::start("127.0.0.1:53".parse().unwrap(), answer);
        let fixed = ["proxy", "serve", "--listen", "127.0.0.1:1080"];
        let all = fixed.into_iter().chain(engine.options());
        let mut proxy = start(all.chain(more.iter().copied()));
        let address = proxy.listening();
        Self {
            proxy,
            address,
            names,
            origin: origin("127.0.0.1:0"),
        }
    }

    /// A client that requests a name at the port of the origin server.
    fn asking(&self, name: &str) -> TcpStream {
        asking(self.address, name, self.origin.port())
    }

    /// The code of the reply, and its delay.
    fn reply(&self, name: &str) -> (u8, Duration) {
        let begin = Instant::now();
        let code = reply(&self.asking(name));
        (code, begin.elapsed())
    }
}

/// A client of a proxy that requests a server.
fn asking(proxy: SocketAddr, name: &str, port: u16) -> TcpStream {
    let mut client = TcpStream::connect(proxy).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
    request.extend_from_slice(name.as_bytes());
    request.extend(port.to_be_bytes());
    client.write_all(&request).unwrap();
    client
}

fn reply(mut client: &TcpStream) -> u8 {
    let mut reply = [0; 12];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..3], [5, 0, 5]);
    reply[3]
}

/// A server that accepts all clients and closes when they do.
fn origin(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || while stream.read(&mut [0; 100]).is_ok_and(|bytes| bytes > 0) {});
        }
    });
    address
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn records(addresses: &[&str]) -> DnsReply {
    DnsReply::Records(vec![], addresses.iter().map(|one| ip(one)).collect())
}

fn a_name_that_is_an_alias_of_a_blocked_one_is_blocked(engine: Engine) {
    alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let [list, except, log] =
            ["list", "except", "log"].map(|name| folder.path().join(name).display().to_string());
        fs::write(&list, "tracker.test\n*.tracker.test\n").unwrap();
        fs::write(&except, "excepted.test\n").unwrap();
        let answer = |name: &str| {
            let chain = match name {
                // One link at a time.
                "step.store.test" => return DnsReply::Records(vec!["y.tracker.test"], vec![]),
                "y.tracker.test" => return DnsReply::Records(vec!["end.test"], vec![]),
                "good.store.test" => return DnsReply::Records(vec!["end.test"], vec![]),
                "end.test" => vec![],
                "excepted.test" => vec!["tracker.test"],
                "metrics.store.test" => vec!["tracker.test"],
                "deep.store.test" => vec!["one.test", "x.tracker.test", "cdn.test"],
                _ => vec!["cdn.test"],
            };
            DnsReply::Records(chain, vec![ip("127.0.0.1")])
        };
        let options = ["--blocklist", &list, "--except", &except, "--log", &log];
        let world = World::start(engine, &options, answer);
        let names = [
            ("tracker.test", 2),
            ("metrics.store.test", 2),
            ("deep.store.test", 2),
            ("www.store.test", 0),
            ("end.test", 0),
            ("step.store.test", 2),
            ("good.store.test", 0),
            ("excepted.test", 0),
        ];
        for (name, code) in names {
            assert_eq!(world.reply(name).0, code, "{name}");
        }
        let lines = || fs::read_to_string(&log).unwrap();
        until("each has a line", || lines().lines().count() == names.len());
        let detail = "\"detail\":\"metrics.store.test is an alias of tracker.test\"";
        assert!(lines().contains(detail), "{}", lines());
        assert!(lines().contains("list:1 (tracker.test)"), "{}", lines());
    });
}

fn all_addresses_of_a_name_share_one_timeout(engine: Engine) {
    alone(|| {
        let answer = |_: &str| {
            let addresses = (1..=8).map(|last| IpAddr::from([198, 51, 100, last]));
            DnsReply::Records(vec![], addresses.collect())
        };
        let world = World::start(engine, &["--connect-timeout", "1s"], answer);
        let (code, took) = world.reply("eight.test");
        assert_eq!(code, 6);
        let second = Duration::from_secs(1);
        assert!((second..4 * second).contains(&took), "{took:?}");
    });
}

fn the_next_address_is_tried_in_parallel_to_a_silent_one(engine: Engine) {
    alone(|| {
        let answer = |name: &str| match name {
            "second.test" => records(&["198.51.100.1", "127.0.0.1"]),
            "fifth.test" => records(&[
                "198.51.100.1",
                "198.51.100.2",
                "198.51.100.3",
                "198.51.100.4",
                "127.0.0.1",
            ]),
            "both.test" => records(&["2001:db8::1", "127.0.0.1"]),
            "refused.test" => records(&["127.0.0.9", "127.0.0.8", "127.0.0.1"]),
            _ => records(&["127.0.0.1"]),
        };
        let world = World::start(engine, &["--connect-timeout", "60s"], answer);
        let files = || {
            let files = fs::read_dir(format!("/proc/{}/fd", world.proxy.id()));
            files.unwrap().count()
        };
        assert_eq!(world.reply("one.test").0, 0);
        until("it is over", || files() < 20);
        let before = files();
        // 250 ms for each address, but none after a failure; a lost SYN alone takes a second.
        for (name, least, most) in [
            ("second.test", 200, 900),
            ("fifth.test", 900, 3_000),
            ("both.test", 0, 900),
            ("refused.test", 0, 200),
        ] {
            let (code, took) = world.reply(name);
            assert_eq!(code, 0, "{name}");
            let range = Duration::from_millis(least)..Duration::from_millis(most);
            assert!(range.contains(&took), "{name}: {took:?}");
        }
        until("the other sockets are closed", || files() <= before);
    });
}

fn a_live_name_is_not_delayed_by_dead_ones(engine: Engine) {
    alone(|| {
        const LIVE: usize = 100;
        let answer = |name: &str| match name.ends_with("dead.test") {
            true => DnsReply::Nothing,
            false => records(&["127.0.0.1"]),
        };
        let world = World::start(engine, &["--connect-timeout", "60s"], answer);
        let (address, over) = (world.address, AtomicBool::new(false));
        let mut took = thread::scope(|scope| {
            scope.spawn(|| {
                let mut waiting = Vec::new();
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    waiting.push(asking(address, &format!("x{number}.dead.test"), 80));
                    // A hundred a second is the case to be tested.
                    thread::sleep(Duration::from_millis(10));
                }
            });
            until("dead names wait", || world.names.asked() > 200);
            let took: Vec<(u8, Duration)> = (0..LIVE)
                .map(|number| world.reply(&format!("x{number}.live.test")))
                .chain((0..5).map(|_| world.reply("localhost")))
                .collect();
            over.store(true, Ordering::Relaxed);
            took
        });
        assert!(took.iter().all(|(code, _)| *code == 0), "{took:?}");
        // 20 ms on an idle machine, and far from the 10 s of a silent name on any.
        took.sort_by_key(|(_, took)| *took);
        assert!(took[LIVE / 2].1 < Duration::from_millis(100), "{took:?}");
        assert!(took[LIVE + 4].1 < Duration::from_secs(3), "{took:?}");
    });
}

fn clients_that_disconnect_leave_no_lookup_and_no_permit(engine: Engine) {
    alone(|| {
        const PLACES: usize = 20;
        let answer = |name: &str| match name.ends_with("dead.test") {
            true => DnsReply::Nothing,
            false => records(&["127.0.0.1"]),
        };
        let places = PLACES.to_string();
        let options = [
            "--connect-timeout",
            "60s",
            "--max-connections",
            &places,
            "--max-connections-per-client",
            &places,
        ];
        let world = World::start(engine, &options, answer);
        let sockets = || {
            let files = fs::read_dir(format!("/proc/{}/fd", world.proxy.id())).unwrap();
            let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
            let of_sockets = links.filter(|link| link.to_string_lossy().starts_with("socket:"));
            of_sockets.count()
        };
        let idle = sockets();
        assert_eq!(world.reply("live.test").0, 0);
        until("it is over", || sockets() <= idle);
        for by_reset in [true, false] {
            let clients: Vec<TcpStream> = (0..PLACES)
                .map(|number| world.asking(&format!("x{number}-{by_reset}.dead.test")))
                .collect();
            for mut client in &clients {
                client.read_exact(&mut [0; 2]).unwrap();
            }
            assert_eq!(world.reply("live.test").0, 1, "there is room");
            let begin = Instant::now();
            for client in clients {
                if by_reset {
                    SockRef::from(&client)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                }
            }
            until("there is room", || world.reply("live.test").0 == 0);
            assert!(
                begin.elapsed() < Duration::from_secs(4),
                "{:?}",
                begin.elapsed()
            );
            // Including those to name servers.
            until("no socket is left", || sockets() <= idle);
        }
    });
}

fn a_closed_port_is_refused_and_stays_free(engine: Engine) {
    alone(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "39990 40010").unwrap();
        let world = World::start(engine, &[], |_| records(&["127.0.0.1"]));
        for _ in 0..300 {
            let client = asking(world.address, "localhost", 40_000);
            assert_eq!(reply(&client), 5);
            // There are few ports here, and each would be occupied for a minute.
            SockRef::from(&client)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        until("the port is free", || {
            TcpListener::bind("127.0.0.1:40000").is_ok()
        });
    });
}

fn names_of_datagrams_are_decided_by_alias_and_address_and_dead_ones_delay_no_others(
    engine: Engine,
) {
    alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list").display().to_string();
        fs::write(&list, "tracker.test\n127.0.0.5\n").unwrap();
        let _names = NameServer::start("127.0.0.1:53".parse().unwrap(), |name| match name {
            "alias.test" => DnsReply::Records(vec!["tracker.test"], vec![ip("127.0.0.1")]),
            "listed.test" => records(&["127.0.0.5"]),
            "both.test" => records(&["127.0.0.5", "127.0.0.1"]),
            "good.test" => records(&["127.0.0.1"]),
            dead if dead.starts_with("dead") => DnsReply::Nothing,
            _ => DnsReply::NoSuchName,
        });
        let proxy = associate::Proxy::start(engine, &["--blocklist", &list]);
        let (server, listed) = (
            associate::server(),
            associate::socket("127.0.0.5:0".parse().unwrap()),
        );
        let port = server.1.port();
        let association = associate::Association::open(proxy.address);
        // More dead names than lookups of an association at a time.
        for number in 0..20 {
            association.send_named(&format!("dead{number}.test"), port, b"lost");
        }
        proxy.wait_for_drops("over_limit", 4);
        let other = associate::Association::open(proxy.address);
        let begin = Instant::now();
        for name in ["alias.test", "listed.test", "tracker.test"] {
            other.send_named(name, port, b"blocked");
            other.send_named(name, listed.local_addr().unwrap().port(), b"blocked");
        }
        proxy.wait_for_drops("blocked", 6);
        for name in ["both.test", "good.test"] {
            other.send_named(name, port, name.as_bytes());
            assert_eq!(associate::received(&server.0), name.as_bytes());
        }
        assert!(begin.elapsed() < Duration::from_secs(3));
        assert!(associate::receives_nothing(&listed));
        assert!(associate::receives_nothing(&server.0));
        // Its lookups end with the association.
        drop(association);
        proxy.wait_for("udp_associations_open", 1);
        let again = associate::Association::open(proxy.address);
        again.send_named("good.test", port, b"again");
        assert_eq!(associate::received(&server.0), b"again");
        let lost = proxy.lines(1)[0]["drops"]["unresolved"].as_u64().unwrap();
        assert_eq!(lost, 16);
    });
}
