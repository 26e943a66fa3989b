use super::*;
use crate::report::record::Record;
use crate::report::sample;
use crate::stats::ratio::Verdict;
use between::{BetweenError, between};
use proptest::prelude::*;
use std::path::Path;

/// A run of the setting `batch`, with its round's drift in it.
fn run(batch: usize, kb_per_s: f64) -> Run {
    let mut run = sample::measured().run;
    run.mode = "lossless".into();
    run.requested.batch = Some(batch);
    run.setting = Some(format!("batch {batch}"));
    run.kb_per_s = Some(kb_per_s);
    run
}

/// Rounds of batch 1 and of batch 16, which is twice as fast whatever the drift.
pub(in crate::report) fn rounds(count: usize) -> Vec<Run> {
    (0..count)
        .flat_map(|round| {
            let drift = 1_000.0 - 100.0 * round as f64;
            [run(1, drift), run(16, 2.0 * drift)]
        })
        .collect()
}

/// The same with their latencies.
pub(in crate::report) fn compared(runs: &[Run]) -> Vec<Compared> {
    let mut latencies = Latencies::default();
    for run in runs {
        latencies.add(&Measured {
            run: run.clone(),
            ..sample::measured()
        });
    }
    within(runs, &latencies)
}

#[test]
fn settings_that_took_turns_are_compared_round_by_round() {
    let rows = compared(&rounds(6));
    let names: Vec<_> = rows.iter().map(|row| row.setting.as_str()).collect();
    assert_eq!(names, ["batch 1", "batch 16"]);
    let [base, new] = &rows[..] else { panic!() };
    assert_eq!((base.base.as_ref(), base.ratios), (None, None));
    assert_eq!(new.base.as_deref(), Some("batch 1"));
    let spread = base.kb_per_s.unwrap();
    assert_eq!(
        (spread.min, spread.median, spread.max),
        (500.0, 750.0, 1_000.0)
    );
    let ratio = new.ratios.unwrap().kb_per_s.unwrap();
    let interval = ratio.interval.unwrap();
    // Drift alone would have spread it from 1 to 4.
    assert_eq!((ratio.ratio, interval.low, interval.high), (2.0, 2.0, 2.0));
    let equal = new.ratios.unwrap().cpu_s_per_million.unwrap();
    assert_eq!(equal.verdict, Verdict::NoDifferenceShown);
    assert!((new.cpu_s_per_million.unwrap().median - 0.20).abs() < 1e-9);
}

#[test]
fn a_run_cut_short_takes_its_round_with_it_and_counts_nowhere() {
    let mut runs = rounds(6);
    runs[2].complete = false;
    runs[2].kb_per_s = Some(1.0);
    let rows = compared(&runs);
    assert_eq!((rows[0].runs, rows[0].incomplete), (5, 1));
    assert_eq!((rows[1].runs, rows[1].incomplete), (6, 0));
    assert_eq!(rows[0].kb_per_s.unwrap().min, 500.0);
    let interval = rows[1].ratios.unwrap().kb_per_s.unwrap().interval.unwrap();
    assert_eq!((interval.low, interval.high), (2.0, 2.0));
    assert_eq!(rows[0].sent_packets, 5 * runs[0].sent.packets);
    runs[0].complete = false;
    let ratio = compared(&runs)[1].ratios.unwrap().kb_per_s.unwrap();
    assert_eq!(ratio.verdict, Verdict::TooFewRuns);
}

#[test]
fn a_run_of_which_nothing_arrived_is_not_passed_over() {
    let mut runs = rounds(6);
    runs[3].kb_per_s = None;
    let ratios = compared(&runs)[1].ratios.unwrap();
    assert_eq!(ratios.kb_per_s, None);
    assert!(ratios.cpu_s_per_million.is_some());
}

#[test]
fn percentiles_are_those_of_all_datagrams_together() {
    let runs = rounds(1);
    let mut latencies = Latencies::default();
    for slow in [1, 1_000_000] {
        let mut latency = Latency::new();
        (0..100).for_each(|_| latency.record(slow));
        latencies.add(&Measured {
            run: runs[0].clone(),
            latency,
            latency_from_intended: Latency::new(),
            closing_row: None,
        });
    }
    let row = &within(&runs, &latencies)[0];
    assert_eq!(row.latency_p50_ns, Some(1));
    assert!(row.latency_p99_ns.unwrap() >= 1_000_000);
}

#[test]
fn paced_settings_are_compared_by_the_latency_from_the_intended_send() {
    let mut paced = rounds(1);
    for run in &mut paced {
        run.mode = "paced".into();
    }
    let row = &compared(&paced)[0];
    let intended = paced[0].latency_from_intended_ns.unwrap();
    assert_eq!(row.latency_p99_ns, intended.p99);
    assert_eq!(figures(&groups(&paced)[0]).latency_p99_ns, intended.p99);
}

