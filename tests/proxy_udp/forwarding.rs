//! `bench proxy serve --forward-udp`: datagrams of every kind pass in their order with their lengths, and with DSCP and ECN.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::network::{in_own_network, ip};
use crate::common::python::printed;
use crate::common::{NOTICED, start, until};
use crate::udp_proxy::{Proxy, client, echo, received, send_run, socket};
use wirebench::sys::datagrams::{Arrivals, Departure, Departures, connect, listen};

on_both_engines!(
    datagrams_of_every_length_pass_both_ways,
    boundaries_of_runs_survive_both_ways,
    datagrams_of_one_batch_leave_in_their_order,
    runs_of_one_batch_leave_in_their_order_both_ways,
    answers_come_from_the_address_that_the_client_asked,
    ipv6_and_ipv4_clients_reach_a_server_of_either_family,
    ecn_and_dscp_survive_both_ways,
    proxy_header_precedes_the_first_datagram_of_a_flow,
    datagrams_beyond_the_path_mtu_arrive_whole,
);

fn datagrams_of_every_length_pass_both_ways(engine: Engine) {
    // The flow ends by itself.
    let proxy = Proxy::start(engine, echo(false), &["--drain-timeout", "30s"]);
    let client = client(proxy.address);
    for length in [0, 1, 1_000, 1_472, 1_473, 9_000, 65_507] {
        let sent: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        client.send(&sent).unwrap();
        assert!(received(&client) == sent, "{length}");
    }
    proxy.wait_for("udp_datagrams_total{to=\"client\"}", 7);
    let summary = proxy.stop().stdout;
    assert!(
        summary.contains("UDP flows   1, 1 idle for too long\n"),
        "{summary}"
    );
    let counts = "datagrams   7 (78,453 bytes) to servers, 7 (78,453 bytes) to clients\n";
    assert!(summary.contains(counts), "{summary}");
    assert!(!summary.contains("connections"), "{summary}");
}

fn boundaries_of_runs_survive_both_ways(engine: Engine) {
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(engine, server.local_addr().unwrap(), &[]);
    let client = client(proxy.address);
    let bytes: Vec<u8> = (0..30_500).map(|n| (n % 253) as u8).collect();
    send_run(&client, &bytes, 1_000, None);
    let mut all = Vec::new();
    for number in 0..31 {
        let datagram = received(&server);
        assert_eq!(datagram.len(), if number < 30 { 1_000 } else { 500 });
        all.extend(datagram);
    }
    assert!(all == bytes);
    // One message in, one message out.
    proxy.wait_for("udp_messages_total{to=\"server\"}", 1);
    proxy.wait_for("udp_datagrams_total{to=\"server\"}", 31);
    client.send(b"who").unwrap();
    let mut one = [0; 10];
    let (_, flow) = server.recv_from(&mut one).unwrap();
    send_run(&server, &bytes, 1_200, Some(flow));
    let mut all = Vec::new();
    for number in 0..26 {
        let datagram = received(&client);
        assert_eq!(datagram.len(), if number < 25 { 1_200 } else { 500 });
        all.extend(datagram);
    }
    assert!(all == bytes);
    proxy.wait_for("udp_messages_total{to=\"client\"}", 1);
    proxy.stop();
}

fn datagrams_of_one_batch_leave_in_their_order(engine: Engine) {
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(engine, server.local_addr().unwrap(), &[]);
    let clients = [client(proxy.address), client(proxy.address)];
    let sizes = [100, 100, 100, 40, 100, 0, 100, 101, 100, 100];
    for (number, size) in (0u8..).zip(sizes) {
        for (who, client) in (0u8..).zip(&clients) {
            let mut datagram = vec![who, number];
            datagram.resize(size, 7);
            client.send(&datagram).unwrap();
        }
    }
    let mut lengths = [Vec::new(), Vec::new()];
    let mut ports = Vec::new();
    for _ in 0..2 * sizes.len() {
        let mut bytes = [0; 200];
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        if !ports.contains(&from) {
            ports.push(from);
        }
        lengths[usize::from(from != ports[0])].push(length);
    }
    assert_eq!(ports.len(), 2);
    assert!(
        lengths.iter().all(|lengths| *lengths == sizes),
        "{lengths:?}"
    );
    proxy.stop();
}

