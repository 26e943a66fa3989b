//! `bench udp --to` and `bench serve` as two programs, and the outcome at one when the other is lost.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use crate::common::engine::{Engine, on_every_engine};
use crate::common::{
    NOTICED, Results, Running, Serve, assert_accounted, assert_arrivals, assert_identities, bench,
    number, start,
};
use serde_json::Value;

on_every_engine!(
    sigint_at_the_client_ends_the_run_with_its_results,
    sigint_ends_a_run_in_one_process_with_its_results,
    sigint_at_the_server_ends_its_sessions_with_their_results,
    a_client_saves_its_results_if_the_server_is_killed,
    a_server_saves_its_results_if_the_client_is_killed,
);

/// A client that runs for a minute, after its first interval row.
fn long_run(server: &Serve, engine: Engine) -> (Running, Results) {
    let options = format!("--duration 60s --pps 2k --interval 100ms {}", engine.0);
    let (mut client, results) = server.client(&options);
    client.first_row();
    (client, results)
}

/// Checks that the server serves a short lossless run.
#[track_caller]
fn assert_serves(server: SocketAddr, options: &str) -> Value {
    let results = Results::new();
    let (to, out) = (server.to_string(), results.arg());
    let fixed = ["udp", "--quiet", "--to", &to, "--out", &out];
    bench(fixed.into_iter().chain(options.split(' '))).done();
    let run = results.run();
    assert_accounted(&run);
    assert_eq!(run["complete"], true);
    assert_eq!(number(&run, "lost.packets"), 0);
    run
}

/// Checks a saved record that is incomplete.
#[track_caller]
fn assert_incomplete(run: &Value, ended: &str) {
    assert_eq!(
        (&run["complete"], &run["ended"]),
        (&false.into(), &ended.into())
    );
    // The last counts of a lost receiver are unknown.
    match run["lost"]["packets"].is_null() {
        true => assert_eq!(ended, "peer_lost"),
        false => assert_identities(run),
    }
    assert!(run["reason"].is_string());
    // The counts of a lost sender are unknown too. A server's record has no address of a server.
    match ended == "peer_lost" && run["requested"]["to"].is_null() {
        true => assert_sent_is_unknown(run),
        false => assert!(number(run, "sent.packets") > 0),
    }
    assert!(number(run, "received.unique") > 0);
    assert!(!run["intervals"].as_array().unwrap().is_empty());
}

/// Checks that no number of sent or lost datagrams is invented.
#[track_caller]
fn assert_sent_is_unknown(run: &Value) {
    for counts in [&run["sent"], &run["lost"]] {
        let mut counts = counts.as_object().unwrap().values();
        assert!(counts.all(Value::is_null), "{run:#}");
    }
}

#[test]
fn a_server_serves_consecutive_runs_and_saves_none() {
    let server = Serve::start(&[]);
    let run = assert_serves(server.address, "--mb 0.5");
    assert_eq!(number(&run, "received.bytes"), 500_000);
    assert_eq!(run["client_ip"], "127.0.0.1");
    assert_eq!(run["requested"]["to"], server.address.to_string());
    assert_eq!(run["effective"]["clock"]["source"], "same");
    let run = assert_serves(server.address, "--packets 300 --pps 10k --streams 2");
    assert_eq!(number(&run, "received.unique"), 300);
    let (server, saved) = server.stop();
    assert_eq!(server.stdout.matches("session of 127.0.0.1:").count(), 2);
    assert!(server.stdout.contains("unique 500\n"), "{}", server.stdout);
    assert!(server.stdout.contains("unique 300\n"), "{}", server.stdout);
    assert!(!server.stdout.contains("INCOMPLETE"), "{}", server.stdout);
    assert_eq!(saved.names(), [""; 0]);
}

