//! How far the figures can be trusted: notes, warnings of runs, and what was interrupted.

use std::io::{self, Write};

use super::super::{BUSY, Record, Run, limited_by_load};
use crate::report::text::layout::{figure, sentence};
use crate::stats::ratio::FEWEST;
use crate::units::short_ns;

/// Writes all of it; nothing where there is no doubt.
pub(super) fn all(record: &Record, out: &mut impl Write) -> io::Result<()> {
    notes(record, out)?;
    warnings(record, out)?;
    interrupted(record, out)
}

/// What a reader must know to trust the figures.
fn notes(record: &Record, out: &mut impl Write) -> io::Result<()> {
    for total in &record.totals {
        if let Some(busy) = total.load_busy.filter(|busy| *busy >= BUSY) {
            let path = format!("{} {}", total.scenario, total.path);
            sentence(out, "note", &limited_by_load(&path, busy))?;
        }
    }
    let rounds = record.overhead.iter().map(|of| of.rounds).min();
    if rounds.is_some_and(|rounds| rounds < FEWEST) {
        let note = format!("intervals need {FEWEST} complete rounds (--repeat)");
        sentence(out, "note", &note)?;
    }
    Ok(())
}

/// The first warning of each rule on each path, and how many runs have one.
fn warnings(record: &Record, out: &mut impl Write) -> io::Result<()> {
    let runs = &record.frame.runs;
    let path = |run: &Run| (run.scenario.clone(), run.path.clone(), run.setting.clone());
    let rule = |warning: &str| warning.split(':').next().unwrap_or_default().to_owned();
    let mut told = Vec::new();
    for run in runs {
        for warning in &run.warnings {
            let key = (path(run), rule(warning));
            if told.contains(&key) || key.1.starts_with("load generator") && is_noted(record, run) {
                continue;
            }
            let all: Vec<&Run> = runs.iter().filter(|of| path(of) == key.0).collect();
            let with = all.iter().filter(|of| {
                let mut rules = of.warnings.iter().map(|warning| rule(warning));
                rules.any(|of| of == key.1)
            });
            let (with, of) = (with.count(), all.len());
            let line = format!(
                "{} {}, {with} of {of} runs: {warning}",
                run.scenario, run.path
            );
            sentence(out, "warning", &line)?;
            told.push(key);
        }
    }
    Ok(())
}

/// Whether a note tells already that the load generator was busy on this path.
fn is_noted(record: &Record, run: &Run) -> bool {
    record.totals.iter().any(|total| {
        let same = (&total.scenario, &total.path, &total.setting)
            == (&run.scenario, &run.path, &run.setting);
        same && total.load_busy.is_some_and(|busy| busy >= BUSY)
    })
}

/// That a signal ended it all, and what the run under way had come to.
fn interrupted(record: &Record, out: &mut impl Write) -> io::Result<()> {
    if !record.interrupted {
        return Ok(());
    }
    let runs = &record.frame.runs;
    let complete = runs.iter().filter(|run| run.complete).count();
    let line = format!("ended by a signal; {complete} runs were measured to their end");
    writeln!(out)?;
    sentence(out, "incomplete", &line)?;
    for run in runs.iter().filter(|run| run.interrupted) {
        let seconds = run.seconds.unwrap_or_default();
        let rate = match (run.requests_per_s, run.bytes_per_s) {
            (Some(requests), _) => format!("{} requests/s", figure(requests)),
            (None, Some(bytes)) => format!("{} GB/s", figure(bytes / 1e9)),
            (None, None) => "no rate".to_owned(),
        };
        let p99 = run.told().and_then(|summary| summary.p99);
        let p99 = p99.map_or(String::new(), |ns| format!(", p99 {}", short_ns(ns as f64)));
        let line = format!(
            "{} {}, round {}: {rate}{p99} over {seconds:.2} s; not among the figures above",
            run.scenario,
            run.path,
            run.round + 1
        );
        sentence(out, "incomplete", &line)?;
    }
    Ok(())
}
