//! `bench udp --round-trip`: against the local server, `bench serve`, and echo servers (RFC 862) that this test runs.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::common::delay::{Delay, Way};
use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{Finished, NOTICED, Results, Serve, bench, number, start, until};
use serde_json::Value;
use wirebench::udp::wire::header::{Header, Kind};

const MS: Duration = Duration::from_millis(1);

on_both_engines!(
    a_closed_loop_answers_every_request_of_the_local_server,
    an_open_loop_sends_at_its_rate_and_has_both_latencies,
    both_ends_may_spin,
    a_server_answers_round_trips_between_other_runs,
    an_echo_server_needs_no_control_connection,
    losses_and_duplicates_of_an_echo_server_are_counted_exactly,
    a_lost_exchange_does_not_stop_a_closed_loop,
    the_rate_of_a_closed_loop_includes_the_wait_for_a_lost_response,
    a_run_with_a_time_lasts_at_least_that_long,
    a_port_without_a_server_loses_every_request,
    a_server_that_is_no_echo_server_is_named_as_such,
    an_echo_server_that_answers_nothing_is_named,
    sigint_ends_a_run_with_the_exchanges_so_far,
    a_lost_server_ends_a_run_with_the_exchanges_so_far,
    idle_and_loaded_round_trips_are_compared_side_by_side,
);

mod formats;
mod paths;

/// Runs round trips with `options`, and returns their record.
#[track_caller]
fn round_trips(engine: Engine, options: &str) -> Value {
    let results = Results::new();
    let out = results.arg();
    let fixed = ["udp", "--round-trip", "--quiet", "--out", &out];
    let options = engine.options().chain(options.split_whitespace());
    bench(fixed.into_iter().chain(options)).done();
    let run = results.run();
    let name = if engine.is_uring() { "uring" } else { "mio" };
    assert_eq!(run["engine"], name);
    run
}

fn fails(options: &str) -> Finished {
    let fixed = ["udp", "--no-save"];
    bench(fixed.into_iter().chain(options.split_whitespace()))
}

/// An echo server that sends the n-th datagram back as often as `copies` says.
fn echo(copies: fn(u64) -> usize) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = [0; 65_536];
        for number in 0.. {
            let (length, peer) = socket.recv_from(&mut bytes).unwrap();
            for _ in 0..copies(number) {
                socket.send_to(&bytes[..length], peer).unwrap();
            }
        }
    });
    address
}

/// Checks what every record of round trips has.
#[track_caller]
fn assert_round_trips(run: &Value, kind: &str) {
    assert_eq!(run["mode"], "round-trip");
    assert_eq!(run["round_trip"]["loop"], kind);
    assert!(run["kb_per_s"].is_null() && run["transit_kb_per_s"].is_null());
    assert!(run["packets_per_s"].as_f64().unwrap() > 0.0);
    let (sent, lost) = (number(run, "sent.packets"), number(run, "lost.packets"));
    let answered = number(run, "received.unique");
    assert_eq!(sent, answered + lost);
    assert_eq!(number(run, "latency_ns.count"), answered);
    let rows = run["intervals"].as_array().unwrap();
    let sum = |key: &str| -> i64 { rows.iter().map(|row| row[key].as_i64().unwrap()).sum() };
    let duplicates = number(run, "received.duplicates");
    assert_eq!(
        sum("packets"),
        i64::try_from(answered + duplicates).unwrap()
    );
    assert_eq!(sum("missing"), i64::try_from(lost).unwrap());
    match kind {
        "open" => {
            assert_eq!(number(run, "latency_from_intended_ns.count"), answered);
            assert!(run["pacing"]["target_pps"].is_number());
        }
        _ => assert!(run["latency_from_intended_ns"].is_null() && run["pacing"].is_null()),
    }
}

