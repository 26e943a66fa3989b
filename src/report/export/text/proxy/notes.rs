//! Notes that qualify the figures, warnings of runs, and an interruption.

use std::io::{self, Write};

use crate::load::result::{BUSY, Run};
use crate::report::compare::proxy::limited_by_load;
use crate::report::export::text::layout::sentence;
use crate::report::figures::figure;
use crate::report::model::ProxyRecord;
use crate::stats::ratio::FEWEST;
use crate::units::short_ns;

/// Writes all notes; often none.
pub(super) fn all(record: &ProxyRecord, out: &mut impl Write) -> io::Result<()> {
    notes(record, out)?;
    warnings(record, out)?;
    interrupted(record, out)
}

fn notes(record: &ProxyRecord, out: &mut impl Write) -> io::Result<()> {
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

/// Writes the first warning of each rule on each path, and the number of runs that have one.
fn warnings(record: &ProxyRecord, out: &mut impl Write) -> io::Result<()> {
    let runs = &record.runs;
    let path = |run: &Run| (run.scenario.clone(), run.path.clone(), run.setting.clone());
    let rule = |warning: &str| warning.split(':').next().unwrap_or_default().to_owned();
    let mut written = Vec::new();
    for run in runs {
        for warning in &run.warnings {
            let key = (path(run), rule(warning));
            if written.contains(&key)
                || key.1.starts_with("load generator") && is_noted(record, run)
            {
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
            written.push(key);
        }
    }
    Ok(())
}

/// A note has already reported a busy load generator on this path.
fn is_noted(record: &ProxyRecord, run: &Run) -> bool {
    record.totals.iter().any(|total| {
        let same = (&total.scenario, &total.path, &total.setting)
            == (&run.scenario, &run.path, &run.setting);
        same && total.load_busy.is_some_and(|busy| busy >= BUSY)
    })
}

/// Writes that a signal ended the command, and the figures of the interrupted run.
fn interrupted(record: &ProxyRecord, out: &mut impl Write) -> io::Result<()> {
    if !record.interrupted {
        return Ok(());
    }
    let runs = &record.runs;
    let complete = runs.iter().filter(|run| run.complete).count();
    let line = format!("ended by a signal after {complete} complete runs");
    writeln!(out)?;
    sentence(out, "incomplete", &line)?;
    for run in runs.iter().filter(|run| run.interrupted) {
        let seconds = run.seconds.unwrap_or_default();
        let rate = match (run.requests_per_s, run.bytes_per_s) {
            (Some(requests), _) => format!("{} requests/s", figure(requests)),
            (None, Some(bytes)) => format!("{} GB/s", figure(bytes / 1e9)),
            (None, None) => "no rate".to_owned(),
        };
        let p99 = run.client_latency().and_then(|summary| summary.p99);
        let p99 = p99.map_or(String::new(), |ns| format!(", p99 {}", short_ns(ns as f64)));
        let line = format!(
            "{} {}, round {}: {rate}{p99} over {seconds:.2} s; not part of the figures above",
            run.scenario,
            run.path,
            run.round + 1
        );
        sentence(out, "incomplete", &line)?;
    }
    Ok(())
}
