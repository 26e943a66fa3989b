//! `bench proxy`: starts, measures and ends everything by one command, and its output.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use crate::common::{Finished, PATIENCE, Results, Running, bench, cpu_ticks, start, table, until};
use serde_json::Value;

/// Short, with all scenarios and front ends.
const SHORT: &str = "--duration 100ms --repeat 2 --warmup 10ms --connections 4";

#[track_caller]
fn proxy(options: &str) -> Finished {
    let line = format!("proxy {SHORT} {options}");
    start(line.split_whitespace()).wait(PATIENCE)
}

#[track_caller]
fn record(options: &str) -> Value {
    let finished = proxy(&format!("--json - --no-save {options}")).done();
    serde_json::from_str(&finished.stdout).unwrap()
}

fn runs(record: &Value) -> &Vec<Value> {
    record["runs"].as_array().unwrap()
}

/// Scenarios with their paths, each once, in order.
fn measured(record: &Value) -> Vec<String> {
    let totals = record["totals"].as_array().unwrap().iter();
    totals
        .map(|total| {
            let word = |key: &str| total[key].as_str().unwrap_or("-").to_owned();
            format!("{} {}", word("scenario"), word("path"))
        })
        .collect()
}

#[track_caller]
fn assert_all_right(record: &Value) {
    assert!(!runs(record).is_empty());
    for run in runs(record) {
        assert_eq!(run["errors"]["total"], 0, "{run:#}");
        assert!(run["requests"].as_u64().unwrap() > 0, "{run:#}");
        assert_eq!(run["complete"], true);
        let cpu = &run["cpu"];
        assert!(cpu["load_busy"].as_f64().unwrap() > 0.0);
        assert!(cpu["origin_user_s"].is_number(), "{run:#}");
        assert_eq!(
            cpu["proxy_user_s"].is_number(),
            run["path"] != "direct",
            "{run:#}"
        );
        match run["scenario"].as_str().unwrap() {
            "bulk" => assert!(run["bytes"].as_u64().unwrap() > 1_000_000, "{run:#}"),
            _ => assert_eq!(run["latency_ns"]["count"], run["requests"], "{run:#}"),
        }
    }
}

#[test]
fn every_scenario_is_measured_directly_and_through_every_front_end() {
    for (protocol, scenarios) in [
        (
            "socks5",
            "connect direct,connect proxied,request-response direct,request-response proxied,bulk direct,bulk proxied,blocked blocked",
        ),
        (
            "connect",
            "connect direct,connect proxied,request-response direct,request-response proxied,bulk direct,bulk proxied,blocked blocked",
        ),
        (
            "forward",
            "connect direct,connect proxied,request-response direct,request-response proxied,bulk direct,bulk proxied",
        ),
        ("json", "connect direct,connect proxied,blocked blocked"),
    ] {
        let record = record(&format!("--protocol {protocol}"));
        assert_all_right(&record);
        assert_eq!(measured(&record).join(","), scenarios, "{protocol}");
    }
}

#[test]
fn settings_take_turns_and_are_compared() {
    let record =
        record("--protocol socks5,connect --forwarding copy,splice --scenario request-response");
    assert_all_right(&record);
    let settings: Vec<_> = record["overhead"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["setting"].as_str().unwrap())
        .collect();
    assert_eq!(
        settings,
        [
            "copy, socks5",
            "copy, connect",
            "splice, socks5",
            "splice, connect"
        ]
    );
    let compared = record["comparison"].as_array().unwrap();
    assert_eq!(compared.len(), 3);
    assert!(compared.iter().all(|of| of["base"] == "copy, socks5"));
    assert!(
        compared.iter().all(|of| of["rate"]["ratio"].is_number()),
        "{compared:#?}"
    );
    // Each round starts with the next path.
    let firsts: Vec<_> = [0, 1]
        .map(|round| {
            let run = runs(&record).iter().find(|run| run["round"] == round);
            run.unwrap()["setting"].clone()
        })
        .into();
    assert_eq!(firsts, [Value::Null, "copy, socks5".into()]);
}