fn a_closed_loop_answers_every_request_of_the_local_server(engine: Engine) {
    let run = round_trips(engine, "--packets 300 --chunk 100 --interval 10ms");
    assert_round_trips(&run, "closed");
    assert_eq!(number(&run, "sent.packets"), 300);
    assert_eq!(number(&run, "lost.packets"), 0);
    assert_eq!(number(&run, "received.bytes"), 30_000);
    assert_eq!(number(&run, "round_trip.requests_received"), 300);
    assert_eq!(number(&run, "round_trip.server_time_ns.count"), 300);
    assert_eq!(run["effective"]["clock"]["source"], "same");
    // A send and a receive; over io_uring one call for both. Ticks and interrupted sleeps add a few.
    let calls = |key: &str| number(&run, &format!("engine_stats.{key}_syscalls"));
    assert_eq!(calls("send"), if engine.is_uring() { 0 } else { 300 });
    assert!(
        (300..350).contains(&calls("receive")),
        "{}",
        calls("receive")
    );
}

fn an_open_loop_sends_at_its_rate_and_has_both_latencies(engine: Engine) {
    let run = round_trips(engine, "--duration 500ms --pps 400");
    assert_round_trips(&run, "open");
    assert_eq!(number(&run, "sent.packets"), 200);
    let actual = number(&run, "latency_ns.p50");
    assert!(number(&run, "latency_from_intended_ns.p50") >= actual);
}

fn both_ends_may_spin(engine: Engine) {
    let run = round_trips(engine, "--packets 50 --busy-poll");
    assert_round_trips(&run, "closed");
    assert_eq!(run["effective"]["spin"], true);
    let run = round_trips(engine, "--packets 50 --busy-poll --pps 1000");
    assert_round_trips(&run, "open");
    assert_eq!(number(&run, "received.unique"), 50);
}

fn a_server_answers_round_trips_between_other_runs(engine: Engine) {
    let server = Serve::start(&[]);
    let to = server.address;
    for kind in ["closed", "open"] {
        let pace = if kind == "open" { "--pps 1k" } else { "" };
        let run = round_trips(engine, &format!("--to {to} --packets 100 {pace}"));
        assert_round_trips(&run, kind);
        assert_eq!(number(&run, "received.unique"), 100);
        assert_eq!(number(&run, "round_trip.requests_received"), 100);
        assert_eq!(run["requested"]["to"], to.to_string());
    }
    let results = Results::new();
    let (to, out) = (to.to_string(), results.arg());
    bench(["udp", "--quiet", "--to", &to, "--mb", "0.1", "--out", &out]).done();
    assert_eq!(number(&results.run(), "lost.packets"), 0);
    let (shown, saved) = server.stop();
    let answered = "answered 100 requests of the client";
    assert_eq!(
        shown.stdout.matches(answered).count(),
        2,
        "{}",
        shown.stdout
    );
    assert!(saved.names().is_empty(), "{:?}", saved.names());
}

fn an_echo_server_needs_no_control_connection(engine: Engine) {
    let to = echo(|_| 1);
    let run = round_trips(engine, &format!("--echo {to} --packets 100"));
    assert_round_trips(&run, "closed");
    assert_eq!(number(&run, "received.unique"), 100);
    assert_eq!(run["round_trip"]["echo"], true);
    for unknown in ["requests_received", "server_time_ns"] {
        assert!(run["round_trip"][unknown].is_null(), "{unknown}");
    }
    assert!(run["cpu"]["receiver_user_s"].is_null());
    assert_eq!(run["requested"]["to"], to.to_string());
    let to = to.to_string();
    let fixed = ["udp", "--round-trip", "--echo", &to, "--packets", "10"];
    let options = engine.options().chain(["--no-save"]);
    let text = bench(fixed.into_iter().chain(options)).done();
    for words in [
        "round trips/s",
        "round trip, from the actual send",
        "echo server, which is unknown",
    ] {
        assert!(text.stdout.contains(words), "{}", text.stdout);
    }
}

