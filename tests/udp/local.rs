//! `bench udp` with both ends in one process: amount, pace and I/O options.

use crate::common::cpu::Cpu;
use crate::common::engine::{Engine, available, on_every_engine};
use crate::common::{Results, assert_accounted, bench, number};
use serde_json::{Value, json};
use wirebench::sys::affinity;

/// Runs with both ends in one process.
trait Local {
    fn udp(self, options: &str) -> Value;
}

impl Local for Engine {
    /// The record of a run with these options. Checks the properties of every complete run.
    #[track_caller]
    fn udp(self, options: &str) -> Value {
        let results = Results::new();
        let out = results.arg();
        let fixed = ["udp", "--quiet", "--out", &out];
        let options = self.0.split_whitespace().chain(options.split(' '));
        let cpu = Cpu::acquire();
        bench(fixed.into_iter().chain(options)).done();
        drop(cpu);
        let run = results.run();
        assert_accounted(&run);
        assert_eq!(run["complete"], true);
        assert_eq!(
            (&run["ended"], &run["reason"]),
            (&"complete".into(), &Value::Null)
        );
        let uring = self.0.contains("uring");
        assert_eq!(run["engine"], if uring { "uring" } else { "mio" });
        for ring in ["send_ring", "receive_ring"] {
            assert_eq!(run["engine_stats"][ring].is_object(), uring);
        }
        run
    }
}

on_every_engine!(
    lossless_loses_nothing,
    paced_runs_have_latency_from_the_intended_send,
    a_rate_counts_bits_of_message,
    an_unpaced_run_sends_everything_and_accounts_for_losses,
    the_bytes_are_exact_for_any_chunk,
    the_smallest_and_the_largest_chunk_arrive,
    the_server_sees_the_ipv6_address,
    a_duration_ends_the_run,
    streams_share_the_amount,
    a_stream_may_have_no_datagram,
    segmentation_is_as_requested,
    a_batch_limits_the_datagrams_per_call,
    threads_run_on_their_cpus,
    the_faster_placement_is_chosen_by_trials,
    buffers_are_read_back,
    the_last_credit_finds_an_open_port,
);

/// Checks the number of datagrams and bytes sent.
#[track_caller]
fn assert_sent(run: &Value, packets: u64, bytes: u64) {
    let sent = (number(run, "sent.packets"), number(run, "sent.bytes"));
    assert_eq!(sent, (packets, bytes));
}

/// As [`assert_sent`], without losses.
#[track_caller]
fn assert_delivered(run: &Value, packets: u64, bytes: u64) {
    assert_sent(run, packets, bytes);
    assert_eq!(number(run, "received.bytes"), bytes);
    assert_eq!(number(run, "lost.packets"), 0);
    assert_eq!(number(run, "received.duplicates"), 0);
}

fn lossless_loses_nothing(engine: Engine) {
    let run = engine.udp("--mb 3");
    assert_eq!(run["mode"], "lossless");
    assert_delivered(&run, 3_000, 3_000_000);
    assert!(number(&run, "effective.window") >= 1);
    assert!(run["latency_from_intended_ns"].is_null());
    assert!(run["pacing"].is_null());
}

fn the_last_credit_finds_an_open_port(engine: Engine) {
    for _ in 0..5 {
        let run = engine.udp("--packets 3000");
        assert_eq!(
            number(&run, "engine_stats.receive_icmp.port_unreachable"),
            0
        );
    }
}

fn paced_runs_have_latency_from_the_intended_send(engine: Engine) {
    let run = engine.udp("--packets 500 --pps 10k");
    assert_eq!(run["mode"], "paced");
    assert_sent(&run, 500, 500_000);
    assert_eq!(run["requested"]["pps"], 10_000.0);
    assert_eq!(run["pacing"]["target_pps"], 10_000.0);
    assert_eq!(number(&run, "pacing.lateness_ns.count"), 500);
    // The time from the intended send is never shorter.
    let mean = |key: &str| run[key]["mean"].as_f64().unwrap();
    assert!(mean("latency_from_intended_ns") >= mean("latency_ns"));
    assert!(run["effective"]["window"].is_null());
}