#[test]
fn the_table_has_a_row_a_setting_and_a_cell_a_column() {
    let mut text = Vec::new();
    write(&compared(&rounds(5)), &mut text).unwrap();
    let mut table = csv::Reader::from_reader(&text[..]);
    let names = table.headers().unwrap().clone();
    let rows: Vec<_> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 2);
    let cell = |row: usize, name: &str| {
        let at = names.iter().position(|told| told == name).unwrap();
        rows[row][at].to_owned()
    };
    assert_eq!(cell(1, "setting"), "batch 16");
    assert_eq!(cell(1, "batch"), "16");
    assert_eq!(
        (cell(1, "ratio"), cell(1, "ratio_low")),
        ("2".into(), "2".into())
    );
    assert_eq!(cell(1, "verdict"), "higher");
    assert_eq!(cell(1, "cpu_verdict"), "no_difference_shown");
    assert_eq!(
        (cell(0, "ratio"), cell(0, "base")),
        (String::new(), String::new())
    );
    assert!(cell(1, "lost_percent").starts_with("0.00999"));
    for (name, filled) in names.iter().zip(&rows[1]) {
        assert!(!filled.is_empty(), "{name}");
    }
}

fn record(runs: Vec<Run>) -> Record {
    sample::record(runs)
}

fn told(base: &Record, new: &Record) -> Result<between::Between<Compared>, BetweenError> {
    between((Path::new("base"), base), (Path::new("new"), new))
}

#[test]
fn two_records_are_matched_by_their_settings() {
    let both = record(rounds(5));
    let mut other = record(
        rounds(5)
            .into_iter()
            .map(|mut run| {
                run.requested.bytes = Some(5);
                run.kb_per_s = run.kb_per_s.map(|rate| rate / 10.0);
                run
            })
            .collect(),
    );
    other.runs.push(run(64, 1.0));
    let found = told(&both, &other).unwrap();
    let names: Vec<_> = found
        .comparison
        .iter()
        .map(|row| row.setting.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "batch 1, base",
            "batch 1, new",
            "batch 16, base",
            "batch 16, new"
        ]
    );
    assert_eq!(
        (found.only_in_base, found.only_in_new),
        (vec![], vec!["batch 64".to_owned()])
    );
    let ratio = found.comparison[3].ratios.unwrap().kb_per_s.unwrap();
    assert!((ratio.ratio - 0.1).abs() < 1e-9);
    // Apart, the drift is in the interval.
    let interval = ratio.interval.unwrap();
    assert!(interval.low < 0.08 && interval.high > 0.12, "{interval:?}");
    assert!(found.notes.iter().any(|note| note.contains("equally much")));
    assert!(!found.notes.iter().any(|note| note.contains("hosts differ")));
}

#[test]
fn hosts_that_differ_are_told() {
    let base = record(rounds(1));
    let mut new = base.clone();
    new.host.kernel = "7.0.0".into();
    let notes = told(&base, &new).unwrap().notes;
    assert!(notes.contains(&"the hosts differ in their kernel: '6.18.0' and '7.0.0'".to_owned()));
}

#[test]
fn records_without_a_common_setting_or_any_run_are_refused() {
    let of = |batch| record(vec![run(batch, 1.0)]);
    let error = told(&of(1), &of(2)).unwrap_err().to_string();
    assert!(
        error.starts_with("nothing can be compared: base has batch 1, new has batch 2;"),
        "{error}"
    );
    let none = record(Vec::new());
    assert_eq!(
        told(&of(1), &none).unwrap_err(),
        BetweenError::NoRuns("new".into())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_run_is_in_one_group_and_no_group_is_mixed(batches in prop::collection::vec(1usize..4, 0..20)) {
        let runs: Vec<Run> = batches.iter().map(|&batch| run(batch, 1.0)).collect();
        let groups = groups(&runs);
        prop_assert_eq!(groups.iter().map(|group| group.runs.len()).sum::<usize>(), runs.len());
        let mut seen = Vec::new();
        for group in &groups {
            let of: Vec<_> = group.runs.iter().map(|run| run.requested.batch).collect();
            prop_assert!(of.iter().all(|batch| *batch == of[0]));
            prop_assert!(!seen.contains(&of[0]));
            seen.push(of[0]);
        }
        let first: Vec<_> = batches.first().copied().map(Some).into_iter().collect();
        prop_assert!(seen.starts_with(&first));
    }
}
