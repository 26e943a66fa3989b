//! `bench udp` through relays.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::engine::{Engine, available, on_both_engines, on_every_engine};
use common::relay::{Relay, free_port};
use common::{Results, Serve, assert_accounted, assert_identities, bench, number};
use serde_json::Value;

on_both_engines!(every_direction_and_mode_goes_through_a_forwarding_relay);

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
    let engine = engine.0;
    let server = Serve::start(&[]);
    let relay = Relay::udp(server.address);
    let (to, via) = (server.address, relay.address);
    for options in [
        "--packets 300 --pps 3k",
        "--packets 300 --pps 3k --reverse",
        "--packets 200 --pps 2k --bidir --streams 2",
        "--packets 200 --gso off",
        "--packets 200 --reverse --gso off",
    ] {
        let before = relay.forwarded();
        let options = format!("{engine} --to {to} --via udp://{via} --chunk 300 {options}");
        let (record, text) = record(&options);
        let mut sent = 0;
        for run in record["runs"].as_array().unwrap() {
            assert_eq!(run["ended"], "complete", "{run:#}");
            assert_eq!(run["requested"]["via"], format!("udp://{via}"));
            assert_accounted(run);
            // A busy machine may be late to read a socket of the relay.
            assert!(number(run, "received.unique") > 0, "{run:#}");
            sent += number(run, "received.unique");
        }
        let is_comparison = options.contains("--bidir");
        assert!(
            is_comparison || text.contains(&format!("via udp://{via}")),
            "{text}"
        );
        let after = relay.forwarded();
        let forwarded = (after.0 - before.0) + (after.1 - before.1);
        assert!(forwarded >= sent, "{forwarded} of {sent}: {options}");
    }
    let round_trips = run(&format!(
        "{engine} --to {to} --via udp://{via} --round-trip --packets 50"
    ));
    assert_identities(&round_trips);
    assert_eq!(number(&round_trips, "received.unique"), 50);
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
        "udp search --no-save --via udp://{via} --port {port} --max 500 --trial 50ms --loss 50% --width 5%"
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
            "--via udp://127.0.0.1:9000 --port 9001 --multicast 239.1.2.3 --unpaced",
            "--multicast",
        ),
    ] {
        let args = format!("udp --no-save {options}");
        bench(args.split_whitespace()).failed(2, &[words]);
    }
}
