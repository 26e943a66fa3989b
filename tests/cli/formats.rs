//! The formats that other programs read, read back by readers that others wrote: python's hdrhistogram, prometheus_client and
//! jsonschema, and compared with iperf3's own output.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use crate::common::python::read;
use crate::common::{Results, Serve, bench, names, number};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder for the files of a test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }
}

/// Runs `bench` with `options` and these files.
#[track_caller]
fn run(files: &Files, options: &str, formats: &[(&str, &str)]) {
    let mut args: Vec<String> = options.split(' ').map(str::to_owned).collect();
    args.extend(["--no-save".to_owned(), "--quiet".to_owned()]);
    for (option, name) in formats {
        args.extend([(*option).to_owned(), files.path(name)]);
    }
    bench(args).done();
}

/// Checks the merged histogram of a tag against a summary of `run.json`. The readers round ranks differently, so a percentile lies
/// between the values of the neighbouring ranks. Values are exact to 3 digits.
#[track_caller]
fn assert_summary(tag: &Value, summary: &Value) {
    assert_eq!(tag["count"], summary["count"]);
    for name in ["p50", "p90", "p99", "p99_9", "max"] {
        let [low, high] = [0, 1].map(|end| tag[name][end].as_f64().unwrap());
        let ours = summary[name].as_f64().unwrap();
        let error = ours / 500.0 + 1.0;
        assert!(
            low - error <= ours && ours <= high + error,
            "{name}: {low} to {high}, {ours}"
        );
    }
}

#[test]
fn interval_log_has_every_latency_of_the_run() {
    let files = Files::new();
    let options = "udp --pps 5k --duration 600ms --interval 100ms --streams 2";
    run(
        &files,
        options,
        &[("--hlog", "a.hlog"), ("--json", "a.json")],
    );
    let run = &files.json("a.json")["runs"][0];
    let Some(log) = read("hlog.py", &[&files.path("a.hlog")]) else {
        return;
    };
    let unique = number(run, "received.unique");
    assert_eq!(log["tags"][""]["count"], unique);
    assert_summary(&log["tags"][""], &run["latency_ns"]);
    let intended = &log["tags"]["latency-intended"];
    assert_summary(intended, &run["latency_from_intended_ns"]);
    let lines = log["lines"].as_array().unwrap();
    let of_tag = lines.iter().filter(|line| line["tag"] == "");
    let rows = run["intervals"].as_array().unwrap();
    // A row that was computed from the sender's counts has no datagram.
    let rows = rows.iter().filter(|row| number(row, "packets") > 0);
    // An interval without arrivals has a line.
    let counts = of_tag.clone().map(|line| number(line, "count"));
    let counts: Vec<_> = counts.filter(|&count| count > 0).collect();
    let expected: Vec<_> = rows
        .map(|row| number(row, "packets") - number(row, "duplicates"))
        .collect();
    assert_eq!(counts, expected);
    let starts: Vec<_> = of_tag
        .map(|line| line["start_ms"].as_f64().unwrap())
        .collect();
    assert!(starts.len() >= 6, "{starts:?}");
    assert!((starts[5] - starts[0] - 500.0).abs() <= 2.0, "{starts:?}");
}

#[test]
fn interval_log_has_a_line_a_run_without_intervals_and_tags_for_settings() {
    let files = Files::new();
    let formats = [("--hlog", "a.hlog"), ("--json", "a.json")];
    run(
        &files,
        "udp --packets 3000 --batch 1,64 --gso off --repeat 2",
        &formats,
    );
    let record = files.json("a.json");
    if let Some(log) = read("hlog.py", &[&files.path("a.hlog")]) {
        assert_eq!(log["lines"].as_array().unwrap().len(), 4);
        for (tag, setting) in [
            ("latency-batch-1", "batch 1"),
            ("latency-batch-64", "batch 64"),
        ] {
            let runs = record["runs"].as_array().unwrap();
            let runs = runs.iter().filter(|run| run["setting"] == setting);
            let count: u64 = runs.map(|run| number(run, "latency_ns.count")).sum();
            assert_eq!(log["tags"][tag]["count"], count, "{log}");
        }
    }
    run(
        &files,
        "udp --packets 3000 --bidir --interval 20ms",
        &formats,
    );
    let record = files.json("a.json");
    if let Some(log) = read("hlog.py", &[&files.path("a.hlog")]) {
        for (number, tag) in ["latency-forward", "latency-reverse"].iter().enumerate() {
            assert_summary(&log["tags"][*tag], &record["runs"][number]["latency_ns"]);
        }
    }
}

