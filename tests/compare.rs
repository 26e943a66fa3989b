//! Settings side by side: lists of values in one command, and `bench compare` between two, of `bench udp` and of
//! `bench proxy`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use common::{Finished, NOTICED, Results, Serve, assert_accounted, bench, names, start, table};
use serde_json::{Value, json};

/// Runs `bench udp` with these options, saving to `results`, and gives its stdout.
#[track_caller]
fn udp(results: &Results, options: &str) -> String {
    let out = results.arg();
    let fixed = ["udp", "--out", &out];
    bench(fixed.into_iter().chain(options.split(' ')))
        .done()
        .stdout
}

/// Equal but for the last digit, which reading JSON may change.
#[track_caller]
fn assert_close(one: f64, other: f64) {
    assert!((one / other - 1.0).abs() < 1e-12, "{one} and {other}");
}

/// The text without how it is laid out.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn settings(record: &Value) -> Vec<&str> {
    let runs = record["runs"].as_array().unwrap().iter();
    runs.map(|run| run["setting"].as_str().unwrap()).collect()
}

/// The rows of the only `comparison.csv`, by the names of its columns.
fn comparison_csv(results: &Results) -> Vec<HashMap<String, String>> {
    let table = table(&results.only().join("comparison.csv"));
    let names = table[0].clone();
    let cells = |row: &csv::StringRecord| {
        let pairs = names.iter().zip(row);
        pairs
            .map(|(name, cell)| (name.to_owned(), cell.to_owned()))
            .collect()
    };
    table[1..].iter().map(cells).collect()
}

#[test]
fn every_combination_takes_its_turn_in_every_round() {
    let results = Results::new();
    let stdout = udp(
        &results,
        "--packets 2000 --gso off,auto --batch 16,64 --repeat 3 --warmup 10ms",
    );
    let record = results.record();
    let [a, b, c, d] = [
        "batch 16, GSO off",
        "batch 16, GSO auto",
        "batch 64, GSO off",
        "batch 64, GSO auto",
    ];
    // Each round begins with the next, so that no setting has a place of its own.
    assert_eq!(settings(&record), [a, b, c, d, b, c, d, a, c, d, a, b]);
    for run in record["runs"].as_array().unwrap() {
        assert_accounted(run);
        let setting = run["setting"].as_str().unwrap();
        let asked = &run["requested"];
        let told = format!(
            "batch {}, GSO {}",
            asked["batch"],
            asked["gso"].as_str().unwrap()
        );
        assert_eq!(setting, told);
    }
    let compared = record["comparison"].as_array().unwrap();
    let order: Vec<_> = compared
        .iter()
        .map(|row| row["setting"].as_str().unwrap())
        .collect();
    assert_eq!(order, [a, b, c, d]);
    assert!(compared[0]["ratios"].is_null() && compared[0]["base"].is_null());
    for row in &compared[1..] {
        assert_eq!(row["base"], a);
        assert_eq!(row["runs"], 3);
        assert_eq!(row["ratios"]["kb_per_s"]["verdict"], "too_few_runs");
        assert!(row["ratios"]["kb_per_s"]["interval"].is_null());
    }
    assert!(
        stdout.contains("too few runs for an interval; --repeat 5 or more"),
        "{stdout}"
    );
    assert_eq!(stdout.matches("\nrun ").count(), 12, "{stdout}");
    assert_eq!(
        names(&results.only()),
        [
            "comparison.csv",
            "intervals.csv",
            "latency-batch-16-gso-auto.hgrm",
            "latency-batch-16-gso-off.hgrm",
            "latency-batch-64-gso-auto.hgrm",
            "latency-batch-64-gso-off.hgrm",
            "run.json"
        ]
    );
    let histogram = results.only().join("latency-batch-16-gso-off.hgrm");
    let histogram = fs::read_to_string(histogram).unwrap();
    assert!(
        histogram.contains("Total count    =         6000]"),
        "{histogram}"
    );
    let ledger = results.ledger();
    assert_eq!(ledger.len(), 13);
    let column = ledger[0].iter().position(|name| name == "setting").unwrap();
    assert_eq!(&ledger[1][column], a);
}