#[test]
fn the_saved_record_is_the_printed_one() {
    let results = Results::new();
    let csv = results.folder.path().join("own.csv");
    let line = format!(
        "--out {} --csv {} --scenario connect,blocked --repeat 5",
        results.arg(),
        csv.display()
    );
    let shown = bench(
        format!("proxy {SHORT}")
            .replace("--repeat 2 ", "")
            .split(' ')
            .chain(line.split(' ')),
    )
    .done()
    .stdout;
    for words in [
        "connect ",
        "direct",
        "proxied",
        "added",
        "at least",
        "at most",
        "blocked",
        "s per 10k requests",
        "saved  ",
    ] {
        assert!(shown.contains(words), "no '{words}' in {shown}");
    }
    assert!(
        shown
            .lines()
            .all(|line| line.chars().count() <= 80 || line.starts_with("saved")),
        "{shown}"
    );
    let ledger = table(&results.folder.path().join("proxy.csv"));
    assert_eq!(ledger.len(), 1 + 5 * 3);
    assert_eq!(table(&csv), ledger);
    fs::remove_file(csv).unwrap();
    let folder = fs::read_dir(results.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    let names: HashSet<String> = crate::common::names(&folder).into_iter().collect();
    for name in [
        "run.json",
        "latency-connect-direct.hgrm",
        "latency-connect-proxied.hgrm",
        "latency-blocked-blocked.hgrm",
        "histograms.jsonl",
    ] {
        assert!(names.contains(name), "{names:?}");
    }
    assert_eq!(names.len(), 5, "{names:?}");
    let record: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("run.json")).unwrap()).unwrap();
    assert_eq!(
        (&record["schema"], &record["kind"]),
        (&1.into(), &"proxy".into())
    );
    assert_eq!(runs(&record).len(), 15);
    let overhead = &record["overhead"][0];
    for percentile in ["p50", "p90", "p99", "p99_9"] {
        let interval = &overhead["added_ns"][percentile]["interval"];
        assert!(
            interval["low"].is_number() && interval["high"].is_number(),
            "{overhead:#}"
        );
    }
    assert!(overhead["rate"]["interval"]["low"].is_number());
    // An existing ledger is continued.
    bench([
        "proxy",
        "--out",
        &results.arg(),
        "--scenario",
        "blocked",
        "--repeat",
        "1",
        "--duration",
        "50ms",
    ])
    .done();
    assert_eq!(
        table(&results.folder.path().join("proxy.csv")).len(),
        1 + 15 + 1
    );
}

#[test]
fn a_running_proxy_and_origin_are_measured_with_their_cpu_time() {
    let mut origin = start(["proxy", "origin", "--quiet", "--listen", "127.0.0.1:0"]);
    let to = origin.listening().to_string();
    let mut serve = start(["proxy", "serve", "--quiet", "--listen", "127.0.0.1:0"]);
    let (via, pid) = (serve.listening().to_string(), serve.id().to_string());
    for protocol in ["json", "socks5", "connect"] {
        let options = format!("--via {via} --origin {to} --server-pid {pid} --protocol {protocol}");
        let record = record(&options);
        let proxied: Vec<_> = runs(&record)
            .iter()
            .filter(|run| run["path"] == "proxied")
            .collect();
        assert!(!proxied.is_empty());
        for run in proxied {
            assert_eq!(run["errors"]["total"], 0, "{run:#}");
            let cpu = |key: &str| run["cpu"][key].as_f64().unwrap();
            assert!(cpu("proxy_user_s") + cpu("proxy_system_s") > 0.0, "{run:#}");
            assert_eq!(run["requested"]["via"], via.as_str());
            assert!(run["engine"].is_null() && run["cpu"]["origin_user_s"].is_null());
        }
    }
    let direct = format!("proxy load --no-save --json - --origin {to} {SHORT}");
    let direct = start(direct.split(' ')).wait(PATIENCE).done();
    let record: Value = serde_json::from_str(&direct.stdout).unwrap();
    let paths = ["connect direct", "request-response direct", "bulk direct"];
    assert_eq!(measured(&record), paths);
}

