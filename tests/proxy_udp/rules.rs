//! `bench proxy serve --forward-udp`: lists, names and options.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{NOTICED, bench, start};
use crate::udp_proxy::{Proxy, client, echo, received, receives_nothing, socket};

on_both_engines!(
    blocked_server_gets_nothing_and_a_reload_closes_its_flows,
    dry_run_logs_what_the_lists_would_block,
    server_is_looked_up_by_name,
    connections_are_forwarded_beside_datagrams_on_one_port,
);

fn blocked_server_gets_nothing_and_a_reload_closes_its_flows(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "192.0.2.0/24\n").unwrap();
    let list_arg = list.to_str().unwrap().to_owned();
    let server = socket("127.0.0.1:0");
    let proxy = Proxy::start(
        engine,
        server.local_addr().unwrap(),
        &["--blocklist", &list_arg],
    );
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

fn dry_run_logs_what_the_lists_would_block(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.txt");
    fs::write(&list, "127.0.0.0/8\n").unwrap();
    let lists = ["--blocklist", list.to_str().unwrap(), "--dry-run"];
    let proxy = Proxy::start(engine, echo(false), &lists);
    let client = client(proxy.address);
    client.send(b"x").unwrap();
    assert_eq!(received(&client), b"x");
    proxy.program.signal("TERM");
    let line = &proxy.lines(1)[0];
    assert_eq!(line["decision"], "would_block");
}

fn server_is_looked_up_by_name(engine: Engine) {
    let server = echo(false);
    let name = format!("localhost:{}", server.port());
    let proxy = Proxy::on(engine, "127.0.0.1:0", &name, &[]);
    let client = client(proxy.address);
    // Sent before the name is looked up, perhaps. It waits.
    client.send(b"early").unwrap();
    assert_eq!(received(&client), b"early");
    proxy.stop();
    let unknown = Proxy::on(engine, "127.0.0.1:0", "nothing.invalid:53", &[]);
    let lost = self::client(unknown.address);
    lost.send(b"lost").unwrap();
    unknown.wait_for("udp_dropped_datagrams_total{cause=\"unreachable\"}", 1);
    unknown.stop();
}

fn connections_are_forwarded_beside_datagrams_on_one_port(engine: Engine) {
    let tcp_server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to, udp_to) = (tcp_server.local_addr().unwrap(), echo(false));
    let mut program = start(
        [
            "proxy",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--forward",
            &to.to_string(),
            "--forward-udp",
            &udp_to.to_string(),
        ]
        .into_iter()
        .chain(engine.options()),
    );
    let address = program.listening();
    let line = program.line(|line| line.starts_with("forwarding UDP from "));
    assert_eq!(line, format!("forwarding UDP from {address} to {udp_to}"));
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

#[test]
fn a_server_that_is_the_proxy_and_impossible_options_are_refused() {
    let port = socket("127.0.0.1:0").local_addr().unwrap().to_string();
    let serve = |more: &[&str]| bench(["proxy", "serve"].iter().chain(more));
    serve(&["--forward-udp", &port, "--listen-udp", &port]).failed(2, &["is the proxy itself"]);
    // In every spelling, of a proxy that listens on every address.
    let number = port.rsplit(':').next().unwrap();
    let any = format!("[::]:{number}");
    for host in ["127.0.0.2", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"] {
        let itself = format!("{host}:{number}");
        serve(&["--forward-udp", &itself, "--listen-udp", &any])
            .failed(2, &["is the proxy itself"]);
    }
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