#[test]
fn concurrent_sessions_are_independent() {
    let server = Serve::start(&[]);
    thread::scope(|scope| {
        for packets in [400u64, 500, 600, 700] {
            let server = server.address;
            scope.spawn(move || {
                let run = assert_serves(
                    server,
                    &format!("--packets {packets} --streams 2 --chunk {packets}"),
                );
                assert_eq!(number(&run, "received.unique"), packets);
                assert_eq!(number(&run, "received.bytes"), packets * packets);
                assert_eq!(number(&run, "received.foreign"), 0);
            });
        }
    });
    server.stop();
}

#[test]
fn an_estimated_clock_is_within_its_error_bar() {
    let server = Serve::start(&[]);
    let run = assert_serves(server.address, "--mb 0.5 --clock estimate");
    let clock = &run["effective"]["clock"];
    assert_eq!(clock["source"], "estimated");
    // Both read one clock, so the truth is 0.
    let (offset, error) = (
        clock["offset_ns"].as_i64().unwrap(),
        clock["error_ns"].as_u64().unwrap(),
    );
    assert!(offset.unsigned_abs() <= error, "{clock}");
    assert!(error > 0 && clock["drift_ns"].is_i64(), "{clock}");
}

#[test]
fn a_client_sends_from_its_bind_address() {
    let server = Serve::start(&[]);
    let (client, results) = server.client("--mb 0.1 --bind 127.0.0.2:0");
    let finished = client.wait(NOTICED).done();
    assert!(
        finished.stdout.starts_with("listening on 127.0.0.2:"),
        "{}",
        finished.stdout
    );
    assert_eq!(results.run()["client_ip"], "127.0.0.2");
}

fn sigint_at_the_client_ends_the_run_with_its_results(engine: Engine) {
    let server = Serve::start(&[]);
    let (client, results) = long_run(&server, engine);
    client.signal("INT");
    let finished = client.wait(NOTICED).done();
    assert!(
        finished.stdout.contains("INCOMPLETE: interrupted"),
        "{}",
        finished.stdout
    );
    let run = results.run();
    assert_incomplete(&run, "interrupted");
    // The results of both sides are known.
    assert_accounted(&run);
    assert!(run["kb_per_s"].is_f64());
    assert_eq!(results.ledger().len(), 2);
    let (_, saved) = server.stop();
    assert_eq!(saved.names(), [""; 0]);
}

fn sigint_ends_a_run_in_one_process_with_its_results(engine: Engine) {
    let results = Results::new();
    let args = ["udp", "--duration", "60s", "--interval", "100ms", "--out"];
    let out = results.arg();
    let mut bench = start(
        args.into_iter()
            .chain([out.as_str()])
            .chain(engine.options()),
    );
    bench.first_row();
    bench.signal("INT");
    bench.wait(NOTICED).done();
    let run = results.run();
    assert_incomplete(&run, "interrupted");
    assert_accounted(&run);
    assert_eq!(number(&run, "lost.packets"), 0);
}

fn sigint_at_the_server_ends_its_sessions_with_their_results(engine: Engine) {
    let server = Serve::start(&[]);
    let (client, results) = long_run(&server, engine);
    let (server, saved) = server.stop();
    assert!(
        server.stdout.contains("INCOMPLETE: the server was stopped"),
        "{}",
        server.stdout
    );
    client
        .wait(NOTICED)
        .failed(3, &["incomplete", "the server was stopped"]);
    let run = results.run();
    assert_incomplete(&run, "limit");
    assert_accounted(&run);
    assert_eq!(saved.names(), [""; 0]);
}

