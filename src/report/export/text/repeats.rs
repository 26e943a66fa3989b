//! Repeated runs of one setting as a table, and the spread of their goodput.

use std::io::{self, Write};

use super::layout::{known, list, sentence, time};
use crate::report::export::rate::Rate;
use crate::report::figures::figure;
use crate::stats::spread::Spread;
use crate::udp::result::Run;
use crate::units::grouped;

/// Writes a row for each of `runs`, numbered from 0 as in the files, and the spread of KB/s over the complete runs.
pub(super) fn repeats(runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "                                                     CPU s per million packets"
    )?;
    let rate = Rate::of_runs(runs).short_unit();
    writeln!(
        out,
        "{:>3}  {:<6} {:>13} {:>11} {:>9} {:>9} {:>10} {:>10}",
        "run", "engine", rate, "lost", "p50", "p99", "sender", "receiver"
    )?;
    for (number, run) in runs.iter().enumerate() {
        row(number, run, out)?;
    }
    spread(runs, out)
}

fn row(number: usize, run: &Run, out: &mut impl Write) -> io::Result<()> {
    let figures = run.latency_ns.unwrap_or_default();
    writeln!(
        out,
        "{number:>3}  {:<6} {:>13} {:>11} {:>9} {:>9} {:>10} {:>10}{}",
        run.engine,
        known(Rate::of_run(run).value(run)),
        lost(run),
        time(figures.p50),
        time(figures.p99),
        known(run.cpu.sender_s_per_million),
        known(run.cpu.receiver_s_per_million),
        if run.complete { "" } else { "  !" },
    )?;
    if run.complete {
        return Ok(());
    }
    let why = run.reason.as_deref().unwrap_or(&run.ended);
    sentence(out, "     ! incomplete: ", why)
}

/// Number of lost datagrams, or `-`.
pub(super) fn lost(run: &Run) -> String {
    match run.lost.is_unknown {
        true => "-".to_owned(),
        false => grouped(run.lost.packets),
    }
}

fn spread(runs: &[Run], out: &mut impl Write) -> io::Result<()> {
    let engine = runs.first().map_or("", |run| &run.engine);
    let rate = Rate::of_runs(runs).short_unit();
    let complete = runs.iter().filter(|run| run.complete);
    let Some(spread) = Spread::of(complete.filter_map(|run| Rate::of_run(run).value(run))) else {
        return writeln!(out, "{rate} {engine}: -, no run is complete");
    };
    let parts = [
        format!("median {}", figure(spread.median)),
        format!("min {}", figure(spread.min)),
        format!("max {}", figure(spread.max)),
        format!("of {} complete", spread.count),
    ];
    list(out, &format!("{rate} {engine}: "), parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::udp as sample;

    #[test]
    fn incomplete_runs_are_marked_and_do_not_count() {
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
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
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
    fn spread_is_absent_without_a_complete_run() {
        let mut out = Vec::new();
        repeats(&[Run::default()], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with(": -, no run is complete\n"), "{text}");
    }
}
