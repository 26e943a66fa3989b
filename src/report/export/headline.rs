//! Headline figures as tables of texts, for the formats that people read: [`markdown`](super::markdown) and [`html`](super::html).
//!
//! A table selects [columns](super::columns) and adds their error bars and intervals. Unknown values are blank. The texts are not
//! escaped.

mod lists;

use std::collections::HashSet;

use super::column::{Cell, Column};
use super::columns::{RUN_NUMBER, UDP_RUN, UDP_SETTING};
use super::rate::Rate;
use crate::report::compare::proxy::notes;
use crate::report::compare::records::RecordComparison;
use crate::report::figures::{figure, percent, times};
use crate::report::model::udp::ComparedSetting;
use crate::report::model::{ProxyRecord, SearchRecord, UdpRecord};
use crate::stats::spread::Spread;
use crate::udp::result::Run;
use crate::units::{grouped, short_ns};
use Detail::{Error, Interval, Nothing, ShareOf, Trips, TripsBetween, Words};
pub(super) use lists::*;

/// A figure of a table: its title, and the columns of its value; the first known value is shown.
pub(super) type Figure = (&'static str, &'static [(&'static str, Detail)]);

/// Text behind a value, from further columns.
#[derive(Debug, Clone, Copy)]
pub(super) enum Detail {
    Nothing,
    /// A name with underscores, shown as words.
    Words,
    /// Half-width of an error bar.
    Error(&'static str),
    /// The ends of an interval or of a range.
    Interval(&'static str, &'static str),
    /// The value in percent of a total.
    ShareOf(&'static str),
    /// A number of round trips a second.
    Trips,
    /// [`Self::Trips`] and [`Self::Interval`].
    TripsBetween(&'static str, &'static str),
}

impl Detail {
    /// The unit of a value whose column has `unit`.
    fn unit(self, unit: &'static str) -> &'static str {
        match self {
            Trips | TripsBetween(..) => "round trips/s",
            _ => unit,
        }
    }
}

/// The table of a record: of its settings, or of its runs.
pub(super) fn udp_table(record: &UdpRecord) -> Table {
    match (&record.comparison[..], &record.runs[..]) {
        ([], [run]) => {
            let figures = if Rate::of_run(run) == Rate::RoundTrips {
                TRIP_RUNS.to_vec()
            } else if run.explained.is_some() || run.stages.is_some() {
                [UDP_RUNS, UDP_EXPLAINED].concat()
            } else {
                UDP_RUNS.to_vec()
            };
            table(UDP_RUN, &figures, std::slice::from_ref(run))
        }
        ([], runs) => {
            let figures = match Rate::of_runs(runs) {
                Rate::RoundTrips => TRIP_REPEATS,
                Rate::Goodput => UDP_REPEATS,
            };
            table(UDP_RUN, figures, runs).numbered()
        }
        (settings, _) => udp_settings(settings),
    }
}

/// The table of compared settings.
pub(super) fn udp_settings(settings: &[ComparedSetting]) -> Table {
    let figures = match Rate::of_settings(settings) {
        Rate::RoundTrips => TRIP_SETTINGS,
        Rate::Goodput => UDP_SETTINGS,
    };
    table(UDP_SETTING, figures, settings)
}

/// The notes on the runs of a record, each once for its setting.
pub(super) fn udp_notes(record: &UdpRecord) -> Vec<String> {
    let mut notes = Vec::new();
    if record.comparison.is_empty() && record.runs.len() > 1 {
        notes.extend(spread(&record.runs));
    }
    let mut seen = HashSet::new();
    for (number, run) in record.runs.iter().enumerate() {
        let setting = run.setting.as_ref().map(|setting| format!(", {setting}"));
        let setting = setting.unwrap_or_default();
        for note in run_notes(run) {
            if seen.insert((&run.setting, note.clone())) {
                notes.push(format!("run {number}{setting}: {note}"));
            }
        }
    }
    notes
}

/// Why a search is incomplete, and the notes on its bounds.
pub(super) fn search_notes(record: &SearchRecord) -> Vec<String> {
    let why = record.reason.as_deref().unwrap_or(&record.ended);
    let incomplete = (!record.complete).then(|| format!("incomplete: {why}"));
    incomplete.into_iter().chain(record.notes()).collect()
}

/// The errors, notes and warnings of a record.
pub(super) fn proxy_notes(record: &ProxyRecord) -> Vec<String> {
    let all = [
        notes::errors(record),
        notes::notes(record),
        notes::warnings(record),
        notes::interruption(record),
    ];
    all.concat()
}

/// The notes on a comparison, and the settings that only one record has.
pub(super) fn comparison_notes<C>(found: &RecordComparison<C>) -> Vec<String> {
    let mut notes = found.notes.clone();
    for (name, settings) in [("base", &found.only_in_base), ("new", &found.only_in_new)] {
        if !settings.is_empty() {
            notes.push(format!(
                "only in {name}, not compared: {}",
                settings.join("; ")
            ));
        }
    }
    notes
}

/// Figures that are blank because the run has none, not because the value is unknown.
const ABSENT: [&str; 4] = [
    "setting",
    "latency p99 from the intended send",
    "round trip p99 from the intended send",
    "losses by cause",
];

fn spread(runs: &[Run]) -> Option<String> {
    let rate = Rate::of_runs(runs);
    let (name, unit) = (rate.name(), rate.unit());
    let complete = runs.iter().filter(|run| run.complete);
    let rates = complete.filter_map(|run| Rate::of_run(run).value(run));
    let spread = Spread::of(rates)?;
    Some(format!(
        "{name}: median {} {unit} ({} to {}) of {} complete runs",
        figure(spread.median),
        figure(spread.min),
        figure(spread.max),
        spread.count
    ))
}

fn run_notes(run: &Run) -> impl Iterator<Item = String> {
    let why = run.reason.as_deref().unwrap_or(&run.ended);
    let incomplete = (!run.complete).then(|| format!("incomplete: {why}"));
    incomplete
        .into_iter()
        .chain(run.warnings.iter().cloned())
        .chain(marks(run))
}

/// The datagrams whose marks changed on the path.
fn marks(run: &Run) -> Option<String> {
    let marks = run.marks.as_ref()?;
    let all = run.received.packets;
    let is_sent_ce = run.requested.traffic.ecn.as_deref() == Some("ce");
    let ce = if is_sent_ce { 0 } else { marks.ce };
    let kinds = [(ce, "a CE mark"), (marks.dscp_changed, "another DSCP")];
    let kinds = kinds.into_iter().filter(|(count, _)| *count > 0);
    let kinds: Vec<_> = kinds
        .map(|(count, kind)| format!("{} ({}) with {kind}", grouped(count), percent(count, all)))
        .collect();
    (!kinds.is_empty()).then(|| format!("datagrams that arrived: {}", kinds.join(", ")))
}

/// The texts of a table.
pub(super) struct Table {
    pub(super) titles: Vec<&'static str>,
    /// The column has numbers, which are aligned to the right.
    pub(super) is_number: Vec<bool>,
    pub(super) rows: Vec<Vec<String>>,
}

/// The `figures` of `items`, a row each.
pub(super) fn table<T>(columns: &[Column<T>], figures: &[Figure], items: &[T]) -> Table {
    let rows = || items.iter().map(|item| Row { columns, item });
    let is_number = |(_, sources): &Figure| {
        let mut cells = rows().filter_map(|row| Some(row.cell(sources.first()?.0)?.1));
        !cells.any(|cell| matches!(cell, Cell::Text(_) | Cell::Flag(_)))
    };
    let texts = |row: Row<'_, T>| figures.iter().map(|(_, of)| row.text(of)).collect();
    Table {
        titles: figures.iter().map(|(title, _)| *title).collect(),
        is_number: figures.iter().map(is_number).collect(),
        rows: rows().map(texts).collect(),
    }
}

/// A column of a [`Table`].
pub(super) struct Shown {
    pub(super) at: usize,
    pub(super) title: &'static str,
    pub(super) is_number: bool,
}

impl Table {
    /// The columns with a value to show: not blank in all rows, and not `incomplete` without an incomplete run.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let columns = self.titles.iter().zip(&self.is_number).enumerate();
        let shown = columns.map(|(at, (&title, &is_number))| Shown {
            at,
            title,
            is_number,
        });
        let is_needed = |of: &Shown| {
            let mut values = self.rows.iter().map(|row| &row[of.at][..]);
            values.any(|value| !value.is_empty() && (of.title, value) != ("incomplete", "0"))
        };
        shown.filter(is_needed).collect()
    }

    /// Titles and values of the only row, without the blanks of [`ABSENT`]; `None` if there are more rows.
    pub(super) fn only_row(&self) -> Option<impl Iterator<Item = (&'static str, &str)>> {
        let [row] = &self.rows[..] else { return None };
        let figures = self
            .titles
            .iter()
            .copied()
            .zip(row.iter().map(String::as_str));
        Some(figures.filter(|(title, value)| !value.is_empty() || !ABSENT.contains(title)))
    }

    /// Adds the number of the run to each row.
    pub(super) fn numbered(mut self) -> Self {
        self.titles.insert(0, RUN_NUMBER.name);
        self.is_number.insert(0, true);
        for (number, row) in self.rows.iter_mut().enumerate() {
            row.insert(0, number.to_string());
        }
        self
    }
}

/// An item, with the columns that its figures are taken from.
struct Row<'a, T> {
    columns: &'a [Column<T>],
    item: &'a T,
}

impl<T> Row<'_, T> {
    /// The unit and the value of a column; `None` if unknown.
    fn cell(&self, name: &str) -> Option<(&'static str, Cell)> {
        let column = self.columns.iter().find(|column| column.name == name)?;
        let cell = (column.get)(self.item);
        (cell != Cell::Unknown).then_some((column.unit, cell))
    }

    /// The first known value of `sources` with its unit and detail; blank if all are unknown.
    fn text(&self, sources: &[(&str, Detail)]) -> String {
        let mut known = sources.iter().filter_map(|(name, detail)| {
            let (unit, cell) = self.cell(name)?;
            let unit = detail.unit(unit);
            let (value, suffix) = (value(unit, &cell), suffix(unit));
            Some(match self.detail(&cell, *detail) {
                _ if matches!(detail, Words) => value.replace('_', " "),
                Some((detail, Error(_))) => format!("{value}{detail}{suffix}"),
                Some((detail, _)) => format!("{value}{suffix}{detail}"),
                None => format!("{value}{suffix}"),
            })
        });
        known.next().unwrap_or_default()
    }

    fn detail(&self, of: &Cell, detail: Detail) -> Option<(String, Detail)> {
        let other = |name| self.cell(name).map(|(unit, cell)| value(unit, &cell));
        let text = match detail {
            Nothing | Words | Trips => return None,
            // One clock has both stamps.
            Error(name) if matches!(self.cell(name)?.1, Cell::Integer(0)) => return None,
            Error(name) => format!(" ± {}", other(name)?),
            // A single run has no range.
            Interval(..) | TripsBetween(..)
                if matches!(self.cell("runs"), Some((_, Cell::Integer(1)))) =>
            {
                return None;
            }
            Interval(low, high) | TripsBetween(low, high) => {
                format!(" ({} to {})", other(low)?, other(high)?)
            }
            ShareOf(total) => match (of, self.cell(total)?.1) {
                (&Cell::Integer(part @ 1..), Cell::Integer(total)) => {
                    format!(" ({})", percent(part as u64, total as u64))
                }
                _ => return None,
            },
        };
        Some((text, detail))
    }
}

/// A value for a reader, without the [`suffix`] of its unit.
fn value(unit: &str, cell: &Cell) -> String {
    let number = match cell {
        Cell::Unknown => return String::new(),
        Cell::Text(text) => return text.clone(),
        Cell::Flag(true) => return "yes".to_owned(),
        Cell::Flag(false) => return "no".to_owned(),
        Cell::Integer(value) => *value as f64,
        Cell::Number(value) => *value,
    };
    match (unit, cell) {
        ("ns", _) => short_ns(number),
        ("s", _) => short_ns(number * 1e9),
        ("bytes/s", _) => figure(number / 1e9),
        (_, Cell::Integer(value @ 0..)) => grouped(*value as u64),
        ("", _) => times(number),
        _ => figure(number),
    }
}

/// The unit behind a value; [`short_ns`] writes its own.
fn suffix(unit: &str) -> String {
    match unit {
        "" | "ns" | "s" => String::new(),
        "bytes" => " B".to_owned(),
        "bytes/s" => " GB/s".to_owned(),
        unit => format!(" {unit}"),
    }
}

#[cfg(test)]
mod tests;