fn a_client_saves_its_results_if_the_server_is_killed(engine: Engine) {
    let server = Serve::start(&[]);
    let (client, results) = long_run(&server, engine);
    server.program.signal("KILL");
    let finished = client.wait(NOTICED);
    let finished = finished.failed(3, &["incomplete", &server.address.to_string(), "was lost"]);
    assert!(
        finished.stdout.contains("INCOMPLETE"),
        "{}",
        finished.stdout
    );
    let run = results.run();
    assert_incomplete(&run, "peer_lost");
    assert!(
        run["lost"]
            .as_object()
            .unwrap()
            .values()
            .all(Value::is_null)
    );
    let ledger = results.ledger();
    let column = ledger[0].iter().position(|name| name == "lost_packets");
    assert_eq!((ledger.len(), &ledger[1][column.unwrap()][..]), (2, ""));
}

fn a_server_saves_its_results_if_the_client_is_killed(engine: Engine) {
    let mut server = Serve::start(&[]);
    let (client, _results) = long_run(&server, engine);
    client.signal("KILL");
    server
        .program
        .line(|line| line.starts_with("INCOMPLETE: the client is lost"));
    server.program.line(|line| line.starts_with("saved in "));
    assert_serves(server.address, "--mb 0.1");
    let run = server.results.run();
    assert_incomplete(&run, "peer_lost");
    assert_arrivals(&run);
    let ledger = server.results.ledger();
    let column = |name| ledger[0].iter().position(|column| column == name).unwrap();
    for name in [
        "sent_packets",
        "sent_bytes",
        "lost_packets",
        "lost_not_sent",
    ] {
        assert!(ledger[1][column(name)].is_empty(), "{name}");
    }
    assert_eq!(ledger.len(), 2);
    let (_, saved) = server.stop();
    assert_eq!(saved.names().len(), 2);
}

#[test]
fn a_server_does_not_claim_that_a_killed_client_has_the_figures() {
    let mut server = Serve::start(&[]);
    let (client, _results) = long_run(&server, Engine("--reverse"));
    client.signal("KILL");
    server
        .program
        .line(|line| line == "sent to the client, which was lost before it had the figures");
}

#[test]
fn a_quiet_server_prints_its_address_only() {
    let server = Serve::start(&["--quiet"]);
    let (client, _results) = long_run(&server, Engine(""));
    client.signal("KILL");
    drop(client);
    // The server has finished the session, and ends at the signal.
    assert_serves(server.address, "--mb 0.1");
    server.program.signal("INT");
    let Serve {
        program, results, ..
    } = server;
    let finished = program.wait(NOTICED).done();
    assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.stdout);
    assert_incomplete(&results.run(), "peer_lost");
}

#[test]
fn a_server_with_closed_stdout_continues_to_serve() {
    let results = Results::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["serve", "--bind", "127.0.0.1:0", "--out", &results.arg()]);
    // Stdout is closed after the address is read.
    let mut program = Running::read_for(command, 1);
    let address = program.listening();
    let server = Serve {
        program,
        address,
        results,
    };
    let (client, _results) = long_run(&server, Engine(""));
    client.signal("KILL");
    drop(client);
    assert_serves(server.address, "--mb 0.1");
    assert_serves(server.address, "--mb 0.1");
    let (_, saved) = server.stop();
    assert_incomplete(&saved.run(), "peer_lost");
}

#[test]
fn a_silent_peer_counts_as_lost() {
    let stopped_client = || {
        let mut server = Serve::start(&["--idle-timeout", "4s"]);
        let (client, _results) = long_run(&server, Engine(""));
        client.signal("STOP");
        server.program.line(|line| line.starts_with("INCOMPLETE: "));
        server.program.line(|line| line.starts_with("saved in "));
        assert_incomplete(&server.results.run(), "peer_lost");
    };
    let stopped_server = || {
        let server = Serve::start(&[]);
        let (client, results) = long_run(&server, Engine("--peer-timeout 4s"));
        server.program.signal("STOP");
        client
            .wait(NOTICED)
            .failed(3, &["incomplete", "no answer for 4 s"]);
        assert_incomplete(&results.run(), "peer_lost");
    };
    thread::scope(|scope| {
        scope.spawn(stopped_client);
        scope.spawn(stopped_server);
    });
}
