//! Goodput and latency over the time of a run, a line each, from its interval rows.

use std::io::{self, Write};

use super::layout::{INDENT, WIDTH, sentence, time};
use crate::report::figures::figure;
use crate::udp::result::{Interval, Run};
use crate::units::grouped;

/// Fewest intervals with a value that make a line.
const FEWEST: usize = 3;

/// Most columns of a line.
const MOST: usize = 60;

/// Eight heights: the lowest is up to an eighth of the highest value, and 0.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Writes a line for goodput and one for the 99 % latency, from 0 to the largest value. Time without a value is a space.
pub(super) fn sparklines(run: &Run, out: &mut impl Write) -> io::Result<()> {
    // The closing row may have no length.
    let rows = run.intervals.iter();
    let rows: Vec<&Interval> = rows
        .filter(|row| {
            let (start, length) = (row.start_s, row.seconds);
            start.is_finite() && start >= 0.0 && length.is_finite() && length > 0.0
        })
        .collect();
    let rate = |row: &Interval| Some(row.kb_per_s).filter(|rate| rate.is_finite());
    let rate_text = |least: f64, most: f64| format!("{} to {} KB/s", figure(least), figure(most));
    if run.round_trip.is_none() {
        line("goodput", &rows, rate, mean, rate_text, out)?;
    }
    let p99 = |row: &Interval| row.latency_p99_ns.map(|ns| ns as f64);
    let p99_text = |least: f64, most: f64| {
        let ns = |value: f64| time(Some(value as u64));
        format!("{} to {}", ns(least), ns(most))
    };
    line("p99", &rows, p99, highest, p99_text, out)?;
    if run.intervals_omitted > 0 && rows.len() >= FEWEST {
        let first = format!("of the first {} intervals", grouped(rows.len() as u64));
        sentence(out, &" ".repeat(INDENT), &first)?;
    }
    Ok(())
}

fn line(
    label: &str,
    rows: &[&Interval],
    value: impl Fn(&Interval) -> Option<f64>,
    join: impl Fn(&[(f64, f64)]) -> Option<f64>,
    text: impl Fn(f64, f64) -> String,
    out: &mut impl Write,
) -> io::Result<()> {
    let values: Vec<f64> = rows.iter().filter_map(|row| value(row)).collect();
    if values.len() < FEWEST {
        return Ok(());
    }
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    let range = text(least, most);
    let room = WIDTH.saturating_sub(INDENT + 2 + range.chars().count());
    let columns = columns(rows, room.min(MOST), value, join);
    let bars: String = columns.iter().map(|column| bar(*column, most)).collect();
    writeln!(out, "{label:<INDENT$}{bars}  {range}")
}

/// The values of columns of equal time, at most `most` columns.
fn columns(
    rows: &[&Interval],
    most: usize,
    value: impl Fn(&Interval) -> Option<f64>,
    join: impl Fn(&[(f64, f64)]) -> Option<f64>,
) -> Vec<Option<f64>> {
    let end = rows.iter().map(|row| row.start_s + row.seconds);
    let end = end.fold(0.0, f64::max);
    let mut lengths: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
    lengths.sort_by(f64::total_cmp);
    let usual = lengths.get(lengths.len() / 2).copied().unwrap_or(end);
    // The last interval is mostly shorter than the others, and is a column too.
    let count = ((end / usual).ceil() as usize).clamp(1, most.max(1));
    let length = match (end / usual).ceil() as usize > count {
        true => end / count as f64,
        false => usual,
    };
    let column = |number: usize| {
        let (from, to) = (number as f64 * length, (number + 1) as f64 * length);
        let parts = rows.iter().filter_map(|row| {
            let overlap = to.min(row.start_s + row.seconds) - from.max(row.start_s);
            // Rounding leaves a row a tiny share of the next column.
            let overlaps = overlap > 1e-6 * length;
            overlaps.then_some(())?;
            Some((value(row)?, overlap))
        });
        join(&parts.collect::<Vec<_>>())
    };
    (0..count).map(column).collect()
}

/// The mean of values, weighted by their time.
fn mean(parts: &[(f64, f64)]) -> Option<f64> {
    let time: f64 = parts.iter().map(|(_, time)| time).sum();
    let sum: f64 = parts.iter().map(|(value, time)| value * time).sum();
    (time > 0.0).then(|| sum / time)
}

