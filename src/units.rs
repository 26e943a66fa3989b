//! Parsing and formatting of quantities. SI prefixes are powers of ten.

use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Why a text is not a quantity, and how to write one.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnitError {
    /// Not a duration.
    #[error("'{0}' is not a duration; write it like 500ms, 5s, 1.5m or 1h")]
    Duration(String),
    /// Not a number with an optional K, M or G.
    #[error("'{0}' is not a number of 0 or more; write it like 20000, 20k, 500M or 1.5G")]
    Number(String),
    /// Not a whole number.
    #[error("'{0}' is not a whole number of 0 or more; write it like 20000")]
    Whole(String),
    /// Out of range.
    #[error("'{0}' is too large; choose a smaller number")]
    TooLarge(String),
}

/// Parses a duration: a number with `ns`, `us`, `ms`, `s`, `m` or `h`; without a unit, seconds.
///
/// # Errors
/// [`UnitError::Duration`], also for durations that are negative, not finite or longer than 584 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::Duration(text.to_owned());
    let digits = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        _ => return Err(wrong()),
    };
    let seconds = parse_plain(number).ok_or_else(wrong)? * scale;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if duration.as_nanos() > u128::from(u64::MAX) {
        Err(wrong())
    } else {
        Ok(duration)
    }
}

/// Parses a number with an optional K, M or G (10^3, 10^6, 10^9; case does not matter).
///
/// # Errors
/// [`UnitError::Number`], also for negative and non-finite numbers.
pub fn parse_number(text: &str) -> Result<f64, UnitError> {
    let wrong = || UnitError::Number(text.to_owned());
    let (number, scale) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        Some((at, 'g' | 'G')) => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    Ok(parse_plain(number).ok_or_else(wrong)? * scale)
}

/// Parses a whole number of decimal digits.
///
/// # Errors
/// [`UnitError::Whole`], also for negative numbers; [`UnitError::TooLarge`] if it does not fit a `T`.
pub fn parse_whole<T: FromStr>(text: &str) -> Result<T, UnitError> {
    let is_whole = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_whole {
        return Err(UnitError::Whole(text.to_owned()));
    }
    text.parse()
        .map_err(|_| UnitError::TooLarge(text.to_owned()))
}

/// Digits with at most one decimal point; `f64::from_str` would also accept `inf`, `nan` and `1e9`.
fn parse_plain(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

/// The past tense of *be* for this number.
pub fn were(number: u64) -> &'static str {
    if number == 1 { "was" } else { "were" }
}

/// A number with its noun, like `1 datagram` or `1,200 datagrams`.
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(number))
}

/// A whole number with a comma every three digits: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with a prefix of [`parse_number`]: `500M`, `20k`, `1.5G`, `64`.
pub fn prefixed(number: f64) -> String {
    for (scale, prefix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if number.abs() >= scale {
            return format!("{}{prefix}", number / scale);
        }
    }
    number.to_string()
}

/// A duration in ns with about three digits: `850 ns`, `12.3 us`, `4.56 ms`, `7.89 s`.
pub fn short_ns(ns: f64) -> String {
    // The bounds are where rounding adds a digit.
    let (value, unit) = match ns.abs() {
        size if size < 999.5 => return format!("{ns:.0} ns"),
        size if size < 999.5e3 => (ns / 1e3, "us"),
        size if size < 999.5e6 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let decimals = match value.abs() {
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// `3, 7 and 9`; of many, the first ones.
pub fn listed(names: impl Iterator<Item = String>) -> String {
    const MOST: usize = 16;
    let mut names: Vec<String> = names.collect();
    let count = names.len();
    if count > MOST {
        names.truncate(MOST);
        return format!("{} and {} more", names.join(", "), count - MOST);
    }
    match names.pop() {
        Some(last) if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        last => last.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_have_every_unit() {
        for (text, ms) in [
            ("5s", 5_000),
            ("500ms", 500),
            ("1.5m", 90_000),
            ("1h", 3_600_000),
            ("2", 2_000),
        ] {
            assert_eq!(
                parse_duration(text).unwrap(),
                Duration::from_millis(ms),
                "{text}"
            );
        }
        assert_eq!(parse_duration("250us").unwrap(), Duration::from_micros(250));
    }

    #[test]
    fn errors_contain_the_invalid_text() {
        for text in [
            "",
            "s",
            "-1s",
            "1e3s",
            "inf",
            "nan",
            "5 s",
            "5x",
            "1.2.3s",
            "99999999999999h",
        ] {
            assert_eq!(
                parse_duration(text),
                Err(UnitError::Duration(text.to_owned())),
                "{text}"
            );
        }
        for text in ["", "M", "-5", "1e6", "inf", "NaN", "0x10", "5MB", "½"] {
            assert_eq!(
                parse_number(text),
                Err(UnitError::Number(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_have_si_prefixes() {
        assert_eq!(parse_number("1.5G").unwrap(), 1.5e9);
        assert_eq!(parse_number("20k").unwrap(), 20_000.0);
        assert_eq!(parse_number("7").unwrap(), 7.0);
    }

    #[test]
    fn whole_numbers_keep_every_digit() {
        for (text, number) in [
            ("0", 0),
            ("20000", 20_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_whole(text), Ok(number), "{text}");
        }
        for text in [
            "", "-1", "1.5", "0.0001k", "k", "+1", "1e3", "0x10", "1_000",
        ] {
            let wrong = UnitError::Whole(text.to_owned());
            assert_eq!(parse_whole::<u64>(text), Err(wrong), "{text}");
        }
        for text in ["4294967296", "99999999999999999999999"] {
            let wrong = UnitError::TooLarge(text.to_owned());
            assert_eq!(parse_whole::<u32>(text), Err(wrong), "{text}");
        }
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(short_ns(850.0), "850 ns");
        assert_eq!(short_ns(12_345.0), "12.3 us");
        assert_eq!(short_ns(4_560_000.0), "4.56 ms");
        assert_eq!(short_ns(123_000_000_000.0), "123 s");
        assert_eq!(short_ns(999_600_000.0), "1.00 s");
        assert_eq!(short_ns(99_970.0), "100 us");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn prefixed_numbers_parse_back() {
        for text in ["64", "999", "1k", "20k", "1.5G", "500M", "212.992k", "0.5"] {
            assert_eq!(prefixed(parse_number(text).unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = parse_duration(&text);
            let _ = parse_number(&text);
            let _ = parse_whole::<u32>(&text);
        }

        #[test]
        fn grouping_only_adds_commas(number: u64) {
            prop_assert_eq!(grouped(number).replace(',', ""), number.to_string());
        }
    }
}
