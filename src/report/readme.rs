//! Holds `results/README.md` to the files it explains: no column and no key without a word on it.

use std::path::Path;

use serde_json::{Value, json};

use super::comparison::between::between;
use super::ledger::{self, Row};
use super::record::{Compared, Ratios};
use super::{comparison, intervals, packets, proxy, sample};
use crate::stats::{difference::Difference, ratio::Ratio, spread::Spread};

const README: &str = include_str!("../../results/README.md");

/// The part of the text under the heading `name`.
fn section(name: &str) -> &'static str {
    let start = README.find(&format!("\n## {name}\n"));
    let start = start.unwrap_or_else(|| panic!("there is no section {name}")) + 1;
    let rest = &README[start..];
    let end = rest[3..].find("\n## ").map_or(rest.len(), |at| at + 3);
    &rest[..end]
}

fn assert_explained(section: &str, name: &str) {
    let name_in_first_cell = |line: &str| {
        let mut cells = line.strip_prefix("| ").unwrap_or_default().split(" | ");
        let mut names = cells.next().unwrap_or_default().split(", ");
        names.any(|told| told.trim_matches('`') == name)
    };
    assert!(
        section.lines().any(name_in_first_cell),
        "results/README.md does not explain {name}"
    );
}

/// Each key of `value` as a path from it. What occurs in several places is explained once: a summary
/// by its own table, the counts of a stream by those of the run.
fn keys(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) if map.contains_key("out_of_range") => {}
        Value::Object(map) => {
            for (key, inner) in map {
                let path = format!("{path}{key}");
                found.push(path.clone());
                if path != "streams[].received" && path != "streams[].lost" {
                    keys(inner, &format!("{path}."), found);
                }
            }
        }
        Value::Array(list) => {
            let path = format!("{}[].", path.trim_end_matches('.'));
            if let Some(first) = list.first() {
                keys(first, &path, found);
            }
        }
        _ => {}
    }
}

fn keys_of(value: &impl serde::Serialize) -> Vec<String> {
    let mut found = Vec::new();
    keys(&serde_json::to_value(value).unwrap(), "", &mut found);
    found
}

#[test]
fn each_column_is_explained() {
    <ledger::columns::Row<'_> as Row>::names()
        .for_each(|name| assert_explained(section("udp.csv"), name));
    <proxy::columns::Row<'_> as Row>::names()
        .for_each(|name| assert_explained(section("proxy.csv"), name));
    comparison::columns::names().for_each(|name| assert_explained(section("comparison.csv"), name));
    for name in intervals::COLUMNS {
        assert_explained(section("intervals.csv"), name);
    }
    for name in packets::COLUMNS {
        assert_explained(section("packets.csv"), name);
    }
}

#[test]
fn each_key_of_the_record_is_explained() {
    let json = section("run.json");
    let mut run = sample::measured().run;
    for key in keys_of(&run) {
        let of_interval = key.strip_prefix("intervals[].");
        match of_interval {
            Some(column) => assert_explained(section("intervals.csv"), column),
            None => assert_explained(json, &key),
        }
    }
    for key in keys_of(&sample::record(Vec::new())) {
        assert_explained(json, &key);
    }
    // Serialized by itself, its keys are not passed over.
    let summary = run.latency_ns.take().unwrap();
    let Value::Object(figures) = serde_json::to_value(summary).unwrap() else {
        panic!("a summary is an object");
    };
    for (key, inner) in &figures {
        assert_explained(json, key);
        let inner = inner.as_object().into_iter().flat_map(|inner| inner.keys());
        inner.for_each(|name| assert_explained(json, &format!("{key}.{name}")));
    }
}

#[test]
fn each_key_of_a_comparison_is_explained() {
    let text = section("run.json");
    let explained = |path: &str, value: Value| {
        let Value::Object(figures) = value else {
            panic!("it is an object");
        };
        for key in figures.keys() {
            assert_explained(text, &format!("{path}{key}"));
        }
    };
    explained("comparison[].", json!(Compared::default()));
    explained("comparison[].ratios.", json!(Ratios::default()));
    explained("", json!(Spread::of([1.0])));
    let ratio = Ratio::paired(vec![(1.0, 1.0); 5]).unwrap();
    explained("", json!(ratio));
    explained("interval.", json!(ratio.interval));
}

#[test]
fn each_key_of_what_two_records_say_of_each_other_is_explained() {
    let text = section("bench compare BASE NEW");
    let runs = [proxy::sample::measured(
        "connect", "proxied", None, 0, 1_000,
    )];
    let record = proxy::sample::of(&runs).frame;
    let path = Path::new("run.json");
    let found = between((path, &record), (path, &record)).unwrap();
    for key in keys_of(&found) {
        // What is in a spread, in errors and in what was requested is told elsewhere.
        let of_row = key.strip_prefix("comparison[].");
        if !of_row.is_some_and(|key| key.contains('.')) {
            assert_explained(text, &key);
        }
    }
    for key in keys_of(&proxy::side::Ratios::default()) {
        assert_explained(text, &format!("comparison[].ratios.{key}"));
    }
}

#[test]
fn each_key_of_a_proxy_record_is_explained() {
    let text = section("run.json of bench proxy");
    let run = proxy::Run {
        requested: proxy::Requested::default(),
        ..proxy::Run::default()
    };
    keys_of(&run)
        .iter()
        .for_each(|key| assert_explained(text, key));
    let record = proxy::sample::record();
    let Value::Object(record) = serde_json::to_value(&record).unwrap() else {
        panic!("a record is an object");
    };
    for (key, value) in &record {
        assert_explained(text, key);
        if let (Some(Value::Object(first)), true) = (value.get(0), key != "runs") {
            for name in first.keys() {
                assert_explained(text, &format!("{key}[].{name}"));
            }
        }
    }
    let added = proxy::Added {
        p50: Difference::paired(vec![(1.0, 2.0); 5]),
        ..proxy::Added::default()
    };
    let Value::Object(percentiles) = json!(added) else {
        panic!("it is an object");
    };
    for name in percentiles.keys() {
        assert_explained(text, &format!("overhead[].added_ns.{name}"));
    }
    keys_of(&added.p50).iter().for_each(|key| {
        if !key.contains('.') {
            assert_explained(text, key);
        }
    });
}