fn a_rate_counts_bits_of_message(engine: Engine) {
    let run = engine.udp("--mb 0.5 --chunk 500 --rate 40M");
    assert_eq!(run["mode"], "paced");
    assert_sent(&run, 1_000, 500_000);
    assert_eq!(run["pacing"]["target_pps"], 10_000.0);
    assert_eq!(run["requested"]["rate_bits_per_s"], 40e6);
}

fn an_unpaced_run_sends_everything_and_accounts_for_losses(engine: Engine) {
    let run = engine.udp("--packets 20000 --unpaced --rcvbuf 20k");
    assert_eq!(run["mode"], "blast");
    assert_sent(&run, 20_000, 20_000_000);
    assert!(run["pacing"].is_null());
    assert!(run["effective"]["window"].is_null());
}

fn the_bytes_are_exact_for_any_chunk(engine: Engine) {
    for (options, packets) in [
        ("--mb 0.012345", 13),
        ("--mb 0.000001", 1),
        ("--mb 0.000999 --chunk 333", 3),
        ("--mb 0.012345 --streams 3", 13),
        ("--mb 0.012345 --gso off --batch 1", 13),
        ("--mb 0.012345 --pps 5k --streams 2", 13),
    ] {
        let run = engine.udp(options);
        let megabytes: f64 = options.split(' ').nth(1).unwrap().parse().unwrap();
        assert_delivered(&run, packets, (megabytes * 1e6).round() as u64);
    }
}

fn the_smallest_and_the_largest_chunk_arrive(engine: Engine) {
    for options in [
        "--packets 2000 --chunk 1",
        "--packets 2000 --chunk 1 --gso off --ipv6",
    ] {
        let run = engine.udp(options);
        assert_delivered(&run, 2_000, 2_000);
        assert_eq!(number(&run, "effective.datagram"), 33);
    }
    for options in [
        "--packets 40 --chunk 65475",
        "--packets 40 --chunk 65475 --ipv6",
    ] {
        let run = engine.udp(options);
        assert_delivered(&run, 40, 40 * 65_475);
        assert_eq!(number(&run, "effective.datagram"), 65_507);
        // Two of these datagrams do not fit one send: auto does without GSO, with a note.
        assert_eq!(run["effective"]["gso"], false);
        assert!(run["effective"]["offload_note"].is_string());
    }
}

fn the_server_sees_the_ipv6_address(engine: Engine) {
    assert_eq!(engine.udp("--mb 0.1 --ipv6")["client_ip"], "::1");
    assert_eq!(engine.udp("--mb 0.1")["client_ip"], "127.0.0.1");
}

fn a_duration_ends_the_run(engine: Engine) {
    for more in ["", " --pps 5k --streams 2", " --unpaced"] {
        let run = engine.udp(&format!("--duration 200ms{more}"));
        assert!(number(&run, "received.unique") > 0);
        assert_eq!(run["requested"]["duration_s"], 0.2);
        assert!(run["requested"]["packets"].is_null() && run["requested"]["bytes"].is_null());
        let packets = number(&run, "sent.packets");
        assert_eq!(number(&run, "sent.bytes"), packets * 1_000);
    }
    // 5000 per second for 0.2 s: never more than are due.
    let run = engine.udp("--duration 200ms --pps 5k");
    assert!(number(&run, "sent.packets") <= 1_000);
}

fn streams_share_the_amount(engine: Engine) {
    for streams in [2u64, 3] {
        let run = engine.udp(&format!("--mb 1 --streams {streams}"));
        assert_delivered(&run, 1_000, 1_000_000);
        let shares: Vec<u64> = run["streams"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stream| number(stream, "sent.packets"))
            .collect();
        assert_eq!(shares.len() as u64, streams);
        assert!(
            shares
                .iter()
                .all(|share| share.abs_diff(1_000 / streams) <= 1),
            "{shares:?}"
        );
    }
}

