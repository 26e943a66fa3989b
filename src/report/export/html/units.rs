//! Units of axes.

/// A unit for rates in KB/s, and its size in KB/s.
pub(super) fn rate_unit(rates: impl Iterator<Item = f64>) -> (&'static str, f64) {
    let largest = rates.filter(|rate| rate.is_finite()).fold(0.0, f64::max);
    match largest {
        _ if largest >= 1e6 => ("GB/s", 1e6),
        _ if largest >= 1e3 => ("MB/s", 1e3),
        _ => ("KB/s", 1.0),
    }
}