#[test]
fn invalid_options_are_refused_in_one_sentence() {
    for (options, words) in [
        ("--protocol json --scenario bulk", &["json", "bulk"][..]),
        (
            "--protocol forward --scenario blocked",
            &["forward", "blocked"],
        ),
        ("--via 127.0.0.1:9 --protocol forward", &["--origin"]),
        ("--via 127.0.0.1:9 --scenario blocked", &["--blocked"]),
        ("--via 127.0.0.1:9 --engine mio", &["--engine"]),
        ("--via 127.0.0.1:9 --server-pid 4194304999", &["4194304999"]),
        (
            "--via 127.0.0.1:9 --server-pid 4194305",
            &["4194305", "--server-pid"],
        ),
        ("--connections 0", &["'0'"]),
        ("--message 0", &["'0'"]),
        ("--rate 0", &["'0'"]),
        ("--mb 0", &["'0'"]),
        ("--scenario all", &["all"]),
        // An option without effect on the scenarios names those that it is for.
        (
            "--scenario bulk --connections 4",
            &[
                "--connections",
                "bulk",
                "connect, request-response and blocked",
            ],
        ),
        (
            "--scenario connect,blocked --mb 1",
            &["--mb", "connect and blocked", "scenario bulk"],
        ),
        (
            "--scenario blocked --forwarding copy,splice",
            &["--forwarding", "blocked"],
        ),
        (
            "--scenario bulk --message 9 --connections 32",
            &["--message"],
        ),
        (
            "--via 127.0.0.1:9 --scenario connect --blocked 192.0.2.1:9",
            &["--blocked", "blocked and udp"],
        ),
        (
            "--repeat 1000 --forwarding copy,splice --protocol socks5,connect",
            &["19000", "10000", "--repeat"],
        ),
    ] {
        let line = format!("proxy --no-save {options}");
        let finished = bench(line.split(' '));
        assert_eq!(finished.stdout, "", "{options}");
        finished.failed(2, words);
    }
    bench(["proxy", "load", "--no-save"]).failed(2, &["--origin"]);
    for (options, words) in [
        ("--scenario blocked", ["blocked", "--via"]),
        ("--protocol connect", ["--protocol", "--via"]),
    ] {
        let line = format!("proxy load --no-save --origin 127.0.0.1:9 {options}");
        bench(line.split(' ')).failed(2, &words);
    }
    let fleet =
        "proxy load --fleet --rank 0 --size 2 --origin 127.0.0.1:9 --scenario bulk --rate 9";
    bench(fleet.split(' ')).failed(2, &["--rate", "bulk"]);
    // Errors are JSON too if requested.
    let both = bench("proxy --no-save --json - --csv -".split(' '));
    let object: Value = serde_json::from_str(&both.stdout).unwrap();
    assert_eq!(object["error"]["exit"], 2);
    both.failed(2, &["--json -", "--csv -"]);
}

/// The child processes of a program; `None` if this kernel does not list them.
fn children(program: &Running) -> Option<Vec<u32>> {
    let id = program.id();
    let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    Some(
        text.split_whitespace()
            .map(|id| id.parse().unwrap())
            .collect(),
    )
}

/// Waits until each child has used this much CPU time, in hundredths of a second. `None` if this kernel does not list them.
#[track_caller]
fn at_work(program: &Running, ticks: u64) -> Option<Vec<u32>> {
    let mut there = children(program);
    if there.is_none() {
        println!("skipped: this kernel does not list the children of a process");
    }
    until("an origin and a proxy are at work", || {
        there = children(program);
        there.as_ref().is_none_or(|all| {
            all.len() == 2 && all.iter().all(|process| cpu_ticks(*process) >= ticks)
        })
    });
    there
}

#[test]
fn no_process_outlives_a_killed_command() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args("proxy --no-save --duration 1m --scenario request-response".split(' '));
    let program = Running::new(command);
    let Some(there) = at_work(&program, 0) else {
        return;
    };
    program.signal("KILL");
    let is_there = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // A zombie has ended, and was not waited for yet.
        !stat.is_empty() && !stat.contains(") Z ")
    };
    until("the origin and the proxy end", || {
        !there.iter().any(is_there)
    });
}

#[test]
fn a_signal_ends_it_with_the_runs_so_far() {
    let options = "--duration 20s --repeat 50 --warmup 20ms --scenario connect";
    let mut program = start(format!("proxy --no-save {options}").split(' '));
    // The proxy works only once the direct path has been measured, and for longer than it warms up.
    if at_work(&program, 10).is_none() {
        return;
    }
    program.signal("INT");
    program.line(|line| line.contains("direct"));
    program.wait(PATIENCE).done();
}
