//! `bench udp --explain`: each cause of losses equals its counter, and the sum equals the losses.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::peer::{self, Control};
use crate::common::routed::{Routed, V4, V6};
use crate::common::{PATIENCE, Running, Serve, assert_identities, bench, number, until};
use serde_json::Value;
use wirebench::udp::wire::control::Request;
use wirebench::udp::wire::explain::ExplainRequest;

on_both_engines!(
    drops_of_a_firewall_equal_its_counter,
    drops_at_a_full_socket_equal_its_counter,
    datagrams_to_a_closed_port_equal_the_counter,
    two_causes_at_once_are_distinguished,
    a_route_that_rejects_explains_what_was_not_sent,
    drops_of_a_qdisc_are_losses_only_if_they_were_not_sent_again,
    losses_behind_a_full_qdisc_are_not_the_qdiscs,
    refusals_of_many_streams_are_distinguished,
);

mod trace;

/// One datagram a packet, so that drops are datagrams.
const PACED: &str = "--explain --gso off --pps 20000 --packets 4000";

/// One data packet in ten.
const TENTH: &str = "numgen inc mod 10 0 counter";

/// The cause of a run; `None` if it lost nothing.
fn cause<'a>(run: &'a Value, name: &str) -> Option<&'a Value> {
    let causes = run["explained"]["causes"].as_array().unwrap();
    causes.iter().find(|cause| cause["cause"] == name)
}

/// Checks that the run lost datagrams by these causes alone, each with its number.
#[track_caller]
fn assert_explained(run: &Value, causes: &[(&str, u64)], between: u64) {
    assert_identities(run);
    let explained = &run["explained"];
    let found: Vec<(&str, u64)> = explained["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| {
            assert_eq!(cause["estimated"], false, "{cause:#}");
            (cause["cause"].as_str().unwrap(), number(cause, "datagrams"))
        })
        .collect();
    assert_eq!(found, causes, "{explained:#}");
    assert_eq!(number(explained, "between"), between, "{explained:#}");
    assert_eq!(number(explained, "surplus"), 0, "{explained:#}");
    let sum: u64 = found.iter().map(|(_, datagrams)| datagrams).sum();
    assert_eq!(sum + between, number(run, "lost.packets"), "{run:#}");
}

/// Checks that the kernel's trace has reasons that begin with `reason` for a cause, if there is a trace.
#[track_caller]
fn assert_reason(run: &Value, name: &str, reason: &str) {
    let explained = &run["explained"];
    if explained["receiver"]["traced"] == false {
        return println!("skipped: {}", explained["notes"]);
    }
    let cause = cause(run, name).unwrap();
    let reasons = cause["reasons"].as_array().unwrap();
    let traced = reasons
        .iter()
        .filter(|of| of["reason"].as_str().unwrap().starts_with(reason));
    let drops: u64 = traced.map(|of| number(of, "drops")).sum();
    // Tests on other hosts of this machine have drops too.
    assert!(drops >= number(cause, "datagrams"), "{explained:#}");
}

/// The increase of a counter on a host.
fn counter(run: &Value, host: &str, name: &str) -> u64 {
    let counters = run["explained"][host]["counters"].as_array().unwrap();
    let found = counters.iter().find(|of| of["name"] == name);
    found.map_or(0, |of| number(of, "increase"))
}

/// Starts a run with a short interval, calls `midway` after the first row, and returns the record.
#[track_caller]
fn run_with(lab: &Routed, options: &str, midway: impl FnOnce()) -> Value {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let fixed = "--explain --gso off --interval 100ms --no-save";
    let mut running = lab.udp(V4, &format!("{options} {fixed} --json {path}"));
    running.first_row();
    midway();
    running.wait(PATIENCE).done();
    let mut record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    record["runs"][0].take()
}

/// Prints the reason if a step of the lab is impossible.
fn is_possible(step: Result<(), String>) -> bool {
    step.inspect_err(|reason| println!("skipped: {reason}"))
        .is_ok()
}

fn drops_of_a_firewall_equal_its_counter(engine: Engine) {
    for (to, host, hook, cause) in [
        (V4, 's', "input", "receiver_firewall"),
        (V6, 's', "prerouting", "receiver_firewall"),
        (V4, 'c', "output", "sender_firewall"),
        (V4, 'r', "forward", ""),
    ] {
        let Some(lab) = Routed::start() else { return };
        if !is_possible(lab.rule(host, hook, &format!("{TENTH} drop"))) {
            return;
        }
        // A batch hides the refusal of all but its first datagram, which are sent again.
        let run = lab.run(to, &format!("{} {PACED} --batch 1", engine.0));
        let dropped = lab.counted(host)[0];
        assert_eq!(dropped, 400);
        if host == 'r' {
            assert_explained(&run, &[], dropped);
            continue;
        }
        let explained = &run["explained"];
        if to == V6 {
            // Multicasts of IPv6 without a listener may be received and not delivered: a range.
            let cause = self::cause(&run, cause).unwrap();
            assert_eq!(number(cause, "datagrams"), dropped, "{explained:#}");
            assert_eq!(number(explained, "between"), 0, "{explained:#}");
        } else {
            assert_explained(&run, &[(cause, dropped)], 0);
        }
        assert_reason(&run, cause, "NETFILTER_DROP");
    }
}

