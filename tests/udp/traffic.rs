//! The options of the datagrams: their sizes, their schedule, the fields of the IP header, the marks that arrive, and
//! multicast groups.

use crate::common::cpu::Cpu;
use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::routed::{NEAR_V4, NEAR_V6, Routed, V4, V6};
use crate::common::{Results, assert_accounted, assert_identities, bench, number, table};
use serde_json::Value;

on_both_engines!(
    both_ends_send_the_fields_and_count_them,
    a_router_that_marks_ce_is_counted,
    a_router_that_rewrites_the_dscp_is_counted,
    datagrams_end_at_a_router_that_their_ttl_reaches,
    a_burst_is_sent_at_once_and_the_mean_pace_is_kept,
    a_seed_has_one_schedule,
    a_group_on_the_network_receives_the_data,
    a_group_on_loopback_receives_the_data,
    sizes_over_a_path_are_exact_and_imix_fits_it,
    datagrams_of_several_sizes_are_counted_exactly,
);

on_every_engine!(mio_splice "--zerocopy splice",
    both_ends_send_the_fields_and_count_them, datagrams_of_several_sizes_are_counted_exactly);
on_every_engine!(mio_msg "--zerocopy msg", datagrams_of_several_sizes_are_counted_exactly);
on_every_engine!(uring_single "--engine uring --uring-recv single",
    both_ends_send_the_fields_and_count_them, datagrams_of_several_sizes_are_counted_exactly);
on_every_engine!(uring_msg "--engine uring --zerocopy msg", datagrams_of_several_sizes_are_counted_exactly);
on_every_engine!(uring_sqpoll "--engine uring --uring-sqpoll --uring-ring-size 2", datagrams_of_several_sizes_are_counted_exactly);

/// The runs of a `bench udp` in one process.
#[track_caller]
fn local(options: &str) -> Vec<Value> {
    let fixed = "udp --no-save --json -".split(' ');
    let cpu = Cpu::acquire();
    let done = bench(fixed.chain(options.split_whitespace())).done();
    drop(cpu);
    let mut record: Value = serde_json::from_str(&done.stdout).unwrap();
    let runs = record["runs"].take();
    runs.as_array().unwrap().clone()
}

/// The marks of a run by ECN field: Not-ECT, ECT(0), ECT(1), CE.
fn ecn(run: &Value) -> [u64; 4] {
    ["not_ect", "ect0", "ect1", "ce"].map(|field| number(run, &format!("marks.{field}")))
}

fn both_ends_send_the_fields_and_count_them(engine: Engine) {
    for (options, dscp, fields) in [
        ("--dscp EF", 46, [1, 0, 0, 0]),
        ("--dscp 10 --ecn ect0", 10, [0, 1, 0, 0]),
        ("--ecn ect1 -6", 0, [0, 0, 1, 0]),
        ("--ecn ce --bidir", 0, [0, 0, 0, 1]),
        ("--dscp cs5 --ecn not-ect --reverse -6", 40, [1, 0, 0, 0]),
    ] {
        let options = format!("{} {options} --packets 2000", engine.0);
        for run in local(&options) {
            assert_accounted(&run);
            assert_eq!(number(&run, "lost.packets"), 0, "{options}");
            assert_eq!(ecn(&run), fields.map(|field| field * 2_000), "{options}");
            assert_eq!(number(&run, "marks.dscp_changed"), 0, "{options}");
            let seen = serde_json::json!([{ "dscp": dscp, "packets": 2_000 }]);
            assert_eq!(run["marks"]["dscp"], seen, "{options}");
            let rows = run["intervals"].as_array().unwrap();
            let ce: u64 = rows.iter().map(|row| number(row, "ce")).sum();
            assert_eq!(ce, number(&run, "marks.ce"), "{options}");
        }
    }
    let plain = &local(&format!("{} --ttl 9 --packets 100", engine.0))[0];
    assert_eq!(plain["requested"]["ttl"], 9);
    assert!(plain.get("marks").is_none(), "{plain:#}");
    assert!(plain["intervals"][0].get("ce").is_none(), "{plain:#}");
}

