//! The merge of many results.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use wirebench::report::export::json;
use wirebench::report::model::{Curves, Meta, UdpRecord};
use wirebench::report::store::histograms::RunHistograms;
use wirebench::stats::latency::Latency;
use wirebench::udp::merge::{Merge, RankResult, SavedHistogram};
use wirebench::udp::result::{Interval, Pacing, Requested, Run};

use crate::{Random, peak_mb};

/// 2026-11-22, in ns since the epoch.
const START_NS: u64 = 1_795_356_300_000_000_000;

/// Datagrams of a rank.
const PACKETS: u64 = 60_000;

/// A result of a minute at 1,000 datagrams a second, with a latency of about 100 us, log-normal.
fn result(rank: u64) -> (Run, Latency) {
    let mut random = Random::new(rank + 1);
    let mut latency = Latency::small();
    for _ in 0..PACKETS {
        latency.record((100_000.0 * (0.5 * random.normal()).exp()) as u64);
    }
    let mut run = Run {
        engine: "mio".into(),
        mode: "paced".into(),
        direction: "forward".into(),
        complete: true,
        ended: "complete".into(),
        requested: Requested {
            chunk: 1_000,
            pps: Some(1_000.0),
            duration_s: Some(60.0),
            streams: 1,
            ..Requested::default()
        },
        // Ranks start within a ms.
        first_sent_at: Some(wirebench::dates::rfc3339(
            START_NS + (random.unit() * 1e6) as u64,
        )),
        seconds: Some(60.0),
        latency_ns: Some(latency.summary()),
        latency_from_intended_ns: Some(latency.summary()),
        pacing: Some(Pacing::default()),
        ..Run::default()
    };
    run.effective.clock.source = "same".into();
    run.sent.packets = PACKETS;
    run.sent.bytes = PACKETS * 1_000;
    run.received.packets = PACKETS;
    run.received.unique = PACKETS;
    run.received.bytes = PACKETS * 1_000;
    run.kb_per_s = Some(1_000.0);
    run.intervals = (0..60u32)
        .map(|second| Interval {
            start_s: f64::from(second),
            seconds: 1.0,
            packets: PACKETS / 60,
            bytes: PACKETS / 60 * 1_000,
            kb_per_s: 1_000.0,
            latency_p50_ns: Some(100_000),
            latency_p99_ns: Some(320_000),
            latency_max_ns: Some(700_000),
            ..Interval::default()
        })
        .collect();
    (run, latency)
}

/// The text of a result as a rank sends it.
fn text(rank: u64) -> String {
    let (run, latency) = result(rank);
    let saved = SavedHistogram::from(&latency);
    serde_json::to_string(&(run, &saved, &saved)).unwrap()
}

pub(crate) fn write(folder: &Path, ranks: u64) {
    for rank in 0..ranks {
        let folder = folder.join(format!("host-{rank:05}"));
        fs::create_dir_all(&folder).unwrap();
        let (run, latency) = result(rank);
        let record = UdpRecord {
            meta: Meta::here("udp", START_NS, Vec::new()),
            runs: vec![run],
            comparison: Vec::new(),
            curves: Curves::default(),
        };
        let mut bytes = Vec::new();
        json::write(&record, &mut bytes).unwrap();
        fs::write(folder.join("run.json"), bytes).unwrap();
        let saved = SavedHistogram::from(&latency);
        let line = RunHistograms {
            run: 0,
            latency: saved.clone(),
            intended: saved,
            more: BTreeMap::new(),
        };
        fs::write(
            folder.join("histograms.jsonl"),
            serde_json::to_vec(&line).unwrap(),
        )
        .unwrap();
    }
}

/// Adds a result of a rank, with the time that it takes.
fn add(merge: &mut Merge, rank: u64, text: &str, took: &mut f64) {
    let began = Instant::now();
    let (run, latency, intended): (Run, SavedHistogram, SavedHistogram) =
        serde_json::from_str(text).unwrap();
    let result = RankResult {
        rank: Some(rank),
        name: &format!("rank {rank}"),
        host: &format!("host {}", rank / 32),
        run: &run,
        latency: &latency,
        intended: &intended,
        more: &BTreeMap::new(),
        start_ns: Some(rank * 97 % 1_000_000),
        phase_ns: 0,
    };
    merge.add(result).unwrap();
    *took += began.elapsed().as_secs_f64();
}

pub(crate) fn merge(ranks: u64) {
    let texts: Vec<String> = (0..ranks.min(64)).map(text).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    let text = |rank: u64| &texts[(rank % texts.len() as u64) as usize];
    let before = peak_mb();

    let (mut took, mut merge) = (0.0, Merge::new(0));
    for rank in 0..ranks {
        add(&mut merge, rank, text(rank), &mut took);
    }
    let began = Instant::now();
    let merged = merge.finish(ranks, Vec::new());
    took += began.elapsed().as_secs_f64();
    assert_eq!(merged.run.sent.packets, ranks * PACKETS);
    assert_eq!(merged.latency.count(), ranks * PACKETS);
    println!(
        "one after the other: {ranks} results of {} KB: {took:.2} s, {:.0} MB more memory",
        bytes / texts.len() / 1_000,
        peak_mb() - before
    );

    // Of a tree, each node adds the histograms of its children, at one time with the other nodes of its level.
    let width = (ranks as f64).sqrt().ceil() as u64;
    let (mut leaves, mut deepest) = (Vec::new(), 0.0f64);
    for node in 0..width {
        let mut latency = Latency::new();
        let began = Instant::now();
        for rank in (node * width..ranks).take(width as usize) {
            let (_, saved, intended): (Run, SavedHistogram, SavedHistogram) =
                serde_json::from_str(text(rank)).unwrap();
            saved.add_to(&mut latency);
            intended.add_to(&mut Latency::new());
        }
        deepest = deepest.max(began.elapsed().as_secs_f64());
        leaves.push(serde_json::to_string(&SavedHistogram::from(&latency)).unwrap());
    }
    let began = Instant::now();
    let mut root = Latency::new();
    for leaf in &leaves {
        let saved: SavedHistogram = serde_json::from_str(leaf).unwrap();
        saved.add_to(&mut root);
    }
    assert_eq!(root.count(), ranks * PACKETS);
    println!(
        "a tree of two levels, {width} nodes: {:.3} s at the slowest node and {:.3} s at the root, which gets {} KB of each",
        deepest,
        began.elapsed().as_secs_f64(),
        leaves.iter().map(String::len).max().unwrap_or(0) / 1_000
    );
}
