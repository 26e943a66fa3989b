//! Line layout: a label, and text that is wrapped beside it.

use std::io::{self, Write};

use crate::report::figures::{figure, plain};
use crate::units::{grouped, short_ns};

/// Longest line, in characters.
pub(super) const WIDTH: usize = 80;

/// Column of the text beside a label.
pub(super) const INDENT: usize = 11;

/// Writes `label` and, beside it, `pieces` separated by spaces. A line breaks only between pieces.
pub(super) fn fill(
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
pub(super) fn list(
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
pub(super) fn sentence(out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
    fill(out, label, text.split_whitespace().map(str::to_owned))
}

/// Name and count of each kind with a count above 0.
pub(super) fn nonzero(kinds: &[(&str, u64)]) -> impl Iterator<Item = String> {
    let some = kinds.iter().filter(|(_, count)| *count > 0);
    some.map(|(name, count)| format!("{name} {}", grouped(*count)))
}

/// A latency in ns, or `-`.
pub(super) fn time(ns: Option<u64>) -> String {
    ns.map_or("-".to_owned(), |ns| short_ns(ns as f64))
}

/// A figure, or `-`.
pub(super) fn known(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), figure)
}

/// The text, or `-`.
pub(super) fn maybe(text: &Option<String>) -> String {
    text.as_deref().map_or("-".to_owned(), plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(label: &str, text: &str) -> String {
        let mut out = Vec::new();
        sentence(&mut out, label, text).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_wrapped_beside_its_label() {
        assert_eq!(
            filled("loss", &"word ".repeat(20)),
            format!(
                "loss       {}\n           {}\n",
                ["word"; 14].join(" "),
                ["word"; 6].join(" ")
            )
        );
    }

    proptest! {
        #[test]
        fn lines_fit_and_have_no_control_characters(text in "[\\PC\u{1b}\u{7}]{0,300}") {
            let lines = filled("label", &text);
            let longest = text.split_whitespace().map(|word| word.chars().count()).max();
            for line in lines.lines() {
                prop_assert!(!line.chars().any(char::is_control));
                prop_assert!(line.chars().count() <= WIDTH.max(INDENT + longest.unwrap_or(0)));
            }
        }
    }
}
