//! `bench merge`: saved runs of several hosts as one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::fleet::assert_sums;
use crate::common::{Results, bench, number, table};
use serde_json::Value;

/// The exact percentile of a sorted list.
fn exact(sorted: &[u64], percent: f64) -> u64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.max(1) - 1]
}

#[test]
fn saved_runs_of_hosts_merge_to_the_run_of_all_packets() {
    let results = Results::new();
    let mut all = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for pps in ["2k", "3k", "5k"] {
        let host = Results::new();
        let out = host.arg();
        let options = format!("udp --duration 400ms --pps {pps} --packets-csv --quiet --out {out}");
        bench(options.split(' ')).done();
        let rows = table(&host.only().join("packets.csv"));
        let column = rows[0]
            .iter()
            .position(|name| name == "latency_ns")
            .unwrap();
        all.extend(
            rows[1..]
                .iter()
                .map(|row| row[column].parse::<u64>().unwrap()),
        );
        let folder = results.folder.path().join(pps);
        fs::rename(host.only(), &folder).unwrap();
        folders.push(folder);
    }
    all.sort_unstable();
    let json = results.folder.path().join("merged.json");
    let csv = results.folder.path().join("ranks.csv");
    let merge = |paths: &[&Path]| {
        let options = [
            "--json",
            json.to_str().unwrap(),
            "--csv",
            csv.to_str().unwrap(),
        ];
        let paths = paths.iter().map(|path| path.to_str().unwrap());
        bench(["merge"].into_iter().chain(paths).chain(options))
    };
    // The folder stands for the run folders in it.
    let finished = merge(&[results.folder.path()]).done();
    assert!(
        finished.stdout.contains("3 of 3 with a result"),
        "{}",
        finished.stdout
    );
    assert!(
        finished.stdout.contains("lateness p50"),
        "{}",
        finished.stdout
    );
    assert!(!finished.stdout.contains("p50 -"), "{}", finished.stdout);
    let record: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let run = &record["runs"][0];
    assert_eq!(
        number(run, "pacing.lateness_ns.count"),
        number(run, "sent.packets")
    );
    let streams = run["streams"].as_array().unwrap();
    assert_eq!(
        (streams.len(), streams[2]["rank"].as_str()),
        (3, Some("5k"))
    );
    assert_sums(run);
    assert_eq!(number(run, "latency_ns.count"), all.len() as u64);
    assert_eq!(number(run, "latency_ns.max"), *all.last().unwrap());
    assert_eq!(number(run, "latency_ns.min"), all[0]);
    for (key, percent) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9)] {
        let (merged, exact) = (
            number(run, &format!("latency_ns.{key}")),
            exact(&all, percent),
        );
        // The end of the exact value's bucket, which has three digits.
        assert!(
            merged >= exact && merged <= exact + exact / 1_000 + 1,
            "{key}: {merged}, {exact}"
        );
    }
    assert_eq!(table(&csv).len(), 5);

    // A merged record beside the records of its ranks.
    let merged = results.folder.path().join("whole");
    fs::create_dir(&merged).unwrap();
    fs::copy(&json, merged.join("run.json")).unwrap();
    let words = ["whole is merged already", "leave it out"];
    merge(&[results.folder.path()]).failed(3, &words);
    fs::remove_dir_all(&merged).unwrap();
    let twice = merge(&[&folders[0], &folders[0]]);
    twice.failed(3, &["is given twice"]);
    let copy = Results::new();
    let copy = copy.folder.path();
    for entry in fs::read_dir(&folders[0]).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, copy.join(file.file_name().unwrap())).unwrap();
    }
    merge(&[&folders[0], copy]).failed(3, &["is a copy of", "give each saved run once"]);
    // A value in another bucket.
    let line = fs::read_to_string(copy.join("histograms.jsonl")).unwrap();
    let mut line: Value = serde_json::from_str(&line).unwrap();
    let counts = line["latency"]["counts"].as_array_mut().unwrap();
    for (bucket, change) in [(1, -1), (3, 1)] {
        let count = &mut counts[bucket][1];
        *count = (count.as_i64().unwrap() + change).into();
    }
    fs::write(copy.join("histograms.jsonl"), line.to_string()).unwrap();
    merge(&[copy]).failed(3, &["has a histogram that contradicts its record"]);
    let other = Results::new();
    bench(["udp", "--packets", "9", "--quiet", "--out", &other.arg()]).done();
    merge(&[&folders[0], &other.only()]).failed(3, &["has other settings than 2k"]);
    fs::remove_file(folders[1].join("histograms.jsonl")).unwrap();
    merge(&[&folders[0], &folders[1]]).failed(3, &["has no histograms.jsonl"]);
    let text = fs::read_to_string(folders[2].join("run.json")).unwrap();
    fs::write(
        folders[2].join("run.json"),
        text.replacen("\"schema\": 1", "\"schema\": 9", 1),
    )
    .unwrap();
    merge(&[&folders[0], &folders[2]]).failed(3, &["has schema 9"]);
    merge(&[&results.folder.path().join("none")]).failed(3, &["cannot read"]);
    let mut record: Value = serde_json::from_str(&text).unwrap();
    record["runs"] = Value::Array(Vec::new());
    fs::write(copy.join("run.json"), record.to_string()).unwrap();
    merge(&[copy]).failed(3, &["has no runs"]);
}
