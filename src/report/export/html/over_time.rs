//! Charts over time: of a run, and of compared settings.

use super::chart::{Axis, Band, Line, Lines, Series, keep_distinct};
use super::units::rate_unit;
use crate::report::export::rate::Rate;
use crate::udp::result::{Interval, Run};
use crate::units::grouped;

impl Rate {
    fn title(self) -> &'static str {
        match self {
            Self::Goodput => "Goodput over time",
            Self::RoundTrips => "Round trips over time",
        }
    }

    fn how(self) -> &'static str {
        match self {
            Self::Goodput => {
                "Message bytes that arrived for the first time in each interval. A dip is a stall or a loss."
            }
            Self::RoundTrips => {
                "Responses that arrived in each interval. A dip is a stall or a loss."
            }
        }
    }

    /// KB, or responses, a second.
    fn of_interval(self, row: &Interval) -> f64 {
        match self {
            Self::Goodput => row.kb_per_s,
            Self::RoundTrips => row.packets as f64 / row.seconds,
        }
    }

    /// The unit of an axis, and its size.
    pub(super) fn axis_unit(self, rates: impl Iterator<Item = f64>) -> (&'static str, f64) {
        match self {
            Self::Goodput => rate_unit(rates),
            Self::RoundTrips => ("round trips/s", 1.0),
        }
    }
}

/// The rows as steps.
fn steps<V: Copy>(rows: &[Interval], value: impl Fn(&Interval) -> V) -> Vec<(f64, V)> {
    let rows = rows.iter().filter(|row| row.start_s.is_finite());
    rows.flat_map(|row| {
        let value = value(row);
        [(row.start_s, value), (row.start_s + row.seconds, value)]
    })
    .collect()
}

/// The rows without those much shorter than the longest: a few datagrams at the end of a run are no rate.
fn whole(rows: &[Interval]) -> Vec<Interval> {
    let longest = rows.iter().map(|row| row.seconds).fold(0.0, f64::max);
    let rows = rows.iter();
    rows.filter(|row| row.seconds >= longest / 10.0)
        .cloned()
        .collect()
}

fn time_axis<'a>(rows: impl Iterator<Item = &'a Interval>) -> Axis {
    let ends = rows.map(|row| row.start_s + row.seconds);
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

pub(super) fn latency(run: &Run) -> Option<Lines> {
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
        x: time_axis(run.intervals.iter()),
        y: Axis::latency("latency", values.into_iter()),
        bands: vec![
            Band {
                series: Series(0),
                points: steps(&run.intervals, |row| p50(row).zip(p99(row))),
            },
            Band {
                series: Series(0),
                points: steps(&run.intervals, |row| p50(row).zip(max(row))),
            },
        ],
        lines: vec![
            line(1, "maximum", steps(&run.intervals, max)),
            line(2, "99 %", steps(&run.intervals, p99)),
            line(0, "median", steps(&run.intervals, p50)),
        ],
    })
}

/// Goodput, or round trips.
pub(super) fn rate(run: &Run) -> Option<Lines> {
    if run.intervals.is_empty() {
        return None;
    }
    let rate = Rate::of_run(run);
    let rows = whole(&run.intervals);
    let rates = || rows.iter().map(|row| rate.of_interval(row));
    let (unit, scale) = rate.axis_unit(rates());
    Some(Lines {
        title: rate.title().into(),
        how: over_time(rate.how(), run),
        x: time_axis(run.intervals.iter()),
        y: Axis::from_zero(rate.name(), unit, rates().map(|rate| rate / scale)),
        bands: Vec::new(),
        lines: vec![Line {
            series: Series(0),
            name: rate.name().into(),
            points: steps(&rows, |row| {
                Some(rate.of_interval(row) / scale).filter(|rate| rate.is_finite())
            }),
            is_envelope: false,
        }],
    })
}

/// Missing datagrams; `None` if no interval has any.
pub(super) fn missing(run: &Run) -> Option<Lines> {
    if run.intervals.iter().all(|row| row.missing == 0) {
        return None;
    }
    let missing = run.intervals.iter().map(|row| row.missing as f64);
    Some(Lines {
        title: "Loss over time".into(),
        how: over_time(
            "Datagrams that went missing in each interval; below zero, earlier ones arrived late.",
            run,
        ),
        x: time_axis(run.intervals.iter()),
        y: Axis::of_counts("missing", "datagrams an interval", missing),
        bands: Vec::new(),
        lines: vec![Line {
            series: Series(1),
            name: "missing".into(),
            points: steps(&run.intervals, |row| Some(row.missing as f64)),
            is_envelope: false,
        }],
    })
}

/// A compared setting: its colour, its name and the intervals of its typical run.
pub(super) type Intervals<'a> = (Series, &'a str, &'a [Interval]);

/// The rate and 99 % latency of settings, a line each; none without a run of two intervals.
pub(super) fn settings(rate: Rate, all: &[Intervals<'_>]) -> Vec<Lines> {
    let known = all.iter().filter(|(.., rows)| !rows.is_empty());
    let mut known: Vec<(Series, &str, Vec<Interval>)> = known
        .map(|(series, name, rows)| (*series, *name, whole(rows)))
        .collect();
    let further = keep_distinct(&mut known, |of| of.0);
    if known.iter().all(|(.., rows)| rows.len() < 2) {
        return Vec::new();
    }
    let all_rows = || known.iter().flat_map(|(.., rows)| rows.iter());
    let lines = |value: &dyn Fn(&Interval) -> Option<f64>, is_envelope| {
        let lines = known.iter().map(|(series, name, rows)| Line {
            series: *series,
            name: (*name).to_owned(),
            points: steps(rows, value),
            is_envelope,
        });
        lines.collect::<Vec<_>>()
    };
    let (unit, scale) = rate.axis_unit(all_rows().map(|row| rate.of_interval(row)));
    let value =
        |row: &Interval| Some(rate.of_interval(row) / scale).filter(|rate| rate.is_finite());
    let which = format!(
        "Of each setting, the complete run with the median {}.",
        rate.name()
    );
    let p99 = |row: &Interval| row.latency_p99_ns.map(|ns| ns as f64);
    let rates = Lines {
        title: rate.title().into(),
        how: format!("{which} A dip is a stall or a loss."),
        x: time_axis(all_rows()),
        y: Axis::from_zero(rate.name(), unit, all_rows().filter_map(value)),
        bands: Vec::new(),
        lines: lines(&value, false),
    };
    let mut charts = vec![rates];
    if all_rows().any(|row| row.latency_p99_ns.is_some()) {
        charts.push(Lines {
            title: "99 % latency over time".into(),
            how: format!("{which} Lower is better.{further}"),
            x: time_axis(all_rows()),
            y: Axis::latency("latency", all_rows().filter_map(p99)),
            bands: Vec::new(),
            lines: lines(&p99, true),
        });
    }
    charts
}
