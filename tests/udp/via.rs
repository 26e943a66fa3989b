//! `bench udp` through relays.

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::relay::{Relay, Socks5, free_port};
use crate::common::{Results, Serve, assert_accounted, assert_identities, bench, number};
use serde_json::Value;

on_both_engines!(
    every_direction_and_mode_goes_through_a_forwarding_relay,
    every_direction_and_mode_goes_through_a_socks5_relay,
    datagrams_through_a_relay_may_be_of_several_sizes,
    bench_proxy_serve_relays_every_direction,
);

/// The only run of a command that succeeds.
#[track_caller]
fn run(options: &str) -> Value {
    let (record, _) = record(options);
    assert_eq!(record["runs"].as_array().unwrap().len(), 1);
    record["runs"][0].clone()
}

#[track_caller]
fn record(options: &str) -> (Value, String) {
    let results = Results::new();
    let out = results.arg();
    let words = ["udp", "--out", &out].into_iter();
    let finished = bench(words.chain(options.split_whitespace())).done();
    (results.record(), finished.stdout)
}

fn every_direction_and_mode_goes_through_a_forwarding_relay(engine: Engine) {
    let server = Serve::start(&[]);
    let relay = Relay::udp(server.address);
    let via = format!("udp://{}", relay.address);
    go_through(engine, &server, &via, &via, || relay.forwarded());
}

fn every_direction_and_mode_goes_through_a_socks5_relay(engine: Engine) {
    let server = Serve::start(&[]);
    let proxy = Socks5::start(Some(("ann", "secret")));
    let via = format!("socks5://ann:secret@{}", proxy.address);
    let name = format!("socks5://{}", proxy.address);
    go_through(engine, &server, &via, &name, || proxy.forwarded());
}

/// Runs all directions and modes via a relay with this name in records.
#[track_caller]
fn go_through(
    engine: Engine,
    server: &Serve,
    via: &str,
    name: &str,
    forwarded: impl Fn() -> (u64, u64),
) {
    let engine = engine.0;
    let to = server.address;
    for options in [
        "--packets 300 --pps 3k",
        "--packets 300 --pps 3k --reverse",
        "--packets 200 --pps 2k --bidir --streams 2",
        "--packets 200 --gso off",
        "--packets 200 --reverse --gso off",
        "--packets 300",
        "--packets 300 --pps 3k --clock estimate --explain",
        "--packets 300 --pps 3k --streams 10",
        "--packets 300 --pps 3k --streams 10 --reverse",
        "--packets 200 --zerocopy msg",
        "--packets 200 --timestamps kernel --reverse --dscp EF --packets-csv",
    ] {
        let before = forwarded();
        let options = format!("{engine} --to {to} --via {via} --chunk 300 {options}");
        let (record, text) = record(&options);
        let mut sent = 0;
        for run in record["runs"].as_array().unwrap() {
            assert_eq!(run["ended"], "complete", "{run:#}");
            assert_eq!(run["requested"]["via"], name);
            let header = if name.starts_with("socks5") {
                10.into()
            } else {
                Value::Null
            };
            assert_eq!(run["effective"]["relay_header"], header);
            assert_accounted(run);
            // A busy machine may be late to read a socket of the relay.
            assert!(number(run, "received.unique") > 0, "{run:#}");
            sent += number(run, "received.unique");
        }
        let is_comparison = options.contains("--bidir");
        assert!(
            is_comparison || text.contains(&format!("via {name}")),
            "{text}"
        );
        assert!(!record.to_string().contains("secret"));
        let after = forwarded();
        let forwarded = (after.0 - before.0) + (after.1 - before.1);
        assert!(forwarded >= sent, "{forwarded} of {sent}: {options}");
    }
    let round_trips = run(&format!(
        "{engine} --to {to} --via {via} --round-trip --packets 50"
    ));
    assert_identities(&round_trips);
    assert_eq!(number(&round_trips, "received.unique"), 50);
}

