//! Markdown: tables of headline figures in GitHub's dialect, for pull requests and reports.
//!
//! The tables are those of `headline`.

use std::io::{self, Write};

use super::columns::{
    PROXY_OVERHEAD, PROXY_RATIOS, PROXY_SETTING, PROXY_TOTAL, SEARCH_GOAL, SEARCH_TRIAL,
};
use super::headline::{
    PROXY_ADDED, PROXY_COMPARED, PROXY_SETTINGS, PROXY_TOTALS, SEARCH_CURVE, SEARCH_GOALS, Table,
    comparison_notes, proxy_notes, search_notes, table, udp_notes, udp_settings, udp_table,
};
use super::{Document, Exporter};
use crate::report::compare::records::RecordComparison;
use crate::report::figures::plain;
use crate::report::model::{Meta, ProxyRecord, SearchRecord, UdpRecord};

/// Headline figures with units, error bars and intervals.
#[derive(Debug, Clone, Copy)]
pub struct Markdown;

impl Exporter for Markdown {
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()> {
        match document {
            Document::UdpRuns { record, .. } => udp_runs(record, out),
            Document::UdpSearch { record, .. } => udp_search(record, out),
            Document::ProxyRuns { record, .. } => proxy_runs(record, out),
            Document::UdpComparison(found) => comparison(found, out, udp_settings),
            Document::ProxyComparison(found) => comparison(found, out, |settings| {
                table(PROXY_SETTING, PROXY_SETTINGS, settings)
            }),
        }
    }
}

fn udp_runs(record: &UdpRecord, out: &mut dyn Write) -> io::Result<()> {
    heading(&record.meta, out)?;
    write_table(&udp_table(record), out)?;
    bullets(&udp_notes(record), out)
}

fn udp_search(record: &SearchRecord, out: &mut dyn Write) -> io::Result<()> {
    heading(&record.meta, out)?;
    write_table(&table(SEARCH_GOAL, SEARCH_GOALS, &record.goals), out)?;
    let curve: Vec<_> = record.curve().cloned().collect();
    if !curve.is_empty() {
        writeln!(out)?;
        write_table(&table(SEARCH_TRIAL, SEARCH_CURVE, &curve), out)?;
    }
    bullets(&search_notes(record), out)
}

fn proxy_runs(record: &ProxyRecord, out: &mut dyn Write) -> io::Result<()> {
    heading(&record.meta, out)?;
    write_table(&table(PROXY_TOTAL, PROXY_TOTALS, &record.totals), out)?;
    if !record.overhead.is_empty() {
        writeln!(out)?;
        write_table(&table(PROXY_OVERHEAD, PROXY_ADDED, &record.overhead), out)?;
    }
    if !record.comparison.is_empty() {
        writeln!(out)?;
        write_table(
            &table(PROXY_RATIOS, PROXY_COMPARED, &record.comparison),
            out,
        )?;
    }
    bullets(&proxy_notes(record), out)
}

fn comparison<C>(
    found: &RecordComparison<C>,
    out: &mut dyn Write,
    table: impl FnOnce(&[C]) -> Table,
) -> io::Result<()> {
    for (name, source) in [("base", &found.base), ("new", &found.new)] {
        let path = escaped(&source.path.display().to_string());
        let (started, version) = (source.meta.started(), &source.wirebench);
        let (started, version) = (escaped(&started), escaped(version));
        writeln!(out, "- {name}: {path}, {started}, wirebench {version}")?;
    }
    writeln!(out)?;
    write_table(&table(&found.comparison), out)?;
    bullets(&comparison_notes(found), out)
}

/// Writes the command and the machine.
fn heading(meta: &Meta, out: &mut dyn Write) -> io::Result<()> {
    let host = &meta.host;
    let machine = format!(
        "{}, wirebench {}, Linux {}, {}",
        meta.started(),
        meta.wirebench,
        host.kernel,
        host.cpu
    );
    let command = code(&meta.command_line());
    writeln!(out, "{command}, {}\n", escaped(&machine))
}

/// `text` as code: in an option, `--` and `*` stay as they are. The fence is longer than any backticks inside.
fn code(text: &str) -> String {
    let text = plain(text);
    let inside = text.split(|char| char != '`').map(str::len).max();
    match inside.unwrap_or(0) {
        0 => format!("`{text}`"),
        longest => {
            let fence = "`".repeat(longest + 1);
            format!("{fence} {text} {fence}")
        }
    }
}

fn bullets(sentences: &[String], out: &mut dyn Write) -> io::Result<()> {
    if !sentences.is_empty() {
        writeln!(out)?;
    }
    let mut lines = sentences.iter();
    lines.try_for_each(|sentence| writeln!(out, "- {}", escaped(sentence)))
}

/// Writes the table; a single row as a list of figures, which is narrower.
fn write_table(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    if let Some(mut figures) = table.only_row() {
        writeln!(out, "| figure | value |\n|---|---|")?;
        return figures
            .try_for_each(|(title, value)| writeln!(out, "| {title} | {} |", escaped(value)));
    }
    let shown = table.shown();
    let titles: Vec<&str> = shown.iter().map(|of| of.title).collect();
    writeln!(out, "| {} |", titles.join(" | "))?;
    for of in &shown {
        write!(out, "{}", if of.is_number { "|---:" } else { "|---" })?;
    }
    writeln!(out, "|")?;
    let mut rows = table.rows.iter();
    rows.try_for_each(|row| {
        let cells: Vec<String> = shown.iter().map(|of| escaped(&row[of.at])).collect();
        writeln!(out, "| {} |", cells.join(" | "))
    })
}

/// `text` on one line, with the characters that have a meaning in Markdown or HTML escaped.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in plain(text).chars() {
        if matches!(
            char,
            '\\' | '|' | '`' | '*' | '[' | ']' | '<' | '>' | '&' | '~' | '$'
        ) {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

#[cfg(test)]
mod tests;