fn drops_at_a_full_socket_equal_its_counter(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    let options = format!("{} --pps 10000 --packets 8000 --rcvbuf 16384", engine.0);
    let run = run_with(&lab, &options, || {
        lab.serving_process().signal("STOP");
        thread::sleep(Duration::from_millis(150));
        lab.serving_process().signal("CONT");
    });
    let lost = number(&run, "lost.packets");
    assert!(lost > 500, "{run:#}");
    assert_explained(&run, &[("receiver_socket", lost)], 0);
    assert_eq!(counter(&run, "receiver", "RcvbufErrors"), lost);
    assert_reason(&run, "receiver_socket", "SOCKET_RCVBUFF");
}

fn datagrams_to_a_closed_port_equal_the_counter(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    if !is_possible(lab.rule('s', "prerouting", &format!("{TENTH} udp dport set 9"))) {
        return;
    }
    let run = lab.run(V4, &format!("{} {PACED}", engine.0));
    assert_explained(&run, &[("receiver_no_port", 400)], 0);
    assert_eq!(counter(&run, "receiver", "NoPorts"), 400);
    assert_reason(&run, "receiver_no_port", "NO_SOCKET");
}

fn two_causes_at_once_are_distinguished(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    let rules = [
        ('s', "prerouting", format!("{TENTH} udp dport set 9")),
        // Datagrams to the closed port pass.
        (
            's',
            "input",
            "udp dport 5210 numgen inc mod 6 0 counter drop".to_owned(),
        ),
        (
            'r',
            "forward",
            "numgen inc mod 40 0 counter drop".to_owned(),
        ),
    ];
    for (host, hook, rule) in &rules {
        if !is_possible(lab.rule(*host, hook, rule)) {
            return;
        }
    }
    for direction in ["", "--bidir"] {
        let before: u64 = lab.counted('s').iter().sum();
        let done = lab.finish(V4, &format!("{} {PACED} {direction}", engine.0));
        let record: Value = serde_json::from_str(&done.done().stdout).unwrap();
        let run = &record["runs"][0];
        let causes = run["explained"]["causes"].as_array().unwrap();
        let found: Vec<(&str, u64)> = causes
            .iter()
            .map(|cause| (cause["cause"].as_str().unwrap(), number(cause, "datagrams")))
            .collect();
        // The rule of the router applies to both directions.
        let [(firewall, dropped), (port, closed)] = found[..] else {
            panic!("{run:#}");
        };
        assert_eq!((firewall, port), ("receiver_firewall", "receiver_no_port"));
        let counted: u64 = lab.counted('s').iter().sum();
        assert_eq!(dropped + closed, counted - before, "{run:#}");
        assert_eq!(closed, counter(run, "receiver", "NoPorts"));
        assert_explained(run, &found, number(run, "lost.packets") - dropped - closed);
        assert!(number(&run["explained"], "between") > 0);
        if let Some(reverse) = record["runs"].get(1) {
            assert_explained(reverse, &[], number(reverse, "lost.packets"));
        }
    }
}

fn a_route_that_rejects_explains_what_was_not_sent(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for (kind, errno) in [("unreachable", "ENETUNREACH"), ("blackhole", "EINVAL")] {
        let rule = format!("pref 1 to 10.77.2.2 ipproto udp {kind}");
        if !is_possible(lab.client(&format!("ip rule add {rule}"))) {
            return;
        }
        lab.client(&format!("ip rule del {rule}")).unwrap();
        let options = format!("{} --pps 5000 --packets 4000", engine.0);
        let run = run_with(&lab, &options, || {
            lab.client(&format!("ip rule add {rule}")).unwrap();
            thread::sleep(Duration::from_millis(100));
            lab.client(&format!("ip rule del {rule}")).unwrap();
        });
        let refused = number(&run, "lost.not_sent");
        assert!(refused > 0, "{run:#}");
        assert_explained(&run, &[("sender_route", refused)], 0);
        let cause = cause(&run, "sender_route").unwrap();
        assert_eq!(cause["counters"][0]["name"], errno);
        assert_eq!(number(&cause["counters"][0], "increase"), refused);
        if kind == "unreachable" {
            // A refusal that may be due to an ICMP error is tried again once. When the rule is deleted between the two attempts
            // of a datagram, the second one is accepted: this datagram is not refused, and its first attempt is counted.
            let attempts = counter(&run, "sender", "OutNoRoutes");
            let most = 2 * refused + 1;
            assert!((refused..=most).contains(&attempts), "{run:#}");
        }
    }
    // At the server: a route of the closed port alone.
    for words in [
        "ip rule add pref 2 lookup local",
        "ip rule del pref 0 lookup local",
        "ip rule add pref 1 ipproto udp dport 9 unreachable",
    ] {
        if !is_possible(lab.server(words)) {
            return;
        }
    }
    if !is_possible(lab.rule('s', "prerouting", &format!("{TENTH} udp dport set 9"))) {
        return;
    }
    let run = lab.run(V4, &format!("{} {PACED}", engine.0));
    assert_explained(&run, &[("receiver_route", 400)], 0);
}

