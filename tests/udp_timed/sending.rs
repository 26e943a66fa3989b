//! The sending side of `bench udp` when it stalls, is too slow, or its kernel refuses messages.

use std::thread;
use std::time::Duration;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::routed::{Routed, V4};
use crate::common::{PATIENCE, Serve, assert_identities, bench, number};
use serde_json::Value;

on_both_engines!(
    datagrams_due_in_a_stall_at_the_end_are_sent_late,
    a_sender_that_is_too_slow_reports_what_was_due,
    an_outage_without_memory_loses_its_datagrams_and_not_the_run,
    the_wait_for_a_full_qdisc_is_lateness_and_not_latency,
);

on_every_engine!(mio_msg "--zerocopy msg",
    an_outage_without_memory_loses_its_datagrams_and_not_the_run,
    the_wait_for_a_full_qdisc_is_lateness_and_not_latency
);

on_every_engine!(uring_msg "--engine uring --zerocopy msg",
    an_outage_without_memory_loses_its_datagrams_and_not_the_run,
    the_wait_for_a_full_qdisc_is_lateness_and_not_latency
);

on_every_engine!(uring_sqpoll "--engine uring --uring-sqpoll --uring-ring-size 2",
    an_outage_without_memory_loses_its_datagrams_and_not_the_run,
    the_wait_for_a_full_qdisc_is_lateness_and_not_latency
);

/// Attempts on a busy machine, of which one must be undisturbed.
const ATTEMPTS: usize = 4;

/// A figure in ms.
#[track_caller]
fn ms(run: &Value, pointer: &str) -> f64 {
    let figure = run.pointer(pointer).and_then(Value::as_f64);
    figure.unwrap_or_else(|| panic!("{pointer}: {run:#}")) / 1e6
}

fn datagrams_due_in_a_stall_at_the_end_are_sent_late(engine: Engine) {
    for way in ["", "--reverse", "--spin off --streams 2"] {
        let attempt = || {
            let server = Serve::start(&[]);
            let options = "--pps 1000 --duration 500ms --interval 50ms";
            let (mut client, results) = server.client(&format!("{} {options} {way}", engine.0));
            client.first_row();
            let stop = |name| match way {
                "--reverse" => server.program.signal(name),
                _ => client.signal(name),
            };
            stop("STOP");
            thread::sleep(Duration::from_millis(500));
            stop("CONT");
            client.wait(PATIENCE).done();
            let run = results.run();
            assert_identities(&run);
            assert_eq!(run["ended"], "complete");
            let (sent, unsent) = (number(&run, "sent.packets"), number(&run, "pacing.unsent"));
            assert_eq!(sent + unsent, 500, "{run:#}");
            unsent == 0 && ms(&run, "/pacing/lateness_ns/max") > 400.0
        };
        assert!((0..ATTEMPTS).any(|_| attempt()), "{way}");
    }
}

fn a_sender_that_is_too_slow_reports_what_was_due(engine: Engine) {
    let options = "--pps 10000000 --duration 200ms --no-save --json -";
    let args = format!("udp {} {options}", engine.0);
    let done = bench(args.split_whitespace()).done();
    let record: Value = serde_json::from_str(&done.stdout).unwrap();
    let run = &record["runs"][0];
    let (sent, unsent) = (number(run, "sent.packets"), number(run, "pacing.unsent"));
    assert_eq!(sent + unsent, 2_000_000);
    let achieved = run["pacing"]["achieved_pps"].as_f64().unwrap();
    assert!(achieved <= sent as f64 / 0.2, "{run:#}");
    let warnings = run["warnings"].to_string();
    assert!(warnings.contains("never sent"), "{warnings}");
}

fn an_outage_without_memory_loses_its_datagrams_and_not_the_run(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    // A queue without room: each send fails with ENOBUFS. While a qdisc is replaced, the kernel drops datagrams without an error.
    let limit = |step: &str, limit: u32| {
        lab.client(&format!("tc qdisc {step} dev c0 root pfifo limit {limit}"))
    };
    if let Err(reason) = limit("add", 1_000) {
        return println!("skipped: {reason}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let options = "--pps 200 --duration 1500ms --interval 50ms --no-save --json";
    let mut client = lab.udp(V4, &format!("{} {options} {path}", engine.0));
    client.first_row();
    limit("change", 0).unwrap();
    thread::sleep(Duration::from_millis(1_200));
    limit("change", 1_000).unwrap();
    client.wait(PATIENCE).done();
    let record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let run = &record["runs"][0];
    assert_identities(run);
    assert_eq!(run["ended"], "complete");
    let (sent, not_sent) = (number(run, "sent.packets"), number(run, "lost.not_sent"));
    assert_eq!(sent + number(run, "pacing.unsent"), 300, "{run:#}");
    assert!(not_sent > 0 && not_sent < sent, "{run:#}");
    assert!(
        run["engine_stats"]["last_send_error"].is_number(),
        "{run:#}"
    );
    assert_eq!(number(run, "lost.packets"), not_sent, "{run:#}");
}

fn the_wait_for_a_full_qdisc_is_lateness_and_not_latency(engine: Engine) {
    let Some(lab) = Routed::start() else { return };
    // The queue has room for 7 datagrams, of which each takes 3.4 ms.
    let shape = "tc qdisc add dev c0 root tbf rate 2500kbit burst 2kb limit 8kb";
    if let Err(reason) = lab.client(shape) {
        return println!("skipped: {reason}");
    }
    let options = format!(
        "{} --pps 1000 --duration 300ms --spin off --gso off",
        engine.0
    );
    let attempt = || {
        let run = lab.run(V4, &options);
        assert_identities(&run);
        assert_eq!(number(&run, "lost.packets"), 0, "{run:#}");
        let latency = ms(&run, "/latency_ns/p50");
        let intended = ms(&run, "/latency_from_intended_ns/p50");
        let late = ms(&run, "/pacing/lateness_ns/p50");
        println!("{latency} {intended} {late}");
        latency < 40.0 && late > 60.0 && intended > late
    };
    assert!((0..ATTEMPTS).any(|_| attempt()));
}
