//! SOCKS5 UDP ASSOCIATE of `bench proxy serve` with clients that try to get around the lists, to reach the proxy itself, or to
//! use it up.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::associate::{
    Association, Proxy, asking, echo, header, named, received, receives_nothing, reply, server,
    socket, unspecified,
};
use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{NOTICED, PATIENCE, until};

on_both_engines!(
    blocked_destinations_get_nothing_in_any_spelling,
    reload_applies_to_open_associations,
    dry_run_blocks_nothing_and_logs,
    datagrams_of_others_are_dropped,
    associations_do_not_reach_the_proxy_itself,
    garbage_of_every_length_is_counted_and_harms_nothing,
    associations_over_a_limit_are_refused,
    floods_of_associations_leak_no_file_and_no_memory,
    few_files_refuse_associations_and_keep_the_others,
    many_destinations_use_bounded_memory,
    floods_of_some_clients_do_not_stop_others,
    answers_of_blocked_sources_do_not_pass,
);

/// A proxy with a blocklist.
fn blocking(engine: Engine, list: &str, more: &[&str]) -> (Proxy, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.txt");
    fs::write(&file, list).unwrap();
    let lists = ["--blocklist", file.to_str().unwrap()];
    let options: Vec<_> = lists.into_iter().chain(more.iter().copied()).collect();
    (Proxy::start(engine, &options), folder)
}

fn blocked_destinations_get_nothing_in_any_spelling(engine: Engine) {
    let victim = socket("0.0.0.0:0".parse().unwrap());
    let port = victim.local_addr().unwrap().port();
    let allowed = echo("127.0.0.2:0");
    let (proxy, _folder) = blocking(engine, "127.0.0.1\n::1\nlocalhost\n*.blocked.test\n", &[]);
    let association = Association::open(proxy.address);
    let addresses = [
        "127.0.0.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::ffff:0.0.0.0]",
        "[::]",
        "[::1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[2001::80ff:fffe]",
        "[::ffff:0:127.0.0.1]",
        "[fe80::5efe:127.0.0.1]",
    ];
    let names = [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "a.blocked.test",
        "A.BLOCKED.test.",
    ];
    for address in addresses {
        association.send(format!("{address}:{port}").parse().unwrap(), b"secret");
    }
    for name in names {
        association.send_named(name, port, b"secret");
    }
    let blocked = (addresses.len() + names.len()) as u64;
    proxy.wait_for_drops("blocked", blocked);
    // Spellings of inet_aton(3), and texts that are no names.
    let invalid = [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "[::1]",
        "local\0host",
        " localhost",
        "",
    ];
    for name in invalid {
        association.send_named(name, port, b"secret");
    }
    let refused = || {
        let dropped = |cause| {
            proxy.value(&format!(
                "udp_association_dropped_datagrams_total{{cause=\"{cause}\"}}"
            ))
        };
        dropped("bad_header") + dropped("blocked") + dropped("unresolved")
    };
    until("all are dropped", || {
        refused() == blocked + invalid.len() as u64
    });
    assert!(receives_nothing(&victim));
    // In one run behind an allowed destination, and once more while its decision is kept.
    for _ in 0..2 {
        association.send(allowed, b"fine");
        association.send(SocketAddr::new("127.0.0.1".parse().unwrap(), port), b"no");
        assert_eq!(association.answer(allowed), b"fine");
    }
    assert!(receives_nothing(&victim));
    drop(association);
    let line = &proxy.lines(1)[0];
    assert_eq!(line["decision"], "blocked");
    assert_eq!(line["asked"], format!("127.0.0.1:{port}"));
    assert!(
        line["entry"]
            .as_str()
            .unwrap()
            .ends_with("list.txt:1 (127.0.0.1)")
    );
    proxy.stop();
}

