//! SOCKS5 UDP ASSOCIATE of `bench proxy serve`: datagrams through the program over real sockets.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use crate::associate::{
    Association, Proxy, SOON, asking, echo, header, received, receives_nothing, reply, request,
    server, socket, unspecified,
};
use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{NOTICED, PATIENCE, until};
use socket2::SockRef;
use wirebench::sys::datagrams::{Arrivals, Departure, Departures, connect, listen};

on_both_engines!(
    datagrams_of_every_length_pass_both_ways,
    boundaries_order_and_ecn_of_runs_survive_both_ways,
    one_run_may_have_many_destinations,
    order_to_one_of_many_destinations_is_kept,
    association_ends_with_its_connection_and_is_logged,
    datagrams_before_the_end_of_the_connection_arrive,
    association_without_datagrams_ends_its_connection,
    names_are_resolved_and_answers_have_addresses,
    answers_pass_from_destinations_that_were_asked,
    port_in_the_request_is_the_only_one,
    ipv6_clients_and_destinations_pass,
    ipv4_client_of_an_ipv6_listener_gets_an_ipv4_relay,
    user_signs_in_and_is_logged,
    associations_end_soon_when_the_proxy_stops,
    refused_destination_does_not_stop_the_others,
);

fn datagrams_of_every_length_pass_both_ways(engine: Engine) {
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let association = Association::open(proxy.address);
    assert_eq!(association.relay.ip(), proxy.address.ip());
    // A header is 10 bytes.
    for length in [0, 1, 1_000, 1_472, 1_473, 9_000, 65_497] {
        let sent: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        association.send(server, &sent);
        assert!(association.answer(server) == sent, "{length}");
    }
    proxy.wait_for("udp_association_datagrams_total{to=\"client\"}", 7);
    drop(association);
    proxy.wait_for("udp_associations_open", 0);
    let summary = proxy.stop().stdout;
    assert!(summary.contains("UDP associations 1\n"), "{summary}");
    let counts = "datagrams 7 (78,443 bytes) to servers, 7 (78,443 bytes) to clients\n";
    assert!(summary.contains(counts), "{summary}");
}

/// Sends a run of datagrams, the last shorter.
fn send_run(socket: &UdpSocket, bytes: &[u8], segment: u16, to: Option<SocketAddr>, tos: u8) {
    let run = Departure {
        parts: [bytes].into_iter(),
        segment,
        to,
        from: None,
        tos,
    };
    let sent = Departures::new(1).send(socket.as_fd(), false, [run].into_iter());
    assert_eq!(sent.unwrap(), 1);
}

/// The messages that a socket has once `datagrams` of `segment` bytes, and perhaps a shorter one, have arrived: the payload,
/// and the TOS of each.
fn messages(socket: &UdpSocket, bytes: usize, segment: usize) -> (Vec<u8>, Vec<u8>) {
    let mut arrivals = Arrivals::new(8);
    let (mut all, mut tos) = (Vec::new(), Vec::new());
    until("the run arrives", || {
        let count = arrivals.receive(socket.as_fd(), 0, 8).unwrap_or(0);
        for arrival in (0..count).filter_map(|slot| arrivals.get(slot)) {
            assert!(arrival.segment == segment || arrival.bytes.len() < segment);
            all.extend(arrival.bytes);
            tos.push(arrival.tos);
        }
        all.len() >= bytes
    });
    (all, tos)
}

