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

#[cfg(test)]
mod tests {
    use crate::report::compare::proxy::tests::{changed, compare, failing, record, slower};
    use crate::report::compare::records::RecordComparison;
    use crate::report::export::text::Text;
    use crate::report::export::{Document, Exporter};
    use crate::report::model::proxy::ComparedSetting;

    fn shown(found: &RecordComparison<ComparedSetting>) -> String {
        let mut out = Vec::new();
        let document = Document::ProxyComparison(found);
        Text.write(&document, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in text.lines() {
            assert!(
                line.chars().count() <= 80 && line == line.trim_end(),
                "{line}"
            );
            assert!(!line.chars().any(char::is_control), "{line}");
        }
        text
    }

    #[test]
    fn text_has_both_figures_their_ratio_and_verdict() {
        let mut new = changed(record(5), "connect proxied", slower);
        new = changed(new, "connect proxied", failing(1));
        new.runs
            .retain(|run| run.scenario != "bulk" && run.path != "direct");
        let text = shown(&compare(&record(5), &new));
        assert!(
            text.contains(
                "
                        base        new  ratio (95 % interval)
connect proxied
  requests/s           9,980      7,984  0.800 (0.798-0.802) lower
  p50                 100 us     100 us  1.000 (0.997-1.003) no difference shown
  p99                 100 us     100 us  1.000 (0.997-1.003) no difference shown
  CPU s per 10k         3.00       3.00  1.000 (1.000-1.000) no difference shown
  errors                   0          5
  answered           100.0 %    99.01 %  0.990 (0.990-0.990) lower
blocked
"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "\nonly in base, not compared: connect direct; bulk direct; bulk proxied"
            ),
            "{text}"
        );
        assert!(text.contains("reset 5 (was 0)"), "{text}");
    }

    #[test]
    fn text_handles_few_runs_incomplete_runs_and_figures_of_any_size() {
        let mut odd = changed(record(2), "connect proxied", |run| {
            run.requests_per_s = Some(1e300);
            run.cpu.proxy_s_per_10k = Some(1e-300);
            run.errors.total = u64::MAX;
            run.errors.timeout = u64::MAX;
            run.requests = u64::MAX;
            run.protocol = Some("\u{1b}[2J".into());
            run.latency_ns.as_mut().unwrap().p99 = Some(u64::MAX);
        });
        let found = compare(&odd, &odd);
        assert!(shown(&found).contains("too few runs for an interval; --repeat 5 or more"));
        odd.runs[1].complete = false;
        let text = shown(&compare(&odd, &odd));
        assert!(
            text.contains("  ! new: 1 of 2 runs incomplete and not counted"),
            "{text}"
        );
        let plain = changed(record(5), "connect proxied", |run| {
            run.protocol = Some("\u{1b}[2J".into())
        });
        shown(&compare(&plain, &odd));
    }
}
