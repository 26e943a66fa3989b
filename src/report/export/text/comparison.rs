//! The settings of a UDP comparison: a table, and the ratios in sentences.

use std::io::{self, Write};

use super::layout::{INDENT, fill, known, list, sentence, time};
use super::repeats;
use crate::report::compare::udp::compared_latency;
use crate::report::export::rate::Rate;
use crate::report::figures::{figure, plain, ratio_with_interval, times};
use crate::report::model::udp::{ComparedSetting, Ratios};
use crate::stats::ratio::{FEWEST, Interval, Ratio, Verdict};
use crate::udp::result::Run;

/// Width of a setting's name in the table; a longer name is on a line of its own.
const NAME: usize = 12;

/// Writes the settings and the number of rounds before a comparison starts.
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

/// Writes run `number` of a comparison as one line.
///
/// # Errors
/// Those of `out`.
pub fn compared_run(number: usize, run: &Run, out: &mut impl Write) -> io::Result<()> {
    let latency = compared_latency(run).unwrap_or_default();
    let mut parts = vec![
        run.setting.clone().unwrap_or_default(),
        match run.round_trip {
            Some(_) => format!("{} trips/s", known(run.packets_per_s)),
            None => format!("{} KB/s", known(run.kb_per_s)),
        },
        format!("lost {}", repeats::lost(run)),
        format!("p50 {}", time(latency.p50)),
        format!("p99 {}", time(latency.p99)),
    ];
    let load = run.round_trip.as_ref().and_then(|of| of.load_kb_per_s);
    parts.extend(load.map(|rate| format!("load {} KB/s", figure(rate))));
    if !run.complete {
        let why = run.reason.as_deref().unwrap_or(&run.ended);
        parts.push(format!("INCOMPLETE: {why}"));
    }
    list(out, &format!("run {number:<7}"), parts)
}

/// Writes the table of `settings` and their ratios.
pub(super) fn comparison(settings: &[ComparedSetting], out: &mut impl Write) -> io::Result<()> {
    let bases = settings.iter().filter_map(|of| of.base.as_ref());
    let mut bases: Vec<&String> = bases.collect();
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
            Rate::of_settings(settings).short_unit(),
            "%",
            "(95 % interval)",
            "%",
            "per M",
            "p50",
            "p99",
        ],
    )?;
    for compared in settings {
        setting(compared, out)?;
    }
    verdicts(settings, out)
}

fn setting(compared: &ComparedSetting, out: &mut impl Write) -> io::Result<()> {
    let mut name = plain(&compared.setting);
    if name.chars().count() > NAME {
        sentence(out, "", &name)?;
        name.clear();
    }
    let rate = Rate::of_setting(compared);
    let spread = rate.spread(compared);
    let width = spread.map(|of| (of.max - of.min) / of.median * 100.0);
    let ratio = match (
        &compared.base,
        compared.ratios.and_then(|of| rate.ratio(of)),
    ) {
        (None, _) => "base".to_owned(),
        (Some(_), Some(ratio)) => ratio_with_interval(ratio),
        (Some(_), None) => "-".to_owned(),
    };
    line(
        out,
        [
            &name,
            &known(spread.map(|of| of.median)),
            &known(width),
            &ratio,
            &lost(compared.lost_packets, compared.sent_packets),
            &known(compared.cpu_s_per_million.map(|of| of.median)),
            &time(compared.latency_p50_ns),
            &time(compared.latency_p99_ns),
        ],
    )?;
    if compared.incomplete == 0 {
        return Ok(());
    }
    let all = compared.runs + compared.incomplete;
    let incomplete = format!(
        "{} of {all} runs incomplete and not counted",
        compared.incomplete
    );
    sentence(out, "  ! ", &incomplete)
}

fn line(out: &mut impl Write, cells: [&str; 8]) -> io::Result<()> {
    let [name, rate, spread, ratio, lost, cpu, p50, p99] = cells;
    let row =
        format!("{name:<NAME$}{rate:>11}{spread:>7}  {ratio:<19}{lost:>7}{cpu:>6}{p50:>8}{p99:>8}");
    writeln!(out, "{}", row.trim_end())
}