fn boundaries_order_and_ecn_of_runs_survive_both_ways(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let any = "127.0.0.1:0".parse().unwrap();
    let server = listen(any, false, false).unwrap();
    let address = server.local_addr().unwrap();
    let mut control = asking(proxy.address, unspecified());
    let client = connect(reply(&mut control).1).unwrap();
    // 40 datagrams of 1,000 bytes and one of 17.
    let payload: Vec<u8> = (0..40_017).map(|n| (n % 253) as u8).collect();
    let framed: Vec<u8> = payload
        .chunks(1_000)
        .flat_map(|datagram| [&header(address), datagram].concat())
        .collect();
    send_run(&client, &framed, 1_010, None, 0x2e << 2 | 1);
    let (all, tos) = messages(&server, payload.len(), 1_000);
    assert!(all == payload);
    assert_eq!(tos, [0x2e << 2 | 1]);
    proxy.wait_for("udp_association_messages_total{to=\"server\"}", 1);
    proxy.wait_for("udp_association_datagrams_total{to=\"server\"}", 41);
    // A run of 64 kB is longer than one message with its headers.
    let mut one = [0; 2_000];
    client
        .send(&[header(address), b"who".to_vec()].concat())
        .unwrap();
    let mut from = None;
    until("the source is known", || {
        from = server.recv_from(&mut one).ok().map(|(_, from)| from);
        from.is_some()
    });
    let payload: Vec<u8> = (0..63_700).map(|n| (n % 249) as u8).collect();
    send_run(&server, &payload, 1_000, from, 2);
    let datagrams = payload.len().div_ceil(1_000);
    let (all, tos) = messages(&client, payload.len() + 10 * datagrams, 1_010);
    let mut bare: Vec<u8> = Vec::new();
    for datagram in all.chunks(1_010) {
        assert!(datagram.starts_with(&header(address)));
        bare.extend(&datagram[10..]);
    }
    assert!(bare == payload);
    assert!(tos.iter().all(|tos| *tos == 2) && tos.len() <= 2, "{tos:?}");
    proxy.wait_for("udp_association_datagrams_total{to=\"client\"}", 64);
    proxy.stop();
}

fn one_run_may_have_many_destinations(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let servers = [server(), server(), server()];
    let association = Association::open(proxy.address);
    let mut run = Vec::new();
    for number in 0u8..30 {
        let (_, address) = &servers[usize::from(number % 3)];
        run.extend(header(*address));
        run.extend([number; 20]);
    }
    // A header of another kind, a fragment, and garbage of the same length.
    run.extend([&[0, 0, 0, 9][..], &[1; 26]].concat());
    run.extend([&[0, 0, 1, 1][..], &[1; 26]].concat());
    run.extend([7; 30]);
    send_run(&association.socket, &run, 30, None, 0);
    for (which, (server, _)) in (0u8..).zip(&servers) {
        for number in 0..10 {
            assert_eq!(received(server), [3 * number + which; 20]);
        }
    }
    proxy.wait_for_drops("bad_header", 2);
    proxy.wait_for_drops("fragment", 1);
    drop(association);
    let line = &proxy.lines(1)[0];
    assert_eq!(line["destinations"], 3);
    assert_eq!(line["drops"]["fragment"], 1);
    assert_eq!(line["drops"]["bad_header"], 2);
    proxy.stop();
}

fn order_to_one_of_many_destinations_is_kept(engine: Engine) {
    let proxy = Proxy::start(engine, &[]);
    let others: Vec<_> = (0..20).map(|_| server()).collect();
    let (first, address) = server();
    let association = Association::open(proxy.address);
    for round in 0u8..20 {
        // Datagrams of several lengths form no runs.
        for number in 0..5 {
            association.send(address, &vec![round; 10 + number]);
        }
        for (_, other) in &others {
            association.send(*other, b"x");
        }
        for number in 5..10 {
            association.send(address, &vec![round; 10 + number]);
        }
        for number in 0..10 {
            assert_eq!(received(&first), vec![round; 10 + number]);
        }
    }
    proxy.stop();
}