fn losses_and_duplicates_of_an_echo_server_are_counted_exactly(engine: Engine) {
    // The last datagram is dropped too: all other responses have arrived when its timeout ends.
    let to = echo(|number| match number {
        _ if number % 10 == 9 => 0,
        _ if number % 7 == 3 => 2,
        _ => 1,
    });
    let run = round_trips(engine, &format!("--echo {to} --packets 200 --pps 2k"));
    assert_round_trips(&run, "open");
    let duplicates = (0..200u64).filter(|n| n % 10 != 9 && n % 7 == 3).count();
    assert_eq!(number(&run, "lost.packets"), 20);
    assert_eq!(number(&run, "received.unique"), 180);
    assert_eq!(number(&run, "received.duplicates"), duplicates as u64);
    assert_eq!(number(&run, "lost.elsewhere"), 20);
}

fn a_lost_exchange_does_not_stop_a_closed_loop(engine: Engine) {
    let to = echo(|number| usize::from(number != 3));
    let run = round_trips(engine, &format!("--echo {to} --packets 20"));
    assert_round_trips(&run, "closed");
    assert_eq!(number(&run, "lost.packets"), 1);
    assert_eq!(number(&run, "received.unique"), 19);
    assert!(number(&run, "latency_ns.max") < 1_000_000_000);
    assert!(run["seconds"].as_f64().unwrap() > 1.0);
}

fn the_rate_of_a_closed_loop_includes_the_wait_for_a_lost_response(engine: Engine) {
    let to = echo(|number| usize::from(number % 10 != 9));
    for amount in ["--duration 800ms", "--packets 10"] {
        let options = format!("--echo {to} {amount} --interval 100ms");
        let run = round_trips(engine, &options);
        assert_round_trips(&run, "closed");
        // The last exchange: the run ends with its timeout.
        assert_eq!(number(&run, "lost.packets"), 1);
        assert!(run["seconds"].as_f64().unwrap() >= 1.0, "{run:#}");
        assert!(run["packets_per_s"].as_f64().unwrap() <= 9.0, "{run:#}");
    }
}

fn a_run_with_a_time_lasts_at_least_that_long(engine: Engine) {
    // A request at the start, and its response long before the end.
    let run = round_trips(
        engine,
        &format!("--echo {} --duration 1s --pps 1", echo(|_| 1)),
    );
    assert_eq!(number(&run, "received.unique"), 1);
    let seconds = run["seconds"].as_f64().unwrap();
    // The first request is sent shortly after the start.
    assert!((0.5..=1.5).contains(&seconds), "{seconds}");
}

/// Runs requests to `to`, none of which is answered, and returns their record. The sentence of the error has `words`.
#[track_caller]
fn unanswered(engine: Engine, to: SocketAddr, options: &str, words: &str) -> Value {
    let results = Results::new();
    let (out, to) = (results.arg(), to.to_string());
    let fixed = ["udp", "--round-trip", "--out", &out, "--echo", &to];
    let options = engine.options().chain(options.split_whitespace());
    let finished = bench(fixed.into_iter().chain(options));
    assert!(
        finished.stdout.contains("INCOMPLETE: "),
        "{}",
        finished.stdout
    );
    assert!(
        finished.stdout.contains("- round trips/s"),
        "{}",
        finished.stdout
    );
    let sentence = format!("no request to {to} was answered");
    finished.failed(3, &[&sentence, words]);
    let run = results.run();
    assert_eq!(run["ended"], "peer_lost");
    assert!(run["reason"].as_str().unwrap().contains(words));
    assert_eq!(number(&run, "lost.packets"), number(&run, "sent.packets"));
    assert!(run["latency_ns"].is_null() && run["packets_per_s"].is_null());
    run
}

fn a_port_without_a_server_loses_every_request(engine: Engine) {
    let free = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let run = unanswered(engine, free, "--packets 20 --pps 1k", "port is unreachable");
    assert_eq!(number(&run, "lost.packets"), 20);
    assert!(number(&run, "engine_stats.icmp.port_unreachable") > 0);
}

fn a_server_that_is_no_echo_server_is_named_as_such(engine: Engine) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((_, peer)) = server.recv_from(&mut [0; 2_000]) {
            server.send_to(b"something else", peer).unwrap();
        }
    });
    let words = "no copy of a request came back, but 5 datagrams of another content";
    let run = unanswered(engine, to, "--packets 5 --pps 1k", words);
    assert_eq!(number(&run, "received.foreign"), 5);
}

