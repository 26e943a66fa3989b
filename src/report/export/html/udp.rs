//! The section of a record of `bench udp`.

use std::io::{self, Write};
use std::slice;

use super::chart::{Axis, Band, Bar, Bars, Chart, Line, Lines, Series};
use super::comparison::{self, Setting};
use super::percentiles::percentiles;
use super::units::rate_unit;
use super::{page, table};
use crate::report::export::columns::{UDP_RUN, UDP_SETTING};
use crate::report::export::headline::{self, UDP_REPEATS, UDP_RUNS, UDP_SETTINGS, udp_notes};
use crate::report::figures::{figure, percent};
use crate::report::model::{Curve, Distributed, UdpRecord};
use crate::stats::latency::Summary;
use crate::udp::result::{Interval, Run};
use crate::units::grouped;

/// Writes the section.
pub(super) fn section(record: &UdpRecord, out: &mut dyn Write) -> io::Result<()> {
    let (bad, notes): (Vec<String>, _) = udp_notes(record)
        .into_iter()
        .partition(|note| note.contains("incomplete: "));
    // The notice has the word already.
    let bad: Vec<String> = bad
        .iter()
        .map(|note| note.replacen("incomplete: ", "", 1))
        .collect();
    page::notices(true, &bad, out)?;
    page::notices(false, &notes, out)?;
    page::environment(&record.meta, out)?;
    let figures = match (&record.comparison[..], &record.runs[..]) {
        ([], [run]) => headline::table(UDP_RUN, UDP_RUNS, slice::from_ref(run)),
        ([], runs) => headline::table(UDP_RUN, UDP_REPEATS, runs).numbered(),
        (settings, _) => headline::table(UDP_SETTING, UDP_SETTINGS, settings),
    };
    table::write(&figures, out)?;
    writeln!(out, "<div class=\"charts\">")?;
    if record.comparison.is_empty() {
        if record.runs.len() > 1 {
            repeats(&record.runs).draw()?.write(out)?;
        }
        if let Some((number, run)) = typical(&record.runs) {
            let curves = run
                .histograms()
                .map(|name| record.curves.get(&name).cloned());
            for mut chart in run_charts(run, curves)? {
                if record.runs.len() > 1 && !chart.title.starts_with("Latency by") {
                    chart.title += &format!(", run {number}");
                }
                chart.write(out)?;
            }
        }
    } else {
        comparison::charts(&settings(record), out)?;
    }
    writeln!(out, "</div>")
}

fn settings(record: &UdpRecord) -> Vec<Setting> {
    let of = |name: &str| {
        let runs = record.runs.iter();
        let runs: Vec<&Run> = runs
            .filter(|run| run.setting.as_deref() == Some(name) && run.complete)
            .collect();
        record.curves.compared(&runs)
    };
    let settings = record.comparison.iter();
    settings
        .map(|setting| Setting::of_udp(setting, of(&setting.setting)))
        .collect()
}

/// The complete run with the median goodput, or else the first run, and its number.
fn typical(runs: &[Run]) -> Option<(usize, &Run)> {
    let mut known: Vec<_> = runs
        .iter()
        .enumerate()
        .filter(|(_, run)| run.complete && run.kb_per_s.is_some())
        .collect();
    known.sort_by(|(_, one), (_, other)| {
        let rate = |run: &Run| run.kb_per_s.unwrap_or_default();
        rate(one).total_cmp(&rate(other))
    });
    let middle = known.get(known.len() / 2).copied();
    middle.or_else(|| runs.iter().enumerate().next())
}