fn association_ends_with_its_connection_and_is_logged(engine: Engine) {
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let association = Association::open(proxy.address);
    association.send(server, b"four");
    association.answer(server);
    // Bytes on the connection have no meaning.
    (&association.control).write_all(b"ignored").unwrap();
    association.send(server, b"fours");
    association.answer(server);
    let client = association.control.local_addr().unwrap();
    association.control.shutdown(Shutdown::Write).unwrap();
    let line = &proxy.lines(1)[0];
    let (client, server_text) = (client.to_string(), server.to_string());
    for (key, value) in [
        ("client", client.as_str()),
        ("protocol", "socks5_udp"),
        ("asked", &server_text),
        ("server", &server_text),
        ("decision", "allowed"),
        ("ended", "finished"),
    ] {
        assert_eq!(line[key], value, "{key} of {line:#}");
    }
    for (key, value) in [
        ("to_server", 9),
        ("to_client", 9),
        ("datagrams_to_server", 2),
        ("datagrams_to_client", 2),
        ("destinations", 1),
    ] {
        assert_eq!(line[key], value, "{key} of {line:#}");
    }
    assert_eq!((&association.control).read(&mut [0; 10]).unwrap(), 0);
    proxy.wait_for("udp_associations_open", 0);
    // The socket is closed.
    until("the relay refuses", || {
        let _ = association.socket.send(&header(server));
        association.socket.take_error().unwrap().is_some()
    });
    // One that is reset ends too, and what was sent before arrives.
    let association = Association::open(proxy.address);
    let (last, address) = crate::associate::server();
    association.send(address, b"last");
    SockRef::from(&association.control)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(association);
    assert_eq!(received(&last), b"last");
    assert_eq!(proxy.lines(2)[1]["ended"], "client_reset");
    assert_eq!(proxy.lines(2).len(), 2);
    proxy.stop();
}

fn datagrams_before_the_end_of_the_connection_arrive(engine: Engine) {
    // More than the proxy receives by one call, and fewer than a receive buffer has room for.
    const COUNT: u64 = 200;
    let proxy = Proxy::start(engine, &[]);
    let association = Association::open(proxy.address);
    let (last, address) = crate::associate::server();
    proxy.program.signal("STOP");
    for number in 0..COUNT {
        association.send(address, &number.to_be_bytes());
    }
    drop(association);
    proxy.program.signal("CONT");
    for number in 0..COUNT {
        assert_eq!(received(&last), number.to_be_bytes());
    }
    assert_eq!(proxy.lines(1)[0]["datagrams_to_server"], COUNT);
    proxy.stop();
}

fn association_without_datagrams_ends_its_connection(engine: Engine) {
    let (proxy, server) = (
        Proxy::start(engine, &["--idle-timeout", "1s"]),
        echo("127.0.0.1:0"),
    );
    let mut association = Association::open(proxy.address);
    for _ in 0..6 {
        thread::sleep(SOON);
        association.send(server, b"on");
        association.answer(server);
    }
    assert_eq!(proxy.value("udp_associations_open"), 1);
    // Neither garbage nor bytes on the connection prolong it.
    let begin = std::time::Instant::now();
    association.control.set_read_timeout(Some(SOON)).unwrap();
    until("the connection ends", || {
        let _ = association.socket.send(b"garbage");
        let _ = association.control.write_all(b"x");
        matches!(association.control.read(&mut [0; 1]), Ok(0))
            || proxy.value("udp_associations_open") == 0
    });
    assert!(begin.elapsed() >= Duration::from_millis(700));
    assert_eq!(proxy.lines(1)[0]["ended"], "idle_timeout");
    proxy.stop();
}

fn names_are_resolved_and_answers_have_addresses(engine: Engine) {
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let association = Association::open(proxy.address);
    // Before the lookup, during it, and after it.
    for number in 0u8..5 {
        association.send_named("localhost", server.port(), &[number]);
    }
    let mut answers: Vec<_> = (0..5).map(|_| association.answer(server)).collect();
    answers.sort();
    assert_eq!(answers, [[0], [1], [2], [3], [4]]);
    association.send_named("127.0.0.1", server.port(), b"text");
    assert_eq!(association.answer(server), b"text");
    association.send_named("no-such-name.invalid", server.port(), b"lost");
    proxy.wait_for_drops("unresolved", 1);
    association.send_named("0x7f.1", server.port(), b"lost");
    proxy.wait_for_drops("bad_header", 1);
    proxy.stop();
}

