//! The interval rows of a run over a path with an outage: they add up to the run on every engine, for an outage at any time.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::engine::{Engine, on_both_engines, on_every_engine};
use crate::common::{NOTICED, Results, Running, number, table};
use serde_json::Value;

on_both_engines!(
    datagrams_lost_in_an_outage_at_the_end_are_missing_in_the_rows,
    an_outage_in_the_middle_has_rows_without_a_datagram,
    the_rows_of_a_run_without_losses_add_up,
);

/// A network namespace with an nftables table, removed on drop.
struct Namespace(String);

impl Namespace {
    /// `None` with a printed reason if there are no network namespaces.
    fn new() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("wbrows{}n{number}", std::process::id()));
        // A test process of this id that was killed may have left it.
        let _ = Command::new("ip")
            .args(["netns", "del", &namespace.0])
            .output();
        let setup = [
            format!("ip netns add {0}", namespace.0),
            format!("ip -n {} link set lo up", namespace.0),
            format!("ip netns exec {} nft add table inet t", namespace.0),
            format!(
                "ip netns exec {} nft add chain inet t in {{ type filter hook input priority 0 ; }}",
                namespace.0
            ),
        ];
        for line in setup {
            let mut words = line.split(' ');
            let mut command = Command::new(words.next().unwrap());
            let done = command.args(words).output();
            if !done.as_ref().is_ok_and(|done| done.status.success()) {
                println!("skipped: `{line}` does not work here: {done:?}");
                return None;
            }
        }
        Some(namespace)
    }

    fn within(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    #[track_caller]
    fn nft(&self, rule: &str) {
        let status = self.within("nft").args(rule.split(' ')).status().unwrap();
        assert!(status.success(), "{rule}");
    }

    /// Drops all datagrams from now on.
    fn silence(&self) {
        self.nft("add rule inet t in meta l4proto udp drop");
    }

    fn end_silence(&self) {
        self.nft("flush chain inet t in");
    }

    fn udp(&self, results: &Results, engine: Engine, options: &str) -> Running {
        let mut command = self.within(env!("CARGO_BIN_EXE_bench"));
        command.args(["udp", "--out", &results.arg()]);
        command.args(engine.options()).args(options.split(' '));
        Running::new(command)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn sum(run: &Value, column: &str) -> i64 {
    let rows = run["intervals"].as_array().unwrap();
    rows.iter().map(|row| row[column].as_i64().unwrap()).sum()
}

/// Checks that every column adds up to the run, in the record and in the table.
#[track_caller]
fn assert_adds_up(results: &Results) -> Value {
    let run = results.run();
    for (column, total) in [
        ("packets", "received.packets"),
        ("bytes", "received.bytes"),
        ("duplicates", "received.duplicates"),
        ("reordered", "received.reordered"),
        ("missing", "lost.packets"),
    ] {
        assert_eq!(
            sum(&run, column),
            i64::try_from(number(&run, total)).unwrap(),
            "{column}"
        );
    }
    let rows = run["intervals"].as_array().unwrap();
    let written = table(&results.only().join("intervals.csv"));
    assert_eq!(written.len(), rows.len() + 1);
    for (row, cells) in rows.iter().zip(&written[1..]) {
        for (column, name) in [(3, "packets"), (6, "missing")] {
            assert_eq!(cells[column], row[name].to_string());
        }
    }
    run
}

/// A terminal row without a datagram, except the first row.
fn is_silent(line: &str) -> bool {
    let mut cells = line.split_whitespace();
    let start = cells.next().and_then(|cell| cell.parse::<f64>().ok());
    start.is_some_and(|start| start > 0.0) && cells.nth(1) == Some("0")
}

fn datagrams_lost_in_an_outage_at_the_end_are_missing_in_the_rows(engine: Engine) {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let results = Results::new();
    let options = "--pps 1000 --duration 1s --interval 100ms";
    let mut running = namespace.udp(&results, engine, options);
    running.first_row();
    namespace.silence();
    running.wait(NOTICED).done();
    let run = assert_adds_up(&results);
    let rows = run["intervals"].as_array().unwrap();
    let silent: Vec<&Value> = rows.iter().filter(|row| row["packets"] == 0).collect();
    assert!(silent.len() >= 2, "{rows:?}");
    assert!(silent.iter().all(|row| row["latency_p50_ns"].is_null()));
    assert!(
        silent.last().unwrap()["missing"].as_i64().unwrap() > 100,
        "{rows:?}"
    );
}

fn an_outage_in_the_middle_has_rows_without_a_datagram(engine: Engine) {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let results = Results::new();
    let options = "--pps 1000 --duration 1s --interval 50ms";
    let mut running = namespace.udp(&results, engine, options);
    running.first_row();
    namespace.silence();
    running.line(is_silent);
    running.line(is_silent);
    namespace.end_silence();
    running.wait(NOTICED).done();
    let run = assert_adds_up(&results);
    let rows = run["intervals"].as_array().unwrap();
    let silent = rows.iter().filter(|row| row["packets"] == 0).count();
    assert!(silent >= 2, "{rows:?}");
    assert!(number(&run, "lost.packets") >= 50, "{run}");
    assert!(
        rows.last().unwrap()["packets"].as_u64().unwrap() > 0,
        "{rows:?}"
    );
}

fn the_rows_of_a_run_without_losses_add_up(engine: Engine) {
    let results = Results::new();
    let out = results.arg();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command
        .args(["udp", "--out", &out])
        .args(engine.options())
        .args(["--packets", "3000", "--streams", "3", "--interval", "10ms"])
        .args(["--pps", "100k", "--quiet"]);
    Running::new(command).wait(NOTICED).done();
    let run = assert_adds_up(&results);
    let rows = run["intervals"].as_array().unwrap();
    // Nothing is missing, so there is no closing row: each row has a length.
    assert!(
        number(&run, "lost.packets") > 0
            || rows
                .iter()
                .all(|row| row["seconds"].as_f64().unwrap() > 0.0)
    );
}
