use std::path::Path;

use super::*;
use crate::report::compare::gate::{Gate, judge};
use crate::report::compare::records::{RecordComparison, SavedRuns, compare_records};
use crate::report::model::ProxyRecord;
use crate::report::sample::proxy::{self as sample, measured};
use crate::stats::ratio::Verdict;

/// Rounds of every scenario with different figures.
pub(in crate::report) fn record(rounds: usize) -> ProxyRecord {
    let mut all = Vec::new();
    for round in 0..rounds {
        let ns = |ns| ns + 100 * round as u64;
        for (scenario, path) in [
            ("connect", "direct"),
            ("connect", "proxied"),
            ("bulk", "direct"),
            ("bulk", "proxied"),
        ] {
            let engine = (path != "direct").then_some("mio");
            all.push(measured(scenario, path, engine, round, ns(100_000)));
        }
        all.push(measured(
            "blocked",
            "blocked",
            Some("mio"),
            round,
            ns(50_000),
        ));
    }
    let mut record = sample::of(&[]);
    record.runs = all.into_iter().map(|measured| measured.run).collect();
    record
}

/// Changes the runs with this label.
pub(in crate::report) fn changed(
    mut record: ProxyRecord,
    label: &str,
    change: impl Fn(&mut Run),
) -> ProxyRecord {
    let is = |run: &Run| label == run.path || label == format!("{} {}", run.scenario, run.path);
    let runs = record.runs.iter_mut().filter(|run| is(run));
    assert!(runs.map(change).count() > 0, "{label}");
    record
}

pub(in crate::report) fn slower(run: &mut Run) {
    run.requests_per_s = run.requests_per_s.map(|rate| rate * 0.8);
    run.bytes_per_s = run.bytes_per_s.map(|rate| rate * 0.8);
}

fn later(run: &mut Run) {
    let latency = run.latency_ns.as_mut().unwrap();
    latency.p99 = latency.p99.map(|ns| ns * 2);
}

pub(in crate::report) fn failing(resets: u64) -> impl Fn(&mut Run) {
    move |run| {
        run.errors.total = resets;
        run.errors.reset = resets;
    }
}

pub(in crate::report) fn compare(
    base: &ProxyRecord,
    new: &ProxyRecord,
) -> RecordComparison<ComparedSetting> {
    fn saved<'a>(path: &'a str, record: &'a ProxyRecord) -> SavedRuns<'a, Run> {
        SavedRuns::new(Path::new(path), &record.meta, &record.runs)
    }
    compare_records(&saved("base", base), &saved("new", new)).unwrap()
}

/// The result of a threshold of 5 % after a change of the runs with this label, and the notes about it.
fn judged(label: &str, change: impl Fn(&mut Run)) -> (Gate, Vec<String>) {
    let found = compare(&record(5), &changed(record(5), label, change));
    let gate = judge(&found.comparison, 0.05);
    assert_eq!(gate.judged, 3);
    // The first note is that the commands did not take turns.
    (gate, found.notes[1..].to_vec())
}

#[test]
fn each_path_is_compared_with_the_same_path_of_the_other_record() {
    let found = compare(&record(5), &changed(record(5), "bulk proxied", slower));
    let names: Vec<_> = found
        .comparison
        .iter()
        .map(|of| of.setting.as_str())
        .collect();
    assert_eq!(
        names[..4],
        [
            "connect direct, base",
            "connect direct, new",
            "connect proxied, base",
            "connect proxied, new"
        ]
    );
    assert_eq!(names[8..], ["blocked, base", "blocked, new"]);
    assert_eq!((found.kind.as_str(), found.notes.len()), ("proxy", 1));
    let [.., base, new, _, _] = &found.comparison[..] else {
        panic!()
    };
    assert_eq!(
        (new.scenario.as_str(), new.engine.as_deref(), new.runs),
        ("bulk", Some("mio"), 5)
    );
    assert_eq!(
        (base.ratios, new.base.as_ref()),
        (None, Some(&base.setting))
    );
    let ratios = new.ratios.unwrap();
    assert_eq!(
        (
            ratios.latency_p50_ns,
            ratios.latency_p99_ns,
            new.latency_p99_ns
        ),
        (None, None, None)
    );
    let rate = ratios.rate.unwrap();
    assert!(
        (rate.ratio - 0.8).abs() < 1e-9 && rate.verdict == Verdict::Lower,
        "{rate:?}"
    );
    assert_eq!(ratios.proxy_cpu.unwrap().ratio, 1.0);
    assert_eq!(new.proxy_s_per_gb.unwrap().median, 0.25);
    let connect = &found.comparison[3];
    assert_eq!(connect.ratios.unwrap().latency_p50_ns.unwrap().ratio, 1.0);
    assert_eq!(
        (connect.requests, connect.answered.unwrap().min),
        (500, 1.0)
    );
}

#[test]
fn engines_are_separate_settings_and_missing_settings_are_listed() {
    let both = sample::record();
    let mut one = both.clone();
    one.runs
        .retain(|run| run.setting.as_deref() != Some("uring") && run.scenario != "blocked");
    let found = compare(&both, &one);
    assert_eq!(
        found.only_in_base,
        [
            "request-response proxied, uring",
            "bulk proxied, uring",
            "blocked, mio"
        ]
    );
    assert_eq!((found.only_in_new.len(), found.comparison.len()), (0, 8));
    assert_eq!(compare(&one, &both).only_in_new, found.only_in_base);
}