/// Sends datagrams of one flow that form several runs, each datagram with its number.
fn send_runs(socket: &UdpSocket, to: Option<SocketAddr>) {
    for (run, size) in (0..12).zip([300usize, 300, 500, 200].iter().cycle()) {
        let datagrams = (0..5).flat_map(|number| {
            let mut datagram = vec![run * 5 + number];
            // The last one is shorter, so that no other datagram can follow in its run.
            datagram.resize(size - usize::from(number == 4), 7);
            datagram
        });
        let bytes: Vec<u8> = datagrams.collect();
        send_run(socket, &bytes, *size as u16, to);
    }
}

#[track_caller]
fn assert_in_order(socket: &UdpSocket) {
    let numbers: Vec<u8> = (0..60).map(|_| received(socket)[0]).collect();
    assert_eq!(numbers, (0..60).collect::<Vec<u8>>());
}

fn runs_of_one_batch_leave_in_their_order_both_ways(engine: Engine) {
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(engine, server.local_addr().unwrap(), &[]);
    let client = client(proxy.address);
    client.send(b"open").unwrap();
    let (_, flow) = server.recv_from(&mut [0; 10]).unwrap();
    for _ in 0..3 {
        // They arrive together, as the proxy does not run.
        proxy.program.signal("STOP");
        send_runs(&client, None);
        send_runs(&server, Some(flow));
        proxy.program.signal("CONT");
        assert_in_order(&server);
        assert_in_order(&client);
    }
    proxy.wait_for("udp_messages_total{to=\"client\"}", 36);
    proxy.stop();
}

fn answers_come_from_the_address_that_the_client_asked(engine: Engine) {
    let proxy = Proxy::on(engine, "0.0.0.0:0", &echo(false).to_string(), &[]);
    for asked in ["127.0.0.1", "127.0.0.9"] {
        let client = client(SocketAddr::new(
            asked.parse().unwrap(),
            proxy.address.port(),
        ));
        client.send(b"ping").unwrap();
        assert_eq!(received(&client), b"ping");
    }
    // To another address, a client socket has another flow.
    let one = socket("127.0.0.1:0");
    for asked in ["127.0.0.1", "127.0.0.9"] {
        one.send_to(b"ping", (asked, proxy.address.port())).unwrap();
        let (_, from) = one.recv_from(&mut [0; 10]).unwrap();
        assert_eq!(from.ip().to_string(), asked);
    }
    assert_eq!(proxy.value("udp_flows_opened_total"), 4);
    proxy.stop();
}

fn ipv6_and_ipv4_clients_reach_a_server_of_either_family(engine: Engine) {
    if UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this host has no IPv6");
        return;
    }
    let server = socket("[::1]:0");
    let proxy = Proxy::on(
        engine,
        "[::]:0",
        &server.local_addr().unwrap().to_string(),
        &[],
    );
    for (local, asked) in [("127.0.0.1:0", "127.0.0.5"), ("[::1]:0", "::1")] {
        let client = socket(local);
        let to = SocketAddr::new(asked.parse().unwrap(), proxy.address.port());
        client.connect(to).unwrap();
        send_run(&client, &[5; 2_500], 1_000, None);
        let mut bytes = [0; 2_000];
        let mut from = None;
        for length in [1_000, 1_000, 500] {
            let (received, source) = server.recv_from(&mut bytes).unwrap();
            assert_eq!(received, length);
            from = Some(source);
        }
        server.send_to(b"answer", from.unwrap()).unwrap();
        assert_eq!(received(&client), b"answer");
    }
    // Logged by its IPv4 address.
    proxy.program.signal("TERM");
    let lines = proxy.lines(2);
    let clients: Vec<_> = lines
        .iter()
        .map(|line| line["client"].as_str().unwrap())
        .collect();
    assert!(
        clients
            .iter()
            .any(|client| client.starts_with("127.0.0.1:")),
        "{clients:?}"
    );
}

