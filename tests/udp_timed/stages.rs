//! `bench udp --explain` and `--timestamps`: each stage of the latency is lengthened by its own delay only.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::clocks::bench_ahead;
use crate::common::delay::Delay;
use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::routed::{Routed, V4, V6};
use crate::common::{PATIENCE, Results, Serve, assert_accounted, bench, names, number};
use serde_json::Value;

on_both_engines!(
    the_stages_sum_to_the_latency,
    a_stopped_reader_lengthens_only_the_receivers_stage,
    a_shaper_lengthens_only_the_qdiscs_stage,
    the_wait_for_a_full_qdisc_is_part_of_no_stage,
    a_delay_on_the_path_lengthens_only_the_wire,
    kernel_timestamps_are_without_the_receivers_stage,
    a_run_without_a_pace_stamps_a_sample,
);

const STAGES: [&str; 4] = ["sender", "qdisc", "wire", "receiver"];

/// The accuracy of a stage: 5 %, or 20 us.
const SHARE: f64 = 0.05;
const LEAST_NS: f64 = 20_000.0;

/// Runs on a busy machine, of which one must be accurate.
const TRIES: usize = 4;

/// Datagrams of a run with one every ms.
const PACED: &str = "--explain --pps 1000 --packets 600";

/// A figure of a stage, in ns.
#[track_caller]
fn stage(run: &Value, name: &str, figure: &str) -> f64 {
    let value = &run["stages"][name]["latency_ns"][figure];
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{name} {figure}: {:#}", run["stages"]))
}

/// Why `found` is no good measurement of `expected`; `None` if it is.
fn inaccuracy(what: &str, found: f64, expected: f64) -> Option<String> {
    let most = LEAST_NS.max(SHARE * expected);
    ((found - expected).abs() > most)
        .then(|| format!("{what}: {found} ns instead of {expected} ns"))
}

/// Checks, in one of several tries, that the mean of one stage is as expected, and that the medians of all others are those of a run
/// without the delay.
#[track_caller]
fn assert_only(longer: &str, plain: impl Fn() -> Value, delayed: impl Fn() -> (Value, f64)) {
    let mut reasons = Vec::new();
    for _ in 0..TRIES {
        let (plain, (run, expected)) = (plain(), delayed());
        let others = STAGES.iter().filter(|name| **name != longer);
        let wrong: Vec<String> = others
            .filter_map(|name| {
                inaccuracy(name, stage(&run, name, "p50"), stage(&plain, name, "p50"))
            })
            .chain(inaccuracy(longer, stage(&run, longer, "mean"), expected))
            .collect();
        if wrong.is_empty() {
            return;
        }
        reasons.push(wrong);
    }
    panic!("{longer}: {reasons:#?}");
}

/// Prints the reason if a step of the lab is impossible.
fn is_possible(step: Result<(), String>) -> bool {
    step.inspect_err(|reason| println!("skipped: {reason}"))
        .is_ok()
}

/// Runs a local `bench udp` and returns its first run.
#[track_caller]
fn local(options: &str) -> Value {
    let fixed = "udp --no-save --json -";
    let done = bench(fixed.split_whitespace().chain(options.split_whitespace())).done();
    let mut record: Value = serde_json::from_str(&done.stdout).unwrap();
    record["runs"][0].take()
}

/// The recorded times of a stage, and those out of range.
fn times(run: &Value, name: &str) -> u64 {
    let figures = &run["stages"][name]["latency_ns"];
    number(figures, "count") + number(figures, "out_of_range.negative")
}

fn the_stages_sum_to_the_latency(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    for (to, options) in [(V4, ""), (V6, "--reverse"), (V4, "--streams 2 --bidir")] {
        let mut differences = Vec::new();
        for _ in 0..TRIES {
            let done = lab.finish(to, &format!("{} {PACED} {options}", engine.0));
            let record: Value = serde_json::from_str(&done.done().stdout).unwrap();
            let mut most: f64 = 0.0;
            for run in record["runs"].as_array().unwrap() {
                assert_accounted(run);
                for name in ["sender", "qdisc", "wire"] {
                    assert!(times(run, name) <= 600, "{run:#}");
                    assert!(times(run, name) > 500, "{run:#}");
                }
                assert_eq!(number(run, "stages.every"), 1);
                assert_eq!(run["effective"]["gso"], false);
                let sum: f64 = STAGES.iter().map(|name| stage(run, name, "mean")).sum();
                let whole = run["latency_ns"]["mean"].as_f64().unwrap();
                most = most.max((sum - whole).abs() - SHARE * whole);
            }
            if most <= LEAST_NS {
                differences.clear();
                break;
            }
            differences.push(most);
        }
        assert!(differences.is_empty(), "{options}: {differences:?}");
    }
}

fn a_stopped_reader_lengthens_only_the_receivers_stage(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    let options = format!("{} {PACED} --interval 50ms --no-save", engine.0);
    let stopped = || {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        let mut running = lab.udp(V4, &format!("{options} --json {path}"));
        running.first_row();
        lab.serving_process().signal("STOP");
        let began = Instant::now();
        thread::sleep(Duration::from_millis(400));
        lab.serving_process().signal("CONT");
        let stopped = began.elapsed().as_secs_f64();
        running.wait(PATIENCE).done();
        let record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        // A datagram every ms waits until the end of the stop, on average for half of it.
        let expected = stopped * stopped / 2.0 * 1e9 * 1_000.0 / 600.0;
        (record["runs"][0].clone(), expected)
    };
    let plain = || lab.run(V4, &format!("{} {PACED}", engine.0));
    assert_only("receiver", plain, stopped);
}

fn a_shaper_lengthens_only_the_qdiscs_stage(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    // 1,032 B of UDP payload, with the headers of UDP, IP and Ethernet.
    const BYTES: f64 = 1_074.0;
    // A datagram every 2 ms, while one is sent every ms.
    let rate = BYTES * 8.0 * 500.0;
    let shape = format!("tc qdisc add dev c0 root tbf rate {rate}bit burst 1600b limit 2mb");
    if !is_possible(lab.client(&shape)) {
        return;
    }
    lab.client("tc qdisc del dev c0 root").unwrap();
    let options = format!("{} --explain --pps 1000 --packets 300", engine.0);
    let shaped = || {
        lab.client(&shape).unwrap();
        let run = lab.run(V4, &options);
        lab.client("tc qdisc del dev c0 root").unwrap();
        let waits = (0..300).map(|number| {
            let sent = f64::from(number) * 1e6;
            // The bucket is full at first, and never again.
            let left = ((f64::from(number) + 1.0) * BYTES - 1_600.0) * 8e9 / rate;
            (left - sent).max(0.0)
        });
        (run, waits.sum::<f64>() / 300.0)
    };
    assert_only("qdisc", || lab.run(V4, &options), shaped);
}

fn the_wait_for_a_full_qdisc_is_part_of_no_stage(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    // The queue has room for 9 datagrams, which take 10 ms.
    if !is_possible(lab.client("tc qdisc add dev c0 root tbf rate 8mbit burst 2kb limit 10kb")) {
        return;
    }
    let run = lab.run(
        V4,
        &format!("{} --explain --pps 3000 --packets 1500", engine.0),
    );
    assert_eq!(number(&run, "lost.packets"), 0, "{run:#}");
    // A datagram waits for those before it in the queue, and a sender on a busy machine for its CPU. The wait for the queue is lateness.
    let (sender, qdisc) = (stage(&run, "sender", "p50"), stage(&run, "qdisc", "p50"));
    assert!(sender < 2e6, "{sender}");
    assert!((5e6..3e7).contains(&qdisc), "{qdisc}");
    assert!(
        number(&run, "pacing.lateness_ns.p50") > 100_000_000,
        "{run:#}"
    );
    assert!(run["stages"]["notes"].to_string().contains("full qdisc"));
    // A few repetitions for each message, not 10,000 a second.
    let messages = number(&run, "engine_stats.send_messages");
    let repeated = number(&run, "engine_stats.send_enobufs");
    assert!(repeated < 4 * messages, "{repeated} of {messages}");
}

fn a_delay_on_the_path_lengthens_only_the_wire(engine: Engine) {
    let delay = Duration::from_millis(25);
    let server = Serve::start(&[]);
    let path = Delay::new(server.address, delay, delay);
    let to = |address: std::net::SocketAddr, options: &str| {
        local(&format!("--to {address} {} {PACED} {options}", engine.0))
    };
    let delayed = || (to(path.address, ""), delay.as_nanos() as f64);
    assert_only("wire", || to(server.address, ""), delayed);
    // With two clocks, the wire has the error of their relation.
    let run = to(path.address, "--clock estimate");
    let error = number(&run, "effective.clock.error_ns") as f64;
    let wire = stage(&run, "wire", "p50");
    let off = (wire - delay.as_nanos() as f64).abs();
    assert!(off <= error + 0.05 * wire, "{wire}: {:#}", run["stages"]);
}

fn kernel_timestamps_are_without_the_receivers_stage(engine: Engine) {
    let run = local(&format!(
        "{} {PACED} --timestamps kernel --gso off",
        engine.0
    ));
    assert_accounted(&run);
    assert_eq!(run["requested"]["timestamps"], "kernel");
    assert_eq!(run["effective"]["timestamps"], "kernel");
    if number(&run, "engine_stats.receive_unstamped") > 0 {
        return println!("skipped: the kernel began to stamp late");
    }
    // The histograms have 3 digits.
    let latency = run["latency_ns"]["mean"].as_f64().unwrap();
    let stages = ["sender", "qdisc", "wire"];
    let sum: f64 = stages.iter().map(|name| stage(&run, name, "mean")).sum();
    assert_eq!(inaccuracy("sum", sum, latency), None, "{run:#}");
    // Without stages, and in every direction and mode.
    for options in [
        "--reverse --pps 2000 --packets 500",
        "--packets 20000",
        "--unpaced --packets 20000",
    ] {
        let run = local(&format!("{} {options} --timestamps kernel", engine.0));
        assert_accounted(&run);
        assert!(run["stages"].is_null());
        assert!(number(&run, "engine_stats.receive_unstamped") < number(&run, "sent.packets"));
    }
}

fn a_run_without_a_pace_stamps_a_sample(engine: Engine) {
    for options in ["--packets 30000", "--unpaced --packets 30000 --gso off"] {
        let run = local(&format!("{} --explain {options}", engine.0));
        assert_eq!(number(&run, "stages.every"), 256);
        let sent = number(&run, "sent.packets").div_ceil(256);
        for name in ["sender", "qdisc"] {
            let count = times(&run, name);
            assert!((1..=sent).contains(&count), "{run:#}");
        }
        assert!(times(&run, "wire") <= times(&run, "qdisc"));
        assert!(
            run["stages"]["notes"][0]
                .as_str()
                .unwrap()
                .contains("One in 256")
        );
        let cost = &run["stages"]["cost"];
        let ns = |name: &str| cost[name].as_f64().unwrap();
        assert!(ns("read_ns") > 0.0, "{cost}");
        assert!(ns("stamped_send_ns") > ns("plain_send_ns"), "{cost}");
        assert!(ns("plain_receive_ns") > 0.0, "{cost}");
    }
}

#[test]
fn a_plain_run_has_no_stamps() {
    let run = local("--pps 5000 --packets 500");
    assert!(run["stages"].is_null());
    assert!(run["engine_stats"]["receive_unstamped"].is_null());
    assert_eq!(run["effective"]["timestamps"], "user");
}

#[test]
fn senders_that_are_not_stamped_have_the_reason() {
    for (options, word) in [("--zerocopy msg", "--zerocopy"), ("--streams 100", "share")] {
        let run = local(&format!("--explain --pps 5000 --packets 1000 {options}"));
        for name in ["sender", "qdisc", "wire"] {
            let stage = &run["stages"][name];
            assert!(stage["latency_ns"].is_null(), "{stage}");
            assert!(stage["reason"].as_str().unwrap().contains(word), "{stage}");
        }
        assert!(times(&run, "receiver") > 0);
    }
}

#[test]
fn datagrams_dropped_by_the_qdisc_have_no_wire() {
    let Some(lab) = Routed::start() else { return };
    let shape = "tc qdisc add dev c0 root handle 1: tbf rate 8mbit burst 10kb limit 40kb";
    if !is_possible(lab.client(shape))
        || !is_possible(lab.client("tc qdisc add dev c0 parent 1:1 pfifo_head_drop limit 10"))
    {
        return;
    }
    let run = lab.run(V4, "--explain --pps 2000 --packets 1000");
    let lost = number(&run, "lost.packets");
    assert!(lost > 100, "{run:#}");
    let arrived = number(&run, "received.unique");
    assert!(times(&run, "wire") <= arrived, "{run:#}");
    assert!(times(&run, "qdisc") <= arrived, "{run:#}");
    assert!(times(&run, "sender") > arrived, "{run:#}");
    assert!(
        run["stages"]["notes"]
            .to_string()
            .contains("without a stamp")
    );
}

#[test]
fn runs_with_and_without_kernel_timestamps_are_not_compared() {
    let results = Results::new();
    let out = results.arg();
    for by in ["user", "kernel"] {
        let options = format!("udp --pps 5000 --packets 500 --quiet --timestamps {by} --out {out}");
        bench(options.split_whitespace()).done();
    }
    let mut folders = results.names();
    folders.retain(|name| name != "udp.csv");
    let paths: Vec<String> = folders.iter().map(|name| format!("{out}/{name}")).collect();
    let compare = ["compare", &paths[0], &paths[1]];
    bench(compare).failed(3, &["kernel timestamps", "user timestamps"]);
}

#[test]
fn each_stage_has_a_histogram_and_a_line() {
    let results = Results::new();
    let out = results.arg();
    let options = format!("udp --explain --pps 5000 --packets 500 --out {out}");
    let text = bench(options.split_whitespace()).done().stdout;
    let files = names(&results.only());
    for name in STAGES {
        assert!(files.contains(&format!("stage-{name}.hgrm")), "{files:?}");
        assert!(text.contains(&format!("\n  {name:<9}")), "{text}");
    }
    for words in [
        "stamps  ",
        "in a trial on loopback",
        "to read a datagram's stamps",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let ledger = results.ledger();
    let column = ledger[0]
        .iter()
        .position(|name| name == "stage_wire_p50_ns");
    assert!(!ledger[1][column.unwrap()].is_empty());
}

#[test]
fn stamps_of_a_server_with_other_clocks_are_related_to_them() {
    let Some(mut command) = bench_ahead("10") else {
        return;
    };
    command.args(["serve", "--bind", "127.0.0.1:0", "--no-save"]);
    let mut server = crate::common::Running::new(command);
    let address = server.listening();
    for options in ["", "--reverse"] {
        let run = local(&format!("--to {address} {PACED} {options}"));
        let clock = &run["effective"]["clock"];
        assert_eq!(clock["source"], "estimated");
        let error = number(clock, "error_ns");
        // Loopback takes less than the error, so the wire may be below zero.
        let wire = &run["stages"]["wire"]["latency_ns"];
        let p50 = wire["p50"].as_u64().unwrap_or(0);
        assert!(times(&run, "wire") > 500, "{wire}");
        assert!(p50 <= error + 20_000, "{wire} {clock}");
        for name in ["sender", "qdisc", "receiver"] {
            let p50 = stage(&run, name, "p50");
            assert!(p50 < 1e8, "{name}: {p50}");
        }
    }
}
