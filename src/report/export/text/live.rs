//! The live rows of a running measurement: one per interval, under a header.

use super::layout::time;
use crate::report::figures::figure;
use crate::udp::result::Interval;
use crate::units::grouped;

/// Column names of [`interval`].
pub fn interval_header() -> &'static str {
    "     s        KB/s    packets  missing    dup reorder      p50      p99      max"
}

/// One row: start, arrivals, missing datagrams and latencies. A figure that is wider than its column moves the later columns.
pub fn interval(row: &Interval) -> String {
    let start = match row.start_s {
        start if start.is_finite() => format!("{start:.1}"),
        _ => "-".to_owned(),
    };
    let sign = if row.missing < 0 { "-" } else { "" };
    let missing = format!("{sign}{}", grouped(row.missing.unsigned_abs()));
    format!(
        "{start:>6} {:>11} {:>10} {missing:>8} {:>6} {:>7} {:>8} {:>8} {:>8}",
        figure(row.kb_per_s),
        grouped(row.packets),
        grouped(row.duplicates),
        grouped(row.reordered),
        time(row.latency_p50_ns),
        time(row.latency_p99_ns),
        time(row.latency_max_ns),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::udp as sample;

    #[test]
    fn figures_are_aligned_with_their_header() {
        let rows = [
            interval_header().to_owned(),
            interval(&sample::interval()),
            interval(&Interval::default()),
        ];
        assert_eq!(
            rows.join("\n"),
            "     s        KB/s    packets  missing    dup reorder      p50      p99      max\n\
             \x20  1.0     700,000    700,001       -3      1       2  12.3 us  4.56 ms  9.87 ms\n\
             \x20  0.0           0          0        0      0       0        -        -        -"
        );
        assert_eq!(rows[1].len(), 80);
    }

    #[test]
    fn no_value_panics() {
        let row = Interval {
            start_s: f64::NAN,
            kb_per_s: f64::INFINITY,
            packets: u64::MAX,
            missing: i64::MIN,
            latency_max_ns: Some(u64::MAX),
            ..Interval::default()
        };
        assert!(interval(&row).contains("-9,223,372,036,854,775,808"));
    }
}
