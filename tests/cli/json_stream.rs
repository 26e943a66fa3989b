//! `--json-stream`: a JSON line for each event, while the command runs.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use crate::common::{PATIENCE, Results, Running, bench, start};
use serde_json::{Value, json};

/// The lines of a stream.
#[track_caller]
fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

fn types(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect()
}

#[test]
fn stream_has_a_line_for_each_event() {
    let results = Results::new();
    let out = results.arg();
    let options = "udp --pps 2k --duration 300ms --interval 100ms --repeat 2 --json-stream - --out";
    let text = bench(options.split(' ').chain([&*out])).done().stdout;
    let lines = lines(&text);
    let record = results.record();
    assert_eq!(types(&lines)[..2], ["start", "interval"]);
    assert_eq!(lines[0]["started_at"], record["started_at"]);
    for (number_of_run, run) in record["runs"].as_array().unwrap().iter().enumerate() {
        let of = |kind: &str| {
            let lines = lines.iter();
            let of_run = lines.filter(|line| line["type"] == kind && line["run"] == number_of_run);
            of_run.collect::<Vec<_>>()
        };
        let rows = run["intervals"].as_array().unwrap();
        assert_eq!(of("interval").len(), rows.len());
        for (line, row) in of("interval").iter().zip(rows) {
            for (key, value) in row.as_object().unwrap() {
                assert_eq!(line[key], *value, "{key}");
            }
        }
        let line = of("run")[0];
        for (key, value) in run.as_object().unwrap() {
            assert!(key == "intervals" || line[key] == *value, "{key}");
        }
        let warnings = run["warnings"].as_array().unwrap();
        assert_eq!(of("warning").len(), warnings.len());
    }
    assert_eq!(types(&lines)[lines.len() - 2..], ["result", "end"]);
    let end = &lines[lines.len() - 1];
    assert_eq!(end["exit"], 0);
    assert_eq!(end["saved"], results.only().to_str().unwrap());
}

#[test]
fn lines_are_written_while_the_run_lasts_and_a_reader_may_go_away() {
    let results = Results::new();
    let out = results.arg();
    let options = "udp --pps 1k --duration 600ms --interval 100ms --json-stream - --out";
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(options.split(' ')).arg(&out);
    let mut program = Running::read_for(command, 2);
    program.line(|line| line.contains("\"type\":\"interval\""));
    // The folder has a hidden name until the first run is saved.
    let names = results.names();
    assert!(names.iter().all(|name| name.starts_with('.')), "{names:?}");
    let finished = program.wait(PATIENCE);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    assert_eq!(results.run()["complete"], true);
}

#[test]
fn stream_of_a_proxy_ends_with_its_totals() {
    let options = "proxy --scenario connect --duration 100ms --warmup 5ms --connections 2 --repeat 1 --no-save --json-stream -";
    let text = bench(options.split(' ')).done().stdout;
    let lines = lines(&text);
    let kinds: Vec<_> = types(&lines)
        .into_iter()
        .filter(|of| *of != "warning")
        .collect();
    assert_eq!(kinds, ["start", "run", "run", "result", "end"]);
    let result = lines.iter().find(|line| line["type"] == "result").unwrap();
    assert_eq!(result["totals"].as_array().unwrap().len(), 2);
}

#[test]
fn failure_is_the_last_line() {
    let none = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = none.local_addr().unwrap().to_string();
    drop(none);
    for (options, exit) in [
        (format!("udp --to {address} --json-stream - --no-save"), 3),
        ("udp --mb -1 --json-stream -".to_owned(), 2),
        ("udp --mb 1 --packets 1 --json-stream=-".to_owned(), 2),
        ("udp --json-stream - --json -".to_owned(), 2),
    ] {
        let finished = bench(options.split(' '));
        assert_eq!(finished.code, Some(exit), "{options}");
        let lines = lines(&finished.stdout);
        let errors = lines.iter().filter(|line| line["type"] == "error");
        assert_eq!(errors.count(), 1, "{lines:?}");
        let last = &lines[lines.len() - 1];
        assert_eq!(
            (&last["type"], &last["exit"]),
            (&json!("error"), &json!(exit))
        );
        let message = last["message"].as_str().unwrap();
        assert!(
            finished
                .stderr
                .contains(message.split('\'').next().unwrap())
        );
    }
    // A file has the line too.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl").to_str().unwrap().to_owned();
    let options = format!("udp --to {address} --no-save --json-stream");
    bench(options.split(' ').chain([&*path])).failed(3, &[&address]);
    let lines = lines(&fs::read_to_string(&path).unwrap());
    assert_eq!(types(&lines), ["start", "error"]);
    assert_eq!(lines[1]["exit"], 3);
}

#[test]
fn interrupted_stream_has_the_run_so_far() {
    let options = "udp --pps 1k --duration 30s --interval 50ms --no-save --json-stream -";
    let mut program = start(options.split(' '));
    program.line(|line| line.contains("\"type\":\"interval\""));
    program.signal("INT");
    let finished = program.wait(PATIENCE);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let lines = lines(&finished.stdout);
    let run = lines.iter().find(|line| line["type"] == "run").unwrap();
    assert_eq!(run["ended"], "interrupted");
    assert_eq!(types(&lines).last(), Some(&"end"));
}