#[test]
fn settings_of_several_fields_are_compared() {
    let runs = local("--dscp CS0,EF --ecn ect0,ect1 --packets 100");
    let settings: Vec<_> = runs
        .iter()
        .map(|run| run["setting"].as_str().unwrap())
        .collect();
    assert_eq!(settings[1], "DSCP CS0, ECN ect1");
    assert_eq!(settings[2], "DSCP EF, ECN ect0");
}

#[test]
fn each_size_of_a_mix_has_its_latency() {
    for options in [
        "--chunk 100:7,500:4,1400:1 --pps 20000",
        "--chunk 100:7,500:4,1400:1 --unpaced --bidir --streams 2",
        "--chunk 100:7,500:4,1400:1 --pps 5000 --streams 20",
    ] {
        for run in local(&format!("{options} --packets 2400")) {
            let sizes = run["latency_by_size"].as_array().unwrap();
            let chunks: Vec<u64> = sizes.iter().map(|of| number(of, "chunk")).collect();
            assert_eq!(chunks, [100, 500, 1_400], "{options}");
            let packets: u64 = sizes.iter().map(|of| number(of, "packets")).sum();
            assert_eq!(packets, number(&run, "latency_ns.count"), "{options}");
            let longest = sizes.iter().map(|of| number(of, "latency_max_ns")).max();
            assert_eq!(longest, run["latency_ns"]["max"].as_u64(), "{options}");
        }
    }
    for options in ["--packets 100", "--chunk 64-1400 --packets 100"] {
        let run = &local(options)[0];
        assert!(run.get("latency_by_size").is_none(), "{run:#}");
    }
}

#[test]
fn many_paced_streams_count_marks_in_shared_loops() {
    let run = &local("--streams 40 --pps 4000 --packets 2000 --ecn ect1")[0];
    assert_accounted(run);
    assert_eq!(ecn(run), [0, 0, 2_000, 0]);
}

#[test]
fn round_trips_have_the_fields() {
    let run = &local("--round-trip --packets 50 --dscp EF --ttl 5")[0];
    assert_eq!(number(run, "received.unique"), 50);
    assert_eq!(run["requested"]["dscp"], 46);
}

#[test]
fn a_value_out_of_range_is_a_usage_error() {
    for (options, word) in [
        ("--dscp 64", "0 to 63"),
        ("--dscp AF14", "AF41"),
        ("--ttl 0", "1 to 255"),
        ("--ttl 256", "1 to 255"),
        ("--ecn ect2", "ect1"),
    ] {
        bench(["udp"].into_iter().chain(options.split(' '))).failed(2, &[word]);
    }
}

fn datagrams_of_several_sizes_are_counted_exactly(engine: Engine) {
    for (options, bytes) in [
        ("--chunk 100:7,500:4,1400:1 --packets 1200", 410_000),
        ("--chunk 100:7,500:4,1400:1 --packets 1200 --bidir", 410_000),
        ("--chunk imix --packets 1200 -6", 341_100),
        ("--chunk imix --mb 1.234567 --streams 3", 1_234_567),
        ("--chunk 64-1400 --mb 0.7 --reverse", 700_000),
        ("--chunk 1-9000 --mb 9.000001 --batch 1", 9_000_001),
    ] {
        let options = format!("{} {options}", engine.0);
        for run in local(&options) {
            assert_accounted(&run);
            assert_eq!(number(&run, "lost.packets"), 0, "{options}");
            assert_eq!(number(&run, "received.foreign"), 0, "{options}");
            assert_eq!(number(&run, "received.bytes"), bytes, "{options}");
            assert_eq!(run["effective"]["gso"], false, "{options}");
        }
    }
}