fn ecn_and_dscp_survive_both_ways(engine: Engine) {
    let server = listen("127.0.0.1:0".parse().unwrap(), false, false).unwrap();
    let proxy = Proxy::start(engine, server.local_addr().unwrap(), &[]);
    let client = connect(proxy.address).unwrap();
    let mut arrivals = Arrivals::new(4);
    let mut departures = Departures::new(1);
    let mut exchange = |from: &UdpSocket, at: &UdpSocket, to, tos| {
        let run = Departure {
            parts: [[9u8; 2_500].as_slice()].into_iter(),
            segment: 1_000,
            to,
            from: None,
            tos,
        };
        let sent = departures.send(from.as_fd(), false, [run].into_iter());
        assert_eq!(sent.unwrap(), 1);
        until("a run is received", || {
            arrivals
                .receive(at.as_fd(), 0, 4)
                .is_ok_and(|count| count == 1)
        });
        let arrival = arrivals.get(0).unwrap();
        assert_eq!((arrival.bytes.len(), arrival.segment), (2_500, 1_000));
        assert_eq!(arrival.tos, tos);
        arrival.source
    };
    let mut flow = None;
    for tos in [0, 1, 2, 3, 0xb8 | 2] {
        flow = exchange(&client, &server, None, tos);
    }
    for tos in [3, 0, 0xb8] {
        exchange(&server, &client, flow, tos);
    }
    proxy.stop();
}

fn proxy_header_precedes_the_first_datagram_of_a_flow(engine: Engine) {
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(
        engine,
        server.local_addr().unwrap(),
        &["--send-proxy", "v2"],
    );
    let client = client(proxy.address);
    send_run(&client, &[6; 250], 100, None);
    let first = received(&server);
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\x7f\0\0\x01\x7f\0\0\x01".to_vec();
    header.extend(client.local_addr().unwrap().port().to_be_bytes());
    header.extend(proxy.address.port().to_be_bytes());
    header.extend([6; 100]);
    assert_eq!(first, header);
    assert_eq!(received(&server), [6; 100]);
    assert_eq!(received(&server), [6; 50]);
    client.send(b"next").unwrap();
    assert_eq!(received(&server), b"next");
    proxy.stop();
}

/// Sends groups of datagrams that the device is too narrow for, to the proxy and back, and prints their lengths.
const NARROW: &str = "
import socket
server, client = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
for each in (server, client): each.settimeout(20)
server.bind(('127.0.0.1', 9000))
client.connect(('127.0.0.1', 9001))
for group in range(5):
    for n in range(20): client.send(bytes([n]) * 2000)
    for n in range(20):
        data, flow = server.recvfrom(65536)
        assert data == bytes([n]) * 2000
    for n in range(20): server.sendto(bytes([n]) * 3000, flow)
    for n in range(20): assert client.recv(65536) == bytes([n]) * 3000
print('all')
";

fn datagrams_beyond_the_path_mtu_arrive_whole(engine: Engine) {
    in_own_network(|| {
        ip("link set lo mtu 1500");
        let args = "proxy serve --forward-udp 127.0.0.1:9000 --listen-udp 127.0.0.1:9001";
        let mut program = start(args.split(' ').chain(engine.options()));
        program.line(|line| line.starts_with("forwarding UDP from "));
        let Some(printed) = printed(NARROW) else {
            return;
        };
        assert_eq!(printed, "all\n");
        program.signal("TERM");
        let summary = program.wait(NOTICED).done().stdout;
        let counts = "datagrams   100 (200,000 bytes) to servers, 100 (300,000 bytes) to clients\n";
        assert!(summary.contains(counts), "{summary}");
    });
}
