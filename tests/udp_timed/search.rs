//! `bench udp search`: bounds on a path of known rate, its files, and what a search keeps that ends early.

use std::time::Duration;

use crate::common::routed::{Routed, V4};
use crate::common::{Finished, NOTICED, Results, Serve, bench, names, start, table};
use serde_json::Value;

/// A search takes some ten seconds.
const SEARCH: Duration = Duration::from_secs(60);

/// Rate of the token bucket, in bits a second.
const RATE: f64 = 16e6;

/// Bytes of a packet as a token bucket on Ethernet counts it: message, header, UDP, IPv4 and Ethernet.
const PACKET: f64 = 1_000.0 + 32.0 + 8.0 + 20.0 + 14.0;

/// Options of a short search.
const SHORT: &str = "--trial 100ms --trial-sum 100ms --width 10% --pause 10ms";

fn search(options: &str) -> Finished {
    let fixed = ["udp", "search"].into_iter();
    start(fixed.chain(options.split_whitespace())).wait(SEARCH)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn bounds_are_within_3_percent_of_a_token_bucket() {
    let Some(lab) = Routed::start() else {
        return;
    };
    // A queue of 12 ms: it carries bursts of a busy host, and raises a bound by at most 1.5 % of a trial of 800 ms.
    let bucket = "tc qdisc add dev r1 root tbf rate 16mbit burst 3000 limit 27000";
    if let Err(reason) = lab.router(bucket) {
        println!("skipped: no token bucket here: {reason}");
        return;
    }
    // On a busy host the sender is late and the limit, as the search says. Its bounds are then not those of the bucket.
    let options =
        "--gso off --loss 0,2% --trial 800ms --trial-sum 1600ms --width 1% --no-save --json -";
    let on_time = (0..3).find_map(|_| {
        let record = parsed(&lab.search(V4, options).wait(SEARCH).done().stdout);
        let mut goals = record["goals"].as_array().unwrap().iter();
        goals.all(|goal| goal["limit"] == "path").then_some(record)
    });
    let Some(record) = on_time else {
        println!("skipped: this host is too busy to send on time");
        return;
    };
    let capacity = RATE / 8.0 / PACKET;
    for (goal, loss) in record["goals"].as_array().unwrap().iter().zip([0.0, 0.02]) {
        assert_eq!(goal["loss_ratio"], loss);
        let of = |key: &str| goal[key].as_f64().unwrap();
        let (lower, upper) = (of("lower_pps"), of("upper_pps"));
        // A path that loses a share of the load carries more than its capacity.
        let truth = capacity / (1.0 - loss);
        assert!((lower / truth - 1.0).abs() <= 0.03, "{truth}: {goal:#}");
        assert!((upper - lower) / upper <= 0.01, "{goal:#}");
        let throughput = of("throughput_pps");
        assert!((throughput / capacity - 1.0).abs() <= 0.04, "{goal:#}");
        assert!((of("lower_kb_per_s") / lower - 1.0).abs() < 1e-9);
    }
    let trials = record["trials"].as_array().unwrap();
    let curve: Vec<&Value> = trials
        .iter()
        .filter(|trial| trial["phase"] == "curve")
        .collect();
    assert_eq!(curve.len(), 3, "{record:#}");
    for trial in curve {
        assert!(
            trial["latency_from_intended_ns"]["p99"].is_u64(),
            "{trial:#}"
        );
    }
}

#[test]
fn a_queue_that_hides_losses_is_noted() {
    let Some(lab) = Routed::start() else {
        return;
    };
    // A queue of 50 ms is a tenth of a trial.
    let bucket = "tc qdisc add dev r1 root tbf rate 16mbit burst 3000 limit 103000";
    if let Err(reason) = lab.router(bucket) {
        println!("skipped: no token bucket here: {reason}");
        return;
    }
    let options = "--gso off --trial 500ms --trial-sum 500ms --width 1% --no-save --json -";
    let on_time = (0..3).find_map(|_| {
        let record = parsed(&lab.search(V4, options).wait(SEARCH).done().stdout);
        (record["goals"][0]["limit"] == "path").then_some(record)
    });
    let Some(record) = on_time else {
        println!("skipped: this host is too busy to send on time");
        return;
    };
    let goal = &record["goals"][0];
    let lower = goal["lower_pps"].as_f64().unwrap();
    let capacity = RATE / 8.0 / PACKET;
    assert!((1.05..1.15).contains(&(lower / capacity)), "{goal:#}");
    let note = goal["note"].as_str().unwrap();
    assert!(note.contains("A queue grew"), "{note}");
    let trials = record["trials"].as_array().unwrap().iter();
    let of_bound = trials.filter(|trial| trial["load_pps"].as_f64() == Some(lower));
    for trial in of_bound.filter(|trial| trial["duration_s"] == 0.5 && trial["lost_packets"] == 0) {
        let delivered = trial["delivered_pps"].as_f64().unwrap();
        assert!((0.97..1.03).contains(&(delivered / capacity)), "{trial:#}");
    }
}

#[test]
fn a_search_saves_every_trial_and_its_picture() {
    let results = Results::new();
    let saved = format!("{SHORT} --max 2k --out {}", results.arg());
    let text = search(&saved).done().stdout;
    for words in [
        "loss 0 %",
        "2,000 packets/s",
        "limit: max",
        "at 95 %",
        "saved",
    ] {
        assert!(text.contains(words), "no '{words}' in: {text}");
    }
    let folder = results.only();
    assert_eq!(
        names(&folder),
        ["curve.csv", "run.json", "search.csv", "search.svg"]
    );
    let record = results.record();
    assert_eq!(record["kind"], "udp-search");
    assert_eq!(record["complete"], true);
    let trials = record["trials"].as_array().unwrap();
    let rows = table(&folder.join("search.csv"));
    assert_eq!(rows.len(), trials.len() + 1);
    assert_eq!(table(&folder.join("curve.csv")).len(), 4);
    assert_eq!(trials[0]["phase"], "first");
    let svg = std::fs::read_to_string(folder.join("search.svg")).unwrap();
    assert!(svg.contains("Latency by load") && svg.contains("Loss by load"));
    // A page of the saved search.
    let folder = folder.to_str().unwrap();
    let page = bench(["report", folder, "--html", "-"]).done().stdout;
    assert!(page.contains("bench udp search") && page.contains("lower bound"));
    bench(["compare", folder, folder]).failed(3, &["searches", "bench report"]);
}

#[test]
fn every_format_has_the_bounds() {
    for (format, words) in [
        ("json", "\"lower_pps\": 2000.0"),
        ("csv", "trial,phase,start_s"),
        ("markdown", "2,000 packets/s"),
        ("html", "2,000 packets/s"),
        ("svg", "Latency by load"),
        (
            "openmetrics",
            "wirebench_udp_search_lower_bound_datagrams_per_second",
        ),
        ("prometheus", "limit=\"max\"} 2000"),
    ] {
        let text = search(&format!("{SHORT} --max 2k --no-save --{format} -"))
            .done()
            .stdout;
        assert!(text.contains(words), "--{format}: no '{words}' in: {text}");
    }
}

#[test]
fn a_slow_sender_is_the_limit() {
    let Some(lab) = Routed::start() else {
        return;
    };
    // The send buffer fills up behind the client's own token bucket, so that the sender waits.
    let bucket = "tc qdisc add dev c0 root tbf rate 8mbit burst 3000 limit 4000000";
    if let Err(reason) = lab.client(bucket) {
        println!("skipped: no token bucket here: {reason}");
        return;
    }
    let options =
        "--gso off --sndbuf 8k --trial 300ms --trial-sum 300ms --width 10% --no-save --json -";
    let record = parsed(&lab.search(V4, options).wait(SEARCH).done().stdout);
    let goal = &record["goals"][0];
    assert_eq!(goal["limit"], "sender", "{goal:#}");
    assert!(
        goal["note"].as_str().unwrap().contains("sender"),
        "{goal:#}"
    );
    let lower = goal["lower_pps"].as_f64().unwrap();
    let fastest = 8e6 / 8.0 / PACKET;
    assert!((0.8..1.2).contains(&(lower / fastest)), "{goal:#}");
    let trials = record["trials"].as_array().unwrap();
    let short = trials.iter().find(|trial| trial["offered"] == "short");
    let note = short.unwrap()["note"].as_str().unwrap();
    assert!(note.contains("send buffer was full"), "{note}");
}

#[test]
fn an_interrupted_search_keeps_its_trials() {
    let results = Results::new();
    let out = results.arg();
    let search = start([
        "udp",
        "search",
        "--max",
        "2k",
        "--trial",
        "200ms",
        "--trial-sum",
        "60s",
        "--out",
        &out,
    ]);
    crate::common::until("a trial is saved", || {
        !results.names().is_empty() && !results.names()[0].starts_with('.')
    });
    std::thread::sleep(Duration::from_millis(600));
    search.signal("INT");
    let text = search.wait(NOTICED).done().stdout;
    assert!(text.contains("INCOMPLETE"), "{text}");
    let record = results.record();
    assert_eq!(record["ended"], "interrupted");
    assert_eq!(record["complete"], false);
    assert_eq!(record["goals"][0]["limit"], "unfinished");
    assert!(!record["trials"].as_array().unwrap().is_empty());
}

#[test]
fn a_killed_search_has_a_reason() {
    let results = Results::new();
    let saved = format!(
        "udp search --max 2k --trial 200ms --trial-sum 60s --out {}",
        results.arg()
    );
    let search = start(saved.split_whitespace());
    crate::common::until("a trial is saved", || {
        !results.names().is_empty() && !results.names()[0].starts_with('.')
    });
    search.signal("KILL");
    search.wait(NOTICED);
    let record = results.record();
    assert_eq!(record["complete"], false);
    assert_eq!(record["reason"], "the search has not ended");
}

#[test]
fn a_search_whose_server_dies_keeps_its_trials() {
    let serve = Serve::start(&[]);
    let results = Results::new();
    let (to, out) = (serve.address.to_string(), results.arg());
    let search = start([
        "udp",
        "search",
        "--to",
        &to,
        "--max",
        "2k",
        "--trial",
        "200ms",
        "--trial-sum",
        "60s",
        "--peer-timeout",
        "1s",
        "--out",
        &out,
    ]);
    crate::common::until("a trial is saved", || {
        !results.names().is_empty() && !results.names()[0].starts_with('.')
    });
    serve.program.signal("KILL");
    let finished = search.wait(SEARCH);
    assert!(
        finished.stdout.contains("INCOMPLETE"),
        "{}",
        finished.stdout
    );
    finished.failed(3, &["the search is incomplete"]);
    let record = results.record();
    assert_eq!(record["ended"], "failed");
    assert!(!record["trials"].as_array().unwrap().is_empty());
}

#[test]
fn a_search_ends_at_its_time_limit() {
    let finished = search("--max 2k --trial 100ms --trial-sum 60s --time-limit 1s --no-save");
    let text = finished.stdout.clone();
    finished.failed(3, &["incomplete", "--time-limit"]);
    assert!(text.contains("INCOMPLETE"), "{text}");
}

#[test]
fn a_search_without_a_server_fails_at_once() {
    let finished = search("--to 127.0.0.1:1 --no-save --json -");
    let error = parsed(&finished.stdout);
    assert_eq!(error["error"]["exit"], 3);
    finished.failed(3, &["127.0.0.1:1"]);
}

#[test]
fn a_bad_option_is_one_sentence() {
    for (options, words) in [
        ("--loss 0.1", "like 0.1%"),
        ("--loss 100%", "below 100%"),
        ("--loss 0,0", "twice"),
        ("--loss 0,1%,2%,3%,4%,5%,6%,7%,8%", "at most 8"),
        ("--width 0%", "width of 0 %"),
        ("--width 0%", "0.01 % to 50 %"),
        ("--width 200%", "0.01 % to 50 %"),
        ("--width 5", "from 0.01% to 50%"),
        ("--min 10 --max 5", "--min below --max"),
        ("--max 2G", "no range of loads"),
        ("--trial 1ms", "trials of"),
        ("--trial 1s --trial-sum 500ms", "trials of"),
        ("--trial 1s --first-trial 2s", "trials of"),
        ("--chunk 0", "chunk of 0"),
        ("--chunk 1,2", "'1,2'"),
        ("--zerocopy splice", "lossless mode only"),
        ("--gso on --batch 1", "GSO"),
        ("--bidir", "--bidir"),
        ("--pps 5", "--pps"),
        ("--json - --csv -", "cannot share"),
    ] {
        search(&format!("{options} --no-save")).failed(2, &[words]);
    }
    bench(["udp", "--mb", "1", "search"]).failed(2, &["search"]);
}
