//! Repeated runs side by side, and the spread of their throughput.

use std::io::{self, Write};

use super::layout::{figure, list};
use crate::report::record::Run;
use crate::stats::spread::Spread;
use crate::units::{grouped, short_ns};

/// Writes a row for each of `runs`, counted from 0 as in the files, and the median and extremes of
/// KB/s over those that are complete. Runs of several settings are [`super::comparison`](fn@super::comparison)'s.
///
/// # Errors
/// Those of `out`.
pub fn repeats(runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "                                                     CPU s per million packets"
    )?;
    writeln!(
        out,
        "{:>3}  {:<6} {:>13} {:>11} {:>9} {:>9} {:>10} {:>10}",
        "run", "engine", "KB/s", "lost", "p50", "p99", "sender", "receiver"
    )?;
    for (number, run) in runs.iter().enumerate() {
        row(number, run, out)?;
    }
    spread(runs, out)
}

fn row(number: usize, run: &Run, out: &mut impl Write) -> io::Result<()> {
    let told = |value: Option<f64>| value.map_or("-".to_owned(), figure);
    let latency = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| short_ns(ns as f64));
    let figures = run.latency_ns.unwrap_or_default();
    writeln!(
        out,
        "{number:>3}  {:<6} {:>13} {:>11} {:>9} {:>9} {:>10} {:>10}{}",
        run.engine,
        told(run.kb_per_s),
        lost(run),
        latency(figures.p50),
        latency(figures.p99),
        told(run.cpu.sender_s_per_million),
        told(run.cpu.receiver_s_per_million),
        if run.complete { "" } else { "  !" },
    )?;
    if run.complete {
        return Ok(());
    }
    let why = run.reason.as_deref().unwrap_or(&run.ended);
    super::layout::sentence(out, "     ! incomplete: ", why)
}

/// How many were lost, or `-` where that is not known.
pub(super) fn lost(run: &Run) -> String {
    match run.lost.is_unknown {
        true => "-".to_owned(),
        false => grouped(run.lost.packets),
    }
}

fn spread(runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    let engine = runs.first().map_or("", |run| &run.engine);
    let complete = runs.iter().filter(|run| run.complete);
    let Some(spread) = Spread::of(complete.filter_map(|run| run.kb_per_s)) else {
        return writeln!(out, "KB/s {engine}: -, no run is complete");
    };
    let parts = [
        format!("median {}", figure(spread.median)),
        format!("min {}", figure(spread.min)),
        format!("max {}", figure(spread.max)),
        format!("of {} complete", spread.count),
    ];
    list(out, &format!("KB/s {engine}: "), parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn runs_stand_in_a_table_and_those_cut_short_do_not_count() {
        let full = sample::measured().run;
        let runs = [
            full.clone(),
            Run {
                kb_per_s: Some(2_000_000.0),
                ..full.clone()
            },
            Run {
                complete: false,
                reason: Some("the receiver went away".into()),
                engine: "mio".into(),
                ..Run::default()
            },
        ];
        let mut out = Vec::new();
        repeats(&runs, &mut out).unwrap();
        let told = String::from_utf8(out).unwrap();
        assert_eq!(
            told,
            "                                                     CPU s per million packets\n\
             run  engine          KB/s        lost       p50       p99     sender   receiver\n\
             \x20 0  mio        2,134,567          10    500 us    990 us      0.120      0.080\n\
             \x20 1  mio        2,000,000          10    500 us    990 us      0.120      0.080\n\
             \x20 2  mio                -           0         -         -          -          -  !\n\
             \x20    ! incomplete: the receiver went away\n\
             KB/s mio: median 2,067,284, min 2,000,000, max 2,134,567, of 2 complete\n"
        );
    }

    #[test]
    fn without_a_complete_run_there_is_no_spread() {
        let mut out = Vec::new();
        repeats(&[Run::default()], &mut out).unwrap();
        let told = String::from_utf8(out).unwrap();
        assert!(told.ends_with(": -, no run is complete\n"), "{told}");
    }
}
