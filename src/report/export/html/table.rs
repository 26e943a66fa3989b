//! Headline tables in HTML.

use std::io::{self, Write};

use super::escape::Escaped;
use crate::report::export::headline::Table;

/// Most rows of a table. A record may have thousands of runs.
const MOST_ROWS: usize = 200;

/// Writes the table without columns that are blank in all rows; a single row as a list of figures, which fits a narrow screen.
pub(super) fn write(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    if let [row] = &table.rows[..] {
        writeln!(out, "<dl class=\"figures\">")?;
        let known = table.titles.iter().zip(row);
        // A single setting has no name.
        for (title, value) in known.filter(|(title, of)| **title != "setting" || !of.is_empty()) {
            let (title, value) = (Escaped(title), Escaped(value));
            writeln!(out, "<div><dt>{title}</dt><dd>{value}</dd></div>")?;
        }
        return writeln!(out, "</dl>");
    }
    let class = |at: usize| match table.is_number.get(at) {
        Some(true) => " class=\"n\"",
        _ => "",
    };
    write!(
        out,
        "<div class=\"scroll\"><table class=\"wide\">\n<thead><tr>"
    )?;
    let is_shown = |at: &usize| table.rows.iter().any(|row| !row[*at].is_empty());
    let shown: Vec<usize> = (0..table.titles.len()).filter(is_shown).collect();
    for &at in &shown {
        let title = table.titles[at];
        write!(out, "<th{}>{}</th>", class(at), Escaped(title))?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for row in table.rows.iter().take(MOST_ROWS) {
        write!(out, "<tr>")?;
        for &at in &shown {
            write!(out, "<td{}>{}</td>", class(at), Escaped(&row[at]))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")?;
    if let further @ 1.. = table.rows.len().saturating_sub(MOST_ROWS) {
        writeln!(out, "<p>{further} further rows are in run.json.</p>")?;
    }
    Ok(())
}
