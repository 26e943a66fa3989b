//! Settings side by side: a table, and in words what their figures show.

use std::io::{self, Write};

use super::layout::{INDENT, beside, figure, fill, list, plain, sentence, times};
use super::repeats;
use crate::report::comparison::latency;
use crate::report::record::{Compared, Ratios, Run};
use crate::stats::ratio::{FEWEST, Interval, Ratio, Verdict};
use crate::units::short_ns;

/// The width of a setting's name in the table; a longer one stands on a line of its own.
const NAME: usize = 12;

/// Writes what a comparison is about to do.
///
/// # Errors
/// Those of `out`.
pub fn comparing<'a>(
    settings: impl IntoIterator<Item = &'a str>,
    rounds: u32,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut settings: Vec<String> = settings
        .into_iter()
        .map(|name| format!("{name};"))
        .collect();
    settings.push(match rounds {
        1 => "one run each".to_owned(),
        _ => format!("{rounds} rounds"),
    });
    fill(out, "comparing", settings)
}

/// Writes one run of a comparison, the one with this number, in a line.
///
/// # Errors
/// Those of `out`.
pub fn compared_run(number: usize, run: &Run, out: &mut impl Write) -> io::Result<()> {
    let latency = latency(run).unwrap_or_default();
    let mut parts = vec![
        run.setting.clone().unwrap_or_default(),
        format!("{} KB/s", run.kb_per_s.map_or("-".to_owned(), figure)),
        format!("lost {}", repeats::lost(run)),
        format!("p50 {}", time(latency.p50)),
        format!("p99 {}", time(latency.p99)),
    ];
    if !run.complete {
        let why = run.reason.as_deref().unwrap_or(&run.ended);
        parts.push(format!("INCOMPLETE: {why}"));
    }
    list(out, &format!("run {number:<7}"), parts)
}

/// Writes the table of `rows`, and what their ratios show.
///
/// # Errors
/// Those of `out`.
pub fn comparison(rows: &[Compared], out: &mut impl Write) -> io::Result<()> {
    let mut bases: Vec<&String> = rows.iter().filter_map(|row| row.base.as_ref()).collect();
    bases.dedup();
    let ratio_to = match bases[..] {
        [base] if base.chars().count() <= 10 => format!("ratio to {}", plain(base)),
        _ => "ratio".to_owned(),
    };
    line(
        out,
        ["", "median", "spread", &ratio_to, "lost", "CPU s", "", ""],
    )?;
    line(
        out,
        [
            "setting",
            "KB/s",
            "%",
            "(95 % interval)",
            "%",
            "per M",
            "p50",
            "p99",
        ],
    )?;
    for row in rows {
        setting(row, out)?;
    }
    verdicts(rows, out)
}

fn setting(row: &Compared, out: &mut impl Write) -> io::Result<()> {
    let mut name = plain(&row.setting);
    if name.chars().count() > NAME {
        sentence(out, "", &name)?;
        name.clear();
    }
    let spread = row.kb_per_s;
    let width = spread.map(|of| (of.max - of.min) / of.median * 100.0);
    let ratio = match (&row.base, row.ratios.and_then(|of| of.kb_per_s)) {
        (None, _) => "base".to_owned(),
        (Some(_), Some(ratio)) => beside(ratio),
        (Some(_), None) => "-".to_owned(),
    };
    line(
        out,
        [
            &name,
            &spread.map_or("-".to_owned(), |of| figure(of.median)),
            &width.map_or("-".to_owned(), figure),
            &ratio,
            &lost(row.lost_packets, row.sent_packets),
            &row.cpu_s_per_million
                .map_or("-".to_owned(), |of| figure(of.median)),
            &time(row.latency_p50_ns),
            &time(row.latency_p99_ns),
        ],
    )?;
    if row.incomplete == 0 {
        return Ok(());
    }
    let all = row.runs + row.incomplete;
    let told = format!(
        "{} of {all} runs not complete, and not counted",
        row.incomplete
    );
    sentence(out, "  ! ", &told)
}

fn line(out: &mut impl Write, cells: [&str; 8]) -> io::Result<()> {
    let [name, rate, spread, ratio, lost, cpu, p50, p99] = cells;
    let row =
        format!("{name:<NAME$}{rate:>11}{spread:>7}  {ratio:<19}{lost:>7}{cpu:>6}{p50:>8}{p99:>8}");
    writeln!(out, "{}", row.trim_end())
}