fn reload_applies_to_open_associations(engine: Engine) {
    let (proxy, folder) = blocking(engine, "192.0.2.1\n", &[]);
    let file = folder.path().join("list.txt");
    let ((server, address), (late, late_address)) = (server(), crate::associate::server());
    let kept = echo("127.0.0.2:0");
    let association = Association::open(proxy.address);
    association.send(address, b"before");
    association.send(late_address, b"before");
    association.send(kept, b"before");
    let mut bytes = [0; 20];
    let (_, from) = server.recv_from(&mut bytes).unwrap();
    assert_eq!(late.recv_from(&mut bytes).unwrap().1, from);
    assert_eq!(association.answer(kept), b"before");
    fs::write(&file, "192.0.2.1\n127.0.0.1\n").unwrap();
    proxy.program.signal("HUP");
    proxy.wait_for("list_reloads_total{outcome=\"ok\"}", 1);
    // An answer is the first datagram after the reload.
    late.send_to(b"late", from).unwrap();
    proxy.wait_for_drops("unasked", 1);
    association.send(address, b"after");
    proxy.wait_for_drops("blocked", 1);
    // Its answers do not pass any longer either.
    server.send_to(b"late", from).unwrap();
    proxy.wait_for_drops("unasked", 2);
    association.send(kept, b"after");
    assert_eq!(association.answer(kept), b"after");
    assert!(receives_nothing(&server));
    fs::write(&file, "192.0.2.1\n").unwrap();
    proxy.program.signal("HUP");
    proxy.wait_for("list_reloads_total{outcome=\"ok\"}", 2);
    association.send(address, b"again");
    assert_eq!(received(&server), b"again");
    proxy.program.signal("TERM");
    // Its messages about reloads are on stderr.
    assert_eq!(proxy.program.wait(NOTICED).code, Some(0));
}

fn dry_run_blocks_nothing_and_logs(engine: Engine) {
    let (proxy, _folder) = blocking(engine, "127.0.0.0/8\n", &["--dry-run"]);
    let server = echo("127.0.0.1:0");
    let association = Association::open(proxy.address);
    association.send(server, b"x");
    assert_eq!(association.answer(server), b"x");
    drop(association);
    let line = &proxy.lines(1)[0];
    assert_eq!(line["decision"], "would_block");
    assert_eq!(line["drops"]["blocked"], 0);
    proxy.stop();
}

fn datagrams_of_others_are_dropped(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let (server, address) = server();
    let association = Association::open(proxy.address);
    let datagram = [header(address), b"forged".to_vec()].concat();
    // Before the client's first datagram, from another address.
    let foreign = socket("127.0.0.2:0".parse().unwrap());
    for _ in 0..5 {
        foreign.send_to(&datagram, association.relay).unwrap();
    }
    proxy.wait_for_drops("wrong_source", 5);
    // An invalid datagram from another port fixes no port: port 0 is no destination.
    let neighbour = socket("127.0.0.1:0".parse().unwrap());
    let nowhere = header("127.0.0.1:0".parse().unwrap());
    neighbour.send_to(&nowhere, association.relay).unwrap();
    proxy.wait_for_drops("bad_header", 1);
    association.send(address, b"first");
    assert_eq!(received(&server), b"first");
    // Behind it also from another port.
    for other in [&foreign, &neighbour] {
        other.send_to(&datagram, association.relay).unwrap();
    }
    assert!(receives_nothing(&server));
    assert!(receives_nothing(&neighbour) && receives_nothing(&foreign));
    association.send(address, b"second");
    assert_eq!(received(&server), b"second");
    proxy.stop();
}

fn associations_do_not_reach_the_proxy_itself(engine: Engine) {
    let own = [
        "--forward-udp",
        "127.0.0.1:9",
        "--listen-udp",
        "127.0.0.1:0",
    ];
    let proxy = Proxy::start(engine, &own);
    let [one, other] = [(); 2].map(|()| Association::open(proxy.address));
    let server = echo("127.0.0.1:0");
    for association in [&one, &other] {
        association.send(server, b"x");
        assert_eq!(association.answer(server), b"x");
    }
    // Its listener, its metrics, its relay sockets, and sockets for destinations.
    let (seen, address) = crate::associate::server();
    let mut outgoing = Vec::new();
    for association in [&one, &other] {
        association.send(address, b"who");
        outgoing.push(seen.recv_from(&mut [0; 10]).unwrap().1);
    }
    let all = [
        proxy.address,
        proxy.metrics(),
        one.relay,
        other.relay,
        outgoing[0],
        outgoing[1],
    ];
    let nested = [header(server), b"x".to_vec()].concat();
    for (number, itself) in (1u64..).zip(all) {
        one.send(itself, &nested);
        proxy.wait_for_drops("blocked", number);
    }
    // A client that is a socket of the proxy is none.
    let named = asking(proxy.address, outgoing[0]);
    let third = Association::of(named);
    third.socket.send(&header(server)).unwrap();
    proxy.wait_for_drops("wrong_source", 1);
    let here = socket("127.0.0.2:0".parse().unwrap());
    here.send_to(&header(server), third.relay).unwrap();
    proxy.wait_for_drops("wrong_source", 2);
    assert!(receives_nothing(&one.socket) && receives_nothing(&third.socket));
    proxy.stop();
}