fn answers_pass_from_destinations_that_were_asked(engine: Engine) {
    for any in [false, true] {
        let options = ["--udp-answers", if any { "any" } else { "asked" }];
        let proxy = Proxy::start(engine, &options);
        let ((asked, address), (other, foreign)) = (server(), server());
        let association = Association::open(proxy.address);
        association.send(address, b"question");
        let mut bytes = [0; 20];
        let (_, from) = asked.recv_from(&mut bytes).unwrap();
        other.send_to(b"forged", from).unwrap();
        if any {
            assert_eq!(association.answer(foreign), b"forged");
        } else {
            proxy.wait_for_drops("unasked", 1);
            assert!(receives_nothing(&association.socket));
        }
        asked.send_to(b"answer", from).unwrap();
        assert_eq!(association.answer(address), b"answer");
        // Another port of the same host is another source.
        let (neighbour, _) = server();
        neighbour.send_to(b"forged", from).unwrap();
        if !any {
            proxy.wait_for_drops("unasked", 2);
        }
        proxy.stop();
    }
}

fn port_in_the_request_is_the_only_one(engine: Engine) {
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let client = socket("127.0.0.1:0".parse().unwrap());
    let from = client.local_addr().unwrap();
    for ip in ["0.0.0.0", "127.0.0.1"] {
        let mut control = asking(
            proxy.address,
            SocketAddr::new(ip.parse().unwrap(), from.port()),
        );
        let (code, relay) = reply(&mut control);
        assert_eq!(code, 0);
        let other = socket("127.0.0.1:0".parse().unwrap());
        let datagram = [header(server), ip.into()].concat();
        other.send_to(&datagram, relay).unwrap();
        client.send_to(&datagram, relay).unwrap();
        assert!(received(&client).ends_with(ip.as_bytes()));
        assert!(receives_nothing(&other));
    }
    proxy.wait_for_drops("wrong_source", 2);
    // A client behind a translator names an address and port that this host does not see.
    let control = asking(proxy.address, "192.0.2.1:9".parse().unwrap());
    let association = Association::of(control);
    association.send(server, b"translated");
    assert_eq!(association.answer(server), b"translated");
    proxy.stop();
}

fn ipv6_clients_and_destinations_pass(engine: Engine) {
    if UdpSocket::bind("[::1]:0").is_err() {
        return println!("skipped: this host has no IPv6");
    }
    let proxy = Proxy::on(engine, "[::]:0", &[]);
    let servers = [echo("[::1]:0"), echo("127.0.0.1:0")];
    for host in ["::1", "127.0.0.1"] {
        let address = SocketAddr::new(host.parse().unwrap(), proxy.address.port());
        let association = Association::open(address);
        assert_eq!(association.relay.ip(), address.ip());
        for server in servers {
            for size in [0, 1, 1_200, 20_000] {
                association.send(server, &vec![7; size]);
                assert_eq!(association.answer(server), vec![7; size]);
            }
        }
        // An IPv4-mapped destination is one of IPv4.
        let mapped = format!("[::ffff:127.0.0.1]:{}", servers[1].port());
        association.send(mapped.parse().unwrap(), b"mapped");
        assert_eq!(association.answer(servers[1]), b"mapped");
    }
    proxy.stop();
}

fn ipv4_client_of_an_ipv6_listener_gets_an_ipv4_relay(engine: Engine) {
    let Ok(_) = UdpSocket::bind("[::1]:0") else {
        return println!("skipped: this host has no IPv6");
    };
    let proxy = Proxy::on(engine, "[::]:0", &[]);
    let address = SocketAddr::new("127.0.0.3".parse().unwrap(), proxy.address.port());
    let association = Association::open(address);
    assert_eq!(association.relay.ip(), address.ip());
    let server = echo("127.0.0.1:0");
    association.send(server, b"x");
    assert_eq!(association.answer(server), b"x");
    drop(association);
    let client = proxy.lines(1)[0]["client"].as_str().unwrap().to_owned();
    assert!(client.starts_with("127.0.0.1:"), "{client}");
    proxy.stop();
}

