//! Compares `results/README.md` with the code: every column and key is explained.
//!
//! The tables of columns are generated; `UPDATE_README=1 cargo test --lib report::readme` rewrites them.

use std::path::Path;
use std::{env, fs};

use serde_json::{Value, json};

use super::compare::records::{SavedRuns, compare_records};
use super::export::column::{Column, Heading};
use super::export::columns::{
    INTERVAL, LedgerRow, PACKET, PROXY_RANK, RANK, RUN_NUMBER, SEARCH_TRIAL, UDP_SETTING,
};
use super::model::{DoctorReport, proxy, udp as model};
use super::sample;
use crate::stats::{difference::Difference, ratio::Ratio, spread::Spread};
use crate::{doctor, load, udp};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/README.md");
const README: &str = include_str!("../../results/README.md");

/// Each section with a table of columns.
fn tables() -> [(&'static str, Vec<Heading>); 8] {
    fn headings<T>(columns: &[Column<T>]) -> impl Iterator<Item = Heading> {
        columns.iter().map(Column::heading)
    }
    let run = || [RUN_NUMBER.heading()].into_iter();
    [
        (
            "udp.csv",
            LedgerRow::<udp::result::Run>::headings().collect(),
        ),
        ("comparison.csv", headings(UDP_SETTING).collect()),
        ("intervals.csv", run().chain(headings(INTERVAL)).collect()),
        ("search.csv", headings(SEARCH_TRIAL).collect()),
        ("Ranks of a fleet", run().chain(headings(RANK)).collect()),
        ("packets.csv", run().chain(headings(PACKET)).collect()),
        (
            "proxy.csv",
            LedgerRow::<load::result::Run>::headings().collect(),
        ),
        ("Ranks of bench proxy load", headings(PROXY_RANK).collect()),
    ]
}

/// A row for each column; adjacent columns of equal unit and meaning share a row.
fn table(headings: &[Heading]) -> String {
    let mut text = "| column | unit | meaning |\n|---|---|---|\n".to_owned();
    for row in headings.chunk_by(|one, next| (one.unit, one.help) == (next.unit, next.help)) {
        let names: Vec<_> = row.iter().map(|of| format!("`{}`", of.name)).collect();
        let Heading { unit, help, .. } = row[0];
        text += &format!("| {} | {unit} | {help} |\n", names.join(", "));
    }
    text
}

#[test]
fn tables_of_columns_equal_the_code() {
    let mut readme = README.to_owned();
    for (name, headings) in tables() {
        let start = README.find(section(name)).unwrap();
        let start = start + section(name).find("| column |").unwrap();
        let length = README[start..].find("\n\n").unwrap() + 1;
        readme = readme.replace(&README[start..start + length], &table(&headings));
    }
    if env::var_os("UPDATE_README").is_some() {
        fs::write(PATH, readme).unwrap();
        return;
    }
    for (name, headings) in tables() {
        let expected = table(&headings);
        assert!(
            section(name).contains(&expected),
            "results/README.md, {name}: not the columns of the code; run `UPDATE_README=1 cargo test --lib report::readme`\n{expected}"
        );
    }
}

/// The section `name`.
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
        names.any(|of| of.trim_matches('`') == name)
    };
    assert!(
        section.lines().any(name_in_first_cell),
        "results/README.md does not explain {name}"
    );
}

/// Each key of `value` as a path. Repeated objects are explained once: a summary by its own table, the counts of a stream by those
/// of the run.
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
fn each_key_of_the_record_is_explained() {
    let json = section("run.json");
    let mut run = sample::udp::measured().run;
    let round_trips = keys_of(&sample::udp::round_trips());
    for key in keys_of(&run).into_iter().chain(round_trips) {
        let of_interval = key.strip_prefix("intervals[].");
        match of_interval {
            Some(column) => assert_explained(section("intervals.csv"), column),
            None => assert_explained(json, &key),
        }
    }
    for key in keys_of(&sample::udp::record(Vec::new())) {
        assert_explained(json, &key);
    }
    // `keys` skips summaries, so the summary is serialized alone.
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
fn each_key_of_a_search_is_explained() {
    let text = section("run.json of bench udp search");
    for key in keys_of(&sample::search::record()) {
        let elsewhere = ["host.", "requested.", "effective."];
        match key.strip_prefix("trials[].") {
            Some(column) if SEARCH_TRIAL.iter().any(|of| of.name == column) => {
                assert_explained(section("search.csv"), column);
            }
            _ if elsewhere.iter().any(|of| key.starts_with(of)) => {}
            _ => assert_explained(text, &key),
        }
    }
}

#[test]
fn each_key_of_the_doctor_is_explained() {
    let text = section("bench doctor --json");
    let checks = doctor::checks(4 << 20);
    let report = DoctorReport {
        meta: sample::udp::record(Vec::new()).meta,
        comparing: doctor::fitness::fitness(&checks),
        checks,
    };
    for key in keys_of(&report) {
        if !key.starts_with("host.") {
            assert_explained(text, &key);
        }
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
    explained("comparison[].", json!(model::ComparedSetting::default()));
    explained("comparison[].ratios.", json!(model::Ratios::default()));
    explained("", json!(Spread::of([1.0])));
    let ratio = Ratio::paired(vec![(1.0, 1.0); 5]).unwrap();
    explained("", json!(ratio));
    explained("interval.", json!(ratio.interval));
}

#[test]
fn each_key_of_a_record_comparison_is_explained() {
    let text = section("bench compare BASE NEW");
    let run = sample::proxy::measured("connect", "proxied", None, 0, 1_000);
    let record = sample::proxy::of(&[run]);
    let saved = SavedRuns::new(Path::new("run.json"), &record.meta, &record.runs);
    let found = compare_records(&saved, &saved).unwrap();
    for key in keys_of(&found) {
        // The keys of spreads, errors and requests are explained elsewhere.
        let of_row = key.strip_prefix("comparison[].");
        if !of_row.is_some_and(|key| key.contains('.')) {
            assert_explained(text, &key);
        }
    }
    for key in keys_of(&proxy::Ratios::default()) {
        assert_explained(text, &format!("comparison[].ratios.{key}"));
    }
}

#[test]
fn each_key_of_a_proxy_record_is_explained() {
    let text = section("run.json of bench proxy");
    let run = load::result::Run::default();
    keys_of(&run)
        .iter()
        .for_each(|key| assert_explained(text, key));
    let merged = sample::proxy::merged(2).run.fleet.unwrap();
    for key in keys_of(&json!({ "fleet": merged })) {
        // The keys of errors are explained elsewhere.
        if !key.starts_with("fleet.ranks[].errors.") {
            assert_explained(text, &key);
        }
    }
    let record = sample::proxy::record();
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