fn garbage_of_every_length_is_counted_and_harms_nothing(engine: Engine) {
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let association = Association::open(proxy.address);
    let mut sent = 0;
    let mut random = 1u32;
    for length in 0..600usize {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .collect();
        // Random bytes, and those behind the start of each kind of header, which end too early.
        association.socket.send(&bytes).unwrap();
        sent += 1;
        for kind in [0u8, 1, 2, 3, 4, 255] {
            let mut start = vec![0, 0, 0, kind, 255];
            start.truncate(length);
            let longest = match kind {
                1 => 9,
                3 => 261,
                4 => 21,
                _ => 600,
            };
            start.resize(length.min(longest), 0);
            association.socket.send(&start).unwrap();
            sent += 1;
        }
        if length % 50 == 0 {
            association.send(server, b"fine");
            assert_eq!(association.answer(server), b"fine");
        }
    }
    let series = |cause| format!("udp_association_dropped_datagrams_total{{cause=\"{cause}\"}}");
    until("all are counted", || {
        let of = |cause| proxy.value(&series(cause));
        // Random bytes may begin with two zeros.
        of("bad_header") + of("fragment") + of("unresolved") + of("blocked") >= sent
    });
    association.send(server, b"still");
    assert_eq!(association.answer(server), b"still");
    // What arrives from a server is never interpreted.
    let (hostile, address) = crate::associate::server();
    association.send(address, b"x");
    let (_, from) = hostile.recv_from(&mut [0; 10]).unwrap();
    for length in [0, 1, 9, 10, 1_000, 65_507] {
        hostile.send_to(&vec![0; length], from).unwrap();
        if length + 10 <= 65_507 {
            assert_eq!(association.answer(address), vec![0; length]);
        }
    }
    proxy.wait_for_drops("too_big", 1);
    proxy.stop();
}

fn answers_of_blocked_sources_do_not_pass(engine: Engine) {
    let (proxy, _folder) = blocking(engine, "127.0.0.3\n", &["--udp-answers", "any"]);
    let (asked, address) = server();
    let association = Association::open(proxy.address);
    association.send(address, b"question");
    let (_, from) = asked.recv_from(&mut [0; 20]).unwrap();
    let blocked = socket("127.0.0.3:0".parse().unwrap());
    blocked.send_to(b"forged", from).unwrap();
    proxy.wait_for_drops("blocked", 1);
    let other = socket("127.0.0.2:0".parse().unwrap());
    other.send_to(b"passes", from).unwrap();
    assert_eq!(association.answer(other.local_addr().unwrap()), b"passes");
    proxy.stop();
}

fn associations_over_a_limit_are_refused(engine: Engine) {
    let limits = [
        "--max-udp-associations",
        "3",
        "--max-udp-associations-per-client",
        "2",
    ];
    let proxy = Proxy::start(engine, &limits);
    let first = Association::open(proxy.address);
    let _second = Association::open(proxy.address);
    assert_eq!(reply(&mut asking(proxy.address, unspecified())).0, 1);
    proxy.wait_for("udp_associations_refused_total", 1);
    drop(first);
    proxy.wait_for("udp_associations_open", 1);
    let again = Association::open(proxy.address);
    let server = echo("127.0.0.1:0");
    again.send(server, b"x");
    assert_eq!(again.answer(server), b"x");
    let summary = proxy.stop().stdout;
    assert!(
        summary.contains("UDP associations 3, 1 more refused\n"),
        "{summary}"
    );
}