fn sizes_over_a_path_are_exact_and_imix_fits_it(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for (to, largest, bytes) in [(V4, 1_440, 351_100), (V6, 1_420, 341_100)] {
        // The frames are of the MTU of 1500, and DF forbids larger ones.
        let options = "--chunk imix --df on --rate 2M --packets 1200";
        let run = lab.run(to, &format!("{} {options}", engine.0));
        assert_identities(&run);
        assert_eq!(number(&run, "lost.packets"), 0);
        assert_eq!(number(&run, "effective.chunk"), largest);
        assert_eq!(number(&run, "received.bytes"), bytes);
        let target = run["pacing"]["target_pps"].as_f64().unwrap();
        let mean = bytes as f64 / 1_200.0;
        assert!((target - 2e6 / 8.0 / mean).abs() < 1e-6, "{target}");
        let options = "--chunk 64-1400 --pps 20000 --burst 40 --packets 4000 --reverse";
        let run = lab.run(to, &format!("{} {options}", engine.0));
        assert_identities(&run);
        assert_eq!(number(&run, "received.foreign"), 0);
        assert_eq!(number(&run, "received.unique"), 4_000);
    }
}

#[test]
fn mixes_and_sizes_are_compared() {
    let runs = local("--chunk imix,100:1,900:1,1000 --packets 60");
    let settings: Vec<_> = runs
        .iter()
        .map(|run| run["setting"].as_str().unwrap())
        .collect();
    assert_eq!(settings, ["chunk imix", "chunk 100:1,900:1", "chunk 1000"]);
    assert_eq!(runs[1]["effective"]["mean_chunk"], 500.0);
}

#[test]
fn sizes_that_cannot_be_sent_are_a_usage_error() {
    for (options, word) in [
        ("--chunk 1400-64", "smaller size first"),
        ("--chunk 0-64", "65475"),
        ("--chunk 100:0", "1 or more"),
        ("--chunk 100:", "whole number"),
        ("--chunk imix,imix", "occurs twice"),
        ("--chunk imix --gso on", "--gso off or auto"),
        ("--chunk imix --round-trip", "several sizes"),
    ] {
        bench(["udp"].into_iter().chain(options.split(' '))).failed(2, &[word]);
    }
}

fn a_group_on_the_network_receives_the_data(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    let _near = lab.serving_near();
    for (to, group) in [
        (NEAR_V4, "239.77.1.1"),
        (NEAR_V6, "ff15::77"),
        (NEAR_V6, "ff02::77"),
    ] {
        for more in [
            "--pps 20000 --packets 4000",
            "--unpaced --packets 300 --gso off --streams 3",
        ] {
            let options = format!("{} --multicast {group} {more} --ecn ect0", engine.0);
            let run = lab.run(to, &options);
            assert_identities(&run);
            assert_eq!(number(&run, "lost.elsewhere"), 0, "{options}: {run:#}");
            let received = number(&run, "received.packets");
            assert_eq!(ecn(&run), [0, received, 0, 0]);
            assert_eq!(number(&run, "received.duplicates"), 0);
            assert_eq!(number(&run, "engine_stats.icmp.port_unreachable"), 0);
            assert_eq!(
                number(&run, "engine_stats.receive_icmp.port_unreachable"),
                0
            );
            assert_eq!(run["requested"]["multicast"], group);
        }
    }
    // No router forwards the group.
    let run = lab.run(
        V4,
        &format!(
            "{} --multicast 239.77.1.1 --pps 1000 --packets 50 --ttl 3",
            engine.0
        ),
    );
    assert_eq!(number(&run, "lost.elsewhere"), 50);
    assert!(
        run["warnings"].to_string().contains("239.77.1.1"),
        "{}",
        run["warnings"]
    );
    let options = format!("{} --multicast ff15::1 --pps 1000 --packets 50", engine.0);
    lab.finish(V4, &options).failed(3, &["different families"]);
}

