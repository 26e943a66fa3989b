use super::*;
use crate::report::compare::records::{CompareError, RecordComparison, SavedRuns, compare_records};
use crate::report::model::UdpRecord;
use crate::report::sample::udp as sample;
use crate::stats::ratio::Verdict;
use proptest::prelude::*;
use std::path::Path;

/// A run of the setting `batch`.
fn run(batch: usize, kb_per_s: f64) -> Run {
    let mut run = sample::measured().run;
    run.mode = "lossless".into();
    run.requested.batch = Some(batch);
    run.setting = Some(format!("batch {batch}"));
    run.kb_per_s = Some(kb_per_s);
    run
}

/// Drifting rounds of batch 1 and of batch 16, which is twice as fast.
pub(in crate::report) fn rounds(count: usize) -> Vec<Run> {
    (0..count)
        .flat_map(|round| {
            let drift = 1_000.0 - 100.0 * round as f64;
            [run(1, drift), run(16, 2.0 * drift)]
        })
        .collect()
}

/// The comparison of `runs` and their latencies.
pub(in crate::report) fn compared(runs: &[Run]) -> Vec<ComparedSetting> {
    let mut latencies = Latencies::default();
    for run in runs {
        latencies.add(&Measured {
            run: run.clone(),
            ..sample::measured()
        });
    }
    within_command(runs, &latencies)
}

#[test]
fn settings_of_one_command_are_compared_by_rounds() {
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
    // Unpaired, the drift would spread the ratio from 1 to 4.
    assert_eq!((ratio.ratio, interval.low, interval.high), (2.0, 2.0, 2.0));
    let equal = new.ratios.unwrap().cpu_s_per_million.unwrap();
    assert_eq!(equal.verdict, Verdict::NoDifferenceShown);
    assert!((new.cpu_s_per_million.unwrap().median - 0.20).abs() < 1e-9);
}

#[test]
fn incomplete_run_removes_its_round() {
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
fn stamped_runs_are_a_caveat() {
    let stamped = rounds(1);
    let plain: Vec<Run> = stamped
        .iter()
        .map(|run| Run {
            stages: None,
            ..run.clone()
        })
        .collect();
    assert_eq!(Run::caveats(&plain, &plain), [""; 0]);
    let some = Run::caveats(&plain, &stamped);
    assert!(
        some[0].contains("CPU time") && some[0].ends_with("have none"),
        "{some:?}"
    );
    let mut without_gso = stamped.clone();
    without_gso[0].effective.offload_note = Some(NO_OFFLOAD.to_owned());
    let all = Run::caveats(&stamped, &without_gso);
    assert!(all[0].ends_with("(--gso on keeps them)"), "{all:?}");
}

#[test]
fn run_without_a_figure_removes_the_ratio() {
    let mut runs = rounds(6);
    runs[3].kb_per_s = None;
    let ratios = compared(&runs)[1].ratios.unwrap();
    assert_eq!(ratios.kb_per_s, None);
    assert!(ratios.cpu_s_per_million.is_some());
}

#[test]
fn percentiles_are_over_all_datagrams() {
    let runs = rounds(1);
    let mut latencies = Latencies::default();
    for slow in [1, 1_000_000] {
        let mut latency = Latency::new();
        (0..100).for_each(|_| latency.record(slow));
        latencies.add(&Measured {
            run: runs[0].clone(),
            latency,
            latency_from_intended: Latency::new(),
            start_ns: None,
            closing_row: None,
            stages: Vec::new(),
            schedule: Vec::new(),
        });
    }
    let row = &within_command(&runs, &latencies)[0];
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
    let groups = group_by(&paced, Run::settings);
    let figures = Run::figures(String::new(), &groups[0].1);
    assert_eq!(figures.latency_p99_ns, intended.p99);
}

fn compare(
    base: &UdpRecord,
    new: &UdpRecord,
) -> Result<RecordComparison<ComparedSetting>, CompareError> {
    fn saved<'a>(path: &'a str, record: &'a UdpRecord) -> SavedRuns<'a, Run> {
        SavedRuns::new(Path::new(path), &record.meta, &record.runs)
    }
    compare_records(&saved("base", base), &saved("new", new))
}

#[test]
fn records_are_matched_by_their_settings() {
    let both = sample::record(rounds(5));
    let mut other = sample::record(
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
    let found = compare(&both, &other).unwrap();
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
    // Unpaired, the interval includes the drift.
    let interval = ratio.interval.unwrap();
    assert!(interval.low < 0.08 && interval.high > 0.12, "{interval:?}");
    assert!(found.notes.iter().any(|note| note.contains("same amount")));
    assert!(!found.notes.iter().any(|note| note.contains("hosts differ")));
}

#[test]
fn different_hosts_are_noted() {
    let base = sample::record(rounds(1));
    let mut new = base.clone();
    new.meta.host.kernel = "7.0.0".into();
    let notes = compare(&base, &new).unwrap().notes;
    assert!(notes.contains(&"the hosts differ in their kernel: '6.18.0' and '7.0.0'".to_owned()));
}

#[test]
fn records_without_runs_or_common_settings_are_errors() {
    let of = |batch| sample::record(vec![run(batch, 1.0)]);
    let error = compare(&of(1), &of(2)).unwrap_err().to_string();
    assert!(
        error.starts_with("nothing can be compared: base has batch 1, new has batch 2;"),
        "{error}"
    );
    let none = sample::record(Vec::new());
    assert_eq!(
        compare(&of(1), &none).unwrap_err(),
        CompareError::NoRuns("new".into())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_run_is_in_one_group_of_equal_settings(batches in prop::collection::vec(1usize..4, 0..20)) {
        let runs: Vec<Run> = batches.iter().map(|&batch| run(batch, 1.0)).collect();
        let groups = group_by(&runs, Run::settings);
        prop_assert_eq!(groups.iter().map(|(_, group)| group.runs.len()).sum::<usize>(), runs.len());
        let mut seen = Vec::new();
        for (_, group) in &groups {
            let of: Vec<_> = group.runs.iter().map(|run| run.requested.batch).collect();
            prop_assert!(of.iter().all(|batch| *batch == of[0]));
            prop_assert!(!seen.contains(&of[0]));
            seen.push(of[0]);
        }
        let first: Vec<_> = batches.first().copied().map(Some).into_iter().collect();
        prop_assert!(seen.starts_with(&first));
    }
}