#[test]
fn interval_log_of_another_host_has_its_intervals() {
    let files = Files::new();
    let server = Serve::start(&[]);
    for direction in ["", " --reverse"] {
        let options = format!(
            "udp --to {} --pps 2k --duration 300ms --interval 100ms --clock estimate{direction}",
            server.address
        );
        run(
            &files,
            &options,
            &[("--hlog", "a.hlog"), ("--json", "a.json")],
        );
        let run = &files.json("a.json")["runs"][0];
        if let Some(log) = read("hlog.py", &[&files.path("a.hlog")]) {
            assert_eq!(
                log["tags"][""]["count"], run["latency_ns"]["count"],
                "{log}"
            );
            assert!(log["lines"].as_array().unwrap().len() >= 6, "{log}");
        }
    }
}

/// Relays the control connections to a server, without requests for histograms of intervals: the server then acts as one of a version
/// without them. The length of messages is kept, as their framing needs it.
fn older(server: SocketAddr) -> SocketAddr {
    const ASKED: &[u8] = b",\"interval_histograms\":true";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut server = TcpStream::connect(server).unwrap();
            let (mut back, mut from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(std::net::Shutdown::Both);
            });
            thread::spawn(move || {
                let mut bytes = [0; 1 << 16];
                while let Ok(count @ 1..) = client.read(&mut bytes) {
                    let part = &mut bytes[..count];
                    if let Some(at) = part.windows(ASKED.len()).position(|of| of == ASKED) {
                        part[at..at + ASKED.len()].fill(b' ');
                    }
                    if server.write_all(part).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn interval_log_of_an_older_server_has_a_line_for_the_run() {
    let files = Files::new();
    // Data does not go through the relay.
    let server = Serve::start(&["--data-ports", "21310-21319"]);
    let (to, log, json) = (
        older(server.address).to_string(),
        files.path("a.hlog"),
        files.path("a.json"),
    );
    let options = "udp --packets 2000 --interval 50ms --no-save --quiet --to";
    let files_of_run = ["--hlog", &log, "--json", &json];
    let args = options.split(' ').chain([&*to]).chain(files_of_run);
    let finished = bench(args);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("has 0 of 2000 latencies by interval"),
        "{}",
        finished.stderr
    );
    if let Some(log) = read("hlog.py", &[&log]) {
        assert_eq!(log["lines"].as_array().unwrap().len(), 1, "{log}");
        assert_eq!(log["tags"][""]["count"], 2_000);
    }
}

/// The samples of a page by name and value of a label.
fn samples(form: &str, path: &str) -> Option<Value> {
    read("metrics.py", &[form, path])
}

#[track_caller]
fn sample(page: &Value, name: &str, label: (&str, &str)) -> f64 {
    let samples = page["samples"].as_array().unwrap();
    let mut found = samples
        .iter()
        .filter(|sample| sample[0] == name && sample[1][label.0] == label.1);
    found
        .next()
        .unwrap_or_else(|| panic!("no {name} {label:?}"))[2]
        .as_f64()
        .unwrap()
}

#[test]
fn metrics_are_read_by_the_prometheus_client() {
    let files = Files::new();
    let formats = [
        ("--openmetrics", "a.txt"),
        ("--prometheus", "a.prom"),
        ("--json", "a.json"),
    ];
    run(&files, "udp --pps 5k --duration 200ms --repeat 2", &formats);
    assert_eq!(names(files.0.path()), ["a.json", "a.prom", "a.txt"]);
    let record = files.json("a.json");
    let (text, prom) = (files.path("a.txt"), files.path("a.prom"));
    let (Some(open), Some(prometheus)) =
        (samples("openmetrics", &text), samples("prometheus", &prom))
    else {
        return;
    };
    for (number_of_run, run) in record["runs"].as_array().unwrap().iter().enumerate() {
        let label = ("run", &*number_of_run.to_string());
        for page in [&open, &prometheus] {
            let of = |name: &str| sample(page, &format!("wirebench_udp_{name}"), label);
            assert_eq!(
                of("sent_datagrams_total"),
                number(run, "sent.packets") as f64
            );
            let latency = of("latency_seconds_count");
            assert_eq!(latency, number(run, "latency_ns.count") as f64);
            let goodput = of("goodput_bytes_per_second");
            let ours = run["kb_per_s"].as_f64().unwrap() * 1e3;
            assert!((goodput / ours - 1.0).abs() < 1e-9);
        }
    }
    assert_eq!(open["units"]["wirebench_udp_latency_seconds"], "seconds");
    let p99 = sample(&open, "wirebench_udp_latency_seconds", ("quantile", "0.99"));
    let ours = number(&record["runs"][0], "latency_ns.p99") as f64;
    assert!((p99 * 1e9 - ours).abs() < 1.0);
    // The Prometheus format has no end mark, no units and no timestamps.
    let text = fs::read_to_string(prom).unwrap();
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
}

#[test]
fn metrics_of_a_proxy_and_of_a_comparison_are_read() {
    let (files, results) = (Files::new(), Results::new());
    let options = "proxy --scenario connect,bulk --duration 100ms --warmup 5ms --connections 2 --repeat 1 --quiet --out";
    let (out, text, log) = (results.arg(), files.path("a.txt"), files.path("a.hlog"));
    let formats = [&*out, "--openmetrics", &text, "--hlog", &log];
    bench(options.split(' ').chain(formats)).done();
    let record = results.record();
    if let Some(page) = samples("openmetrics", &text) {
        let requests = sample(&page, "wirebench_load_requests_total", ("path", "proxied"));
        let runs = record["runs"].as_array().unwrap();
        let run = runs.iter().find(|run| run["path"] == "proxied").unwrap();
        assert_eq!(requests, number(run, "requests") as f64);
    }
    if let Some(log) = read("hlog.py", &[&log]) {
        let runs = record["runs"].as_array().unwrap();
        let run = runs.iter().find(|run| run["path"] == "direct").unwrap();
        assert_summary(&log["tags"]["latency-connect-direct"], &run["latency_ns"]);
    }
    let folder = results.only();
    let saved = folder.to_str().unwrap();
    let prom = files.path("a.prom");
    bench(["compare", saved, saved, "--prometheus", &prom]).done();
    if let Some(page) = samples("prometheus", &prom) {
        let ratio = sample(&page, "wirebench_load_rate_ratio", ("bound", "estimate"));
        assert_eq!(ratio, 1.0);
    }
}

#[test]
fn name_of_a_prometheus_file_ends_in_prom() {
    let files = Files::new();
    for command in [&["udp"][..], &["proxy"], &["compare", "a", "b"]] {
        let path = files.path("a.txt");
        let args = command.iter().copied().chain(["--prometheus", &path]);
        bench(args).failed(2, &["a.txt", ".prom", "--prometheus"]);
    }
}

/// Each path of a document with the type of its value. Elements of arrays share a path.
fn paths(value: &Value, path: &str, found: &mut BTreeMap<String, BTreeSet<&'static str>>) {
    let kind = match value {
        Value::Object(map) => {
            for (key, inner) in map {
                paths(inner, &format!("{path}.{key}"), found);
            }
            "object"
        }
        Value::Array(list) => {
            for inner in list {
                paths(inner, &format!("{path}[]"), found);
            }
            "array"
        }
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        // cJSON writes whole numbers without a point.
        Value::Number(_) => "number",
        Value::Null => "null",
    };
    found.entry(path.to_owned()).or_default().insert(kind);
}

/// The output of iperf3 on loopback; `None` if it is not installed.
fn iperf3(direction: Option<&str>) -> Option<Value> {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let port = port.port().to_string();
    let mut server = Command::new("iperf3")
        .args(["-s", "-1", "-p", &port])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut found = None;
    crate::common::until("iperf3 answers", || {
        let output = Command::new("iperf3")
            .args([
                "-u",
                "-J",
                "-t",
                "1",
                "-b",
                "10M",
                "-c",
                "127.0.0.1",
                "-p",
                &port,
            ])
            .args(direction)
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let is_there = answer["end"]["sum"].is_object();
        found = is_there.then_some(answer);
        is_there
    });
    let _ = server.kill();
    let _ = server.wait();
    found
}

/// Keys of iperf3 that ours lacks: what only iperf3 has, or what it writes as 0 for an unknown value.
const THEIRS_ONLY: [&str; 7] = [
    ".start.cookie",
    ".start.connected[].local_port",
    ".start.connected[].remote_port",
    ".start.connecting_to.port",
    ".end.sum_sent.jitter_ms",
    ".end.sum_sent.lost_packets",
    ".end.sum_sent.lost_percent",
];

/// Keys of newer versions than 3.12.
const NEWER: [&str; 2] = [".start.test_start.bidir", ".start.test_start.fqrate"];

#[test]
fn layout_is_that_of_iperf3() {
    let files = Files::new();
    let schema = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/formats/iperf3.schema.json"
    );
    for (ours, theirs) in [
        ("", None),
        (" --reverse", Some("-R")),
        (" --bidir", Some("--bidir")),
    ] {
        let options = format!("udp --rate 10M --duration 1s --interval 500ms{ours}");
        let formats = [("--iperf3-json", "a.json"), ("--json", "b.json")];
        run(&files, &options, &formats);
        let (document, record) = (files.json("a.json"), files.json("b.json"));
        let path = files.path("a.json");
        if let Some(errors) = read("iperf3.py", &[schema, &path]) {
            assert_eq!(errors, json!([]), "{ours}");
        }
        // The figures.
        let run = &record["runs"][0];
        let sum = &document["end"]["sum_received"];
        let payload = number(run, "received.bytes") + 32 * number(run, "received.unique");
        assert_eq!(number(sum, "bytes"), payload);
        assert_eq!(sum["packets"], run["sent"]["packets"]);
        assert_eq!(sum["lost_packets"], run["lost"]["packets"]);
        let jitter = sum["jitter_ms"].as_f64().unwrap() * 1e6;
        assert!((jitter - run["jitter_ns"].as_f64().unwrap()).abs() < 1e-3);
        let rows = document["intervals"].as_array().unwrap();
        let bytes: u64 = rows.iter().map(|row| number(row, "sum.bytes")).sum();
        assert_eq!(bytes, payload);
        let Some(real) = iperf3(theirs) else {
            eprintln!("skipped: a comparison with iperf3, which is not installed");
            continue;
        };
        fs::write(files.path("c.json"), real.to_string()).unwrap();
        if let Some(errors) = read("iperf3.py", &[schema, &files.path("c.json")]) {
            assert_eq!(errors, json!([]), "iperf3's own, {theirs:?}");
        }
        let (mut of_ours, mut of_theirs) = (BTreeMap::new(), BTreeMap::new());
        paths(&document, "", &mut of_ours);
        paths(&real, "", &mut of_theirs);
        for (path, kinds) in &of_ours {
            // iperf3 reports the intervals of a sender without losses.
            let is_interval = path.starts_with(".intervals[]") && path.contains(".lost_");
            let known = of_theirs.get(path);
            assert!(
                known.is_some() || is_interval || NEWER.contains(&&**path),
                "{ours}: {path} is not of iperf3"
            );
            assert!(
                known.is_none_or(|of| of == kinds),
                "{ours}: {path} {kinds:?}"
            );
        }
        for path in of_theirs.keys() {
            let is_theirs = THEIRS_ONLY.contains(&&**path)
                || path.starts_with(".end.sum_sent_bidir_reverse.")
                || (path.starts_with(".intervals[]") && path.ends_with(".jitter_ms"));
            assert!(of_ours.contains_key(path) || is_theirs, "{ours}: no {path}");
        }
    }
}

#[test]
fn layout_of_iperf3_has_one_test() {
    for options in ["--repeat 2", "--batch 1,2", "--engine mio,uring"] {
        let args = format!("udp --no-save --iperf3-json - {options}");
        bench(args.split(' ')).failed(2, &["--iperf3-json", "--repeat"]);
    }
    bench(["proxy", "--iperf3-json", "-"]).failed(2, &["--iperf3-json"]);
}

#[test]
fn formats_share_standard_output_with_nothing() {
    let all = [
        "--openmetrics",
        "--prometheus",
        "--hlog",
        "--json-stream",
        "--iperf3-json",
    ];
    for (number, one) in all.iter().enumerate() {
        for other in all.iter().skip(number + 1).chain(&["--json", "--html"]) {
            let args = ["udp", "--no-save", one, "-", other, "-"];
            bench(args).failed(2, &[one, other, "standard output"]);
        }
    }
    for one in all {
        let text = bench(["udp", "--mb", "0.1", "--no-save", one, "-"])
            .done()
            .stdout;
        assert!(text.starts_with(['#', '{']), "{text}");
        assert!(!text.contains("listening on"), "{text}");
        bench(["udp", "--no-save", one, "/nowhere/a.prom"]).failed(3, &["/nowhere/a.prom", one]);
    }
}
