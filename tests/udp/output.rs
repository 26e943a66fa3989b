//! The output of `bench udp`: files, tables and terminal.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::Duration;

use crate::common::{Results, assert_accounted, bench, names, number, table};
use serde_json::Value;

/// Runs `bench udp` with these options, saving to `results`, and returns its stdout.
#[track_caller]
fn udp(results: &Results, options: &str) -> String {
    let out = results.arg();
    let fixed = ["udp", "--out", &out];
    bench(fixed.into_iter().chain(options.split(' ')))
        .done()
        .stdout
}

#[test]
fn the_record_has_its_documented_keys() {
    let results = Results::new();
    udp(&results, "--mb 0.2 --pps 20k");
    let record = results.record();
    assert_eq!(
        (&record["schema"], &record["kind"]),
        (&1.into(), &"udp".into())
    );
    let command: Vec<&str> = record["command"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    assert_eq!(command[1..3], ["udp", "--out"]);
    assert_eq!(command[4..], ["--mb", "0.2", "--pps", "20k"]);
    let run = &record["runs"][0];
    let dates = [
        &record["started_at"],
        &run["first_sent_at"],
        &run["last_received_at"],
    ];
    let dates = dates.map(|date| date.as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
    assert!(dates.is_sorted(), "{dates:?}");
    for (path, kind) in [
        ("host.kernel", "string"),
        ("host.cpu", "string"),
        ("host.cores", "integer"),
        ("host.governor", "string or null"),
        ("host.rmem_max", "integer"),
        ("host.wmem_max", "integer"),
    ] {
        assert_kind(&record, path, kind);
    }
    let integers = "effective.chunk effective.datagram effective.batch effective.sndbuf effective.rcvbuf \
        sent.packets sent.bytes received.packets received.bytes received.unique received.duplicates \
        received.reordered received.foreign lost.packets lost.not_sent lost.receiver_socket lost.elsewhere \
        latency_ns.count latency_ns.min latency_ns.p50 latency_ns.p90 latency_ns.p99 latency_ns.p99_9 \
        latency_ns.p99_99 latency_ns.max engine_stats.send_syscalls engine_stats.receive_syscalls";
    let figures = "seconds kb_per_s packets_per_s transit_kb_per_s latency_ns.mean latency_ns.stdev jitter_ns \
        cpu.sender_user_s cpu.sender_system_s cpu.receiver_user_s cpu.receiver_system_s";
    let others = [
        ("engine", "string"),
        ("mode", "string"),
        ("client_ip", "string"),
        ("requested", "object"),
        ("effective.gso", "boolean"),
        ("effective.gro", "boolean"),
        ("latency_from_intended_ns", "object"),
        ("intervals", "array"),
    ];
    let integers = integers.split_whitespace().map(|path| (path, "integer"));
    let figures = figures.split_whitespace().map(|path| (path, "number"));
    for (path, kind) in integers.chain(figures).chain(others) {
        assert_kind(run, path, kind);
    }
    let seconds = run["seconds"].as_f64().unwrap();
    let kb_per_s = number(run, "received.bytes") as f64 / 1e3 / seconds;
    assert!((run["kb_per_s"].as_f64().unwrap() / kb_per_s - 1.0).abs() < 1e-9);
}

#[track_caller]
fn assert_kind(value: &Value, path: &str, kind: &str) {
    let found = path.split('.').fold(value, |value, key| &value[key]);
    let fits = match kind {
        "string" => found.is_string(),
        "string or null" => found.is_string() || found.is_null(),
        "integer" => found.is_u64(),
        "number" => found.is_f64(),
        "boolean" => found.is_boolean(),
        "object" => found.is_object(),
        "array" => found.is_array(),
        _ => false,
    };
    assert!(fits, "{path} is {found}");
}

#[test]
fn all_files_are_complete() {
    let results = Results::new();
    udp(
        &results,
        "--packets 3000 --chunk 200 --streams 2 --interval 10ms --packets-csv --pps 50k",
    );
    assert_eq!(
        names(&results.only()),
        [
            "histograms.jsonl",
            "intervals.csv",
            "latency-intended.hgrm",
            "latency.hgrm",
            "packets.csv",
            "run.json"
        ]
    );
    let run = results.run();
    assert_accounted(&run);
    let packets = table(&results.only().join("packets.csv"));
    assert_eq!(
        packets[0],
        vec![
            "run",
            "stream",
            "sequence",
            "sent_ns",
            "received_ns",
            "latency_ns",
            "intended_ns"
        ]
    );
    assert_eq!(packets.len() as u64 - 1, number(&run, "received.packets"));
    let mut seen = HashSet::new();
    for row in &packets[1..] {
        let cell = |at: usize| row[at].parse::<i64>().unwrap();
        assert_eq!(cell(5), cell(4) - cell(3));
        assert!(cell(6) <= cell(3), "{row:?}");
        seen.insert((cell(1), cell(2)));
    }
    assert_eq!(seen.len() as u64, number(&run, "received.unique"));
    let intervals = table(&results.only().join("intervals.csv"));
    let rows = run["intervals"].as_array().unwrap();
    assert!(rows.len() > 1);
    assert_eq!(intervals.len() - 1, rows.len());
    let at = intervals[0]
        .iter()
        .position(|name| name == "packets")
        .unwrap();
    for (printed, row) in intervals[1..].iter().zip(rows) {
        assert_eq!(printed[at].parse::<u64>().unwrap(), number(row, "packets"));
    }
    let histogram = fs::read_to_string(results.only().join("latency.hgrm")).unwrap();
    let count = number(&run, "latency_ns.count");
    assert!(
        histogram.contains(&format!("Total count    = {count:>12}]")),
        "{histogram}"
    );
}

#[test]
fn rows_have_the_number_of_the_run_of_their_direction() {
    let results = Results::new();
    udp(
        &results,
        "--packets 2000 --bidir --repeat 2 --interval 10ms --packets-csv",
    );
    let runs = results.record()["runs"].as_array().unwrap().clone();
    assert_eq!(runs.len(), 4);
    for file in ["intervals.csv", "packets.csv"] {
        let rows = table(&results.only().join(file));
        let at = rows[0].iter().position(|name| name == "packets");
        for (number, run) in runs.iter().enumerate() {
            let of_run = rows[1..].iter().filter(|row| row[0] == number.to_string());
            let packets: u64 = of_run
                .map(|row| at.map_or(1, |at| row[at].parse().unwrap()))
                .sum();
            assert_eq!(
                packets,
                self::number(run, "received.packets"),
                "{file} {number}"
            );
        }
        if file == "packets.csv" {
            // Without a pace there is no intended time.
            assert!(rows[1..].iter().all(|row| row[6].is_empty()));
        }
    }
}

#[test]
fn only_requested_files_are_saved() {
    let results = Results::new();
    udp(&results, "--mb 0.1");
    assert_eq!(
        names(&results.only()),
        [
            "histograms.jsonl",
            "intervals.csv",
            "latency.hgrm",
            "run.json"
        ]
    );
}

#[test]
fn the_ledger_has_one_header_and_a_row_per_run() {
    let results = Results::new();
    udp(&results, "--mb 0.1 --repeat 2");
    udp(&results, "--packets 7 --unpaced --warmup 20ms");
    let ledger = results.ledger();
    assert_eq!(ledger.len(), 4);
    let column = |name: &str| {
        let at = ledger[0]
            .iter()
            .position(|printed| printed == name)
            .unwrap();
        ledger[1..]
            .iter()
            .map(|row| row[at].to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(column("run"), ["0", "1", "0"]);
    assert_eq!(column("mode"), ["lossless", "lossless", "blast"]);
    assert_eq!(column("sent_packets"), ["100", "100", "7"]);
    let ids = column("id");
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    let mut saved = results.names();
    saved.retain(|name| name != "udp.csv");
    let mut ids = vec![ids[0].clone(), ids[2].clone()];
    ids.sort();
    assert_eq!(saved, ids);
}

#[test]
fn repetitions_are_runs_of_one_record_without_the_warm_up() {
    let results = Results::new();
    let stdout = udp(
        &results,
        "--packets 300 --repeat 2 --warmup 30ms --packets-csv",
    );
    let record = results.record();
    let runs = record["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    for run in runs {
        assert_accounted(run);
        assert_eq!(number(run, "received.unique"), 300);
    }
    let packets = table(&results.only().join("packets.csv"));
    let of = |run: &str| packets.iter().filter(|row| &row[0] == run).count();
    assert_eq!((of("0"), of("1"), packets.len()), (300, 300, 601));
    assert_eq!(stdout.matches("client IP").count(), 2);
}

#[test]
fn stdout_has_nothing_but_json_or_csv_if_requested() {
    let results = Results::new();
    let record: Value =
        serde_json::from_str(&udp(&results, "--mb 0.1 --interval 10ms --json -")).unwrap();
    assert_eq!(record, results.record());
    let results = Results::new();
    let stdout = udp(&results, "--mb 0.1 --interval 10ms --repeat 2 --csv -");
    assert_eq!(
        stdout,
        fs::read_to_string(results.folder.path().join("udp.csv")).unwrap()
    );
}

#[test]
fn json_and_csv_are_written_to_the_given_paths() {
    let results = Results::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = |name: &str| elsewhere.path().join(name);
    let options = format!(
        "--mb 0.1 --json {} --csv {}",
        path("a.json").display(),
        path("a.csv").display()
    );
    fs::write(path("a.json"), "what was there before").unwrap();
    let stdout = udp(&results, &options);
    assert!(stdout.contains("KB/s"));
    let printed: Value =
        serde_json::from_str(&fs::read_to_string(path("a.json")).unwrap()).unwrap();
    assert_eq!(printed, results.record());
    assert_eq!(table(&path("a.csv")), results.ledger());
    assert_eq!(names(elsewhere.path()), ["a.csv", "a.json"]);
}

#[test]
fn a_run_that_fails_names_the_files_of_an_earlier_command() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old.json", "new.json"].map(|name| folder.path().join(name));
    fs::write(&old, "{}").unwrap();
    thread::sleep(Duration::from_millis(50));
    for (path, is_old) in [(&old, true), (&new, false)] {
        let path = path.to_str().unwrap();
        for (options, code) in [
            ("--to 127.0.0.1:1", 3),
            ("--gap poisson", 2),
            ("--no-such-option", 2),
        ] {
            let options = format!("udp --no-save {options} --json {path}");
            let failed = bench(options.split(' ')).failed(code, &[]);
            let note = format!("{path} is unchanged and of an earlier command");
            assert_eq!(failed.stderr.contains(&note), is_old, "{}", failed.stderr);
        }
    }
    assert_eq!(fs::read_to_string(&old).unwrap(), "{}");
    assert_eq!(names(folder.path()), ["old.json"]);
}

#[test]
fn no_save_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_bench"));
    command
        .current_dir(&folder)
        .args(["udp", "--mb", "0.1", "--no-save"]);
    let output = command.timeout(crate::common::PATIENCE).assert().success();
    assert!(String::from_utf8_lossy(&output.get_output().stdout).contains("KB/s"));
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn runs_are_saved_in_results_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_bench"));
    command
        .current_dir(&folder)
        .args(["udp", "--mb", "0.1", "--quiet"]);
    command
        .timeout(crate::common::PATIENCE)
        .assert()
        .success()
        .stdout("")
        .stderr("");
    assert_eq!(names(folder.path()), ["results"]);
    assert_eq!(names(&folder.path().join("results")).len(), 2);
}

#[test]
fn quiet_prints_nothing_and_saves() {
    let results = Results::new();
    assert_eq!(
        udp(&results, "--mb 0.1 --quiet --repeat 2 --interval 10ms"),
        ""
    );
    assert_eq!(results.record()["runs"].as_array().unwrap().len(), 2);
}

#[test]
fn the_summary_begins_with_the_throughput() {
    let results = Results::new();
    let stdout = udp(&results, "--mb 0.2");
    let run = results.run();
    let at = |text: &str| {
        stdout
            .find(text)
            .unwrap_or_else(|| panic!("no {text}:\n{stdout}"))
    };
    let figures = ["packets  ", "loss  ", "latency", "Gbit/s", "packets/s"];
    for figure in figures {
        assert!(at("KB/s") < at(figure), "{figure}:\n{stdout}");
    }
    for line in [
        format!(
            "first packet sent at {}",
            run["first_sent_at"].as_str().unwrap()
        ),
        format!(
            "last packet received at {}",
            run["last_received_at"].as_str().unwrap()
        ),
        "client IP 127.0.0.1".to_owned(),
        format!("saved       {}", results.only().display()),
    ] {
        assert!(
            stdout.lines().any(|printed| printed == line),
            "no '{line}':\n{stdout}"
        );
    }
    assert!(stdout.contains("1000 B data + 32 B header"), "{stdout}");
    assert!(
        stdout
            .lines()
            .filter(|line| !line.starts_with("saved"))
            .all(|line| line.chars().count() <= 80),
        "{stdout}"
    );
}

#[test]
fn interval_rows_are_printed_during_the_run_if_requested() {
    let results = Results::new();
    let stdout = udp(&results, "--packets 1500 --pps 10k --interval 50ms");
    let rows = results.run()["intervals"].as_array().unwrap().len();
    assert!(rows >= 3, "{rows}");
    let shown = stdout
        .lines()
        .skip_while(|line| !line.contains("reorder"))
        .skip(1);
    let shown = shown.take_while(|line| {
        line.trim_start()
            .starts_with(|start: char| start.is_ascii_digit())
    });
    assert_eq!(shown.count(), rows, "{stdout}");
}

#[test]
fn the_summary_draws_goodput_and_p99_over_the_intervals() {
    let results = Results::new();
    let stdout = udp(&results, "--packets 1500 --pps 5k --interval 50ms");
    for (label, unit) in [("goodput    ", " KB/s"), ("p99        ", "s")] {
        let line = stdout.lines().find(|line| line.starts_with(label));
        let line = line.unwrap_or_else(|| panic!("no {label}: {stdout}"));
        let bars = line.chars().filter(|bar| "▁▂▃▄▅▆▇█".contains(*bar));
        assert!(bars.count() >= 5, "{line}");
        assert!(line.contains(" to ") && line.ends_with(unit), "{line}");
    }
    // A run of one interval has nothing to draw.
    let stdout = udp(&results, "--packets 10");
    assert!(!stdout.contains("\ngoodput "), "{stdout}");
}