#[test]
fn proxied_path_fails_with_a_lower_rate_or_a_longer_latency() {
    let is_slower =
        |label: &str, by: &str| format!("{label}, new is slower than {label}, base by {by}");
    for (label, figure) in [
        ("connect proxied", "requests/s"),
        ("bulk proxied", "bytes/s"),
        ("blocked", "requests/s"),
    ] {
        let (gate, notes) = judged(label, slower);
        let [sentence] = &gate.regressed[..] else {
            panic!("{gate:?}")
        };
        assert!(sentence.starts_with(&is_slower(label, "19.")), "{sentence}");
        assert!(sentence.ends_with(figure), "{sentence}");
        assert_eq!(
            (gate.undecided.len(), gate.faults.len(), notes.len()),
            (0, 0, 0)
        );
    }
    let (gate, _) = judged("connect proxied", later);
    assert!(gate.regressed[0].ends_with("in 99 % latency"), "{gate:?}");
    assert_eq!(gate.regressed.len(), 1);
}

#[test]
fn slower_direct_path_is_a_note_and_does_not_fail() {
    for (change, words) in [
        (slower as fn(&mut Run), "requests/s 0.800 times"),
        (later, "99 % latency 2.000 times"),
    ] {
        let (gate, notes) = judged("connect direct", change);
        assert!(
            gate.regressed.is_empty() && gate.undecided.is_empty(),
            "{gate:?}"
        );
        assert_eq!(gate.controls, ["connect direct, new"]);
        let [note] = &notes[..] else {
            panic!("{notes:?}")
        };
        assert!(
            note.starts_with("connect direct has no proxy in it") && note.contains(words),
            "{note}"
        );
    }
    let (gate, notes) = judged("connect direct", |run| run.requests_per_s = Some(1e9));
    assert_eq!((gate.controls.len(), notes.len()), (0, 1));
    let (gate, notes) = judged("connect direct", failing(1));
    assert!(
        gate.faults.is_empty() && notes.len() == 1,
        "{gate:?} {notes:?}"
    );
}

#[test]
fn new_errors_fail_with_any_count_and_number_of_runs() {
    let (gate, notes) = judged("connect proxied", failing(1));
    assert_eq!(
        gate.faults,
        ["connect proxied, new has errors, connect proxied, base has none: reset 5"]
    );
    assert!(gate.regressed.is_empty() && gate.undecided.is_empty());
    assert_eq!(
        notes,
        ["connect proxied has more errors: reset 5 (was 0); of 505 requests (was 500)"]
    );

    let dead = changed(record(1), "connect proxied", |run| {
        failing(7)(run);
        (run.complete, run.requests, run.requests_per_s) = (false, 0, None);
    });
    let found = compare(&record(5), &dead);
    let gate = judge(&found.comparison, 0.05);
    assert_eq!(gate.faults.len(), 1);
    assert_eq!(gate.undecided, ["bulk proxied, new", "blocked, new"]);
}

#[test]
fn more_errors_are_listed_and_fail_above_the_threshold() {
    let few = changed(record(5), "connect proxied", failing(1));
    let judged = |resets| {
        let found = compare(
            &few,
            &changed(record(5), "connect proxied", failing(resets)),
        );
        (judge(&found.comparison, 0.05), found.notes.len() - 1)
    };
    let (gate, notes) = judged(2);
    assert!(
        gate.regressed.is_empty() && gate.faults.is_empty() && notes == 1,
        "{gate:?}"
    );
    let (gate, _) = judged(25);
    // 100 of 125 against 100 of 101.
    assert_eq!(
        gate.regressed,
        [
            "connect proxied, new is less reliable than connect proxied, base by 19.20 % or more in correctly answered requests"
        ]
    );
    assert_eq!(judged(1).1, 0);
    assert_eq!(judged(0).1, 0);
}

#[test]
fn too_few_runs_are_undecided_and_direct_paths_are_not_judged() {
    let gate = judge(
        &compare(&record(5), &changed(record(4), "bulk proxied", slower)).comparison,
        0.05,
    );
    assert_eq!(
        gate.undecided,
        ["connect proxied, new", "bulk proxied, new", "blocked, new"]
    );
    assert!(gate.regressed.is_empty());

    let mut direct = record(5);
    direct.runs.retain(|run| run.path == "direct");
    assert_eq!(
        judge(&compare(&record(5), &direct).comparison, 0.05),
        Gate::default()
    );
}

#[test]
fn paced_path_is_judged_by_the_latency_from_the_schedule() {
    let paced = |ns| {
        changed(record(5), "connect proxied", move |run| {
            run.requested.rate_per_s = Some(1e4);
            let mut latency = run.latency_ns.unwrap();
            latency.p99 = Some(ns);
            run.latency_from_intended_ns = Some(latency);
        })
    };
    let found = compare(&paced(1_000), &paced(9_000));
    assert_eq!(found.comparison[2].latency_p99_ns, Some(1_000));
    assert_eq!(judge(&found.comparison, 0.05).regressed.len(), 1);
}

#[test]
fn other_amounts_and_a_busy_load_generator_are_noted() {
    let (gate, notes) = judged("bulk proxied", |run| run.requested.bytes = Some(5));
    assert_eq!(
        (gate.regressed.len(), notes),
        (
            0,
            vec!["the two commands did not request the same amount of data".to_owned()]
        )
    );
    let (_, notes) = judged("connect proxied", |run| run.cpu.load_busy = Some(0.99));
    assert!(
        notes[0].starts_with("connect proxied, new: the load generator's threads were busy 99 %"),
        "{notes:?}"
    );
}