fn user_signs_in_and_is_logged(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    fs::write(&users, "ann:secret\n").unwrap();
    let proxy = Proxy::start(engine, &["--auth-file", users.to_str().unwrap()]);
    let server = echo("127.0.0.1:0");
    let sign_in = |password: &[u8]| {
        let mut control = TcpStream::connect(proxy.address).unwrap();
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = password.len() as u8;
        let bytes = [&[5, 1, 2, 1, 3][..], b"ann", &[length], password].concat();
        control.write_all(&bytes).unwrap();
        let mut answer = [0; 4];
        control.read_exact(&mut answer).unwrap();
        (control, answer)
    };
    assert_eq!(sign_in(b"wrong").1, [5, 2, 1, 1]);
    let (mut control, answer) = sign_in(b"secret");
    assert_eq!(answer, [5, 2, 1, 0]);
    control.write_all(&request(3, unspecified())[3..]).unwrap();
    let mut bytes = [0; 10];
    control.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..4], [5, 0, 0, 1]);
    let port = u16::from_be_bytes([bytes[8], bytes[9]]);
    let client = socket("127.0.0.1:0".parse().unwrap());
    client
        .send_to(
            &[header(server), b"x".to_vec()].concat(),
            ("127.0.0.1", port),
        )
        .unwrap();
    assert!(received(&client).ends_with(b"x"));
    drop(control);
    let lines = proxy.lines(2);
    let line = lines.iter().find(|line| line["protocol"] == "socks5_udp");
    assert_eq!(line.unwrap()["user"], "ann");
    proxy.stop();
}

fn associations_end_soon_when_the_proxy_stops(engine: Engine) {
    let proxy = Proxy::start(engine, &["--drain-timeout", "30s"]);
    let server = echo("127.0.0.1:0");
    let mut idle = Association::open(proxy.address);
    let busy = Association::open(proxy.address);
    busy.send(server, b"x");
    busy.answer(server);
    proxy.program.signal("TERM");
    // An open association continues as long as it has datagrams.
    for _ in 0..8 {
        thread::sleep(SOON);
        busy.send(server, b"still");
        assert_eq!(busy.answer(server), b"still");
    }
    assert_eq!(idle.control.read(&mut [0; 1]).unwrap(), 0);
    drop(busy);
    let finished = proxy.program.wait(NOTICED).done();
    assert!(
        finished.stdout.contains("UDP associations 2\n"),
        "{}",
        finished.stdout
    );
    // After the drain time all are closed.
    let proxy = Proxy::start(engine, &["--drain-timeout", "500ms"]);
    let _open = Association::open(proxy.address);
    proxy.stop();
}

fn refused_destination_does_not_stop_the_others(engine: Engine) {
    let (proxy, server) = (Proxy::start(engine, &[]), echo("127.0.0.1:0"));
    let association = Association::open(proxy.address);
    let (closed, address) = crate::associate::server();
    drop(closed);
    for _ in 0..20 {
        association.send(address, b"to a closed port");
        association.send("255.255.255.255:9".parse().unwrap(), b"broadcast");
        association.send("224.0.0.1:9".parse().unwrap(), b"multicast");
        association.send(server, b"x");
        assert_eq!(association.answer(server), b"x");
    }
    proxy.wait_for_drops("unreachable", 40);
    // A client that refuses datagrams for a while.
    let (slow, address) = crate::associate::server();
    association.send(address, b"x");
    let mut bytes = [0; 10];
    let (_, from) = slow.recv_from(&mut bytes).unwrap();
    association.socket.connect(address).unwrap();
    for _ in 0..3 {
        slow.send_to(b"lost", from).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    association.socket.connect(association.relay).unwrap();
    slow.send_to(b"found", from).unwrap();
    assert_eq!(association.answer(address), b"found");
    proxy.stop();
}
