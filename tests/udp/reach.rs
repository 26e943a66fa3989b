//! `bench udp` past firewalls, port mappings, black holes and outages, in network namespaces.

use std::thread;
use std::time::Duration;

use crate::common::engine::{Engine, available, on_both_engines, on_every_engine};
use crate::common::routed::{Routed, V4, V6};
use crate::common::{PATIENCE, assert_identities, number};
use serde_json::Value;

on_both_engines!(
    a_server_needs_one_port_only,
    a_server_behind_a_published_port_works,
    a_path_that_drops_long_datagrams_is_detected,
    an_outage_during_the_setup_delays_the_run,
);

/// Checks a run without losses.
#[track_caller]
fn assert_whole(run: &Value) {
    assert_identities(run);
    assert_eq!(run["ended"], "complete");
    assert_eq!(number(run, "lost.packets"), 0, "{run:#}");
    assert_eq!(number(run, "received.foreign"), 0, "{run:#}");
}

/// Lets the server's host drop all packets that these rules do not accept; `false` with a printed reason if it cannot.
fn firewall(lab: &Routed, accepted: &[&str]) -> bool {
    let chain = "add chain inet fw i { type filter hook input priority 0 ; policy drop ; }";
    // IPv6 neighbour discovery needs these.
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

fn a_server_needs_one_port_only(engine: Engine) {
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

fn a_server_behind_a_published_port_works(engine: Engine) {
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

fn a_path_that_drops_long_datagrams_is_detected(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for words in [
        "add table inet h",
        "add chain inet h o { type filter hook output priority 0 ; }",
        "add rule inet h o icmp type destination-unreachable drop",
        "add rule inet h o icmpv6 type packet-too-big drop",
    ] {
        if let Err(reason) = lab.router(&format!("nft {words}")) {
            return println!("skipped: no firewall that drops ICMP errors: {reason}");
        }
    }
    let whole = |to: &str, chunk: usize, way: &str| {
        let run = lab.run(to, &format!("{} --chunk {chunk} {way}", engine.0));
        assert_whole(&run);
        let note = run["effective"]["path_note"].as_str().unwrap();
        assert!(note.contains("black hole"), "{note}");
    };
    let paced = "--pps 500 --packets 100";
    // The narrow link is the receiver's, so that only the router knows its MTU.
    lab.narrow(1_300);
    for (to, fits) in [(V4, "1240"), (V6, "1220")] {
        for way in [paced, &format!("{paced} --gso off"), "--mb 0.2"] {
            if to == V4 {
                whole(to, 1_400, way);
                continue;
            }
            // Linux does not fragment an IPv6 datagram that fits the MTU of its route.
            let options = format!("{} --chunk 1400 {way}", engine.0);
            let finished = lab.finish(to, &options);
            finished.failed(3, &["do not arrive", &format!("--chunk {fits} or less")]);
        }
        // If fragments are forbidden, the error contains the chunk that fits.
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

fn an_outage_during_the_setup_delays_the_run(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for words in [
        "add table inet o",
        "add chain inet o f { type filter hook forward priority 0 ; }",
    ] {
        if let Err(reason) = lab.router(&format!("nft {words}")) {
            return println!("skipped: no outage can be made here: {reason}");
        }
    }
    // No flow can be opened, so that the outage begins while the client opens flows.
    lab.router("nft add rule inet o f meta l4proto udp drop")
        .unwrap();
    let options = "--pps 500 --packets 100 --clock estimate --no-save --json";
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let mut running = lab.udp(V4, &format!("{} {options} {path}", engine.0));
    running.listening();
    lab.router("nft add rule inet o f drop").unwrap();
    // Longer than the limit for opening flows if only UDP is dropped. Then the outage itself.
    thread::sleep(Duration::from_millis(6_500));
    lab.router("nft flush chain inet o f").unwrap();
    running.wait(PATIENCE).done();
    let record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let run = &record["runs"][0];
    assert_whole(run);
    assert_eq!(run["effective"]["clock"]["source"], "estimated");
}

#[test]
fn streams_use_the_given_data_ports() {
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
fn the_given_interface_is_used() {
    let Some(lab) = Routed::start() else { return };
    assert_whole(&lab.run(V4, "--pps 500 --packets 100 --bind-dev c0"));
    assert_whole(&lab.run(V6, "--mb 0.2 --bind-dev c0 --reverse"));
    // The server is not reachable over loopback, nor over an interface that does not exist.
    let finished = lab.finish(V4, "--packets 10 --peer-timeout 2s --bind-dev lo");
    finished.failed(3, &["10.77.2.2:5210"]);
    let finished = lab.finish(V4, "--packets 10 --bind-dev c9");
    finished.failed(3, &["c9"]);
}
