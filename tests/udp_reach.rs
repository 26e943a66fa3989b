//! `bench udp` past firewalls, port mappings, black holes and outages, in network namespaces.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::thread;
use std::time::Duration;

use common::engine::{Engine, available, on_both_engines, on_every_engine};
use common::routed::{Routed, V4, V6};
use common::{PATIENCE, assert_identities, number};
use serde_json::Value;

on_both_engines!(
    one_port_is_all_that_a_server_needs,
    a_published_port_is_as_good,
    a_path_that_swallows_long_datagrams_is_recognised,
    an_outage_as_the_run_is_set_up_delays_it,
);

/// A run over which nothing may be lost.
#[track_caller]
fn assert_whole(run: &Value) {
    assert_identities(run);
    assert_eq!(run["ended"], "complete");
    assert_eq!(number(run, "lost.packets"), 0, "{run:#}");
    assert_eq!(number(run, "received.foreign"), 0, "{run:#}");
}

/// Has the server's host drop all but what these rules accept; `false` with a printed reason where it cannot.
fn firewall(lab: &Routed, accepted: &[&str]) -> bool {
    let chain = "add chain inet fw i { type filter hook input priority 0 ; policy drop ; }";
    // Without these no IPv6 neighbour is found.
    let neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }";
    let rules = [neighbours].into_iter().chain(accepted.iter().copied());
    let words = ["add table inet fw".to_owned(), chain.to_owned()]
        .into_iter()
        .chain(rules.map(|rule| format!("add rule inet fw i {rule} accept")));
    for words in words {
        if let Err(reason) = lab.server(&format!("nft {words}")) {
            println!("skipped: no firewall can be had here: {reason}");
            return false;
        }
    }
    true
}

fn one_port_is_all_that_a_server_needs(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    if !firewall(&lab, &["tcp dport 5210", "udp dport 5210"]) {
        return;
    }
    for to in [V4, V6] {
        for way in [
            "--pps 500 --packets 100",
            "--mb 0.5 --streams 3",
            "--mb 0.5 --reverse",
        ] {
            assert_whole(&lab.run(to, &format!("{} {way}", engine.0)));
        }
    }
}

fn a_published_port_is_as_good(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    let chain = "nft add chain ip n p { type nat hook prerouting priority -100 ; }";
    for words in ["nft add table ip n", chain] {
        if let Err(reason) = lab.router(words) {
            return println!("skipped: no address translation can be had here: {reason}");
        }
    }
    for protocol in ["tcp", "udp"] {
        let rule = format!("ip daddr 10.77.1.1 {protocol} dport 5210 dnat to 10.77.2.2");
        if let Err(reason) = lab.router(&format!("nft add rule ip n p {rule}")) {
            return println!("skipped: no address translation can be had here: {reason}");
        }
    }
    for way in [
        "--pps 500 --packets 100",
        "--mb 0.5 --streams 3",
        "--mb 0.5 --reverse",
    ] {
        assert_whole(&lab.run("10.77.1.1", &format!("{} {way}", engine.0)));
    }
}

fn a_path_that_swallows_long_datagrams_is_recognised(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for words in [
        "add table inet h",
        "add chain inet h o { type filter hook output priority 0 ; }",
        "add rule inet h o icmp type destination-unreachable drop",
        "add rule inet h o icmpv6 type packet-too-big drop",
    ] {
        if let Err(reason) = lab.router(&format!("nft {words}")) {
            return println!("skipped: no ICMP report can be dropped here: {reason}");
        }
    }
    let whole = |to: &str, chunk: usize, way: &str| {
        let run = lab.run(to, &format!("{} --chunk {chunk} {way}", engine.0));
        assert_whole(&run);
        let note = run["effective"]["path_note"].as_str().unwrap();
        assert!(note.contains("black hole"), "{note}");
    };
    let paced = "--pps 500 --packets 100";
    // The narrow link is the receiver's, so that only the router knows of it.
    lab.narrow(1_300);
    for (to, fits) in [(V4, "1240"), (V6, "1220")] {
        for way in [paced, &format!("{paced} --gso off"), "--mb 0.2"] {
            if to == V4 {
                whole(to, 1_400, way);
                continue;
            }
            // Linux cuts no IPv6 datagram that fits the MTU of its route.
            let options = format!("{} --chunk 1400 {way}", engine.0);
            let finished = lab.finish(to, &options);
            finished.failed(3, &["do not arrive", &format!("--chunk {fits} or less")]);
        }
        // Where fragments are forbidden, the error names the chunk that fits.
        let options = format!("{} {paced} --df on --chunk", engine.0);
        let finished = lab.finish(to, &format!("{options} 1400"));
        finished.failed(3, &["--df on", &format!("--chunk {fits}")]);
        assert_whole(&lab.run(to, &format!("{options} {fits}")));
    }
    whole(V6, 4_000, paced);
    lab.narrow(1_500);
    lab.narrow_near_client(1_300);
    for way in ["--mb 0.2 --reverse", &format!("{paced} --reverse")] {
        whole(V4, 1_400, way);
        let finished = lab.finish(V6, &format!("{} --chunk 1400 {way}", engine.0));
        finished.failed(3, &["do not arrive", "--chunk 1220 or less"]);
    }
}

fn an_outage_as_the_run_is_set_up_delays_it(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for words in [
        "add table inet o",
        "add chain inet o f { type filter hook forward priority 0 ; }",
    ] {
        if let Err(reason) = lab.router(&format!("nft {words}")) {
            return println!("skipped: no outage can be made here: {reason}");
        }
    }
    // Nothing is opened, so that the outage finds the client at that.
    lab.router("nft add rule inet o f meta l4proto udp drop")
        .unwrap();
    let options = "--pps 500 --packets 100 --clock estimate --no-save --json";
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mut running = lab.udp(V4, &format!("{} {options} {path}", engine.0));
    running.listening();
    lab.router("nft add rule inet o f drop").unwrap();
    // Longer than the opening takes at most where only UDP is dropped. The outage itself.
    thread::sleep(Duration::from_millis(6_500));
    lab.router("nft flush chain inet o f").unwrap();
    running.wait(PATIENCE).done();
    let record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let run = &record["runs"][0];
    assert_whole(run);
    assert_eq!(run["effective"]["clock"]["source"], "estimated");
}

#[test]
fn streams_go_to_the_ports_that_are_named() {
    for options in ["", "--engine uring"] {
        let Some(engine) = available(options) else {
            continue;
        };
        let Some(lab) = Routed::serving("--data-ports 6000-6001") else {
            return;
        };
        if !firewall(&lab, &["tcp dport 5210", "udp dport 6000-6001"]) {
            return;
        }
        for way in [
            "--pps 500 --packets 100 --streams 3",
            "--mb 0.5",
            "--mb 0.5 --reverse",
        ] {
            assert_whole(&lab.run(V4, &format!("{} {way}", engine.0)));
        }
    }
}

#[test]
fn the_interface_that_is_named_is_used() {
    let Some(lab) = Routed::start() else { return };
    assert_whole(&lab.run(V4, "--pps 500 --packets 100 --bind-dev c0"));
    assert_whole(&lab.run(V6, "--mb 0.2 --bind-dev c0 --reverse"));
    // The server is not reached over loopback, and no such interface is there.
    let finished = lab.finish(V4, "--packets 10 --peer-timeout 2s --bind-dev lo");
    finished.failed(3, &["10.77.2.2:5210"]);
    let finished = lab.finish(V4, "--packets 10 --bind-dev c9");
    finished.failed(3, &["c9"]);
}
