//! How lines and figures are laid out: a label, then text that is wrapped to stand beside it.

use std::io::{self, Write};

use crate::stats::ratio::Ratio;
use crate::units::grouped;

/// The longest line, in characters.
pub(in crate::report) const WIDTH: usize = 80;

/// Where the text beside a label begins.
pub(in crate::report) const INDENT: usize = 11;

/// Writes `label`, and `pieces` beside it with a space between; a line is only broken between them.
pub(in crate::report) fn fill(
    out: &mut impl Write,
    label: &str,
    pieces: impl IntoIterator<Item = String>,
) -> io::Result<()> {
    let label = match label {
        "" => String::new(),
        short if short.len() < INDENT && !short.ends_with(' ') => format!("{short:<INDENT$}"),
        long => long.to_owned(),
    };
    let margin = label.chars().count();
    let mut line = label;
    let mut used = margin;
    for piece in pieces {
        let piece = plain(&piece);
        let size = piece.chars().count();
        if used > margin && used + 1 + size > WIDTH {
            writeln!(out, "{}", line.trim_end())?;
            line = " ".repeat(margin);
            used = margin;
        }
        if used > margin {
            line.push(' ');
            used += 1;
        }
        line.push_str(&piece);
        used += size;
    }
    writeln!(out, "{}", line.trim_end())
}

/// As [`fill`], with a comma after every piece but the last.
pub(in crate::report) fn list(
    out: &mut impl Write,
    label: &str,
    parts: impl IntoIterator<Item = String>,
) -> io::Result<()> {
    let mut parts: Vec<String> = parts.into_iter().collect();
    if let [most @ .., _] = &mut parts[..] {
        most.iter_mut().for_each(|part| part.push(','));
    }
    fill(out, label, parts)
}

/// As [`fill`], broken between words.
pub(in crate::report) fn sentence(out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
    fill(out, label, text.split_whitespace().map(str::to_owned))
}

/// Each kind that there is any of, with its count.
pub(in crate::report) fn nonzero(kinds: &[(&str, u64)]) -> impl Iterator<Item = String> {
    let some = kinds.iter().filter(|(_, count)| *count > 0);
    some.map(|(name, count)| format!("{name} {}", grouped(*count)))
}

/// The text, or `-` for none.
pub(in crate::report) fn maybe(text: &Option<String>) -> String {
    text.as_deref().map_or("-".to_owned(), plain)
}

/// A number with about three digits or all those before the point; `-` for what is none.
pub(in crate::report) fn figure(value: f64) -> String {
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

/// What part of `whole` is, in percent. Never rounded to 0 % or 100 % when it is neither.
pub(in crate::report) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let share = part as f64 / whole as f64 * 100.0;
    if part < whole && share > 99.99 {
        return "more than 99.99 %".to_owned();
    }
    format!("{} %", figure(share))
}

/// A ratio with its interval behind it, where there is one.
pub(in crate::report) fn beside(ratio: Ratio) -> String {
    let middle = times(ratio.ratio);
    match ratio.interval {
        Some(of) => format!("{middle} ({}-{})", times(of.low), times(of.high)),
        None => middle,
    }
}

/// A ratio to the thousandth, since differences of a few in a hundred are what is looked for.
pub(in crate::report) fn times(ratio: f64) -> String {
    match ratio {
        0.001..9.9995 => format!("{ratio:.3}"),
        _ => figure(ratio),
    }
}

/// Without what would steer a terminal: some texts come from the other host.
pub(in crate::report) fn plain(text: &str) -> String {
    text.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ratios_have_three_digits_behind_the_point_as_long_as_there_is_room() {
        assert_eq!(
            [0.0, 0.5, 9.9999, 12.345, 1e9].map(times),
            ["0", "0.500", "10.00", "12.35", "1,000,000,000"]
        );
    }

    fn filled(label: &str, text: &str) -> String {
        let mut out = Vec::new();
        sentence(&mut out, label, text).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stands_beside_its_label() {
        let told = filled("loss", &"word ".repeat(20));
        assert_eq!(
            told,
            format!(
                "loss       {}\n           {}\n",
                ["word"; 14].join(" "),
                ["word"; 6].join(" ")
            )
        );
    }

    #[test]
    fn figures_keep_their_meaning_at_any_size() {
        for (value, told) in [
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
            assert_eq!(figure(value), told, "{value}");
        }
        assert_eq!(percent(1, u64::MAX), "5.42e-18 %");
        assert_eq!(percent(99_999, 100_000), "more than 99.99 %");
        assert_eq!(percent(7, 7), "100.0 %");
        assert_eq!(percent(0, 0), "-");
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_none_steers_the_terminal(text in "[\\PC\u{1b}\u{7}]{0,300}") {
            let told = filled("label", &text);
            let longest = text.split_whitespace().map(|word| word.chars().count()).max();
            for line in told.lines() {
                prop_assert!(!line.chars().any(char::is_control));
                prop_assert!(line.chars().count() <= WIDTH.max(INDENT + longest.unwrap_or(0)));
            }
        }

        #[test]
        fn no_figure_panics(value: f64, part: u64, whole: u64) {
            figure(value);
            percent(part, whole);
        }
    }
}
