//! Numbers and texts for a reader: few digits, units, and no control characters.

use crate::stats::ratio::Ratio;
use crate::units::grouped;

/// `value` with about three digits, or with all digits before the point; `-` for NaN and infinities.
pub(crate) fn figure(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "-".to_owned(),
        _ if size >= 1e15 => format!("{value:.3e}"),
        _ if size >= 999.95 => {
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{}", grouped(size.round() as u64))
        }
        _ if size >= 99.995 => format!("{value:.1}"),
        _ if size >= 0.9995 => format!("{value:.2}"),
        _ if size >= 0.001 => format!("{value:.3}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2e}"),
    }
}

/// `part` of `whole` in percent; never rounded to 0 % or 100 %.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let share = part as f64 / whole as f64 * 100.0;
    if part < whole && share > 99.99 {
        return "more than 99.99 %".to_owned();
    }
    format!("{} %", figure(share))
}

/// A ratio and, in parentheses, its interval.
pub(super) fn ratio_with_interval(ratio: Ratio) -> String {
    let middle = times(ratio.ratio);
    match ratio.interval {
        Some(of) => format!("{middle} ({}-{})", times(of.low), times(of.high)),
        None => middle,
    }
}

/// A ratio to the thousandth: comparisons look for differences of a few percent.
pub(super) fn times(ratio: f64) -> String {
    match ratio {
        0.001..9.9995 => format!("{ratio:.3}"),
        _ => figure(ratio),
    }
}

/// `text` with every control character replaced, as some texts come from the other host.
pub(crate) fn plain(text: &str) -> String {
    text.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ratios_have_three_decimals_while_they_fit() {
        assert_eq!(
            [0.0, 0.5, 9.9999, 12.345, 1e9].map(times),
            ["0", "0.500", "10.00", "12.35", "1,000,000,000"]
        );
    }

    #[test]
    fn figures_keep_their_meaning_at_any_size() {
        for (value, text) in [
            (2_134_567.4, "2,134,567"),
            (17.0765, "17.08"),
            (999.96, "1,000"),
            (0.047, "0.047"),
            (0.0, "0"),
            (1e-9, "1.00e-9"),
            (-1_234.0, "-1,234"),
            (f64::MAX, "1.798e308"),
            (f64::NAN, "-"),
            (f64::NEG_INFINITY, "-"),
        ] {
            assert_eq!(figure(value), text, "{value}");
        }
        assert_eq!(percent(1, u64::MAX), "5.42e-18 %");
        assert_eq!(percent(99_999, 100_000), "more than 99.99 %");
        assert_eq!(percent(7, 7), "100.0 %");
        assert_eq!(percent(0, 0), "-");
    }

    proptest! {
        #[test]
        fn no_figure_panics(value: f64, part: u64, whole: u64) {
            figure(value);
            percent(part, whole);
        }
    }
}