fn a_stream_may_have_no_datagram(engine: Engine) {
    let run = engine.udp("--packets 2 --streams 3 --pps 1k");
    assert_delivered(&run, 2, 2_000);
    assert_eq!(number(&run, "pacing.lateness_ns.count"), 2);
}

fn segmentation_is_as_requested(engine: Engine) {
    let run = engine.udp("--mb 1 --gso on");
    assert_eq!(
        (&run["effective"]["gso"], &run["effective"]["gro"]),
        (&true.into(), &true.into())
    );
    assert!(number(&run, "effective.segments") > 1);
    assert!(number(&run, "engine_stats.send_messages") < 1_000);
    let run = engine.udp("--mb 1 --gso off");
    assert_eq!(
        (&run["effective"]["gso"], &run["effective"]["gro"]),
        (&false.into(), &false.into())
    );
    assert_eq!(number(&run, "effective.segments"), 1);
    assert!(number(&run, "engine_stats.send_messages") >= 1_000);
    let run = engine.udp("--mb 1 --gso auto");
    assert_eq!(run["requested"]["gso"], "auto");
    assert!(run["effective"]["gso"] == true || run["effective"]["offload_note"].is_string());
}

fn a_batch_limits_the_datagrams_per_call(engine: Engine) {
    for batch in [1, 7, 64] {
        let run = engine.udp(&format!("--packets 2000 --gso off --batch {batch}"));
        assert_delivered(&run, 2_000, 2_000_000);
        assert_eq!(number(&run, "effective.batch"), batch);
        assert_eq!(number(&run, "requested.batch"), batch);
        // A submission thread takes batches without a system call.
        let calls = number(&run, "engine_stats.send_syscalls");
        assert!(calls >= 2_000 / batch || engine.0.contains("sqpoll"));
        let run = engine.udp(&format!("--packets 2000 --batch {batch}"));
        assert_delivered(&run, 2_000, 2_000_000);
        assert!(number(&run, "effective.batch") <= batch);
    }
}

fn threads_run_on_their_cpus(engine: Engine) {
    let run = engine.udp("--mb 0.1 --cpus 0 --streams 2");
    let cpus = serde_json::json!([0, 0]);
    assert_eq!(
        (
            &run["effective"]["sender_cpus"],
            &run["effective"]["receiver_cpus"]
        ),
        (&cpus, &cpus)
    );
    let run = engine.udp("--mb 0.1 --cpus free");
    assert!(
        run["effective"]["sender_cpus"].is_null() && run["effective"]["receiver_cpus"].is_null()
    );
    assert_eq!(run["requested"]["cpus"], "free");
}

/// Without `--cpus`, two placements are tried if there are CPUs for both, and the record has the rates.
fn the_faster_placement_is_chosen_by_trials(engine: Engine) {
    let run = engine.udp("--mb 0.1");
    let effective = &run["effective"];
    let place = |of: &Value| (of["sender_cpus"].clone(), of["receiver_cpus"].clone());
    match affinity::allowed().unwrap().as_slice() {
        [first, second, ..] => {
            let trials = effective["cpu_trials"].as_array().unwrap();
            let places: Vec<_> = trials.iter().map(place).collect();
            let (shared, apart) = (json!([first]), json!([second]));
            assert_eq!(places, [(shared.clone(), shared.clone()), (shared, apart)]);
            let rate = |trial: &Value| trial["packets_per_s"].as_f64().unwrap();
            let best = trials.iter().map(rate).fold(0.0, f64::max);
            assert!(best > 0.0);
            let chosen = trials.iter().find(|trial| rate(trial) == best).unwrap();
            assert_eq!(place(effective), place(chosen));
        }
        _ => assert!(effective["cpu_trials"].is_null()),
    }
    assert_delivered(&run, 100, 100_000);
    for without_choice in ["--packets 10 --pps 1000", "--mb 0.1 --cpus 0"] {
        let run = engine.udp(without_choice);
        assert!(run["effective"]["cpu_trials"].is_null(), "{without_choice}");
    }
}

