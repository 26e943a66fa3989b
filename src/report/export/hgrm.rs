//! The percentile distribution in ns, in the format of HdrHistogram's plotter.
//!
//! Equal to the output of `outputPercentileDistribution` in the Java reference with 5 ticks per half distance, a scaling of 1 and
//! 3 decimals.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::report::model::{Curve, Curves};
use crate::stats::latency::Latency;

/// Rows per halving of the distance to 100 %, as in the reference's own files.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Longest accepted file, in bytes. A file has a few hundred rows.
const LONGEST: u64 = 1 << 20;

/// The merged histograms of several runs, by file name.
#[derive(Debug, Clone, Default)]
pub struct Histograms(Vec<(String, Latency)>);

impl Histograms {
    /// Merges `latency` into the histogram of the file `name`.
    pub fn add(&mut self, name: &str, latency: &Latency) {
        match self.0.iter_mut().find(|(of, _)| of == name) {
            Some((_, all)) => all.merge(latency),
            None => self.0.push((name.to_owned(), latency.clone())),
        }
    }

    /// The file names and their histograms.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Latency)> {
        self.0.iter().map(|(name, latency)| (&name[..], latency))
    }

    /// The curves of all files.
    pub fn curves(&self) -> Curves {
        let mut curves = Curves::default();
        for (name, latency) in self.iter() {
            curves.add(name.to_owned(), |_| curve(latency));
        }
        curves
    }
}

/// Writes the distribution of `latency`. An empty histogram has a header, and a footer with a total count of 0.
///
/// # Errors
/// Those of `out`.
pub fn write(latency: &Latency, mut out: impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    if latency.count() > 0 {
        rows(latency, &mut out)?;
    }
    footer(latency, &mut out)
}

fn rows(latency: &Latency, out: &mut impl Write) -> io::Result<()> {
    for (value, quantile, total) in distribution(latency) {
        let value = value as f64;
        write!(out, "{value:12.3} {quantile:.12} {total:10}")?;
        // The reference omits 1/(1-1) in the last row.
        if quantile < 1.0 {
            write!(out, " {:14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Value in ns, quantile and number of values up to it, for each row.
fn distribution(latency: &Latency) -> impl Iterator<Item = (u64, f64, u64)> {
    let mut total: u64 = 0;
    let histogram = latency.histogram();
    let steps = histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE);
    let rows = steps.map(move |step| {
        total = total.saturating_add(step.count_since_last_iteration());
        // The last bucket may end above the largest value.
        let end = latency.max().unwrap_or(u64::MAX);
        let value = step.value_iterated_to().min(end);
        (value, step.quantile_iterated_to(), total)
    });
    rows.collect::<Vec<_>>().into_iter()
}

/// The curve that [`write`] writes for `latency`; `None` without values.
pub fn curve(latency: &Latency) -> Option<Curve> {
    if latency.count() == 0 {
        return None;
    }
    let rows = distribution(latency).map(|(value, quantile, _)| (quantile, value as f64));
    Curve::new(rows.collect(), latency.count())
}

/// The curve in a file of this format; `None` if it is missing, longer than any such file, or of another format.
pub fn read(path: &Path) -> Option<Curve> {
    let mut text = String::new();
    let file = File::open(path).ok()?.take(LONGEST + 1);
    io::BufReader::new(file).read_to_string(&mut text).ok()?;
    (text.len() as u64 <= LONGEST)
        .then(|| parse(&text))
        .flatten()
}

fn parse(text: &str) -> Option<Curve> {
    let (head, rows) = text.split_once('\n')?;
    if !head.trim_start().starts_with("Value ") {
        return None;
    }
    let (mut points, mut count) = (Vec::new(), 0);
    let is_row = |row: &&str| !row.starts_with('#');
    for row in rows
        .lines()
        .take_while(is_row)
        .filter(|row| !row.is_empty())
    {
        let mut cells = row.split_whitespace();
        let value: f64 = cells.next()?.parse().ok()?;
        let quantile: f64 = cells.next()?.parse().ok()?;
        count = cells.next()?.parse().ok()?;
        points.push((quantile, value));
    }
    Curve::new(points, count)
}

fn footer(latency: &Latency, out: &mut impl Write) -> io::Result<()> {
    let figures = latency.summary();
    let histogram = latency.histogram();
    let buckets = usize::from(histogram.buckets());
    // The first bucket uses all its sub-buckets, each further bucket the upper half.
    let sub_buckets = 2 * histogram.distinct_values() / (buckets + 1);
    writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        figures.mean.unwrap_or_default(),
        figures.stdev.unwrap_or_default()
    )?;
    writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        figures.max.unwrap_or_default() as f64,
        figures.count
    )?;
    writeln!(
        out,
        "#[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(latency: &Latency) -> String {
        let mut text = Vec::new();
        write(latency, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn empty_histogram_is_a_valid_file() {
        assert_eq!(
            written(&Latency::new()),
            "       Value     Percentile TotalCount 1/(1-Percentile)\n\n\
             #[Mean    =        0.000, StdDeviation   =        0.000]\n\
             #[Max     =        0.000, Total count    =            0]\n\
             #[Buckets =           26, SubBuckets     =         2048]\n"
        );
    }

    #[test]
    fn rows_equal_those_of_the_reference() {
        let mut latency = Latency::new();
        [1, 2, 3, 4].iter().for_each(|&ns| latency.record(ns));
        let text = written(&latency);
        let rows: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            rows[0],
            "       1.000 0.000000000000          1           1.00"
        );
        assert_eq!(
            rows[1],
            "       1.000 0.100000000000          1           1.11"
        );
        let last = rows.iter().rfind(|row| !row.starts_with('#')).unwrap();
        assert_eq!(*last, "       4.000 1.000000000000          4");
        assert!(text.contains("#[Mean    =        2.500, StdDeviation   =        1.118]\n"));
        assert!(text.contains("#[Max     =        4.000, Total count    =            4]\n"));
    }

    #[test]
    fn written_file_is_read_back() {
        let mut latency = Latency::new();
        (1..100_000u64).for_each(|n| latency.record(n * 7));
        let read = parse(&written(&latency)).unwrap();
        assert_eq!(read.count, 99_999);
        let known = curve(&latency).unwrap();
        assert_eq!(read.points.len(), known.points.len());
        for (read, known) in read.points.iter().zip(&known.points) {
            assert_eq!(read.1, known.1);
            assert!((read.0 - known.0).abs() < 1e-11);
        }
        assert!(parse(&written(&Latency::new())).is_none());
        for text in [
            "",
            "x\n",
            "Value x\na b c",
            "Value x\nnan 0.5 1",
            "Value x\n1 2 1",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn counts_and_percentiles_never_decrease() {
        let mut latency = Latency::new();
        (0..100_000u64).for_each(|n| latency.record(n * n));
        let mut before = (0.0, 0.0, 0);
        for row in written(&latency).lines().skip(2) {
            if row.starts_with('#') {
                break;
            }
            let mut cells = row.split_whitespace();
            let mut next = || cells.next().unwrap();
            let now: (f64, f64, u64) = (
                next().parse().unwrap(),
                next().parse().unwrap(),
                next().parse().unwrap(),
            );
            assert!(
                now.0 >= before.0 && now.1 >= before.1 && now.2 >= before.2,
                "{row}"
            );
            before = now;
        }
        assert_eq!((before.1, before.2), (1.0, 100_000));
    }
}
