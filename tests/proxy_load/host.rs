//! Limits of this host: errors have advice, and the other results are kept.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::common::network::in_own_network;
use crate::common::{PATIENCE, Running, bench, start};
use crate::{KEPT, count, load, only, origin};

#[test]
fn streams_without_a_file_are_counted() {
    let (_origin, origin) = origin();
    let bench = env!("CARGO_BIN_EXE_bench");
    // Streams with a file send; each stream without one is an error of this host.
    let line = format!(
        "ulimit -n 40 && exec {bench} proxy load --origin {origin} --scenario bulk --streams 60 --mb 6 --json - --no-save \
         --repeat 1 --warmup 0s"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]);
    let finished = Running::new(shell).wait(PATIENCE);
    let record: Value = serde_json::from_str(&finished.stdout).unwrap();
    let run = only(&record, "direct");
    let (right, local) = (run["requests"].as_u64().unwrap(), count(&run, "local"));
    assert!(right > 0 && local > 20, "{run:#}");
    assert_eq!(
        (right + local, count(&run, "total")),
        (60, local),
        "{run:#}"
    );
    assert_eq!(run["bytes"], right * 100_000, "{run:#}");
    finished.done();
}

#[test]
fn requests_without_a_file_have_advice_and_keep_the_others() {
    let (_origin, origin) = origin();
    let bench = env!("CARGO_BIN_EXE_bench");
    let line = format!(
        "ulimit -n 40 && exec {bench} proxy load --origin {origin} --scenario request-response --connections 60 --json - --no-save \
         --repeat 1 --duration 100ms"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]);
    let finished = Running::new(shell).wait(PATIENCE);
    let record: Value = serde_json::from_str(&finished.stdout).unwrap();
    let run = only(&record, "direct");
    assert!(run["requests"].as_u64().unwrap() > 0, "{run:#}");
    assert!(count(&run, "local") > 0, "{run:#}");
    assert_eq!(count(&run, "local"), count(&run, "total"), "{run:#}");
    assert!(run["warnings"].to_string().contains("ulimit -n"), "{run:#}");
    finished.done();
}

#[test]
fn load_generator_without_a_file_fails_with_advice() {
    let bench = env!("CARGO_BIN_EXE_bench");
    let line = format!(
        "ulimit -n 4 && exec {bench} proxy load --origin 127.0.0.1:9 --no-save --repeat 1 --duration 100ms"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]);
    let finished = Running::new(shell).wait(PATIENCE);
    finished.failed(3, &["Too many open files", "ulimit -n"]);
}

#[test]
fn connection_that_is_not_answered_has_advice() {
    // The kernel drops requests for connections while the queue of accepted ones is full.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    full.listen(0).unwrap();
    let via = full.local_addr().unwrap().as_socket().unwrap();
    let _first = TcpStream::connect(via).unwrap();
    let options = format!("{KEPT} --no-direct --duration 50ms --timeout 100ms --warmup 0s");
    let (record, finished) = load(via, &options);
    assert!(count(&only(&record, "proxied"), "timeout") > 0);
    finished.failed(3, &["was not established; check the address, firewalls"]);
}

/// Runs `body` in a network where all connections start at `ports`.
fn with_ports(ports: &str, body: impl FnOnce() + Send) {
    in_own_network(|| {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", ports).unwrap();
        body();
    });
}

#[test]
fn requests_without_a_port_have_advice_and_keep_the_others() {
    with_ports("40000 40003", || {
        let mut origin = start("proxy origin --listen 127.0.0.1:9311 --quiet".split(' '));
        origin.listening();
        let options = "proxy load --origin 127.0.0.1:9311 --scenario request-response --connections 20 --json - --no-save \
             --repeat 1 --duration 100ms";
        let finished = bench(options.split_whitespace());
        let record: Value = serde_json::from_str(&finished.stdout).unwrap();
        let run = only(&record, "direct");
        assert!(run["requests"].as_u64().unwrap() > 0, "{run:#}");
        assert!(count(&run, "local") > 0, "{run:#}");
        let warnings = run["warnings"].to_string();
        assert!(warnings.contains("ip_local_port_range"), "{run:#}");
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    });
}

/// With one port for all connections, a client that connects to that port connects to itself.
fn with_one_port(body: impl FnOnce() + Send) {
    with_ports("40000 40000", body);
}

#[test]
fn a_connection_to_itself_is_refused() {
    with_one_port(connections_to_itself_are_refused);
}

fn connections_to_itself_are_refused() {
    for (scenario, connections) in [
        ("connect", "--connections 1"),
        ("request-response", "--connections 1"),
        ("bulk", ""),
    ] {
        let options = format!(
            "proxy load --origin 127.0.0.1:40000 --scenario {scenario} {connections} --duration 100ms --warmup 0s --repeat 1 \
             --json - --no-save"
        );
        let finished = bench(options.split_whitespace());
        let record: Value = serde_json::from_str(&finished.stdout).unwrap();
        let run = only(&record, "direct");
        assert_eq!(run["requests"], 0, "{run:#}");
        assert!(count(&run, "connect_refused") > 0, "{run:#}");
        assert_eq!(
            count(&run, "connect_refused"),
            count(&run, "total"),
            "{run:#}"
        );
        finished.failed(3, &["connect_refused"]);
    }
}

#[test]
fn a_message_is_not_sent_to_itself() {
    let options = "proxy send --proxy 127.0.0.1:40000 --server 127.0.0.1:9 ping";
    with_one_port(|| {
        bench(options.split(' ')).failed(3, &["cannot connect", "refused"]);
    });
}
