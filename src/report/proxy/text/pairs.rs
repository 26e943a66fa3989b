//! Two records of `bench proxy` side by side: a block a path, with each figure before and after, and what that shows.

use std::io::{self, Write};

use crate::report::comparison::between::Between;
use crate::report::proxy::side::{Ratios, Side};
use crate::report::text::between::around;
use crate::report::text::layout::{beside, figure, fill, sentence};
use crate::stats::ratio::{FEWEST, Ratio, Verdict};
use crate::stats::spread::Spread;
use crate::units::{grouped, short_ns};

/// Widths: of a figure's name, and of the figure.
const LABEL: usize = 17;
const FIGURE: usize = 11;

/// Width of a ratio with its interval, so that verdicts stand below each other.
const RATIO: usize = 19;

/// Writes what two records say of each other.
///
/// # Errors
/// Those of `out`.
pub fn between(between: &Between<Side>, out: &mut impl Write) -> io::Result<()> {
    around(between, pairs, out)
}

fn pairs(rows: &[Side], out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<LABEL$}{:>FIGURE$}{:>FIGURE$}  ratio (95 % interval)",
        "", "base", "new"
    )?;
    let mut too_few = false;
    for [base, new] in rows.as_chunks().0 {
        sentence(out, "", new.shared_name())?;
        block(base, new, out)?;
        let ratios = new.ratios.unwrap_or_default();
        too_few |= ratios.rate.is_some_and(|ratio| ratio.interval.is_none());
    }
    if too_few {
        let told = format!("too few runs for an interval; --repeat {FEWEST} or more");
        sentence(out, "", &told)?;
    }
    Ok(())
}

fn block(base: &Side, new: &Side, out: &mut impl Write) -> io::Result<()> {
    type Line = (
        &'static str,
        fn(&Side) -> Option<String>,
        fn(&Ratios) -> Option<Ratio>,
    );
    let lines: [Line; 7] = [
        ("requests/s", |of| median(of.requests_per_s), |of| of.rate),
        ("GB/s", |of| bulk_rate(of).map(figure), |of| of.rate),
        ("p50", |of| time(of.latency_p50_ns), |of| of.latency_p50_ns),
        ("p99", |of| time(of.latency_p99_ns), |of| of.latency_p99_ns),
        (
            "CPU s per 10k",
            |of| cost(of.proxy_s_per_10k),
            |of| of.proxy_cpu,
        ),
        (
            "CPU s per GB",
            |of| cost(of.proxy_s_per_gb),
            |of| of.proxy_cpu,
        ),
        ("errors", |of| Some(grouped(of.errors.total)), |_| None),
    ];
    let ratios = new.ratios.unwrap_or_default();
    for (label, of, ratio) in lines {
        let figures = [of(base), of(new)];
        let all_right = label == "errors" && base.errors.total == 0 && new.errors.total == 0;
        if all_right || figures.iter().all(Option::is_none) {
            continue;
        }
        let [base, new] = figures.map(|figure| figure.unwrap_or_else(|| "-".to_owned()));
        line(label, &base, &new, ratio(&ratios), out)?;
    }
    if base.errors.total > 0 || new.errors.total > 0 {
        let percent = |of: &Side| {
            of.answered.map_or("-".to_owned(), |of| {
                format!("{} %", figure(of.median * 100.0))
            })
        };
        line(
            "right answers",
            &percent(base),
            &percent(new),
            ratios.answered,
            out,
        )?;
    }
    for (side, of) in [("base", base), ("new", new)] {
        if of.incomplete > 0 {
            let all = of.runs + of.incomplete;
            let told = format!(
                "{side}: {} of {all} runs not complete, and not counted",
                of.incomplete
            );
            sentence(out, "  ! ", &told)?;
        }
    }
    Ok(())
}

fn line(
    label: &str,
    base: &str,
    new: &str,
    ratio: Option<Ratio>,
    out: &mut impl Write,
) -> io::Result<()> {
    let cells = format!(
        "  {label:<width$}{base:>FIGURE$}{new:>FIGURE$}  ",
        width = LABEL - 2
    );
    let shown = ratio.map(|ratio| {
        let verdict = match ratio.verdict {
            Verdict::Higher => "higher",
            Verdict::Lower => "lower",
            Verdict::NoDifferenceShown => "no difference shown",
            Verdict::TooFewRuns => "",
        };
        [format!("{:<RATIO$}", beside(ratio)), verdict.to_owned()]
    });
    fill(out, &cells, shown.into_iter().flatten())
}

/// Of bulk; of requests the bytes say nothing new.
fn bulk_rate(of: &Side) -> Option<f64> {
    of.bytes_per_s
        .filter(|_| of.is_bulk())
        .map(|rate| rate.median / 1e9)
}

fn median(of: Option<Spread>) -> Option<String> {
    of.map(|spread| figure(spread.median))
}

/// As `bench proxy` tells it.
fn cost(of: Option<Spread>) -> Option<String> {
    of.map(|spread| match spread.median {
        small @ 0.0001..1.0 => format!("{small:.4}"),
        other => figure(other),
    })
}

fn time(ns: Option<u64>) -> Option<String> {
    ns.map(|ns| short_ns(ns as f64))
}