fn datagrams_through_a_relay_may_be_of_several_sizes(engine: Engine) {
    let proxy = Socks5::start(None);
    let options = format!("{} --via socks5://{}", engine.0, proxy.address);
    for options in [
        format!("{options} --chunk 1-200 --packets 300 --pps 3k"),
        format!("{options} --chunk 100 --mb 0.00035"),
    ] {
        let run = run(&options);
        assert_eq!(run["ended"], "complete", "{run:#}");
        assert_accounted(&run);
        assert_eq!(run["received"]["foreign"], 0, "{run:#}");
    }
}

#[test]
fn round_trips_to_an_echo_server_go_through_a_relay() {
    let echo = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = echo.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 2_000];
        while let Ok((length, from)) = echo.recv_from(&mut bytes) {
            let _ = echo.send_to(&bytes[..length], from);
        }
    });
    let proxy = Socks5::start(None);
    let via = proxy.address;
    let run = run(&format!(
        "--round-trip --echo {at} --via socks5://{via} --packets 50"
    ));
    assert_eq!(number(&run, "received.unique"), 50);
}

#[test]
fn the_end_of_an_association_ends_the_run_with_one_sentence() {
    for options in [
        "--pps 1k",
        "--pps 1k --reverse",
        "--round-trip --pps 1k",
        "",
    ] {
        let server = Serve::start(&[]);
        let proxy = Socks5::start(None);
        let (to, via) = (server.address, proxy.address);
        let fixed = format!(
            "udp --no-save --to {to} --via socks5://{via} --duration 30s --interval 50ms {options}"
        );
        let mut running = crate::common::start(fixed.split_whitespace());
        running.line(|line| line.contains("KB/s") || line.contains("p99"));
        proxy.close();
        let proxy = format!("the SOCKS5 proxy at {via} closed the connection");
        running.wait(crate::common::NOTICED).failed(3, &[&proxy]);
    }
}

#[test]
fn a_proxy_without_a_relay_is_named() {
    let server = Serve::start(&[]);
    let proxy = Socks5::start(Some(("ann", "secret")));
    let (to, via) = (server.address, proxy.address);
    let closed = free_port();
    for (url, words) in [
        (format!("socks5://{via}"), "opens no UDP relay"),
        (format!("socks5://ann:wrong@{via}"), "wrong password"),
        (format!("socks5://127.0.0.1:{closed}"), "refused"),
        (format!("socks5://{to}"), "opens no UDP relay"),
    ] {
        let options = format!("udp --no-save --to {to} --packets 5 --via {url}");
        bench(options.split_whitespace()).failed(3, &[words, "SOCKS5 proxy at"]);
    }
}

