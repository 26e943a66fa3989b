//! Limits of `bench serve`, and what clients get when one is reached.

use std::thread;
use std::time::Duration;

use std::net::TcpStream;
use std::process::Command;

use crate::common::{
    Finished, NOTICED, Results, Running, Serve, assert_accounted, bench, start, until,
};

/// Runs a client with these options.
fn client(server: &Serve, results: &Results, options: &str) -> Finished {
    let (to, out) = (server.address.to_string(), results.arg());
    let fixed = ["udp", "--quiet", "--to", &to, "--out", &out];
    bench(fixed.into_iter().chain(options.split(' ')))
}

/// A client is refused with advice and leaves nothing behind.
#[track_caller]
fn assert_refused(server: &Serve, options: &str, words: &[&str]) {
    let results = Results::new();
    let finished = client(server, &results, options).failed(3, words);
    assert!(finished.took < NOTICED);
    assert_eq!(results.names(), [""; 0]);
}

#[test]
fn a_session_over_the_limit_is_refused_until_another_ends() {
    let server = Serve::start(&["--max-sessions", "1"]);
    let to = server.address.to_string();
    let (mut first, _results) = server.client("--duration 60s --interval 100ms");
    first.first_row();
    assert_refused(
        &server,
        "--mb 0.1",
        &[&to, "session limit (1)", "try again later"],
    );
    first.signal("INT");
    first.wait(NOTICED).done();
    client(&server, &Results::new(), "--mb 0.1").done();
    server.stop();
}

#[test]
fn streams_over_the_limit_are_refused_by_number() {
    let server = Serve::start(&["--max-streams", "2"]);
    assert_refused(&server, "--mb 0.1 --streams 3", &["2 streams", "--streams"]);
    client(&server, &Results::new(), "--mb 0.1 --streams 2").done();
    server.stop();
}

#[test]
fn a_connection_over_the_limit_is_closed() {
    let server = Serve::start(&["--max-connections", "3"]);
    let idle: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    assert_refused(&server, "--mb 0.1", &[&server.address.to_string()]);
    drop(idle);
    server.stop();
}

#[test]
fn silent_connections_are_replaced_by_others() {
    let server = Serve::start(&["--max-connections", "3"]);
    let idle: Vec<TcpStream> = (0..3)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    until("one of them makes room", || {
        let finished = client(&server, &Results::new(), "--mb 0.1");
        finished.code == Some(0)
    });
    drop(idle);
    server.stop();
}

#[test]
fn a_run_longer_than_the_limit_does_not_begin() {
    let server = Serve::start(&["--max-duration", "2s"]);
    for options in ["--duration 3s", "--packets 300 --pps 100"] {
        assert_refused(&server, options, &["3 s", "2 s", "--max-duration"]);
    }
    server.stop();
}

#[test]
fn a_run_that_reaches_the_limit_is_ended_and_reported() {
    let server = Serve::start(&["--max-duration", "500ms"]);
    let results = Results::new();
    let finished = client(&server, &results, "--mb 10000000");
    finished.failed(3, &["incomplete", "0.5 s", "--max-duration"]);
    let run = results.run();
    assert_accounted(&run);
    assert_eq!(
        (&run["complete"], &run["ended"]),
        (&false.into(), &"limit".into())
    );
    assert!(run["kb_per_s"].is_f64());
    let (server, saved) = server.stop();
    assert!(server.stdout.contains("INCOMPLETE"), "{}", server.stdout);
    assert_eq!(saved.names(), [""; 0]);
}

#[test]
fn a_run_that_pauses_too_long_is_ended_and_reported() {
    let server = Serve::start(&["--idle-timeout", "300ms"]);
    let results = Results::new();
    let (to, out) = (server.address.to_string(), results.arg());
    let fixed = ["udp", "--to", &to, "--out", &out, "--interval", "100ms"];
    let mut client = start(
        fixed
            .into_iter()
            .chain("--duration 60s --pps 1k".split(' ')),
    );
    client.first_row();
    client.signal("STOP");
    // The pause.
    thread::sleep(Duration::from_secs(1));
    client.signal("CONT");
    let finished = client.wait(NOTICED);
    finished.failed(3, &["incomplete", "0.3 s", "--idle-timeout"]);
    let run = results.run();
    assert_accounted(&run);
    assert_eq!(run["ended"], "limit");
    server.stop();
}

#[test]
fn a_slow_pace_extends_the_idle_timeout() {
    let server = Serve::start(&["--idle-timeout", "200ms"]);
    let results = Results::new();
    // A datagram every half second.
    client(&server, &results, "--packets 3 --pps 2").done();
    let run = results.run();
    assert_accounted(&run);
    assert_eq!(run["received"]["unique"], 3);
    server.stop();
}

#[test]
fn a_low_limit_of_open_files_is_raised_for_idle_connections() {
    let results = Results::new();
    let script = format!(
        "ulimit -S -n 128 && exec {} serve --bind 127.0.0.1:0 --out {}",
        env!("CARGO_BIN_EXE_bench"),
        results.arg()
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    let mut program = Running::new(command);
    let address = program.listening();
    let server = Serve {
        program,
        address,
        results,
    };
    let idle: Vec<TcpStream> = (0..400)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    client(&server, &Results::new(), "--mb 0.1").done();
    drop(idle);
    server.stop();
}

#[test]
fn a_receive_buffer_over_the_limit_is_refused() {
    let server = Serve::start(&["--max-rcvbuf", "100k"]);
    let words = ["receive buffer of 200000 bytes", "100000", "--max-rcvbuf"];
    assert_refused(&server, "--packets 10 --rcvbuf 200k", &words);
    // A server that answers requests also sends.
    let words = ["send buffer of 200000 bytes", "100000", "--max-rcvbuf"];
    let trips = "--round-trip --packets 10 --rcvbuf 100k --sndbuf 200k";
    assert_refused(&server, trips, &words);
    let results = Results::new();
    client(&server, &results, "--packets 10 --rcvbuf 100k").done();
}