/// Writes the ratios, figure by figure, as sentences that can be quoted alone.
fn verdicts(settings: &[ComparedSetting], out: &mut impl Write) -> io::Result<()> {
    type Figure = fn(Ratios) -> Option<Ratio>;
    let mut figures: Vec<(&str, Figure)> = vec![
        ("KB/s", |of| of.kb_per_s),
        ("CPU", |of| of.cpu_s_per_million),
        ("p99 a run", |of| of.latency_p99_ns),
    ];
    let sizes = |of: &ComparedSetting| (of.requested.chunk, of.requested.traffic.sizes.clone());
    let first = settings.first().map(sizes);
    if Rate::of_settings(settings) == Rate::RoundTrips {
        figures[0] = ("trips/s", |of| of.packets_per_s);
    } else if settings.iter().any(|of| Some(sizes(of)) != first) {
        figures.insert(1, ("packets/s", |of| of.packets_per_s));
    }
    let mut too_few = false;
    for (name, of) in figures {
        let mut label = name;
        for compared in settings {
            let Some(base) = &compared.base else { continue };
            let ratio = compared.ratios.and_then(of);
            let words = verdict(&compared.setting, base, ratio);
            fill(out, &format!("{label:<INDENT$}"), words)?;
            too_few |= ratio.is_some_and(|ratio| ratio.interval.is_none());
            label = "";
        }
    }
    if too_few {
        let advice = format!("too few runs for an interval; --repeat {FEWEST} or more");
        sentence(out, "", &advice)?;
    }
    if settings.iter().any(|of| of.mode == "paced") {
        let paced =
            "KB/s of a paced run follow its schedule; compare CPU, and p99 from the intended send";
        sentence(out, "", paced)?;
    }
    Ok(())
}

/// The sentence as pieces; a line breaks only between pieces, so the interval is one piece.
fn verdict(setting: &str, base: &str, ratio: Option<Ratio>) -> Vec<String> {
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let Some(ratio) = ratio else {
        return words(&format!("{setting} and {base}: a run has no such figure"));
    };
    let mut pieces: Vec<String> =
        words(&format!("{setting} is {} times {base}", times(ratio.ratio)));
    if ratio.verdict == Verdict::NoDifferenceShown {
        pieces.splice(..0, words("no difference shown:"));
    }
    if let Some(Interval { low, high }) = ratio.interval {
        pieces.push(format!("(95 % interval {} to {})", times(low), times(high)));
    }
    pieces
}

/// The lost share in percent; 0 only if no datagram was lost.
fn lost(lost: u64, sent: u64) -> String {
    let share = lost as f64 / sent as f64 * 100.0;
    match lost {
        _ if sent == 0 => "-".to_owned(),
        0 => "0".to_owned(),
        _ if share < 0.001 => "<0.001".to_owned(),
        _ => figure(share),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compare::udp::tests::{compared, rounds};
    use crate::report::export::text::layout::WIDTH;

    fn shown(settings: &[ComparedSetting]) -> String {
        let mut out = Vec::new();
        comparison(settings, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line, line.trim_end());
        }
        text
    }

    #[test]
    fn comparison_is_a_table_and_sentences() {
        assert_eq!(
            shown(&compared(&rounds(5))),
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
    fn too_few_and_incomplete_runs_are_reported() {
        let mut runs = rounds(5);
        runs[3].complete = false;
        let text = shown(&compared(&runs));
        assert!(
            text.contains("\n  ! 1 of 5 runs incomplete and not counted\n"),
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
        let text = shown(&compared(&runs));
        assert!(
            text.contains("KB/s       batch 16 and batch 1: a run has no such figure"),
            "{text}"
        );
    }

    #[test]
    fn any_loss_is_visible() {
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
        let text = shown(&compared(&runs));
        assert!(
            text.contains("\nuring, zerocopy msg, chunk 8192, batch 16?[2J\n             26,123,"),
            "{text}"
        );
        assert!(text.contains("\npackets/s  "), "{text}");
    }
}