#[test]
fn five_rounds_have_an_interval_and_every_file_the_same_figures() {
    let results = Results::new();
    let stdout = udp(&results, "--packets 2000 --gso off --batch 1,64 --repeat 5");
    let record = results.record();
    let [base, new] = &record["comparison"].as_array().unwrap()[..] else {
        panic!("two settings")
    };
    let median = |setting: &Value| {
        let runs = record["runs"].as_array().unwrap().iter();
        let of = runs.filter(|run| run["setting"] == *setting);
        let mut rates: Vec<_> = of.map(|run| run["kb_per_s"].as_f64().unwrap()).collect();
        rates.sort_by(f64::total_cmp);
        assert_eq!(rates.len(), 5);
        rates[2]
    };
    let ratio = &new["ratios"]["kb_per_s"];
    let expected = median(&new["setting"]) / median(&base["setting"]);
    assert_close(ratio["ratio"].as_f64().unwrap(), expected);
    let end = |name: &str| ratio["interval"][name].as_f64().unwrap();
    let (low, high) = (end("low"), end("high"));
    assert!(low < expected * 1.000_001 && expected < high * 1.000_001);
    let verdict = match ratio["verdict"].as_str().unwrap() {
        "higher" if low > 1.0 => "higher",
        "lower" if high < 1.0 => "lower",
        "no_difference_shown" if low <= 1.0 && 1.0 <= high => "no_difference_shown",
        other => panic!("{other} from {low} to {high}"),
    };
    assert_eq!(ratio["verdict"], verdict);
    let rows = comparison_csv(&results);
    assert_eq!(
        (rows[0]["setting"].as_str(), rows[0]["ratio"].as_str()),
        ("batch 1", "")
    );
    let cell = |name: &str| rows[1][name].parse::<f64>().unwrap();
    assert_close(cell("ratio"), expected);
    assert_close(cell("ratio_low"), low);
    assert_close(cell("kb_per_s_median"), median(&new["setting"]));
    assert_eq!(
        (rows[1]["verdict"].as_str(), rows[1]["runs"].as_str()),
        (verdict, "5")
    );
    assert_eq!(
        (cell("batch"), cell("lost_percent"), cell("sent_packets")),
        (64.0, 0.0, 10_000.0)
    );
    let words = stdout.contains("\nKB/s       no difference shown: batch 64 is ");
    assert_eq!(words, verdict == "no_difference_shown", "{stdout}");
    // A line may end before the interval.
    let unbroken: Vec<&str> = stdout.split_whitespace().collect();
    let unbroken = unbroken.join(" ");
    assert!(
        unbroken.contains(" times batch 1 (95 % interval "),
        "{stdout}"
    );
    let shown = stdout.lines().filter(|line| !line.starts_with("saved"));
    for line in shown {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn engines_are_compared() {
    let tried = bench([
        "udp",
        "--no-save",
        "--quiet",
        "--packets",
        "10",
        "--engine",
        "uring",
    ]);
    if tried.code == Some(3) {
        println!("skipped: {}", tried.stderr);
        return;
    }
    let results = Results::new();
    udp(
        &results,
        "--packets 2000 --engine mio,uring --uring-recv single --quiet",
    );
    let record = results.record();
    assert_eq!(settings(&record), ["mio", "uring"]);
    let [mio, uring] = &record["runs"].as_array().unwrap()[..] else {
        panic!("two runs")
    };
    assert_eq!(
        (&mio["engine"], &uring["engine"]),
        (&json!("mio"), &json!("uring"))
    );
    assert!(mio["requested"]["uring"].is_null());
    assert_eq!(uring["requested"]["uring"]["receive"], "single");
}

#[test]
fn a_paced_comparison_goes_by_cpu_and_the_latency_from_the_intended_send() {
    let results = Results::new();
    let stdout = udp(&results, "--packets 200 --pps 5k,10k --repeat 2 --warmup 0");
    assert!(stdout.contains("KB/s follow the schedule"), "{stdout}");
    let rows = comparison_csv(&results);
    assert_eq!(
        (rows[1]["setting"].as_str(), rows[1]["pps"].as_str()),
        ("10k packets/s", "10000")
    );
    assert!(names(&results.only()).contains(&"latency-intended-5k-packets-s.hgrm".to_owned()));
}

#[test]
fn one_value_is_no_comparison() {
    let results = Results::new();
    let stdout = udp(&results, "--packets 1000 --batch 16 --repeat 2");
    assert_eq!(stdout.matches("client IP").count(), 2, "{stdout}");
    let record = results.record();
    assert_eq!(record["comparison"], json!([]));
    assert!(record["runs"][0]["setting"].is_null());
    assert_eq!(
        names(&results.only()),
        ["intervals.csv", "latency.hgrm", "run.json"]
    );
}

#[test]
fn standard_output_may_be_the_record_or_the_ledger() {
    let results = Results::new();
    let stdout = udp(&results, "--packets 1000 --chunk 200,1000 --json -");
    let record: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(record, results.record());
    assert_eq!(record["comparison"].as_array().unwrap().len(), 2);
    let stdout = udp(&Results::new(), "--packets 1000 --chunk 200,1000 --csv -");
    assert_eq!(stdout.lines().count(), 3);
}

#[test]
fn a_server_elsewhere_serves_every_setting() {
    let server = Serve::start(&[]);
    let results = Results::new();
    udp(
        &results,
        &format!("--to {} --packets 1000 --streams 1,2", server.address),
    );
    assert_eq!(settings(&results.record()), ["1 stream", "2 streams"]);
    server.stop();
}

#[test]
fn what_cannot_be_combined_is_refused_before_anything_is_run() {
    for (options, named) in [
        ("--batch 1,,64", "missing"),
        ("--batch 1,", "missing"),
        ("--batch ,", "missing"),
        ("--engine mio,mio", "mio occurs twice"),
        ("--chunk 200,1000,200", "200 occurs twice"),
        ("--rcvbuf 1M,1000k", "1000k occurs twice"),
        ("--engine mio,turbo", "turbo"),
        ("--batch 1,many", "many"),
        ("--batch 1 --batch 2", "--batch"),
        ("--batch 0,64", "'batch 0'"),
        ("--chunk 1000,65476", "'chunk 65476'"),
        ("--gso off,on --batch 1,64", "'batch 1, GSO on'"),
        (
            "--engine mio,uring --zerocopy off,splice",
            "'uring, zerocopy splice'",
        ),
        ("--zerocopy off,splice --unpaced", "'zerocopy splice'"),
        (
            "--engine mio --uring-recv single,multishot",
            "--engine uring",
        ),
        ("--streams 1,1000000000000", "'1000000000000 streams'"),
        (
            "--batch 1,2,3,4,5,6,7,8,9 --chunk 1,2,3,4,5,6,7,8",
            "more than 64",
        ),
        ("--batch 1,2 --repeat 5001", "10000 runs"),
        ("--rate 1M,1", "--rate 1 "),
        ("--cpus 0,1,x", "0,1,x"),
    ] {
        let results = Results::new();
        let out = results.arg();
        let fixed = ["udp", "--out", &out];
        let finished = bench(fixed.into_iter().chain(options.split(' '))).failed(2, &[named]);
        assert_eq!(
            (finished.stdout.as_str(), results.names().len()),
            ("", 0),
            "{options}"
        );
    }
}

#[test]
fn a_setting_that_fails_is_named_and_what_was_measured_is_kept() {
    // Two of the largest datagrams fit no segmented send.
    let fails = "--packets 100 --gso on --chunk 1000,65475 --warmup 0";
    let results = Results::new();
    let out = results.arg();
    let finished = bench(["udp", "--out", &out].into_iter().chain(fails.split(' ')));
    let finished = finished.failed(3, &["with chunk 65475: GSO", "--gso off or auto"]);
    assert_eq!(settings(&results.record()), ["chunk 1000"]);
    assert_eq!(comparison_csv(&results).len(), 1);
    assert!(
        finished.stdout.contains("\nchunk 1000 "),
        "{}",
        finished.stdout
    );
}

#[test]
fn ctrl_c_ends_a_comparison_with_what_there_is() {
    let results = Results::new();
    let out = results.arg();
    let options = "--duration 100ms --batch 1,64 --gso off --repeat 5000 --warmup 0";
    let mut bench = start(["udp", "--out", &out].into_iter().chain(options.split(' ')));
    bench.line(|line| line.starts_with("run 2 "));
    bench.signal("INT");
    let finished = bench.wait(NOTICED).done();
    let record = results.record();
    let runs = record["runs"].as_array().unwrap();
    assert!((3..100).contains(&runs.len()), "{}", runs.len());
    assert_eq!(settings(&record)[..3], ["batch 1", "batch 64", "batch 64"]);
    let incomplete = runs.iter().filter(|run| run["complete"] == false).count();
    assert!(incomplete <= 1);
    let counted: Vec<_> = comparison_csv(&results)
        .iter()
        .map(|row| row["runs"].parse::<usize>().unwrap())
        .collect();
    assert_eq!(counted.len(), 2);
    assert_eq!(counted.iter().sum::<usize>(), runs.len() - incomplete);
    assert!(
        finished.stdout.contains("\nsetting "),
        "{}",
        finished.stdout
    );
}

/// Two records to compare, made of a real one of `bench udp` or of `bench proxy`.
struct Saved {
    results: Results,
    record: Value,
}

impl Saved {
    fn new() -> Self {
        let results = Results::new();
        udp(
            &results,
            "--packets 500 --gso off --batch 16,64 --repeat 5 --warmup 0 --quiet",
        );
        let mut record = results.record();
        for (number, run) in record["runs"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .enumerate()
        {
            run["kb_per_s"] = json!(1_000.0 + number as f64);
        }
        Self { results, record }
    }

    fn proxy() -> Self {
        Self {
            results: Results::new(),
            record: PROXY.clone(),
        }
    }

    /// Writes it as `name` with a change, and gives its path.
    fn put(&self, name: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut record = self.record.clone();
        change(&mut record);
        let path: PathBuf = self.results.folder.path().join(name);
        fs::write(&path, record.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Two ways to ask the proxy, and figures that differ a little from round to round. Measured once.
static PROXY: LazyLock<Value> = LazyLock::new(|| {
    let results = Results::new();
    let options = "--duration 250ms --repeat 5 --warmup 5ms --connections 2 --scenario connect,bulk --protocol socks5,connect --quiet";
    let out = results.arg();
    bench(
        ["proxy", "--out", &out]
            .into_iter()
            .chain(options.split(' ')),
    )
    .done();
    let mut record = results.record();
    for run in record["runs"].as_array_mut().unwrap() {
        assert_eq!(
            (&run["errors"]["total"], &run["complete"]),
            (&json!(0), &json!(true)),
            "{run:#}"
        );
        let drift = run["round"].as_f64().unwrap();
        for figure in ["requests_per_s", "bytes_per_s"] {
            if run[figure].is_number() {
                run[figure] = json!(1_000.0 + drift);
            }
        }
        if run["latency_ns"].is_object() {
            run["latency_ns"]["p99"] = json!(50_000 + drift as u64);
        }
    }
    record
});

/// Multiplies the goodput of every run of a setting.
fn slow_down(record: &mut Value, setting: &str, factor: f64) {
    for run in record["runs"].as_array_mut().unwrap() {
        if run["setting"] == setting {
            run["kb_per_s"] = json!(run["kb_per_s"].as_f64().unwrap() * factor);
        }
    }
}

#[track_caller]
fn compare(base: &str, new: &str, options: &str) -> Finished {
    bench(
        ["compare", base, new]
            .into_iter()
            .chain(options.split_whitespace()),
    )
}

#[test]
fn two_saved_runs_are_compared_and_a_slowdown_beyond_the_threshold_fails() {
    let saved = Saved::new();
    let base = saved.put("base.json", |_| ());
    let new = saved.put("new.json", |record| slow_down(record, "batch 64", 0.9));
    let told = compare(&base, &new, "").done().stdout;
    let told = flat(&told);
    for part in [
        "KB/s no difference shown: batch 16, new is 1.000 times batch 16, base",
        "batch 64, new is 0.900 times batch 64, base (95 % interval 0.89",
        "did not take turns",
        &base,
    ] {
        assert!(told.contains(part), "no {part}:\n{told}");
    }
    assert!(!told.contains("hosts differ"), "{told}");
    compare(&base, &new, "--threshold 15%").done();
    let sentence = [
        "batch 64, new is slower than batch 64, base",
        "in KB/s",
        "5 %",
    ];
    let finished = compare(&base, &new, "--threshold 5%").failed(1, &sentence);
    assert!(!finished.stderr.contains("batch 16"), "{}", finished.stderr);
    assert!(
        finished.stdout.contains("0.900"),
        "the table is shown all the same"
    );
    // The other way round it is faster, and a run is no slower than itself.
    compare(&new, &base, "--threshold 0%").done();
    compare(&base, &base, "--threshold 0%").done();
    // Folders are as good as files.
    let folder = saved.results.folder.path().join("new");
    fs::create_dir(&folder).unwrap();
    fs::rename(&new, folder.join("run.json")).unwrap();
    compare(&base, folder.to_str().unwrap(), "--threshold 5%").failed(1, &sentence);
}

#[test]
fn what_only_one_has_and_hosts_that_differ_are_told() {
    let saved = Saved::new();
    let base = saved.put("base.json", |_| ());
    let new = saved.put("new.json", |record| {
        let runs = record["runs"].as_array_mut().unwrap();
        runs.retain(|run| run["setting"] == "batch 64");
        record["host"]["kernel"] = json!("9.9.9");
    });
    let told = compare(&base, &new, "").done().stdout;
    assert!(
        told.contains("only in base, not compared: batch 16\n"),
        "{told}"
    );
    assert!(told.contains("'9.9.9'"), "{told}");
    let record: Value =
        serde_json::from_str(&compare(&base, &new, "--json -").done().stdout).unwrap();
    assert_eq!(record["only_in_base"], json!(["batch 16"]));
    assert_eq!(record["comparison"][1]["ratios"]["kb_per_s"]["ratio"], 1.0);
}

#[test]
fn too_few_runs_decide_nothing() {
    let saved = Saved::new();
    let base = saved.put("base.json", |_| ());
    let new = saved.put("new.json", |record| {
        slow_down(record, "batch 64", 0.1);
        for run in &mut record["runs"].as_array_mut().unwrap()[..4] {
            run["complete"] = json!(false);
        }
    });
    let told = compare(&base, &new, "").done().stdout;
    assert!(told.contains("too few runs for an interval"), "{told}");
    compare(&base, &new, "--threshold 5%").failed(3, &["too few runs", "--repeat 5 or more"]);
}

#[test]
fn files_that_cannot_be_compared_are_named() {
    let saved = Saved::new();
    let base = saved.put("base.json", |_| ());
    for (name, change, words) in [
        (
            "newer.json",
            (|of| of["schema"] = json!(2)) as fn(&mut Value),
            "schema 2",
        ),
        (
            "doctor.json",
            |of| of["kind"] = json!("doctor"),
            "kind 'doctor'",
        ),
        ("keyless.json", |of| of["host"] = json!({}), "missing field"),
        ("typed.json", |of| of["runs"] = json!(7), "invalid type"),
        ("empty.json", |of| of["runs"] = json!([]), "no complete run"),
        ("list.json", |of| *of = json!([]), "no saved run"),
    ] {
        let path = saved.put(name, change);
        for (one, other) in [(&base, &path), (&path, &base)] {
            let finished = compare(one, other, "--threshold 5%").failed(3, &[&path, words]);
            assert_eq!(finished.stdout, "");
        }
    }
    let other = saved.put("other.json", |record| {
        for run in record["runs"].as_array_mut().unwrap() {
            run["requested"]["gso"] = json!("on");
        }
    });
    compare(&base, &other, "").failed(
        3,
        &[
            "nothing can be compared",
            "GSO off",
            "GSO on",
            &base,
            &other,
        ],
    );
    let missing = saved.results.arg() + "/missing";
    compare(&base, &missing, "").failed(3, &[&missing]);
    for threshold in ["5", "0.05", "-1%", "100%", "five%", "%", "nan%"] {
        compare(&base, &base, &format!("--threshold={threshold}"))
            .failed(2, &[threshold, "like 5%"]);
    }
    bench(["compare", &base]).failed(2, &["NEW"]);
}

#[test]
fn records_with_absurd_figures_do_no_harm() {
    let saved = Saved::new();
    let base = saved.put("base.json", |_| ());
    let odd = saved.put("odd.json", |record| {
        for run in record["runs"].as_array_mut().unwrap() {
            run["kb_per_s"] = json!(-1e308);
            run["packets_per_s"] = json!(0.0);
            run["cpu"]["sender_s_per_million"] = json!(1e308);
            run["cpu"]["receiver_s_per_million"] = json!(1e308);
            run["lost"]["packets"] = json!(u64::MAX);
            run["sent"]["packets"] = json!(u64::MAX);
            run["engine"] = json!("mio");
        }
        record["started_at"] = json!("\u{1b}[2J");
    });
    let told = compare(&base, &odd, "").done().stdout;
    assert!(!told.contains('\u{1b}') && !told.contains("NaN"), "{told}");
    compare(&odd, &base, "--json -").done();
    compare(&odd, &base, "--threshold 5%").failed(3, &["too few runs"]);
}

/// The runs of a scenario that were measured through the proxy, asked in this way.
fn proxied<'a>(
    record: &'a mut Value,
    scenario: &str,
    protocol: &str,
) -> impl Iterator<Item = &'a mut Value> {
    let runs = record["runs"].as_array_mut().unwrap().iter_mut();
    let (scenario, protocol) = (json!(scenario), json!(protocol));
    runs.filter(move |run| run["scenario"] == scenario && run["protocol"] == protocol)
}

#[test]
fn two_saved_runs_of_a_proxy_are_compared_path_by_path() {
    let saved = Saved::proxy();
    let base = saved.put("base.json", |_| ());
    let told = compare(&base, &base, "--threshold 0%").done().stdout;
    for path in [
        "connect direct",
        "connect proxied, socks5",
        "connect proxied, connect",
        "bulk direct",
        "bulk proxied, socks5",
        "bulk proxied, connect",
    ] {
        assert!(told.lines().any(|line| line == path), "no {path}:\n{told}");
    }
    assert!(
        flat(&told).contains("requests/s 1,002 1,002 1.000 (0.997-1.003) no difference shown"),
        "{told}"
    );
    assert_eq!(told.matches("CPU s per").count(), 4, "{told}");

    let slow = saved.put("slow.json", |record| {
        for run in proxied(record, "bulk", "connect") {
            run["bytes_per_s"] = json!(run["bytes_per_s"].as_f64().unwrap() * 0.9);
        }
    });
    let sentence = [
        "bulk proxied, connect, new is slower than bulk proxied, connect, base",
        "in bytes/s: more than the threshold of 5 %",
    ];
    let finished = compare(&base, &slow, "--threshold 5%").failed(1, &sentence);
    assert!(
        finished.stdout.contains("0.900"),
        "the table is shown all the same"
    );
    assert!(!finished.stderr.contains("socks5"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("direct"), "{}", finished.stderr);
    compare(&base, &slow, "--threshold 15%").done();
    compare(&slow, &base, "--threshold 0%").done();

    let late = saved.put("late.json", |record| {
        proxied(record, "connect", "socks5")
            .for_each(|run| run["latency_ns"]["p99"] = json!(60_000));
    });
    compare(&base, &late, "--threshold 5%").failed(
        1,
        &["connect proxied, socks5, new is slower", "99 % latency"],
    );
}

#[test]
fn a_slow_direct_path_is_told_and_errors_through_the_proxy_fail() {
    let saved = Saved::proxy();
    let base = saved.put("base.json", |_| ());
    let machine = saved.put("machine.json", |record| {
        let direct = |run: &&mut Value| run["path"] == "direct" && run["scenario"] == "connect";
        for run in record["runs"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .filter(direct)
        {
            run["requests_per_s"] = json!(run["requests_per_s"].as_f64().unwrap() * 0.5);
        }
    });
    let told = compare(&base, &machine, "--threshold 5%").done().stdout;
    assert!(
        flat(&told).contains(
            "connect direct has no proxy in it and differs all the same, requests/s 0.500 times"
        ),
        "{told}"
    );

    // Then a regression may be the machine's.
    let both = saved.put("both.json", |record| {
        for run in record["runs"].as_array_mut().unwrap() {
            if run["scenario"] == "connect" {
                run["requests_per_s"] = json!(run["requests_per_s"].as_f64().unwrap() * 0.5);
            }
        }
    });
    let words = [
        "connect proxied, socks5, new is slower",
        "connect direct, new is slower too, without a proxy",
    ];
    compare(&base, &both, "--threshold 5%").failed(1, &words);

    let failing = saved.put("failing.json", |record| {
        let run = proxied(record, "connect", "connect").next().unwrap();
        (run["errors"]["total"], run["errors"]["timeout"]) = (json!(2), json!(2));
    });
    let words = ["connect proxied, connect, new has errors", "timeout 2"];
    let finished = compare(&base, &failing, "--threshold 50%").failed(1, &words);
    assert!(
        flat(&finished.stdout)
            .contains("connect proxied, connect has more errors: timeout 2 (was 0)"),
        "{}",
        finished.stdout
    );
    // Without a threshold nothing is judged.
    compare(&base, &failing, "").done();
    compare(&failing, &base, "--threshold 0%").done();
}

#[test]
fn proxy_records_that_have_little_or_nothing_in_common_are_told() {
    let saved = Saved::proxy();
    let base = saved.put("base.json", |_| ());
    let one = saved.put("one.json", |record| {
        record["runs"]
            .as_array_mut()
            .unwrap()
            .retain(|run| run["protocol"] != "connect");
    });
    let told = compare(&base, &one, "").done().stdout;
    let lacking = "only in base, not compared: connect proxied, connect; bulk proxied, connect";
    assert!(flat(&told).contains(lacking), "{told}");
    let told = compare(&one, &base, "--json -").done().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["kind"], "proxy");
    assert_eq!(
        told["only_in_new"],
        json!(["connect proxied, connect", "bulk proxied, connect"])
    );
    let rows = told["comparison"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * 4);
    let bulk = &rows[7];
    assert_eq!(
        (&bulk["setting"], &bulk["protocol"]),
        (&json!("bulk proxied, socks5, new"), &json!("socks5"))
    );
    assert_eq!(bulk["ratios"]["rate"]["ratio"], 1.0);
    assert!(bulk["ratios"]["rate"]["interval"]["low"].is_number());
    assert!(
        bulk["ratios"]["latency_p99_ns"].is_null() && bulk["proxy_s_per_gb"]["median"].is_number()
    );

    let direct = saved.put("direct.json", |record| {
        record["runs"]
            .as_array_mut()
            .unwrap()
            .retain(|run| run["path"] == "direct");
    });
    compare(&base, &direct, "").done();
    compare(&base, &direct, "--threshold 5%")
        .failed(3, &["the records share no path through a proxy"]);
    let others = saved.put("others.json", |record| {
        for run in record["runs"].as_array_mut().unwrap() {
            run["requested"]["connections"] = json!(64);
        }
    });
    compare(&base, &others, "").failed(
        3,
        &[
            "nothing can be compared",
            "2 connections",
            "64 connections",
            "`bench proxy ",
        ],
    );
    let few = saved.put("few.json", |record| {
        record["runs"]
            .as_array_mut()
            .unwrap()
            .retain(|run| run["round"] != 4);
    });
    let told = compare(&base, &few, "").done().stdout;
    assert!(told.contains("too few runs for an interval"), "{told}");
    compare(&base, &few, "--threshold 5%").failed(3, &["too few runs", "--repeat 5 or more"]);
    let udp = Saved::new();
    let udp = udp.put("udp.json", |_| ());
    for (one, other) in [(&base, &udp), (&udp, &base)] {
        let finished =
            compare(one, other, "--threshold 5%").failed(3, &["'udp'", "'proxy'", one, other]);
        assert_eq!(finished.stdout, "");
    }
}
