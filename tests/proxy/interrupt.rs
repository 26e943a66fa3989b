//! `bench proxy` and Ctrl-C: the runs so far are reported, saved and marked incomplete; a second one ends at once.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use crate::common::{NOTICED, PATIENCE, Results, Running, cpu_ticks, start, until};
use serde_json::Value;

fn origin() -> (Running, SocketAddr) {
    let mut program = start(["proxy", "origin", "--listen", "127.0.0.1:0", "--quiet"]);
    let address = program.listening();
    (program, address)
}

/// Measures for a minute, with Ctrl-C once the server has worked for a while. Returns the record that was printed and
/// saved.
#[track_caller]
fn interrupted(options: &str) -> (Value, String) {
    let (server, to) = origin();
    let results = Results::new();
    let out = results.arg();
    let line = format!("proxy load --origin {to} --duration 60s --repeat 1 {options} --out {out}");
    let program = start(line.split_whitespace());
    let idle = cpu_ticks(server.id());
    until("the path is loaded", || cpu_ticks(server.id()) >= idle + 10);
    program.signal("INT");
    let finished = program.wait(NOTICED).done();
    let record = results.record();
    let ledger = crate::common::table(&results.folder.path().join("proxy.csv"));
    assert_eq!(ledger.len(), 1 + record["runs"].as_array().unwrap().len());
    (record, finished.stdout)
}

#[track_caller]
fn assert_cut_short(run: &Value) {
    assert_eq!(
        (&run["complete"], &run["interrupted"]),
        (&false.into(), &true.into()),
        "{run:#}"
    );
    let reason = run["reason"].as_str().unwrap();
    assert!(reason.starts_with("interrupted after "), "{reason}");
    assert_eq!(run["errors"]["total"], 0, "{run:#}");
    let (requests, seconds) = (
        run["requests"].as_u64().unwrap(),
        run["seconds"].as_f64().unwrap(),
    );
    assert!(requests > 0 && seconds > 0.0 && seconds < 60.0, "{run:#}");
    if let Some(rate) = run["requests_per_s"].as_f64() {
        assert!(
            (rate * seconds / requests as f64 - 1.0).abs() < 1e-6,
            "{run:#}"
        );
    }
}

#[test]
fn an_interrupted_run_is_reported_as_incomplete() {
    for scenario in ["connect", "request-response", "bulk --streams 3"] {
        let (record, report) = interrupted(&format!("--scenario {scenario} --warmup 0s"));
        assert_eq!(record["interrupted"], true);
        let runs = record["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{record:#}");
        assert_cut_short(&runs[0]);
        if scenario.starts_with("bulk") {
            assert!(runs[0]["bytes"].as_u64().unwrap() > 1_000_000, "{record:#}");
        }
        assert_eq!(record["totals"][0]["incomplete"], 1);
        for words in [
            "incomplete",
            "ended by a signal after 0 complete runs",
            "direct, round 1: ",
        ] {
            assert!(report.contains(words), "no '{words}' in:\n{report}");
        }
    }
}

#[test]
fn with_a_rate_requests_that_were_not_due_yet_are_no_errors() {
    let (record, _) = interrupted("--scenario connect --rate 2000 --warmup 0s");
    assert_cut_short(&record["runs"][0]);
}

#[test]
fn ctrl_c_in_a_terminal_leaves_the_proxy_and_the_server_running_to_the_end() {
    let results = Results::new();
    let out = results.arg();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    let line = format!(
        "proxy --scenario request-response --no-direct --duration 60s --repeat 1 --warmup 0s --out {out}"
    );
    command.args(line.split_whitespace()).process_group(0);
    let program = Running::new(command);
    let group = program.id();
    let children = || {
        let found = Command::new("sh")
            .args(["-c", &format!("cat /proc/{group}/task/*/children")])
            .output()
            .unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        found
            .split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect::<Vec<u32>>()
    };
    // The origin server, and the proxy.
    let worked = |ids: &[u32]| ids.iter().map(|&id| cpu_ticks(id)).min();
    until("both are loaded", || {
        let ids = children();
        ids.len() == 2 && worked(&ids) >= Some(10)
    });
    let ids = children();
    // As a terminal sends it: to the whole process group.
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -INT -{group}")])
        .status()
        .unwrap();
    assert!(sent.success());
    program.wait(NOTICED).done();
    assert_cut_short(&results.record()["runs"][0]);
    until("all processes have ended", || {
        ids.iter().all(|id| !is_alive(*id))
    });
}

/// A process that has ended and was not waited for is not alive.
fn is_alive(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

#[test]
fn before_the_first_measurement_there_is_nothing_to_report() {
    // Accepts connections, and sends nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let line = format!(
        "proxy load --origin {to} --scenario connect --duration 60s --timeout 60s --no-save"
    );
    let program = start(line.split_whitespace());
    let client = listener.accept().unwrap();
    program.signal("INT");
    program
        .wait(NOTICED)
        .failed(3, &["interrupted before anything was measured"]);
    drop(client);
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    // Bulk data waits a while for receipts, which do not come.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let (begun, has_begun) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut clients = Vec::new();
        while let Ok((mut client, _)) = listener.accept() {
            let begun = begun.clone();
            clients.push(thread::spawn(move || {
                let taken = std::io::copy(
                    &mut std::io::Read::take(&mut client, 30_000_000),
                    &mut std::io::sink(),
                );
                let _ = begun.send(taken);
                thread::sleep(PATIENCE);
            }));
        }
    });
    let line = format!(
        "proxy load --origin {to} --scenario bulk --duration 60s --timeout 60s --warmup 0s --no-save"
    );
    let program = start(line.split_whitespace());
    has_begun.recv_timeout(PATIENCE).unwrap().unwrap();
    // Signals that arrive before one was handled count as one. The first alone would be waited for, and end it otherwise.
    until("it has ended", || {
        program.signal("INT");
        !is_alive(program.id())
    });
    assert_eq!(program.wait(NOTICED).code, Some(130));
}
