//! Comparisons of settings within one `bench udp`.

use std::collections::HashMap;
use std::fs;

use crate::common::{NOTICED, Results, Serve, assert_accounted, bench, names, start, table};
use serde_json::{Value, json};

/// Runs `bench udp` with these options and returns its stdout.
#[track_caller]
fn udp(results: &Results, options: &str) -> String {
    let out = results.arg();
    let fixed = ["udp", "--out", &out];
    bench(fixed.into_iter().chain(options.split(' ')))
        .done()
        .stdout
}

/// Equal except for the last digit, which JSON may change.
#[track_caller]
fn assert_close(one: f64, other: f64) {
    assert!((one / other - 1.0).abs() < 1e-12, "{one} and {other}");
}

fn settings(record: &Value) -> Vec<&str> {
    let runs = record["runs"].as_array().unwrap().iter();
    runs.map(|run| run["setting"].as_str().unwrap()).collect()
}

/// The rows of the only `comparison.csv`, by column name.
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
fn every_combination_runs_in_every_round() {
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
    // Each round begins with the next setting.
    assert_eq!(settings(&record), [a, b, c, d, b, c, d, a, c, d, a, b]);
    for run in record["runs"].as_array().unwrap() {
        assert_accounted(run);
        let setting = run["setting"].as_str().unwrap();
        let asked = &run["requested"];
        let expected = format!(
            "batch {}, GSO {}",
            asked["batch"],
            asked["gso"].as_str().unwrap()
        );
        assert_eq!(setting, expected);
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
            "histograms.jsonl",
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
fn five_rounds_have_an_interval_in_every_file() {
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
fn paced_settings_are_compared_by_cpu_and_latency_from_the_intended_send() {
    let results = Results::new();
    let stdout = udp(&results, "--packets 200 --pps 5k,10k --repeat 2 --warmup 0");
    assert!(
        stdout.contains("KB/s of a paced run follow its schedule"),
        "{stdout}"
    );
    let rows = comparison_csv(&results);
    assert_eq!(
        (rows[1]["setting"].as_str(), rows[1]["pps"].as_str()),
        ("10k packets/s", "10000")
    );
    assert!(names(&results.only()).contains(&"latency-intended-5k-packets-s.hgrm".to_owned()));
}

#[test]
fn single_value_is_not_compared() {
    let results = Results::new();
    let stdout = udp(&results, "--packets 1000 --batch 16 --repeat 2");
    assert_eq!(stdout.matches("client IP").count(), 2, "{stdout}");
    let record = results.record();
    assert_eq!(record["comparison"], json!([]));
    assert!(record["runs"][0]["setting"].is_null());
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
fn standard_output_can_be_the_record_or_the_ledger() {
    let results = Results::new();
    let stdout = udp(&results, "--packets 1000 --chunk 200,1000 --json -");
    let record: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(record, results.record());
    assert_eq!(record["comparison"].as_array().unwrap().len(), 2);
    let stdout = udp(&Results::new(), "--packets 1000 --chunk 200,1000 --csv -");
    assert_eq!(stdout.lines().count(), 3);
}

#[test]
fn remote_server_serves_every_setting() {
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
fn impossible_combination_fails_before_the_first_run() {
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
fn failing_setting_is_named_and_earlier_runs_are_saved() {
    // Two of the largest datagrams exceed a segmented send.
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
fn ctrl_c_ends_a_comparison_with_the_finished_runs() {
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
