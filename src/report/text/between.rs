//! Two saved records: where they come from, what they have in common side by side, and what a reader must know of that.

use std::io::{self, Write};

use super::comparison::comparison;
use super::layout::{INDENT, list, sentence};
use crate::report::comparison::between::Between;
use crate::report::record::Compared;

/// Writes what two records of `bench udp` say of each other.
///
/// # Errors
/// Those of `out`.
pub fn between(between: &Between<Compared>, out: &mut impl Write) -> io::Result<()> {
    around(between, comparison, out)
}

/// Writes all that is the same for records of any kind, and what `table` does with the rows between.
pub(in crate::report) fn around<C, W: Write>(
    between: &Between<C>,
    table: impl FnOnce(&[C], &mut W) -> io::Result<()>,
    out: &mut W,
) -> io::Result<()> {
    for (side, source) in [("base", &between.base), ("new", &between.new)] {
        let parts = [
            source.path.display().to_string(),
            source.started_at.clone(),
            format!("wirebench {}", source.wirebench),
        ];
        list(out, side, parts)?;
    }
    writeln!(out)?;
    table(&between.comparison, out)?;
    for (side, settings) in [
        ("base", &between.only_in_base),
        ("new", &between.only_in_new),
    ] {
        if !settings.is_empty() {
            let settings = settings.join("; ");
            sentence(
                out,
                "",
                &format!("only in {side}, not compared: {settings}"),
            )?;
        }
    }
    for (number, note) in between.notes.iter().enumerate() {
        let label = if number == 0 { "note" } else { "" };
        sentence(out, &format!("{label:<INDENT$}"), note)?;
    }
    Ok(())
}