fn an_echo_server_that_answers_nothing_is_named(engine: Engine) {
    let run = unanswered(engine, echo(|_| 0), "--packets 1", "nothing came back");
    assert_eq!(number(&run, "lost.elsewhere"), 1);
    // One answer is enough.
    let to = echo(|number| usize::from(number == 1));
    round_trips(engine, &format!("--echo {to} --packets 2 --pps 1k"));
}

fn sigint_ends_a_run_with_the_exchanges_so_far(engine: Engine) {
    for other in ["", "echo"] {
        let results = Results::new();
        let (out, to) = (results.arg(), echo(|_| 1).to_string());
        let options = "udp --round-trip --duration 60s --interval 50ms --out";
        let mut args: Vec<&str> = options.split_whitespace().chain([&out[..]]).collect();
        if other == "echo" {
            args.extend(["--echo", &to]);
        }
        args.extend(engine.options());
        let mut client = start(args);
        client.first_row();
        client.signal("INT");
        let finished = client.wait(NOTICED);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let run = results.run();
        assert_eq!(run["ended"], "interrupted");
        assert_round_trips(&run, "closed");
        assert_eq!(number(&run, "lost.packets"), 0);
    }
}

fn a_lost_server_ends_a_run_with_the_exchanges_so_far(engine: Engine) {
    let server = Serve::start(&[]);
    let options = "--round-trip --duration 60s --interval 50ms --peer-timeout 2s --pps 200";
    let (mut client, results) = server.client(&format!("{options} {}", engine.0));
    client.first_row();
    drop(server);
    let finished = client.wait(Duration::from_secs(20));
    assert_eq!(finished.code, Some(3), "{}", finished.stderr);
    let run = results.run();
    assert_eq!(run["ended"], "peer_lost");
    assert_round_trips(&run, "open");
    assert!(number(&run, "received.unique") > 0);
}

fn idle_and_loaded_round_trips_are_compared_side_by_side(engine: Engine) {
    for (load, server) in [("lossless", None), ("2k", Some(Serve::start(&[])))] {
        let results = Results::new();
        let out = results.arg();
        let to = server.as_ref().map(|server| server.address.to_string());
        let fixed = ["udp", "--round-trip", "--out", &out, "--under-load", load];
        let options = "--duration 300ms --pps 200 --warmup 0s --repeat 2";
        let mut args: Vec<&str> = fixed
            .into_iter()
            .chain(options.split_whitespace())
            .collect();
        args.extend(to.iter().flat_map(|to| ["--to", to]));
        args.extend(engine.options());
        let text = bench(args).done();
        assert!(text.stdout.contains("under load"), "{}", text.stdout);
        let record = results.record();
        let runs = record["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 4);
        for run in runs {
            assert_round_trips(run, "open");
            assert_eq!(number(run, "sent.packets"), 60);
            let is_loaded = run["requested"]["under_load"].is_string();
            assert_eq!(run["round_trip"]["load_kb_per_s"].is_number(), is_loaded);
            let warnings = run["warnings"].to_string();
            assert!(!warnings.contains("load ended"), "{warnings}");
        }
        let settings = record["comparison"].as_array().unwrap();
        assert_eq!(settings[0]["setting"], "idle");
        let loaded = settings[1]["setting"].as_str().unwrap();
        assert!(loaded.starts_with("under load "), "{loaded}");
        assert!(settings[1]["ratios"]["latency_p99_ns"]["ratio"].is_number());
    }
    fails("--round-trip --under-load x").failed(2, &["--under-load", "lossless"]);
    fails("--under-load lossless").failed(2, &["--round-trip"]);
    fails("--round-trip --under-load lossless --echo 127.0.0.1").failed(2, &["--echo"]);
    fails("--round-trip --under-load 0").failed(2, &["cannot be paced"]);
}