fn floods_of_associations_leak_no_file_and_no_memory(engine: Engine) {
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let round = |number: usize| {
        let mut all = Vec::new();
        for which in 0..50 {
            let mut control = asking(proxy.address, unspecified());
            // Some leave before the reply.
            if which % 5 == 0 {
                continue;
            }
            let (code, relay) = reply(&mut control);
            if code != 0 {
                continue;
            }
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            match which % 5 {
                1 => {}
                2 => drop(client.send_to(b"garbage", relay)),
                3 => {
                    let name = format!("n{number}-{which}.invalid");
                    drop(client.send_to(&named(&name, 53), relay));
                }
                _ => drop(client.send_to(&[header(server), vec![0; 100]].concat(), relay)),
            }
            if which % 2 == 0 {
                let _ = control.write_all(&[0; 5_000]);
            }
            all.push((control, client));
        }
    };
    (0..5).for_each(round);
    let settled = || proxy.value("udp_associations_open") == 0;
    until("all are closed", settled);
    let (files, memory) = (proxy.files(), proxy.memory());
    (5..40).for_each(round);
    until("all are closed", settled);
    until("no file is lost", || proxy.files() <= files.max(20));
    let grown = proxy.memory().saturating_sub(memory);
    assert!(grown < 4 << 20, "{grown} bytes");
    let association = Association::open(proxy.address);
    association.send(server, b"x");
    assert_eq!(association.answer(server), b"x");
    proxy.stop();
}

fn few_files_refuse_associations_and_keep_the_others(engine: Engine) {
    let proxy = Proxy::limited(engine, "127.0.0.1:0", &[], Some(200));
    let server = echo("127.0.0.1:0");
    let first = Association::open(proxy.address);
    first.send(server, b"x");
    assert_eq!(first.answer(server), b"x");
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..150 {
        let mut control = asking(proxy.address, unspecified());
        control
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut answer = [0; 12];
        match control.read_exact(&mut answer) {
            Ok(()) if answer[3] == 0 => open.push(control),
            Ok(()) => {
                assert_eq!(answer[3], 1);
                refused += 1;
            }
            Err(_) => {}
        }
    }
    assert!(refused > 50 && !open.is_empty(), "{refused} {}", open.len());
    first.send(server, b"still");
    assert_eq!(first.answer(server), b"still");
    drop(open);
    proxy.wait_for("udp_associations_open", 1);
    let again = Association::open(proxy.address);
    again.send(server, b"x");
    assert_eq!(again.answer(server), b"x");
    let finished = proxy.stop();
    let limit = "UDP associations at once: open files are limited to 200";
    assert!(finished.stdout.contains(limit), "{}", finished.stdout);
}

fn many_destinations_use_bounded_memory(engine: Engine) {
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let association = Association::open(proxy.address);
    let flood = |rounds: u32| {
        for number in 0..rounds {
            let name = format!("{number}.{}.invalid", "x".repeat(60));
            association.send_named(&name, 53, &[0; 1_000]);
            let ip = (0x7f01_0000 | number & 0xffff).to_be_bytes();
            association.send(SocketAddr::from((ip, 1_000 + (number % 7) as u16)), b"");
            if number % 500 == 0 {
                association.send(server, b"x");
                let mut bytes = [0; 100];
                until("the answer comes", || {
                    association
                        .socket
                        .recv(&mut bytes)
                        .is_ok_and(|length| bytes[..length].ends_with(b"x"))
                });
            }
        }
    };
    flood(2_000);
    let memory = proxy.memory();
    flood(8_000);
    let grown = proxy.memory().saturating_sub(memory);
    assert!(grown < 8 << 20, "{grown} bytes");
    drop(association);
    let line = &proxy.lines(1)[0];
    assert!(line["destinations"].as_u64().unwrap() > 1_000);
    // The thread of connections is not affected.
    let mut stream = TcpStream::connect(proxy.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[5, 1, 0]).unwrap();
    stream.read_exact(&mut [0; 2]).unwrap();
    drop(stream);
    proxy.stop();
}

fn floods_of_some_clients_do_not_stop_others(engine: Engine) {
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let (_sink, address) = crate::associate::server();
    let is_over = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..3)
        .map(|_| {
            let (association, is_over) = (Association::open(proxy.address), Arc::clone(&is_over));
            thread::spawn(move || {
                let datagram = [header(address), vec![0; 100]].concat();
                while !is_over.load(Ordering::Relaxed) {
                    let _ = association.socket.send(&datagram);
                }
            })
        })
        .collect();
    let association = Association::open(proxy.address);
    for number in 0u8..50 {
        association.send(server, &[number]);
        assert_eq!(association.answer(server), [number]);
    }
    is_over.store(true, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
    proxy.stop();
}