/// What the figures show, figure by figure, in words that can stand by themselves.
fn verdicts(rows: &[Compared], out: &mut impl Write) -> io::Result<()> {
    type Figure = fn(Ratios) -> Option<Ratio>;
    let mut figures: Vec<(&str, Figure)> = vec![
        ("KB/s", |of| of.kb_per_s),
        ("CPU", |of| of.cpu_s_per_million),
        ("p99 a run", |of| of.latency_p99_ns),
    ];
    let chunk = rows.first().map(|row| row.requested.chunk);
    if rows.iter().any(|row| Some(row.requested.chunk) != chunk) {
        figures.insert(1, ("packets/s", |of| of.packets_per_s));
    }
    let mut too_few = false;
    for (name, of) in figures {
        let mut label = name;
        for row in rows {
            let Some(base) = &row.base else { continue };
            let ratio = row.ratios.and_then(of);
            let told = verdict(&row.setting, base, ratio);
            fill(out, &format!("{label:<INDENT$}"), told)?;
            too_few |= ratio.is_some_and(|ratio| ratio.interval.is_none());
            label = "";
        }
    }
    if too_few {
        let told = format!("too few runs for an interval; --repeat {FEWEST} or more");
        sentence(out, "", &told)?;
    }
    if rows.iter().any(|row| row.mode == "paced") {
        let told = "KB/s follow the schedule of a paced run: what tells settings apart is CPU, and p99 from the intended send";
        sentence(out, "", told)?;
    }
    Ok(())
}

/// In pieces between which a line may be broken: the interval is one.
fn verdict(setting: &str, base: &str, ratio: Option<Ratio>) -> Vec<String> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let Some(ratio) = ratio else {
        return words(&format!(
            "{setting} and {base}: not every run has a figure to compare"
        ));
    };
    let mut told: Vec<String> = words(&format!("{setting} is {} times {base}", times(ratio.ratio)));
    if ratio.verdict == Verdict::NoDifferenceShown {
        told.splice(..0, words("no difference shown:"));
    }
    if let Some(Interval { low, high }) = ratio.interval {
        told.push(format!("(95 % interval {} to {})", times(low), times(high)));
    }
    told
}

/// What part was lost, in percent: not 0 when anything was.
fn lost(lost: u64, sent: u64) -> String {
    let share = lost as f64 / sent as f64 * 100.0;
    match lost {
        _ if sent == 0 => "-".to_owned(),
        0 => "0".to_owned(),
        _ if share < 0.001 => "<0.001".to_owned(),
        _ => figure(share),
    }
}

fn time(ns: Option<u64>) -> String {
    ns.map_or("-".to_owned(), |ns| short_ns(ns as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::comparison::tests::{compared, rounds};
    use crate::report::text::layout::WIDTH;

    fn told(rows: &[Compared]) -> String {
        let mut out = Vec::new();
        comparison(rows, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
        text
    }

    #[test]
    fn settings_stand_in_a_table_and_the_verdict_in_words() {
        assert_eq!(
            told(&compared(&rounds(5))),
            "\
\x20                median spread  ratio to batch 1      lost CPU s
setting            KB/s      %  (95 % interval)          % per M     p50     p99
batch 1           800.0  50.00  base                 0.010 0.200  500 us  990 us
batch 16          1,600  50.00  2.000 (2.000-2.000)  0.010 0.200  500 us  990 us
KB/s       batch 16 is 2.000 times batch 1 (95 % interval 2.000 to 2.000)
CPU        no difference shown: batch 16 is 1.000 times batch 1
           (95 % interval 1.000 to 1.000)
p99 a run  no difference shown: batch 16 is 1.000 times batch 1
           (95 % interval 1.000 to 1.000)
"
        );
    }

    #[test]
    fn too_few_runs_are_told_with_the_way_out_and_incomplete_ones_are_marked() {
        let mut runs = rounds(5);
        runs[3].complete = false;
        let text = told(&compared(&runs));
        assert!(
            text.contains("\n  ! 1 of 5 runs not complete, and not counted\n"),
            "{text}"
        );
        assert!(
            text.contains("\nKB/s       batch 16 is 2.000 times batch 1\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\ntoo few runs for an interval; --repeat 5 or more\n"),
            "{text}"
        );
        for run in &mut runs {
            run.complete = false;
        }
        let text = told(&compared(&runs));
        assert!(
            text.contains("KB/s       batch 16 and batch 1: not every run has a figure to compare"),
            "{text}"
        );
    }

    #[test]
    fn what_was_lost_shows_however_little_it_was() {
        assert_eq!(lost(0, 10), "0");
        assert_eq!(lost(1, 1_000_000_000), "<0.001");
        assert_eq!(lost(1, 8), "12.50");
        assert_eq!(lost(0, 0), "-");
    }

    #[test]
    fn names_and_figures_of_any_size_fit() {
        let mut runs = rounds(5);
        for (number, run) in runs.iter_mut().enumerate() {
            if number % 2 == 1 {
                run.setting = Some("uring, zerocopy msg, chunk 8192, batch 16\u{1b}[2J".into());
                run.requested.chunk = 8_192;
            }
            run.kb_per_s = Some(26_123_456.0 + number as f64);
            run.lost.packets = 1;
        }
        let text = told(&compared(&runs));
        assert!(
            text.contains("\nuring, zerocopy msg, chunk 8192, batch 16?[2J\n             26,123,"),
            "{text}"
        );
        assert!(text.contains("\npackets/s  "), "{text}");
    }
}