fn a_group_on_loopback_receives_the_data(engine: Engine) {
    for options in [
        "--multicast 239.77.1.1 --pps 5000 --packets 1000",
        "--multicast 239.77.1.1 --pps 5000 --packets 1000 --chunk imix --burst 5",
        "--multicast 239.77.1.1 --pps 4000 --packets 1000 --streams 20",
    ] {
        let run = &local(&format!("{} {options}", engine.0))[0];
        assert_accounted(run);
        assert_eq!(number(run, "received.unique"), 1_000, "{options}");
    }
}

#[test]
fn a_group_of_ipv6_on_loopback_is_an_error_with_advice() {
    let options = "udp -6 --multicast ff15::1 --pps 1000 --packets 50 --no-save";
    bench(options.split(' ')).failed(3, &["lo has no route", "a group of IPv4"]);
}

#[test]
fn a_group_that_makes_no_sense_is_a_usage_error() {
    for (options, word) in [
        ("--multicast 10.0.0.1 --pps 5", "239.1.2.3"),
        ("--multicast 239.1.1.1", "--pps"),
        ("--multicast 239.1.1.1 --pps 5 --reverse", "--reverse"),
        ("--multicast 239.1.1.1 --pps 5 --bidir", "--bidir"),
        ("--multicast 239.1.1.1 --pps 5 --round-trip", "--round-trip"),
    ] {
        bench(["udp"].into_iter().chain(options.split(' '))).failed(2, &[word]);
    }
}

/// The send times of a paced run from its first datagram on, in ms, and the run.
#[track_caller]
fn send_times(options: &str) -> (Vec<f64>, Value) {
    let results = Results::new();
    let out = results.arg();
    let fixed = ["udp", "--packets-csv", "--quiet", "--out", &out];
    bench(fixed.into_iter().chain(options.split_whitespace())).done();
    let rows = table(&results.only().join("packets.csv"));
    let sent = rows[0].iter().position(|name| name == "sent_ns").unwrap();
    let sent: Vec<u64> = rows[1..]
        .iter()
        .map(|row| row[sent].parse().unwrap())
        .collect();
    let since = sent.iter().map(|ns| (ns - sent[0]) as f64 / 1e6);
    (since.collect(), results.run())
}

/// Attempts of a run whose sender may be late because the machine is busy.
const ATTEMPTS: usize = 5;

fn a_burst_is_sent_at_once_and_the_mean_pace_is_kept(engine: Engine) {
    for gso in ["on", "off"] {
        // A burst each 20 ms.
        let options = "--pps 500 --burst 10 --packets 205 --spin off";
        let attempt = || {
            let (times, run) = send_times(&format!("{} {options} --gso {gso}", engine.0));
            assert_accounted(&run);
            assert_eq!(times.len(), 205);
            assert_eq!(run["requested"]["burst"], 10);
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            let gaps = gaps.filter(|gap| *gap > 10.0).count();
            let achieved = run["pacing"]["achieved_pps"].as_f64().unwrap();
            let received = run["packets_per_s"].as_f64().unwrap();
            // The bursts of a machine that stalls follow each other closely.
            (17..=20).contains(&gaps)
                && (achieved / 500.0 - 1.0).abs() < 0.05
                && (received / 500.0 - 1.0).abs() < 0.05
        };
        assert!((0..ATTEMPTS).any(|_| attempt()), "{gso}");
    }
}

fn a_seed_has_one_schedule(engine: Engine) {
    let times = |seed: u32| {
        let options = "--pps 200 --gap poisson --packets 120 --spin off --seed";
        let (times, run) = send_times(&format!("{} {options} {seed}", engine.0));
        assert_accounted(&run);
        let asked = &run["requested"];
        assert_eq!(
            (&asked["gap"], &asked["seed"]),
            (&"poisson".into(), &seed.into())
        );
        times
    };
    /// The median difference.
    fn distance(one: &[f64], other: &[f64]) -> f64 {
        let both = one.iter().zip(other);
        let mut all: Vec<f64> = both.map(|(one, other)| (one - other).abs()).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }
    let (one, other) = (times(7), times(8));
    assert!(distance(&one, &other) > 5.0, "{one:?} {other:?}");
    // Times since a first datagram that was late differ from those of a run where it was not.
    assert!((0..ATTEMPTS).any(|_| distance(&times(7), &times(7)) < 2.0));
}

