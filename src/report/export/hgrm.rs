//! The percentile distribution in ns, in the format of HdrHistogram's plotter.
//!
//! Equal to the output of `outputPercentileDistribution` in the Java reference with 5 ticks per half distance, a scaling of 1 and
//! 3 decimals.

use std::io::{self, Write};

use crate::stats::latency::Latency;

/// Rows per halving of the distance to 100 %, as in the reference's own files.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

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
    let mut total: u64 = 0;
    for step in latency.histogram().iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total = total.saturating_add(step.count_since_last_iteration());
        // The last bucket may end above the largest value.
        let value = step
            .value_iterated_to()
            .min(latency.max().unwrap_or(u64::MAX)) as f64;
        let quantile = step.quantile_iterated_to();
        write!(out, "{value:12.3} {quantile:.12} {total:10}")?;
        // The reference omits 1/(1-1) in the last row.
        if quantile < 1.0 {
            write!(out, " {:14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(out)?;
    }
    Ok(())
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
