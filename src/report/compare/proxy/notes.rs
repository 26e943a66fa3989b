//! Sentences that qualify the figures of a command: errors, notes, warnings and an interruption.

use super::{PathKey, limited_by_load};
use crate::load::result::{BUSY, Run};
use crate::report::figures::figure;
use crate::report::model::ProxyRecord;
use crate::stats::ratio::FEWEST;
use crate::units::{grouped, short_ns};

/// Each kind of error on each path with its count and its first message.
pub fn errors(record: &ProxyRecord) -> Vec<String> {
    let mut seen = Vec::new();
    let mut sentences = Vec::new();
    for run in &record.runs {
        for first in &run.first_errors {
            let kind = first.split(':').next().unwrap_or_default();
            let key = (PathKey::of(run), kind.to_owned());
            if seen.contains(&key) {
                continue;
            }
            let alike = record.runs.iter().filter(|of| PathKey::of(of) == key.0);
            let count: u64 = alike
                .flat_map(|of| of.errors.kinds())
                .filter(|(name, _)| *name == kind)
                .map(|(_, count)| count)
                .sum();
            let path = format!("{} {}", run.scenario, run.path);
            sentences.push(format!("{path}: {} {first}", grouped(count)));
            seen.push(key);
        }
    }
    sentences
}

/// Limits of the measurement: a busy load generator, and too few rounds.
pub fn notes(record: &ProxyRecord) -> Vec<String> {
    let busy = record.totals.iter().filter_map(|total| {
        let busy = total.load_busy.filter(|busy| *busy >= BUSY)?;
        let path = format!("{} {}", total.scenario, total.path);
        Some(limited_by_load(&path, busy))
    });
    let mut notes: Vec<String> = busy.collect();
    let rounds = record.overhead.iter().map(|of| of.rounds).min();
    if rounds.is_some_and(|rounds| rounds < FEWEST) {
        notes.push(format!(
            "intervals need {FEWEST} complete rounds (--repeat)"
        ));
    }
    notes
}

/// The first warning of each rule on each path, and the number of runs that have one.
pub fn warnings(record: &ProxyRecord) -> Vec<String> {
    let rule = |warning: &str| warning.split(':').next().unwrap_or_default().to_owned();
    let mut seen = Vec::new();
    let mut sentences = Vec::new();
    for run in &record.runs {
        for warning in &run.warnings {
            let key = (PathKey::of(run), rule(warning));
            let is_noted = key.1.starts_with("load generator") && is_busy(record, &key.0);
            if is_noted || seen.contains(&key) {
                continue;
            }
            let alike = record.runs.iter().filter(|of| PathKey::of(of) == key.0);
            let alike: Vec<&Run> = alike.collect();
            let with = alike.iter().filter(|of| {
                let mut rules = of.warnings.iter().map(|warning| rule(warning));
                rules.any(|of| of == key.1)
            });
            sentences.push(format!(
                "{} {}, {} of {} runs: {warning}",
                run.scenario,
                run.path,
                with.count(),
                alike.len()
            ));
            seen.push(key);
        }
    }
    sentences
}

/// [`notes`] has reported the load generator on this path.
fn is_busy(record: &ProxyRecord, key: &PathKey) -> bool {
    record.totals.iter().any(|total| {
        let same = (&total.scenario, &total.path, &total.setting)
            == (&key.scenario, &key.path, &key.setting);
        same && total.load_busy.is_some_and(|busy| busy >= BUSY)
    })
}

/// That a signal ended the command, and the figures of the interrupted run.
pub fn interruption(record: &ProxyRecord) -> Vec<String> {
    if !record.interrupted {
        return Vec::new();
    }
    let complete = record.runs.iter().filter(|run| run.complete).count();
    let mut sentences = vec![format!("ended by a signal after {complete} complete runs")];
    for run in record.runs.iter().filter(|run| run.interrupted) {
        let seconds = run.seconds.unwrap_or_default();
        let rate = match (run.requests_per_s, run.bytes_per_s) {
            (Some(requests), _) => format!("{} requests/s", figure(requests)),
            (None, Some(bytes)) => format!("{} GB/s", figure(bytes / 1e9)),
            (None, None) => "no rate".to_owned(),
        };
        let p99 = run.client_latency().and_then(|summary| summary.p99);
        let p99 = p99.map_or(String::new(), |ns| format!(", p99 {}", short_ns(ns as f64)));
        sentences.push(format!(
            "{} {}, round {}: {rate}{p99} over {seconds:.2} s; not part of the figures above",
            run.scenario,
            run.path,
            run.round + 1
        ));
    }
    sentences
}
