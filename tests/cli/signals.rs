//! Signals: whatever was measured is saved completely, and nothing partial is left.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{NOTICED, Results, Running, Serve, assert_accounted, names, until};

on_both_engines!(each_signal_ends_a_run_that_is_saved_completely);

/// Starts `bench` with the default action for SIGHUP, which the environment of the tests may ignore.
fn start<'a>(args: impl IntoIterator<Item = &'a str>) -> Running {
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_bench")]);
    command.args(args);
    Running::new(command)
}

const SIGNALS: [&str; 3] = ["HUP", "INT", "TERM"];

/// A `bench udp` of a minute on loopback that prints rows and saves below `folder`.
fn long_run(folder: &Path, engine: Engine) -> Running {
    let out = folder.join("results").to_str().unwrap().to_owned();
    let args = ["udp", "--duration", "60s", "--interval", "50ms", "--out"];
    let mut bench = start(
        args.into_iter()
            .chain([out.as_str()])
            .chain(engine.options()),
    );
    bench.first_row();
    bench
}

fn each_signal_ends_a_run_that_is_saved_completely(engine: Engine) {
    for signal in SIGNALS {
        let results = Results::new();
        let bench = long_run(results.folder.path(), engine);
        bench.signal(signal);
        bench.wait(NOTICED).done();
        let saved = results.folder.path().join("results");
        let all = names(&saved);
        assert_eq!(all.len(), 2, "{signal}: {all:?}");
        assert!(!all[0].starts_with('.') && all[1] == "udp.csv", "{all:?}");
        let text = fs::read_to_string(saved.join(&all[0]).join("run.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["runs"][0]["ended"], "interrupted");
        assert_accounted(&record["runs"][0]);
    }
}

/// A server that accepts a connection and sends nothing.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_run_without_data_leaves_nothing() {
    for signal in SIGNALS {
        let (listener, to) = silent();
        let results = Results::new();
        let out = results.arg() + "/made/for/it";
        let bench = start(["udp", "--to", &to, "--out", &out]);
        // The folder exists, and the client waits for a welcome.
        let _client = listener.accept().unwrap();
        bench.signal(signal);
        bench.wait(NOTICED).failed(3, &["interrupted"]);
        assert_eq!(results.names(), [""; 0], "{signal}");
    }
}

/// Sends two signals and returns the exit code.
fn end_twice(bench: Running, signals: [&str; 2]) -> i32 {
    signals.iter().for_each(|name| bench.signal(name));
    bench.wait(NOTICED).code.unwrap()
}

#[test]
fn the_second_signal_ends_at_once_and_leaves_nothing_partial() {
    for second in ["INT", "TERM"] {
        let server = Serve::start(&[]);
        let results = Results::new();
        let (to, out) = (server.address.to_string(), results.arg() + "/made");
        let json = results.arg() + "/run.json";
        let args = [
            "udp",
            "--to",
            &to,
            "--duration",
            "60s",
            "--interval",
            "50ms",
        ];
        let mut bench = start(args.into_iter().chain(["--out", &out, "--json", &json]));
        bench.first_row();
        // The result is unavailable, so the first signal does not end the program.
        server.program.signal("STOP");
        assert_eq!(end_twice(bench, ["HUP", second]), 130);
        assert_eq!(results.names(), [""; 0]);
    }
}

#[test]
fn the_second_signal_keeps_complete_runs() {
    let server = Serve::start(&[]);
    let (mut bench, results) = server.client("--duration 1s --interval 50ms --repeat 1000");
    bench.line(|line| line.starts_with("client IP"));
    // The next run has begun.
    bench.line(|line| line.starts_with("listening on "));
    bench.line(|line| line.starts_with("   0."));
    server.program.signal("STOP");
    assert_eq!(end_twice(bench, ["TERM", "INT"]), 130);
    let record = results.record();
    let runs = record["runs"].as_array().unwrap();
    assert!(!runs.is_empty() && runs.iter().all(|run| run["complete"] == true));
    assert_eq!(results.names().len(), 2, "{:?}", results.names());
}

#[test]
fn a_closing_terminal_may_send_sighup_more_than_once() {
    let results = Results::new();
    let bench = long_run(results.folder.path(), Engine(""));
    bench.signal("HUP");
    bench.signal("HUP");
    bench.wait(NOTICED).done();
}

#[test]
fn an_ignored_sighup_does_not_end_a_run() {
    let results = Results::new();
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_bench"));
    let args = "udp --duration 60s --interval 50ms --out";
    command.args(args.split(' ')).arg(results.arg());
    let mut bench = Running::new(command);
    bench.first_row();
    bench.signal("HUP");
    for _ in 0..5 {
        bench.line(|_| true);
    }
    bench.signal("TERM");
    assert_eq!(bench.wait(NOTICED).code, Some(0));
    assert_eq!(results.run()["ended"], "interrupted");
}

#[test]
fn servers_end_at_sighup() {
    let results = Results::new();
    let out = results.arg();
    let mut server = start(["serve", "--bind", "127.0.0.1:0", "--out", &out]);
    server.listening();
    server.signal("HUP");
    server.wait(NOTICED).done();
    assert_eq!(results.names(), [""; 0]);
    let mut origin = start(["proxy", "origin", "--listen", "127.0.0.1:0"]);
    origin.listening();
    origin.signal("HUP");
    origin.wait(NOTICED).done();
}

#[test]
fn a_load_that_is_ended_before_it_measured_leaves_nothing() {
    for signal in SIGNALS {
        let results = Results::new();
        let out = results.arg() + "/made";
        let args = "proxy --scenario connect --duration 60s --repeat 1 --warmup 30s --out";
        let bench = start(args.split(' ').chain([out.as_str()]));
        until("the folder is made", || !results.names().is_empty());
        bench.signal(signal);
        bench
            .wait(NOTICED)
            .failed(3, &["before anything was measured"]);
        assert_eq!(results.names(), [""; 0], "{signal}");
    }
}

#[test]
fn an_interrupted_comparison_leaves_nothing_partial() {
    let folder = Results::new();
    // Opening a pipe without a writer blocks forever.
    let pipe = folder.folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let (pipe, json) = (pipe.to_str().unwrap(), folder.arg() + "/c.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["compare", pipe, pipe, "--json", &json]);
    let mut bench = command.spawn().unwrap();
    until("its file is begun", || folder.names().len() == 2);
    let end = format!("kill -TERM {}", bench.id());
    assert!(
        Command::new("sh")
            .args(["-c", &end])
            .status()
            .unwrap()
            .success()
    );
    let status = bench.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    assert_eq!(folder.names(), ["pipe"]);
}

#[test]
fn a_killed_command_leaves_every_complete_run() {
    let results = Results::new();
    let (out, ledger) = (results.arg(), results.folder.path().join("udp.csv"));
    let bench = start([
        "udp",
        "--packets",
        "10",
        "--repeat",
        "10000",
        "--cpus",
        "free",
        "-q",
        "--out",
        &out,
    ]);
    let rows = || fs::read_to_string(&ledger).map_or(0, |text| text.lines().count().max(1) - 1);
    // More than are each saved at once.
    for count in [50, 100, 150] {
        until(&format!("{count} runs are over"), || rows() > count);
    }
    bench.signal("KILL");
    drop(bench);
    let folder = results.only();
    let folder = folder.to_str().unwrap();
    let compared = crate::common::bench(["compare", folder, folder, "--json", "-"]).done();
    let found: serde_json::Value = serde_json::from_str(&compared.stdout).unwrap();
    // A run is saved before its row is in the ledger.
    assert!(
        found["comparison"][0]["runs"].as_u64().unwrap() >= rows() as u64,
        "{found}"
    );
}

#[test]
fn closing_stdout_does_not_prevent_the_files() {
    let results = Results::new();
    let json = results.arg() + "/run.json";
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args([
        "udp",
        "--packets",
        "3000",
        "--pps",
        "20k",
        "--no-save",
        "--json",
        &json,
    ]);
    // stdout is closed after the first line, long before the summary.
    let mut bench = Running::read_for(command, 1);
    bench.listening();
    assert_eq!(bench.wait(NOTICED).code, Some(0));
    assert!(
        fs::read_to_string(&json)
            .unwrap()
            .contains("\"complete\": true")
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    let args = "proxy --duration 100ms --repeat 1 --scenario connect,blocked --protocol json --out";
    command
        .args(args.split(' '))
        .arg(results.arg())
        .args(["--json", &json]);
    Running::read_for(command, 0).wait(NOTICED).done();
    assert!(
        fs::read_to_string(&json)
            .unwrap()
            .contains("\"kind\": \"proxy\"")
    );
    assert!(results.names().contains(&"proxy.csv".to_owned()));
}
