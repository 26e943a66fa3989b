//! `bench compare`: two records of `bench udp` or `bench proxy`.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use crate::common::{Finished, Results, bench};
use serde_json::{Value, json};

/// The text on one line.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Records to compare, made from a real record of `bench udp` or `bench proxy`.
struct Saved {
    results: Results,
    record: Value,
}

impl Saved {
    fn new() -> Self {
        let results = Results::new();
        let out = results.arg();
        let options = "--packets 500 --gso off --batch 16,64 --repeat 5 --warmup 0 --quiet";
        let fixed = ["udp", "--out", &out];
        bench(fixed.into_iter().chain(options.split(' '))).done();
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

    /// Writes the changed record as `name` and returns its path.
    fn put(&self, name: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut record = self.record.clone();
        change(&mut record);
        let path: PathBuf = self.results.folder.path().join(name);
        fs::write(&path, record.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Two proxy protocols, and figures that differ slightly between rounds. Measured once.
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
fn slowdown_beyond_the_threshold_fails() {
    let saved = Saved::new();
    let base = saved.put("base.json", |_| ());
    let new = saved.put("new.json", |record| slow_down(record, "batch 64", 0.9));
    let text = compare(&base, &new, "").done().stdout;
    let text = flat(&text);
    for part in [
        "KB/s no difference shown: batch 16, new is 1.000 times batch 16, base",
        "batch 64, new is 0.900 times batch 64, base (95 % interval 0.89",
        "did not take turns",
        &base,
    ] {
        assert!(text.contains(part), "no {part}:\n{text}");
    }
    assert!(!text.contains("hosts differ"), "{text}");
    compare(&base, &new, "--threshold 15%").done();
    let sentence = [
        "batch 64, new is slower than batch 64, base",
        "in KB/s",
        "5 %",
    ];
    let finished = compare(&base, &new, "--threshold 5%").failed(1, &sentence);
    assert!(!finished.stderr.contains("batch 16"), "{}", finished.stderr);
    assert!(finished.stdout.contains("0.900"), "the table is shown");
    // In the other order the setting is faster, and a record is not slower than itself.
    compare(&new, &base, "--threshold 0%").done();
    compare(&base, &base, "--threshold 0%").done();
    // A folder is accepted like a file.
    let folder = saved.results.folder.path().join("new");
    fs::create_dir(&folder).unwrap();
    fs::rename(&new, folder.join("run.json")).unwrap();
    compare(&base, folder.to_str().unwrap(), "--threshold 5%").failed(1, &sentence);
}

#[test]
fn unmatched_settings_and_different_hosts_are_listed() {
    let saved = Saved::new();
    let base = saved.put("base.json", |_| ());
    let new = saved.put("new.json", |record| {
        let runs = record["runs"].as_array_mut().unwrap();
        runs.retain(|run| run["setting"] == "batch 64");
        record["host"]["kernel"] = json!("9.9.9");
    });
    let text = compare(&base, &new, "").done().stdout;
    assert!(
        text.contains("only in base, not compared: batch 16\n"),
        "{text}"
    );
    assert!(text.contains("'9.9.9'"), "{text}");
    let record: Value =
        serde_json::from_str(&compare(&base, &new, "--json -").done().stdout).unwrap();
    assert_eq!(record["only_in_base"], json!(["batch 16"]));
    assert_eq!(record["comparison"][1]["ratios"]["kb_per_s"]["ratio"], 1.0);
}

#[test]
fn too_few_runs_are_undecided() {
    let saved = Saved::new();
    let base = saved.put("base.json", |_| ());
    let new = saved.put("new.json", |record| {
        slow_down(record, "batch 64", 0.1);
        for run in &mut record["runs"].as_array_mut().unwrap()[..4] {
            run["complete"] = json!(false);
        }
    });
    let text = compare(&base, &new, "").done().stdout;
    assert!(text.contains("too few runs for an interval"), "{text}");
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
        ("list.json", |of| *of = json!([]), "is not a saved run"),
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
fn records_with_extreme_figures_are_compared() {
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
    let text = compare(&base, &odd, "").done().stdout;
    assert!(!text.contains('\u{1b}') && !text.contains("NaN"), "{text}");
    compare(&odd, &base, "--json -").done();
    compare(&odd, &base, "--threshold 5%").failed(3, &["too few runs"]);
}

/// The proxied runs of a scenario with this protocol.
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
fn proxy_records_are_compared_path_by_path() {
    let saved = Saved::proxy();
    let base = saved.put("base.json", |_| ());
    let text = compare(&base, &base, "--threshold 0%").done().stdout;
    for path in [
        "connect direct",
        "connect proxied, socks5",
        "connect proxied, connect",
        "bulk direct",
        "bulk proxied, socks5",
        "bulk proxied, connect",
    ] {
        assert!(text.lines().any(|line| line == path), "no {path}:\n{text}");
    }
    assert!(
        flat(&text).contains("requests/s 1,002 1,002 1.000 (0.997-1.003) no difference shown"),
        "{text}"
    );
    assert_eq!(text.matches("CPU s per").count(), 4, "{text}");

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
    assert!(finished.stdout.contains("0.900"), "the table is shown");
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
fn slow_direct_path_is_noted_and_new_errors_fail() {
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
    let text = compare(&base, &machine, "--threshold 5%").done().stdout;
    assert!(
        flat(&text)
            .contains("connect direct has no proxy in it and differs, requests/s 0.500 times"),
        "{text}"
    );

    // A regression may then be caused by the machine.
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
    // Without a threshold there is no gate.
    compare(&base, &failing, "").done();
    compare(&failing, &base, "--threshold 0%").done();
}

#[test]
fn proxy_records_with_few_common_settings_are_compared() {
    let saved = Saved::proxy();
    let base = saved.put("base.json", |_| ());
    let one = saved.put("one.json", |record| {
        record["runs"]
            .as_array_mut()
            .unwrap()
            .retain(|run| run["protocol"] != "connect");
    });
    let text = compare(&base, &one, "").done().stdout;
    let lacking = "only in base, not compared: connect proxied, connect; bulk proxied, connect";
    assert!(flat(&text).contains(lacking), "{text}");
    let text = compare(&one, &base, "--json -").done().stdout;
    let text: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(text["kind"], "proxy");
    assert_eq!(
        text["only_in_new"],
        json!(["connect proxied, connect", "bulk proxied, connect"])
    );
    let rows = text["comparison"].as_array().unwrap();
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
    let text = compare(&base, &few, "").done().stdout;
    assert!(text.contains("too few runs for an interval"), "{text}");
    compare(&base, &few, "--threshold 5%").failed(3, &["too few runs", "--repeat 5 or more"]);
    let udp = Saved::new();
    let udp = udp.put("udp.json", |_| ());
    for (one, other) in [(&base, &udp), (&udp, &base)] {
        let finished =
            compare(one, other, "--threshold 5%").failed(3, &["'udp'", "'proxy'", one, other]);
        assert_eq!(finished.stdout, "");
    }
}