#[test]
fn the_receiver_of_this_process_has_the_port_that_a_relay_forwards_to() {
    let port = free_port();
    let relay = Relay::udp(([127, 0, 0, 1], port).into());
    let via = relay.address;
    let options = format!(
        "--via udp://{via} --port {port} --packets 100 --pps 2k --gso off,auto --streams 1,2 --warmup 0s"
    );
    let (record, _) = record(&options);
    let runs = record["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 4);
    for run in runs {
        assert_eq!(run["ended"], "complete");
        assert_identities(run);
    }
    assert!(relay.forwarded().0 >= 400);
}

#[test]
fn a_search_goes_through_a_relay() {
    let port = free_port();
    let relay = Relay::udp(([127, 0, 0, 1], port).into());
    let via = relay.address;
    let options = format!(
        "udp search --no-save --via udp://{via} --port {port} --min 200 --max 2k --trial 100ms --loss 50% --width 5%"
    );
    let text = bench(options.split_whitespace()).done().stdout;
    assert!(text.contains(&format!("via udp://{via}")), "{text}");
    assert!(relay.forwarded().0 > 0);
}

#[test]
fn losses_are_those_of_the_relay_or_the_path() {
    let server = Serve::start(&[]);
    let relay = Relay::udp(server.address);
    let (to, via) = (server.address, relay.address);
    // More than the relay's socket holds.
    let options = format!("--to {to} --via udp://{via} --unpaced --packets 20000 --rcvbuf 4M");
    let (record, text) = record(&options);
    let run = &record["runs"][0];
    assert_identities(run);
    if number(run, "lost.elsewhere") > 0 {
        assert!(text.contains("through the relay or on the path"), "{text}");
    }
}

#[test]
fn a_relay_to_another_port_is_named() {
    let server = Serve::start(&[]);
    // A port that drops all datagrams.
    let nothing = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let relay = Relay::udp(nothing.local_addr().unwrap());
    let (to, via) = (server.address, relay.address.to_string());
    let options = format!("udp --no-save --to {to} --via udp://{via} --packets 5");
    let port = format!("the UDP port {to}");
    bench(options.split_whitespace()).failed(3, &["through the relay", &via, &port]);
}

#[test]
fn options_that_a_relay_excludes_are_usage_errors() {
    for (options, words) in [
        ("--via udp://127.0.0.1:9000", "--port"),
        ("--port 9001", "--via"),
        (
            "--via udp://127.0.0.1:9000 --to 127.0.0.1 --port 9001",
            "cannot be used with",
        ),
        ("--via tcp://127.0.0.1:9000 --port 9001", "expected udp://"),
        (
            "--via udp://[::1:9000 --port 9001",
            "write it like 192.0.2.7:1080,",
        ),
        (
            "--via socks5://127.0.0.1:9000 --chunk 65475",
            "choose at most 65465",
        ),
        (
            "--via udp://127.0.0.1:9000 --port 9001 --multicast 239.1.2.3 --unpaced",
            "--multicast",
        ),
    ] {
        let args = format!("udp --no-save {options}");
        bench(args.split_whitespace()).failed(2, &[words]);
    }
}

/// The engine is that of the proxy and of the measurement.
fn bench_proxy_serve_relays_every_direction(engine: Engine) {
    let engine = engine.0;
    let words = format!("proxy serve --listen 127.0.0.1:0 --protocol socks5 {engine}");
    let mut proxy = crate::common::start(words.split_whitespace());
    let at = proxy.listening();
    for options in [
        "--pps 1k --packets 200",
        "--pps 1k --packets 200 --reverse --streams 2",
        "--packets 300",
    ] {
        let run = run(&format!("{engine} --via socks5://{at} {options}"));
        assert_accounted(&run);
        assert_eq!(run["ended"], "complete");
        assert!(number(&run, "received.unique") > 0, "{run:#}");
    }
    let run = run(&format!(
        "{engine} --via socks5://{at} --round-trip --packets 50"
    ));
    assert_eq!(number(&run, "received.unique"), 50);
}

/// A dante of the Debian package, with a configuration for loopback. `None` where it is not installed.
fn dante() -> Option<(
    crate::common::Running,
    std::net::SocketAddr,
    tempfile::TempDir,
)> {
    let is_there = std::process::Command::new("danted").arg("-v").output();
    if is_there.is_err() {
        eprintln!("skipped: dante (package dante-server) is not installed");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let file = folder.path().join("danted.conf");
    let configuration = format!(
        "logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n\
         clientmethod: none\nsocksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n\
         client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: udpassociate }}\n\
         socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: udpreply }}\n"
    );
    std::fs::write(&file, configuration).unwrap();
    let mut command = std::process::Command::new("danted");
    command
        .arg("-f")
        .arg(&file)
        .arg("-p")
        .arg(folder.path().join("pid"));
    let running = crate::common::Running::new(command);
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    crate::common::until("dante listens", || std::net::TcpStream::connect(at).is_ok());
    Some((running, at, folder))
}

#[test]
fn dante_relays_every_direction() {
    let Some((running, at, _folder)) = dante() else {
        return;
    };
    for options in [
        "--pps 1k --packets 200",
        "--pps 1k --packets 200 --reverse --streams 2",
    ] {
        let run = run(&format!("--via socks5://{at} {options}"));
        assert_accounted(&run);
        assert_eq!(run["ended"], "complete");
        assert_eq!(number(&run, "received.unique"), 200, "{run:#}");
    }
    let run = run(&format!("--via socks5://{at} --round-trip --packets 50"));
    assert_eq!(number(&run, "received.unique"), 50);
    // Its children end with it.
    running.signal("TERM");
}