fn drops_of_a_qdisc_are_losses_only_if_they_were_not_sent_again(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    let tbf = "tbf rate 40mbit burst 10kb limit 20kb";
    let add =
        |host: &str, device: &str| format!("tc qdisc add dev {device} root handle 1: {tbf} {host}");
    // 5,000 datagrams of 1,074 B a second are 43 Mbit/s.
    let options = format!(
        "{} --explain --gso off --pps 15000 --packets 4000",
        engine.0
    );
    if !is_possible(lab.client(add("", "c0").trim())) {
        return;
    }
    let run = lab.run(V4, &options);
    assert_explained(&run, &[], 0);
    assert!(counter(&run, "sender", "qdisc_drops") > 0, "{run:#}");
    assert!(
        run["explained"]["notes"]
            .to_string()
            .contains("sent them again"),
        "{run:#}"
    );
    // The queue drops its oldest packet, without an error for the sender.
    if is_possible(lab.client("tc qdisc add dev c0 parent 1:1 pfifo_head_drop limit 10")) {
        let run = lab.run(V4, &options);
        let lost = number(&run, "lost.packets");
        assert!(lost > 100, "{run:#}");
        assert_explained(&run, &[("sender_qdisc", lost)], 0);
        assert_eq!(counter(&run, "sender", "qdisc_drops"), lost);
        assert_reason(&run, "sender_qdisc", "QDISC_");
    }
    // The qdisc drops parts of segmented messages.
    let segmented = format!(
        "{} --explain --pps 15000 --packets 4000 --batch 16",
        engine.0
    );
    let run = lab.run(V4, &segmented);
    let explained = &run["explained"];
    assert_identities(&run);
    assert_eq!(
        (number(explained, "between"), number(explained, "surplus")),
        (0, 0),
        "{run:#}"
    );
    lab.client("tc qdisc del dev c0 root").unwrap();
    lab.router(add("", "r1").trim()).unwrap();
    let run = lab.run(V4, &options);
    assert_explained(&run, &[], number(&run, "lost.packets"));
    let counted = lab.output('r', "tc -s qdisc show dev r1");
    let (_, behind) = counted.split_once("dropped ").unwrap();
    let dropped: u64 = behind.split(',').next().unwrap().parse().unwrap();
    // The full queue may drop packets of the control connection, which are sent again.
    let lost = number(&run, "lost.packets");
    assert!((lost..=lost + 20).contains(&dropped), "{lost}: {counted}");
}

/// Streams that share their threads have refusals by errno too.
fn refusals_of_many_streams_are_distinguished(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    if !is_possible(lab.rule('c', "output", &format!("{TENTH} drop"))) {
        return;
    }
    // A batch hides the refusal of all but its first datagram, which are sent again.
    let options = format!("{} {PACED} --streams 40 --batch 1", engine.0);
    let run = lab.run(V4, &options);
    assert_explained(&run, &[("sender_firewall", lab.counted('c')[0])], 0);
}

fn losses_behind_a_full_qdisc_are_not_the_qdiscs(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    let full = "tc qdisc add dev c0 root handle 1: tbf rate 40mbit burst 10kb limit 20kb";
    if !is_possible(lab.client(full))
        || !is_possible(lab.rule('r', "forward", &format!("{TENTH} drop")))
        || !is_possible(lab.rule('s', "input", "numgen inc mod 9 0 counter drop"))
    {
        return;
    }
    let run = lab.run(V4, &format!("{} {PACED}", engine.0));
    assert!(counter(&run, "sender", "qdisc_drops") > 100, "{run:#}");
    let firewall = cause(&run, "receiver_firewall").unwrap();
    assert_eq!(number(firewall, "datagrams"), 400, "{run:#}");
    // The full queue may drop packets of the control connection, which are sent again.
    let qdisc = cause(&run, "sender_qdisc").map_or(0, |of| number(of, "datagrams"));
    assert!(qdisc <= 20, "{run:#}");
    assert_eq!(number(&run["explained"], "between") + qdisc, 400, "{run:#}");
}

