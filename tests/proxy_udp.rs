//! `bench proxy serve --forward-udp`: datagrams through the program over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::{Finished, NOTICED, PATIENCE, Running, bench, start, until};
use serde_json::Value;
use tempfile::TempDir;
use wirebench::sys::datagrams::{Arrivals, Departure, Departures, connect, listen};
use wirebench::sys::rlimit;

/// Long enough for a datagram that is not dropped.
const SOON: Duration = Duration::from_millis(300);

/// A proxy that forwards datagrams, with a log and metrics.
struct Proxy {
    program: Running,
    address: SocketAddr,
    metrics: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    #[track_caller]
    fn start(server: SocketAddr, more: &[&str]) -> Self {
        Self::on("127.0.0.1:0", &server.to_string(), more)
    }

    #[track_caller]
    fn on(listen: &str, server: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let log = log.to_str().unwrap();
        let ends = ["--listen-udp", listen, "--forward-udp", server];
        let outputs = ["--log", log, "--metrics", "127.0.0.1:0"];
        let fixed = ["proxy", "serve"].into_iter().chain(ends).chain(outputs);
        let mut program = start(fixed.chain(more.iter().copied()));
        let line = program.line(|line| line.starts_with("forwarding UDP from "));
        let address = line.split(' ').nth(3).unwrap().parse().unwrap();
        let line = program.line(|line| line.starts_with("metrics on "));
        let url = line.strip_prefix("metrics on http://").unwrap();
        let metrics = url.strip_suffix("/metrics").unwrap().parse().unwrap();
        Self {
            program,
            address,
            metrics,
            folder,
        }
    }

    fn value(&self, series: &str) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let prefix = format!("wirebench_proxy_{series} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
        value
            .unwrap_or_else(|| panic!("no {series} in:\n{page}"))
            .parse()
            .unwrap()
    }

    #[track_caller]
    fn wait_for(&self, series: &str, value: u64) {
        until(&format!("{series} is {value}"), || {
            self.value(series) == value
        });
    }

    fn dropped(&self, cause: &str) -> u64 {
        self.value(&format!("udp_dropped_datagrams_total{{cause=\"{cause}\"}}"))
    }

    /// The lines of the log, once there are so many.
    #[track_caller]
    fn lines(&self, count: usize) -> Vec<Value> {
        let mut lines = Vec::new();
        until(&format!("{count} lines are logged"), || {
            let text = fs::read_to_string(self.folder.path().join("access.log")).unwrap();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let each = whole
                .lines()
                .map(|line| serde_json::from_str(line).unwrap());
            lines = each.collect();
            lines.len() >= count
        });
        lines
    }

    #[track_caller]
    fn stop(self) -> Finished {
        self.program.signal("TERM");
        self.program.wait(NOTICED).done()
    }
}

fn socket(local: &str) -> UdpSocket {
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn client(to: SocketAddr) -> UdpSocket {
    let client = socket("127.0.0.1:0");
    client.connect(to).unwrap();
    client
}

fn received(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65_536];
    let length = socket.recv(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

fn receives_nothing(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(SOON)).unwrap();
    let outcome = socket.recv(&mut [0; 100]);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Sends each datagram back, with its source's port in front if `named`. Its thread ends with the test process.
fn echo(named: bool) -> SocketAddr {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = vec![0; 65_536];
        while let Ok((length, from)) = server.recv_from(&mut bytes) {
            let mut answer = match named {
                true => from.port().to_be_bytes().to_vec(),
                false => Vec::new(),
            };
            answer.extend(&bytes[..length]);
            server.send_to(&answer, from).unwrap();
        }
    });
    address
}

/// Sends a run of datagrams, the last shorter.
fn send_run(socket: &UdpSocket, bytes: &[u8], segment: u16, to: Option<SocketAddr>) {
    let run = Departure {
        parts: [bytes].into_iter(),
        segment,
        to,
        from: None,
        tos: 0,
    };
    let sent = Departures::new(1).send(socket.as_fd(), false, [run].into_iter());
    assert_eq!(sent.unwrap(), 1);
}

