//! Settings of two `bench proxy` records: one block per setting, with the figures of both records and their ratios.

use std::io::{self, Write};

use crate::report::export::text::layout::{fill, sentence, time};
use crate::report::figures::{figure, ratio_with_interval};
use crate::report::model::proxy::{ComparedSetting, Ratios};
use crate::stats::ratio::{FEWEST, Ratio, Verdict};
use crate::stats::spread::Spread;
use crate::units::grouped;

/// Widths of a figure's name and of a figure.
const LABEL: usize = 17;
const FIGURE: usize = 11;

/// Width of a ratio with its interval.
const RATIO: usize = 19;

/// Writes pairs of settings: the base's runs, then the new runs.
pub(in crate::report::export::text) fn settings(
    pairs: &[ComparedSetting],
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(
        out,
        "{:<LABEL$}{:>FIGURE$}{:>FIGURE$}  ratio (95 % interval)",
        "", "base", "new"
    )?;
    let mut too_few = false;
    for [base, new] in pairs.as_chunks().0 {
        sentence(out, "", new.shared_name())?;
        block(base, new, out)?;
        let ratios = new.ratios.unwrap_or_default();
        too_few |= ratios.rate.is_some_and(|ratio| ratio.interval.is_none());
    }
    if too_few {
        let advice = format!("too few runs for an interval; --repeat {FEWEST} or more");
        sentence(out, "", &advice)?;
    }
    Ok(())
}

fn block(base: &ComparedSetting, new: &ComparedSetting, out: &mut impl Write) -> io::Result<()> {
    type Line = (
        &'static str,
        fn(&ComparedSetting) -> Option<String>,
        fn(&Ratios) -> Option<Ratio>,
    );
    let lines: [Line; 7] = [
        ("requests/s", |of| median(of.requests_per_s), |of| of.rate),
        ("GB/s", |of| bulk_rate(of).map(figure), |of| of.rate),
        (
            "p50",
            |of| of.latency_p50_ns.map(|ns| time(Some(ns))),
            |of| of.latency_p50_ns,
        ),
        (
            "p99",
            |of| of.latency_p99_ns.map(|ns| time(Some(ns))),
            |of| of.latency_p99_ns,
        ),
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
        let percent = |of: &ComparedSetting| {
            of.answered.map_or("-".to_owned(), |of| {
                format!("{} %", figure(of.median * 100.0))
            })
        };
        line(
            "answered",
            &percent(base),
            &percent(new),
            ratios.answered,
            out,
        )?;
    }
    for (name, of) in [("base", base), ("new", new)] {
        if of.incomplete > 0 {
            let all = of.runs + of.incomplete;
            let incomplete = format!(
                "{name}: {} of {all} runs incomplete and not counted",
                of.incomplete
            );
            sentence(out, "  ! ", &incomplete)?;
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
        [
            format!("{:<RATIO$}", ratio_with_interval(ratio)),
            verdict.to_owned(),
        ]
    });
    fill(out, &cells, shown.into_iter().flatten())
}

/// GB/s of bulk. The bytes of requests follow from the requests.
fn bulk_rate(of: &ComparedSetting) -> Option<f64> {
    of.bytes_per_s
        .filter(|_| of.is_bulk())
        .map(|rate| rate.median / 1e9)
}

fn median(of: Option<Spread>) -> Option<String> {
    of.map(|spread| figure(spread.median))
}

/// Four decimals, as in the summary of `bench proxy`.
fn cost(of: Option<Spread>) -> Option<String> {
    of.map(|spread| match spread.median {
        small @ 0.0001..1.0 => format!("{small:.4}"),
        other => figure(other),
    })
}