#[test]
fn the_drops_of_a_qdisc_with_gso_are_its_own() {
    let Some(lab) = Routed::start() else { return };
    // A queue that takes whole messages and drops its oldest, and one that divides them and drops parts.
    for (shape, inner) in [
        (
            "tbf rate 40mbit burst 100kb limit 1mb",
            "pfifo_head_drop limit 4",
        ),
        ("tbf rate 8mbit burst 2kb limit 10kb", ""),
    ] {
        let outer = format!("tc qdisc add dev c0 root handle 1: {shape}");
        let inner = format!("tc qdisc add dev c0 parent 1:1 {inner}");
        if !is_possible(lab.client(&outer))
            || (!inner.ends_with(' ') && !is_possible(lab.client(&inner)))
        {
            return;
        }
        let run = lab.run(
            V4,
            "--explain --gso on --pps 8000 --packets 4000 --batch 16",
        );
        lab.client("tc qdisc del dev c0 root").unwrap();
        assert_identities(&run);
        let lost = number(&run, "lost.packets");
        assert!(lost > 100, "{run:#}");
        let explained = &run["explained"];
        let qdisc = cause(&run, "sender_qdisc").unwrap();
        assert_eq!(number(qdisc, "datagrams"), lost, "{explained:#}");
        assert_eq!(number(explained, "between"), 0, "{explained:#}");
        assert!(counter(&run, "sender", "qdisc_drops") > 0);
        assert_eq!(run["stages"]["every"], 1);
        assert!(run["stages"]["qdisc"]["latency_ns"]["count"].as_u64() > Some(0));
    }
}

#[test]
fn with_segmentation_a_drop_is_a_run_of_datagrams() {
    let Some(lab) = Routed::start() else { return };
    if !is_possible(lab.rule('s', "input", &format!("{TENTH} drop"))) {
        return;
    }
    let run = lab.run(V4, "--explain --unpaced --packets 20000 --rcvbuf 4M");
    let (cause, lost) = (
        cause(&run, "receiver_firewall").unwrap(),
        number(&run, "lost.packets"),
    );
    assert_eq!(number(cause, "drops"), lab.counted('s')[0]);
    assert!(number(cause, "datagrams") <= lost, "{run:#}");
    assert_eq!(number(&run["explained"], "surplus"), 0);
    assert_eq!(cause["estimated"], true);
}

#[test]
fn a_reverse_run_explains_the_way_from_the_server() {
    let Some(lab) = Routed::start() else { return };
    if !is_possible(lab.rule('c', "input", &format!("{TENTH} drop"))) {
        return;
    }
    let run = lab.run(V4, &format!("{PACED} --streams 3 --reverse"));
    assert_explained(&run, &[("receiver_firewall", lab.counted('c')[0])], 0);
    assert_eq!(run["explained"]["sender"]["device"], "s0");
    assert_eq!(run["explained"]["receiver"]["device"], "c0");
}

#[test]
fn a_run_without_losses_has_no_causes_and_a_plain_run_no_explanation() {
    let run = |options: &str| {
        let fixed = "udp --packets 1000 --pps 20000 --no-save --json -";
        let done = bench(format!("{fixed} {options}").split_whitespace()).done();
        let record: Value = serde_json::from_str(&done.stdout).unwrap();
        record["runs"][0]["explained"].clone()
    };
    assert_eq!(run(""), Value::Null);
    let explained = run("--explain");
    assert_eq!(explained["causes"], Value::Array(Vec::new()));
    assert_eq!(
        (number(&explained, "between"), number(&explained, "surplus")),
        (0, 0)
    );
    assert_eq!(explained["sender"]["device"], "lo");
    assert_eq!(explained["receiver"]["device"], "lo");
}

/// Both ends send datagrams over loopback to measure the cost of stamps, which a firewall may drop too.
#[test]
fn dropped_datagrams_of_the_stamp_trial_are_no_losses() {
    let Some(lab) = Routed::start() else { return };
    let chain = "nft add chain inet t input { type filter hook input priority 0 ; }";
    let rule =
        format!("nft add rule inet t input meta l4proto udp meta length > 1000 {TENTH} drop");
    for words in ["nft add table inet t", chain, &rule] {
        if !is_possible(lab.server(words)) {
            return;
        }
    }
    let done = lab.finish(V4, "--bidir --explain --gso off --pps 10000 --packets 2000");
    let record: Value = serde_json::from_str(&done.done().stdout).unwrap();
    let run = &record["runs"][0];
    let lost = number(run, "lost.packets");
    assert_explained(run, &[("receiver_firewall", lost)], 0);
    let dropped = lab.counted('s')[0];
    assert!(
        dropped > lost + 50,
        "{dropped} {lost}: no datagram of a trial was dropped"
    );
}