#[test]
fn both_directions_and_shared_loops_have_bursts() {
    let runs = local("--bidir --streams 20 --pps 8000 --burst 20 --gap poisson --packets 2000");
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_accounted(run);
        assert_eq!(number(run, "received.unique"), 2_000);
        assert!(run["requested"]["seed"].is_u64(), "{run:#}");
    }
}

#[test]
fn a_schedule_needs_a_pace() {
    let usage = |options: &str, word| {
        bench(["udp"].into_iter().chain(options.split(' '))).failed(2, &[word]);
    };
    usage("--burst 8", "--pps");
    usage("--burst 8 --unpaced", "--pps");
    usage("--gap poisson --unpaced", "--pps");
    usage("--burst 0 --pps 100", "1 to 65536");
    usage("--pps 100 --seed 7", "--gap");
    usage("--pps 100 --gap fixed --seed 7", "--gap poisson");
}

/// Prints the reason if a step of the lab is impossible.
fn is_possible(step: Result<(), String>) -> bool {
    step.inspect_err(|reason| println!("skipped: {reason}"))
        .is_ok()
}

/// A packet for each datagram, so that a rule of the router changes one datagram.
const SINGLE: &str = "--gso off --pps 20000 --packets 4000";

fn a_router_that_marks_ce_is_counted(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for (to, family) in [(V4, "ip"), (V6, "ip6")] {
        let _ = lab.router("nft delete table inet t");
        let rule = format!("numgen inc mod 10 0 counter {family} ecn set ce");
        if !is_possible(lab.rule('r', "forward", &rule)) {
            return;
        }
        let run = lab.run(to, &format!("{} {SINGLE} --ecn ect0", engine.0));
        assert_identities(&run);
        assert_eq!(number(&run, "lost.packets"), 0);
        assert_eq!(lab.counted('r'), [400]);
        assert_eq!(ecn(&run), [0, 3_600, 0, 400], "{to}");
        assert_eq!(number(&run, "marks.dscp_changed"), 0);
        // The router also sees the data of the server.
        let run = lab.run(to, &format!("{} {SINGLE} --ecn ect1 --reverse", engine.0));
        assert_eq!(ecn(&run), [0, 0, 3_600, 400], "{to}");
    }
}

fn a_router_that_rewrites_the_dscp_is_counted(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    if !is_possible(lab.rule('r', "forward", "numgen inc mod 4 0 counter ip dscp set cs1")) {
        return;
    }
    let run = lab.run(V4, &format!("{} {SINGLE} --dscp AF41 --ecn ect0", engine.0));
    assert_identities(&run);
    assert_eq!(lab.counted('r'), [1_000]);
    assert_eq!(number(&run, "marks.dscp_changed"), 1_000);
    let seen =
        serde_json::json!([{ "dscp": 8, "packets": 1_000 }, { "dscp": 34, "packets": 3_000 }]);
    assert_eq!(run["marks"]["dscp"], seen);
    // The rule keeps the ECN field.
    assert_eq!(ecn(&run), [0, 4_000, 0, 0]);
}

fn datagrams_end_at_a_router_that_their_ttl_reaches(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for to in [V4, V6] {
        let run = lab.run(to, &format!("{} --ttl 2 --packets 200", engine.0));
        assert_eq!(number(&run, "received.unique"), 200);
        let run = lab.finish(to, &format!("{} --ttl 1 --packets 200", engine.0));
        run.failed(3, &["does not answer"]);
    }
}
