//! The comparison of two records: their origin, their common settings, and the notes.

use std::io::{self, Write};

use super::layout::{INDENT, list, sentence};
use crate::report::compare::records::RecordComparison;

/// Writes the comparison; `table` writes the settings.
pub(super) fn records<C, W: Write>(
    found: &RecordComparison<C>,
    table: impl FnOnce(&[C], &mut W) -> io::Result<()>,
    out: &mut W,
) -> io::Result<()> {
    for (name, source) in [("base", &found.base), ("new", &found.new)] {
        let parts = [
            source.path.display().to_string(),
            source.started_at.clone(),
            format!("wirebench {}", source.wirebench),
        ];
        list(out, name, parts)?;
    }
    writeln!(out)?;
    table(&found.comparison, out)?;
    for (name, settings) in [("base", &found.only_in_base), ("new", &found.only_in_new)] {
        if !settings.is_empty() {
            let settings = settings.join("; ");
            let only = format!("only in {name}, not compared: {settings}");
            sentence(out, "", &only)?;
        }
    }
    for (number, note) in found.notes.iter().enumerate() {
        let label = if number == 0 { "note" } else { "" };
        sentence(out, &format!("{label:<INDENT$}"), note)?;
    }
    Ok(())
}