/// The largest value: percentiles have no mean.
fn highest(parts: &[(f64, f64)]) -> Option<f64> {
    parts.iter().map(|(value, _)| *value).reduce(f64::max)
}

fn bar(value: Option<f64>, most: f64) -> char {
    let Some(value) = value else { return ' ' };
    let share = match most > 0.0 {
        true => value / most,
        false => 0.0,
    };
    let height = (share * HEIGHTS.len() as f64).ceil() as usize;
    HEIGHTS[height.clamp(1, HEIGHTS.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(start_s: f64, seconds: f64, kb_per_s: f64, p99: Option<u64>) -> Interval {
        Interval {
            start_s,
            seconds,
            kb_per_s,
            latency_p99_ns: p99,
            ..Interval::default()
        }
    }

    fn shown(intervals: Vec<Interval>) -> Vec<String> {
        let run = Run {
            intervals,
            ..Run::default()
        };
        let mut out = Vec::new();
        sparklines(&run, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn each_interval_is_a_bar_from_0_to_the_largest_value() {
        let values = [8.0, 1.0, 4.0, 0.0];
        let rows = (0..).zip(values).map(|(n, value)| {
            let p99 = (value > 0.0).then_some((value * 1e3) as u64);
            row(f64::from(n), 1.0, value * 1e3, p99)
        });
        assert_eq!(
            shown(rows.collect()),
            [
                "goodput    █▁▄▁  0 to 8,000 KB/s",
                "p99        █▁▄   1.00 us to 8.00 us"
            ]
        );
    }

    #[test]
    fn missing_time_is_a_space_and_a_long_interval_has_several_columns() {
        let rows = vec![
            row(0.0, 1.0, 8.0, Some(8)),
            row(1.0, 1.0, 8.0, None),
            row(3.0, 1.0, 4.0, Some(4)),
            row(4.0, 2.0, 8.0, Some(2)),
            row(6.0, 0.25, 8.0, Some(8)),
            row(6.25, 0.0, 0.0, None),
        ];
        assert_eq!(
            shown(rows),
            [
                "goodput    ██ ▄███  4.00 to 8.00 KB/s",
                "p99        █  ▄▂▂█  2 ns to 8 ns"
            ]
        );
    }

    #[test]
    fn fewer_than_three_values_make_no_line() {
        let two = vec![row(0.0, 1.0, 8.0, None), row(1.0, 1.0, 8.0, None)];
        assert!(shown(two.clone()).is_empty());
        let three = [two, vec![row(2.0, 1.0, 8.0, Some(1))]].concat();
        assert_eq!(shown(three), ["goodput    ███  8.00 to 8.00 KB/s"]);
        assert!(shown(Vec::new()).is_empty());
    }

    #[test]
    fn a_long_run_is_joined_by_the_mean_of_goodput_and_the_largest_p99() {
        let rows = (0..1_000).map(|n| {
            let (rate, p99) = match n % 100 {
                0 => (0.0, 8_000),
                _ => (100.0, 1_000),
            };
            row(f64::from(n), 1.0, rate, Some(p99))
        });
        let lines = shown(rows.collect());
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
        let bars = |line: &str| line[INDENT..].split("  ").next().unwrap().to_owned();
        assert!(
            bars(&lines[0]).chars().all(|bar| "▇█".contains(bar)),
            "{lines:?}"
        );
        // 10 peaks of one interval are visible among 1,000.
        let peaks = bars(&lines[1]).chars().filter(|bar| *bar == '█').count();
        assert!((10..=20).contains(&peaks), "{lines:?}");
    }

    proptest! {
        #[test]
        fn no_rows_panic_or_exceed_the_width(
            rows in prop::collection::vec((any::<f64>(), any::<f64>(), any::<f64>(), any::<Option<u64>>()), 0..40),
        ) {
            let rows = rows.into_iter().map(|(start, seconds, rate, p99)| row(start, seconds, rate, p99));
            for line in shown(rows.collect()) {
                prop_assert!(line.chars().count() <= WIDTH, "{}", line);
            }
        }
    }
}