fn repeats(runs: &[Run]) -> Lines {
    let (unit, scale) = rate_unit(runs.iter().filter_map(|run| run.kb_per_s));
    let known = |run: &Run| run.kb_per_s.map(|rate| rate / scale);
    let steps = runs.iter().enumerate().flat_map(|(number, run)| {
        let at = number as f64;
        [
            (at - 0.4, known(run)),
            (at + 0.4, known(run)),
            (at + 0.5, None),
        ]
    });
    let last = runs.len().saturating_sub(1) as f64;
    Lines {
        title: "Goodput of each run".into(),
        how: "A level line means that the runs agree; a slope is drift. An incomplete run may be missing.".into(),
        x: Axis::linear("run", "number".into(), 0.0, last).widened(0.5),
        y: Axis::from_zero("goodput", unit, runs.iter().filter_map(known)),
        bands: Vec::new(),
        lines: vec![Line {
            series: Series(0),
            name: "goodput".into(),
            points: steps.collect(),
            is_envelope: false,
        }],
    }
}

/// Charts of a run, whose latency from the actual and from the intended send has `curves`.
fn run_charts(run: &Run, curves: [Option<Curve>; 2]) -> io::Result<Vec<Chart>> {
    let mut charts = Vec::new();
    let [actual, intended] = curves;
    let of = |summary: &Option<Summary>| Curve::of_summary(summary.as_ref()?);
    let named = [
        (
            "from the actual send",
            actual.or_else(|| of(&run.latency_ns)),
        ),
        (
            "from the intended send",
            intended.or_else(|| of(&run.latency_from_intended_ns)),
        ),
    ];
    let how = "Read up from a percentile: that share of the datagrams took at most this long. A steep right end is a long tail.";
    charts.extend(percentiles("Latency by percentile", how, "latency", named));
    charts.extend(latency_over_time(run));
    charts.extend(goodput_over_time(run));
    charts.extend(missing_over_time(run));
    let mut charts: Vec<Chart> = charts
        .into_iter()
        .map(Lines::draw)
        .collect::<Result<_, _>>()?;
    if let Some(losses) = losses(run) {
        charts.push(losses.draw()?);
    }
    if let Some(pacing) = &run.pacing {
        charts.push(pace(pacing.target_pps, pacing.achieved_pps).draw()?);
        let named = [
            ("late by", Curve::of_summary(&pacing.lateness_ns)),
            ("gap off by", Curve::of_summary(&pacing.gap_error_ns)),
        ];
        let how = "Read up from a percentile: that share of the datagrams left at most this late, or this far off the intended gap.";
        let lines = percentiles("Accuracy of the schedule", how, "deviation", named);
        charts.extend(lines.map(Lines::draw).transpose()?);
    }
    Ok(charts)
}

/// The rows as steps.
fn steps<V: Copy>(run: &Run, value: impl Fn(&Interval) -> V) -> Vec<(f64, V)> {
    let rows = run.intervals.iter().filter(|row| row.start_s.is_finite());
    rows.flat_map(|row| {
        let value = value(row);
        [(row.start_s, value), (row.start_s + row.seconds, value)]
    })
    .collect()
}

fn time_axis(run: &Run) -> Axis {
    let ends = run.intervals.iter().map(|row| row.start_s + row.seconds);
    Axis::time(ends.filter(|end| end.is_finite()).fold(0.0, f64::max))
}

/// `how`, and the intervals that are not in the record.
fn over_time(how: &str, run: &Run) -> String {
    match run.intervals_omitted {
        0 => how.to_owned(),
        omitted => format!(
            "{how} The last {} intervals are only in intervals.csv.",
            grouped(omitted)
        ),
    }
}

fn latency_over_time(run: &Run) -> Option<Lines> {
    let p50 = |row: &Interval| row.latency_p50_ns.map(|ns| ns as f64);
    let p99 = |row: &Interval| row.latency_p99_ns.map(|ns| ns as f64);
    let max = |row: &Interval| row.latency_max_ns.map(|ns| ns as f64);
    let values = run.intervals.iter();
    let values: Vec<f64> = values
        .flat_map(|row| [p50(row), max(row)])
        .flatten()
        .collect();
    if values.is_empty() {
        return None;
    }
    let line = |at, name: &str, points| Line {
        series: Series(at),
        name: name.to_owned(),
        points,
        is_envelope: at > 0,
    };
    Some(Lines {
        title: "Latency over time".into(),
        how: over_time(
            "The darker band reaches from the median to the 99 % latency of each interval, the lighter one to the maximum.",
            run,
        ),
        x: time_axis(run),
        y: Axis::latency("latency", values.into_iter()),
        bands: vec![
            Band {
                series: Series(0),
                points: steps(run, |row| p50(row).zip(p99(row))),
            },
            Band {
                series: Series(0),
                points: steps(run, |row| p50(row).zip(max(row))),
            },
        ],
        lines: vec![
            line(1, "maximum", steps(run, max)),
            line(2, "99 %", steps(run, p99)),
            line(0, "median", steps(run, p50)),
        ],
    })
}

