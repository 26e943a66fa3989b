//! Headline tables in HTML.

use std::io::{self, Write};

use super::escape::Escaped;
use crate::report::export::headline::Table;

/// Most rows of a table. A record may have thousands of runs.
const MOST_ROWS: usize = 200;

/// Writes the table; a single row as a list of figures, which fits a narrow screen.
pub(super) fn write(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    if let Some(figures) = table.only_row() {
        writeln!(out, "<dl class=\"figures\">")?;
        for (title, value) in figures {
            let (title, value) = (Escaped(title), Escaped(value));
            writeln!(out, "<div><dt>{title}</dt><dd>{value}</dd></div>")?;
        }
        return writeln!(out, "</dl>");
    }
    let class = |is_number| if is_number { " class=\"n\"" } else { "" };
    write!(
        out,
        "<div class=\"scroll\"><table class=\"wide\">\n<thead><tr>"
    )?;
    let shown = table.shown();
    for of in &shown {
        write!(out, "<th{}>{}</th>", class(of.is_number), Escaped(of.title))?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for row in table.rows.iter().take(MOST_ROWS) {
        write!(out, "<tr>")?;
        for of in &shown {
            let text = &row[of.at];
            // An interval has a line of its own, so that no number is broken.
            let (value, interval) = match text.split_once(" (") {
                Some((value, rest)) if of.is_number => (value, Some(rest)),
                _ => (&text[..], None),
            };
            write!(out, "<td{}>{}", class(of.is_number), Escaped(value))?;
            if let Some(rest) = interval {
                write!(out, " <span>({}</span>", Escaped(rest))?;
            }
            write!(out, "</td>")?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody></table></div>")?;
    if let further @ 1.. = table.rows.len().saturating_sub(MOST_ROWS) {
        writeln!(out, "<p>{further} further rows are in run.json.</p>")?;
    }
    Ok(())
}