#[test]
fn datagrams_of_every_length_pass_both_ways() {
    let proxy = Proxy::start(echo(false), &[]);
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

#[test]
fn boundaries_of_runs_survive_both_ways() {
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(server.local_addr().unwrap(), &[]);
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

#[test]
fn datagrams_of_one_batch_leave_in_their_order() {
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(server.local_addr().unwrap(), &[]);
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

#[test]
fn every_client_has_its_own_flow_and_answers() {
    for threads in ["1", "2"] {
        let proxy = Proxy::start(echo(true), &["--threads", threads]);
        let clients: Vec<_> = (0..100).map(|_| client(proxy.address)).collect();
        let mut ports = Vec::new();
        for round in 0u8..3 {
            for (number, client) in (0u8..).zip(&clients) {
                client.send(&[round, number]).unwrap();
            }
            for (number, client) in (0u8..).zip(&clients) {
                let answer = received(client);
                assert_eq!(answer[2..], [round, number]);
                ports.push(answer[..2].to_vec());
            }
        }
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 100);
        proxy.wait_for("udp_flows_open", 100);
        let summary = proxy.stop().stdout;
        assert!(summary.contains("UDP flows   100, "), "{summary}");
    }
}

#[test]
fn flows_over_a_limit_are_dropped_and_counted() {
    let limits = ["--max-udp-flows", "3", "--max-udp-flows-per-client", "2"];
    let proxy = Proxy::start(echo(false), &limits);
    let clients: Vec<_> = (0..3).map(|_| client(proxy.address)).collect();
    for client in &clients[..2] {
        client.send(b"in").unwrap();
        assert_eq!(received(client), b"in");
    }
    clients[2].send(b"out").unwrap();
    proxy.wait_for("udp_dropped_datagrams_total{cause=\"over_limit\"}", 1);
    // Another address has its own count, up to the limit of all.
    let other = socket("127.0.0.2:0");
    other.connect(proxy.address).unwrap();
    other.send(b"in").unwrap();
    assert_eq!(received(&other), b"in");
    let late = socket("127.0.0.3:0");
    late.connect(proxy.address).unwrap();
    late.send(b"out").unwrap();
    proxy.wait_for("udp_dropped_datagrams_total{cause=\"over_limit\"}", 2);
    // Open flows are not affected.
    clients[0].send(b"still in").unwrap();
    assert_eq!(received(&clients[0]), b"still in");
    let summary = proxy.stop().stdout;
    assert!(
        summary.contains("; dropped 2 over the limit\n"),
        "{summary}"
    );
}

#[test]
fn idle_flow_is_closed_and_logged() {
    let server = echo(true);
    let proxy = Proxy::start(server, &["--udp-idle-timeout", "300ms"]);
    let client = client(proxy.address);
    client.send(b"one").unwrap();
    let first = received(&client);
    let line = &proxy.lines(1)[0];
    let from = client.local_addr().unwrap().to_string();
    for (key, value) in [
        ("client", from.as_str()),
        ("protocol", "udp"),
        ("asked", &server.to_string()),
        ("server", &server.to_string()),
        ("decision", "allowed"),
        ("ended", "idle_timeout"),
    ] {
        assert_eq!(line[key], value, "{key} of {line:#}");
    }
    for (key, value) in [
        ("to_server", 3),
        ("to_client", 5),
        ("datagrams_to_server", 1),
        ("datagrams_to_client", 1),
    ] {
        assert_eq!(line[key], value, "{key} of {line:#}");
    }
    assert!(line["seconds"].as_f64().unwrap() >= 0.3, "{line:#}");
    assert_eq!(line["drops"]["refused"], 0);
    proxy.wait_for("udp_flows_open", 0);
    client.send(b"two").unwrap();
    assert_ne!(received(&client)[..2], first[..2], "the old socket is used");
    proxy.wait_for("udp_flows_ended_total{ending=\"idle_timeout\"}", 2);
    proxy.stop();
}

#[test]
fn answers_keep_a_flow_open_and_strangers_reach_no_client() {
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(server.local_addr().unwrap(), &["--udp-idle-timeout", "1s"]);
    let client = client(proxy.address);
    client.send(b"subscribe").unwrap();
    let mut bytes = [0; 20];
    let (_, flow) = server.recv_from(&mut bytes).unwrap();
    for _ in 0..6 {
        thread::sleep(SOON);
        server.send_to(b"news", flow).unwrap();
        assert_eq!(received(&client), b"news");
    }
    let stranger = socket("127.0.0.1:0");
    stranger.send_to(b"forged", flow).unwrap();
    assert!(receives_nothing(&client));
    assert_eq!(proxy.value("udp_flows_opened_total"), 1);
    proxy.stop();
}

#[test]
fn refusals_of_the_server_are_counted_until_it_is_back() {
    let server = socket("127.0.0.1:0");
    let address = server.local_addr().unwrap();
    drop(server);
    let proxy = Proxy::start(address, &[]);
    let client = client(proxy.address);
    client.send(b"lost").unwrap();
    proxy.wait_for("udp_dropped_datagrams_total{cause=\"refused\"}", 1);
    let server = socket(&address.to_string());
    client.send(b"found").unwrap();
    assert_eq!(received(&server), b"found");
    assert_eq!(proxy.value("udp_flows_opened_total"), 1);
    let summary = proxy.stop().stdout;
    assert!(summary.contains("; dropped 1 refused\n"), "{summary}");
}

#[test]
fn blocked_server_gets_nothing_and_a_reload_closes_its_flows() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "192.0.2.0/24\n").unwrap();
    let list_arg = list.to_str().unwrap().to_owned();
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(server.local_addr().unwrap(), &["--blocklist", &list_arg]);
    let client = client(proxy.address);
    client.send(b"allowed").unwrap();
    assert_eq!(received(&server), b"allowed");
    fs::write(&list, "192.0.2.0/24\n127.0.0.0/8\n").unwrap();
    proxy.program.signal("HUP");
    proxy.wait_for("list_reloads_total{outcome=\"ok\"}", 1);
    client.send(b"blocked").unwrap();
    proxy.wait_for("udp_dropped_datagrams_total{cause=\"blocked\"}", 1);
    let line = &proxy.lines(1)[0];
    assert_eq!(
        (&line["ended"], &line["decision"]),
        (&"blocked".into(), &"blocked".into())
    );
    assert_eq!(line["entry"], format!("{list_arg}:2 (127.0.0.0/8)"));
    assert!(receives_nothing(&server));
    fs::write(&list, "192.0.2.0/24\n").unwrap();
    proxy.program.signal("HUP");
    proxy.wait_for("list_reloads_total{outcome=\"ok\"}", 2);
    client.send(b"allowed again").unwrap();
    assert_eq!(received(&server), b"allowed again");
    proxy.program.signal("TERM");
    let finished = proxy.program.wait(NOTICED);
    assert_eq!(finished.code, Some(0));
}