fn buffers_are_read_back(engine: Engine) {
    let run = engine.udp("--mb 0.1 --sndbuf 50k --rcvbuf 60k");
    assert_eq!(
        (
            number(&run, "requested.sndbuf"),
            number(&run, "requested.rcvbuf")
        ),
        (50_000, 60_000)
    );
    // socket(7): the kernel doubles the requested size.
    assert_eq!(
        (
            number(&run, "effective.sndbuf"),
            number(&run, "effective.rcvbuf")
        ),
        (100_000, 120_000)
    );
}

/// A page may be reused only when the receiver has read it. Otherwise sequence numbers would be duplicate or missing.
#[test]
fn spliced_pages_arrive_unchanged() {
    for options in [
        "--mb 20",
        "--mb 3 --chunk 1",
        "--mb 0.012345 --chunk 333",
        "--mb 20 --chunk 8192",
        "--packets 40 --chunk 65475",
        "--mb 3 --gso off",
        "--mb 1 --gso off --batch 1",
        "--mb 3 --streams 3 --ipv6",
        "--mb 2 --rcvbuf 20k",
        "--mb 5 --cpus 0,0",
        "--duration 200ms",
    ] {
        let run = Engine("--zerocopy splice").udp(options);
        let sent = number(&run, "sent.packets");
        assert_delivered(&run, sent, number(&run, "sent.bytes"));
        assert_eq!(number(&run, "received.reordered"), 0);
        assert_eq!(run["effective"]["zerocopy"], "splice");
        let messages = number(&run, "engine_stats.send_messages");
        assert_eq!(number(&run, "engine_stats.zerocopy.messages"), messages);
    }
}

/// The streams of a run may have different windows. The senders use the smallest.
#[test]
fn spliced_pages_of_streams_on_different_cpus_arrive_unchanged() {
    if !wirebench::sys::affinity::allowed().is_ok_and(|cpus| cpus.starts_with(&[0, 1])) {
        return println!("skipped: CPUs 0 and 1 are not both to be had");
    }
    let run = Engine("--zerocopy splice").udp("--mb 100 --streams 2 --cpus 0,0,0,1");
    assert_delivered(&run, 100_000, 100_000_000);
    assert_eq!(number(&run, "received.reordered"), 0);
}

#[test]
fn messages_that_the_kernel_copied_are_counted() {
    for engine in ["--zerocopy msg", "--engine uring --zerocopy msg"] {
        let Some(engine) = available(engine) else {
            continue;
        };
        let run = engine.udp("--mb 3");
        let messages = number(&run, "engine_stats.zerocopy.messages");
        assert!(messages > 0);
        // Loopback always copies.
        assert_eq!(number(&run, "engine_stats.zerocopy.copied"), messages);
    }
    assert!(Engine("").udp("--mb 0.1")["engine_stats"]["zerocopy"].is_null());
}

#[test]
fn a_ring_has_the_requested_size() {
    let Some(engine) = available("--engine uring") else {
        return;
    };
    for (asked, made) in [(1, 1), (5, 8), (4_096, 4_096)] {
        let run = engine.udp(&format!("--mb 1 --uring-ring-size {asked}"));
        assert_delivered(&run, 1_000, 1_000_000);
        for ring in ["send_ring", "receive_ring"] {
            assert_eq!(number(&run, &format!("engine_stats.{ring}.size")), made);
            assert!(number(&run, &format!("engine_stats.{ring}.sqes")) > 0);
        }
        assert_eq!(number(&run, "requested.uring.ring_size"), asked);
    }
}