fn goodput_over_time(run: &Run) -> Option<Lines> {
    if run.intervals.is_empty() {
        return None;
    }
    let rates = || run.intervals.iter().map(|row| row.kb_per_s);
    let (unit, scale) = rate_unit(rates());
    Some(Lines {
        title: "Goodput over time".into(),
        how: over_time(
            "Message bytes that arrived for the first time in each interval. A dip is a stall or a loss.",
            run,
        ),
        x: time_axis(run),
        y: Axis::from_zero("goodput", unit, rates().map(|rate| rate / scale)),
        bands: Vec::new(),
        lines: vec![Line {
            series: Series(0),
            name: "goodput".into(),
            points: steps(run, |row| {
                Some(row.kb_per_s / scale).filter(|rate| rate.is_finite())
            }),
            is_envelope: false,
        }],
    })
}

fn missing_over_time(run: &Run) -> Option<Lines> {
    if run.intervals.is_empty() {
        return None;
    }
    let missing = run.intervals.iter().map(|row| row.missing as f64);
    Some(Lines {
        title: "Loss over time".into(),
        how: over_time(
            "Datagrams that went missing in each interval; below zero, earlier ones arrived late.",
            run,
        ),
        x: time_axis(run),
        y: Axis::of_counts("missing", "datagrams an interval", missing),
        bands: Vec::new(),
        lines: vec![Line {
            series: Series(1),
            name: "missing".into(),
            points: steps(run, |row| Some(row.missing as f64)),
            is_envelope: false,
        }],
    })
}

/// Losses by cause; `None` if they are unknown.
fn losses(run: &Run) -> Option<Bars> {
    let lost = run.lost;
    if lost.is_unknown {
        return None;
    }
    let causes = [
        ("not sent", lost.not_sent),
        ("receiver's socket", lost.receiver_socket),
        ("elsewhere", lost.elsewhere),
    ];
    let bars = causes.into_iter().enumerate().map(|(at, (cause, count))| {
        let share = match count {
            0 => String::new(),
            _ => format!(" ({})", percent(count, run.sent.packets)),
        };
        Bar {
            series: Series(at),
            name: cause.to_owned(),
            text: format!("{}{share}", grouped(count)),
            value: Some(count as f64),
            whisker: None,
            is_hollow: false,
        }
    });
    Some(Bars {
        title: "Losses by cause".into(),
        how: "Not sent: refused by the sender's kernel. Receiver's socket: its buffer was full. Elsewhere: on the path.".into(),
        x: Axis::of_counts("lost", "datagrams", causes.iter().map(|of| of.1 as f64)),
        rows: "cause",
        origin: 0.0,
        bars: bars.collect(),
    })
}

fn pace(requested: f64, achieved: Option<f64>) -> Bars {
    let rows = [("requested", Some(requested)), ("achieved", achieved)];
    let bars = rows.into_iter().enumerate().map(|(at, (name, rate))| {
        let text = rate.map(|rate| format!("{} packets/s", figure(rate)));
        Bar {
            series: Series(at),
            name: name.to_owned(),
            text: text.unwrap_or_default(),
            value: rate,
            whisker: None,
            is_hollow: false,
        }
    });
    Bars {
        title: "Pacing".into(),
        how: "Equal bars mean that the sender kept the requested rate.".into(),
        x: Axis::from_zero("rate", "packets/s", rows.iter().filter_map(|of| of.1)),
        rows: "rate",
        origin: 0.0,
        bars: bars.collect(),
    }
}