#[test]
fn dry_run_logs_what_the_lists_would_block() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "127.0.0.0/8\n").unwrap();
    let lists = ["--blocklist", list.to_str().unwrap(), "--dry-run"];
    let proxy = Proxy::start(echo(false), &lists);
    let client = client(proxy.address);
    client.send(b"x").unwrap();
    assert_eq!(received(&client), b"x");
    proxy.program.signal("TERM");
    let line = &proxy.lines(1)[0];
    assert_eq!(line["decision"], "would_block");
}

#[test]
fn draining_proxy_serves_open_flows_only() {
    let proxy = Proxy::start(echo(false), &["--drain-timeout", "3s"]);
    let [open, late] = [(); 2].map(|()| client(proxy.address));
    open.send(b"before").unwrap();
    assert_eq!(received(&open), b"before");
    proxy.program.signal("TERM");
    proxy.wait_for("draining", 1);
    // The thread may have to wake up first.
    until("no more flows are opened", || {
        late.send(b"late").unwrap();
        proxy.dropped("stopping") > 0
    });
    let mut answers = 0;
    open.set_read_timeout(Some(SOON)).unwrap();
    until("the flow is cut off", || {
        let answer = open.send(b"during").and_then(|_| open.recv(&mut [0; 100]));
        answers += u32::from(answer.is_ok());
        answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(answers > 10, "{answers}");
    let line = &proxy.lines(1)[0];
    assert_eq!(line["ended"], "stopped");
    assert!(line["datagrams_to_server"].as_u64().unwrap() > 10);
    let summary = proxy.program.wait(NOTICED).done().stdout;
    assert!(
        summary.contains("1 cut off\n") || summary.contains("1 cut off,"),
        "{summary}"
    );
    assert!(summary.contains(" too late"), "{summary}");
}

#[test]
fn answers_come_from_the_address_that_the_client_asked() {
    let proxy = Proxy::on("0.0.0.0:0", &echo(false).to_string(), &[]);
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

#[test]
fn ipv6_and_ipv4_clients_reach_a_server_of_either_family() {
    if UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this host has no IPv6");
        return;
    }
    let server = socket("[::1]:0");
    let proxy = Proxy::on("[::]:0", &server.local_addr().unwrap().to_string(), &[]);
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

#[test]
fn ecn_and_dscp_survive_both_ways() {
    let server = listen("127.0.0.1:0".parse().unwrap(), false, false).unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap(), &[]);
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

#[test]
fn proxy_header_precedes_the_first_datagram_of_a_flow() {
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(server.local_addr().unwrap(), &["--send-proxy", "v2"]);
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

#[test]
fn connections_are_forwarded_beside_datagrams_on_one_port() {
    let tcp_server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to, udp_to) = (tcp_server.local_addr().unwrap(), echo(false));
    for engine in ["mio", "uring"] {
        let mut program = start([
            "proxy",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--forward",
            &to.to_string(),
            "--forward-udp",
            &udp_to.to_string(),
            "--engine",
            engine,
        ]);
        if engine == "uring" && common::engine::available("--engine uring").is_none() {
            continue;
        }
        let address = program.listening();
        let line = program.line(|line| line.starts_with("forwarding UDP from "));
        assert_eq!(line, format!("forwarding UDP from {address} to {udp_to}"));
        if engine == "uring" {
            program.line(|line| line.starts_with("UDP is forwarded over epoll"));
        }
        let datagrams = client(address);
        datagrams.send(b"datagram").unwrap();
        assert_eq!(received(&datagrams), b"datagram");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"stream").unwrap();
        drop(stream);
        let mut text = String::new();
        tcp_server
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "stream");
        program.signal("TERM");
        let summary = program.wait(NOTICED).done().stdout;
        assert!(summary.contains("connections 1, 1 finished"), "{summary}");
        assert!(summary.contains("UDP flows   1, "), "{summary}");
    }
}

#[test]
fn server_is_looked_up_by_name() {
    let server = echo(false);
    let name = format!("localhost:{}", server.port());
    let proxy = Proxy::on("127.0.0.1:0", &name, &[]);
    let client = client(proxy.address);
    // Sent before the name is looked up, perhaps. It waits.
    client.send(b"early").unwrap();
    assert_eq!(received(&client), b"early");
    proxy.stop();
    let unknown = Proxy::on("127.0.0.1:0", "nothing.invalid:53", &[]);
    let lost = self::client(unknown.address);
    lost.send(b"lost").unwrap();
    unknown.wait_for("udp_dropped_datagrams_total{cause=\"unreachable\"}", 1);
    unknown.stop();
}

#[test]
fn a_server_that_is_the_proxy_and_impossible_options_are_refused() {
    let port = socket("127.0.0.1:0").local_addr().unwrap().to_string();
    let serve = |more: &[&str]| bench(["proxy", "serve"].iter().chain(more));
    serve(&["--forward-udp", &port, "--listen-udp", &port]).failed(2, &["is the proxy itself"]);
    serve(&["--forward-udp", &port]).failed(2, &["--listen"]);
    serve(&["--listen-udp", &port]).failed(2, &["--forward-udp"]);
    let ends = [
        "--forward-udp",
        "127.0.0.1:1",
        "--listen-udp",
        "127.0.0.1:0",
    ];
    let with = |more: &[&'static str]| {
        let all: Vec<&str> = ends.iter().chain(more).copied().collect();
        serve(&all)
    };
    with(&["--send-proxy", "v1"]).failed(2, &["--send-proxy v2"]);
    with(&["--accept-proxy"]).failed(2, &["--accept-proxy"]);
    serve(&["--listen", "127.0.0.1:0", "--max-udp-flows", "3"]).failed(2, &["--forward-udp"]);
    let used = socket("127.0.0.1:0");
    let used_address = used.local_addr().unwrap().to_string();
    for threads in ["1", "2"] {
        serve(&[
            "--forward-udp",
            "127.0.0.1:1",
            "--listen-udp",
            &used_address,
            "--threads",
            threads,
        ])
        .failed(3, &["cannot listen on", "--listen-udp"]);
    }
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

#[test]
fn datagrams_beyond_the_path_mtu_arrive_whole() {
    let script = "ip link set lo up mtu 1500 && exec \"$0\" \"$@\"";
    let trial = Command::new("unshare")
        .args(["--net", "sh", "-c", script, "python3", "-c", "pass"])
        .status();
    if !trial.is_ok_and(|status| status.success()) {
        println!("skipped: no network namespace can be had here, or no python3");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", script, env!("CARGO_BIN_EXE_bench")]);
    let ends = [
        "--forward-udp",
        "127.0.0.1:9000",
        "--listen-udp",
        "127.0.0.1:9001",
    ];
    let mut program = Running::new({
        command.args(["proxy", "serve"]).args(ends);
        command
    });
    program.line(|line| line.starts_with("forwarding UDP from "));
    let process = program.id().to_string();
    let output = Command::new("nsenter")
        .args(["--net", "--target", &process, "--", "python3", "-c", NARROW])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8(text).unwrap(), "all\n");
    program.signal("TERM");
    let summary = program.wait(NOTICED).done().stdout;
    let counts = "datagrams   100 (200,000 bytes) to servers, 100 (300,000 bytes) to clients\n";
    assert!(summary.contains(counts), "{summary}");
}

/// Kilobytes of memory that belong to no file. Pages of a program that was just linked are dirty too, and become private when
/// other processes end.
fn anonymous_kb(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("Anonymous:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1);
    kilobytes.unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_flows_take_little_memory_and_none_grows() {
    let files = rlimit::open_files().unwrap().hard.unwrap_or(u64::MAX);
    let flows = usize::try_from(files / 2).unwrap_or(usize::MAX).min(10_000);
    let server = socket("127.0.0.1:0");
    let limit = flows.to_string();
    let proxy = Proxy::start(server.local_addr().unwrap(), &["--max-udp-flows", &limit]);
    let first = client(proxy.address);
    first.send(b"warm").unwrap();
    received(&server);
    let before = anonymous_kb(proxy.program.id());
    for number in 1..flows {
        // Each has its own port, or an address of its own: the port of a closed socket may be used again.
        let local = format!("127.{}.{}.1:0", 1 + number / 250, number % 250);
        let one = socket(&local);
        one.send_to(b"one", proxy.address).unwrap();
        received(&server);
    }
    proxy.wait_for("udp_flows_open", flows as u64);
    let grown = anonymous_kb(proxy.program.id()) - before;
    assert!(grown * 1_024 < 2_048 * flows as u64, "{grown} KB");
    println!("{} bytes a flow", grown * 1_024 / flows as u64);
    // Beyond the limit nothing grows, whatever arrives.
    let before = anonymous_kb(proxy.program.id());
    let garbage = vec![0xa5; 65_507];
    for number in 0..20_000usize {
        let one = socket(&format!("127.200.{}.{}:0", number / 250, 1 + number % 250));
        let length = number * 7 % 1_500 + usize::from(number % 500 == 0) * 60_000;
        one.send_to(&garbage[..length], proxy.address).unwrap();
    }
    until("all are dropped", || {
        proxy.dropped("over_limit") + proxy.dropped("queue_full") >= 20_000
    });
    let grown = anonymous_kb(proxy.program.id()).saturating_sub(before);
    // The pages of the batch's buffers that were not used before.
    assert!(grown < 6_000, "{grown} KB");
    first.send(b"still").unwrap();
    assert_eq!(received(&server), b"still");
    proxy.program.signal("TERM");
    let finished = proxy.program.wait(PATIENCE);
    assert_eq!(finished.code, Some(0));
}
