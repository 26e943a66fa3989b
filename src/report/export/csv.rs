//! CSV: a header, and a row per run, per trial of a search or per compared setting. Unknown values are empty cells.

use std::io::{self, Write};

use csv::ByteRecord;

use super::column::{Cell, Column};
use super::columns::{LedgerRow, LedgerRun, PROXY_SETTING, SEARCH_TRIAL, UDP_SETTING};
use super::{Document, Exporter};
use crate::report::model::Meta;

/// The runs as rows of their ledger, or the settings of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Csv;

impl Exporter for Csv {
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()> {
        match document {
            Document::UdpRuns { id, record } => runs(id, &record.meta, &record.runs, out),
            Document::UdpSearch { record, .. } => table(SEARCH_TRIAL, &record.trials, out),
            Document::ProxyRuns { id, record } => runs(id, &record.meta, &record.runs, out),
            Document::UdpComparison(found) => table(UDP_SETTING, &found.comparison, out),
            Document::ProxyComparison(found) => table(PROXY_SETTING, &found.comparison, out),
        }
    }
}

fn runs<R: LedgerRun>(id: &str, meta: &Meta, runs: &[R], out: &mut dyn Write) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record(LedgerRow::<R>::names())?;
    for row in LedgerRow::all(id, meta, runs) {
        table.write_byte_record(&record(row.cells()))?;
    }
    table.flush()
}

/// Writes the header of `columns` and a row for each of `rows`.
///
/// # Errors
/// Those of `out`.
pub fn table<T>(columns: &[Column<T>], rows: &[T], out: impl Write) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(out);
    table.write_record(columns.iter().map(|column| column.name))?;
    for row in rows {
        let cells = columns.iter().map(|column| (column.get)(row));
        table.write_byte_record(&record(cells))?;
    }
    table.flush()
}

/// The cells as a CSV record.
pub fn record(cells: impl Iterator<Item = Cell>) -> ByteRecord {
    let mut record = ByteRecord::new();
    for cell in cells {
        record.push_field(cell.to_string().as_bytes());
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compare::udp::tests::{compared, rounds};

    #[test]
    fn comparison_has_a_row_per_setting_and_a_cell_per_column() {
        let mut text = Vec::new();
        table(UDP_SETTING, &compared(&rounds(5)), &mut text).unwrap();
        let mut table = csv::Reader::from_reader(&text[..]);
        let names = table.headers().unwrap().clone();
        let rows: Vec<_> = table.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 2);
        let cell = |row: usize, name: &str| {
            let at = names.iter().position(|of| of == name).unwrap();
            rows[row][at].to_owned()
        };
        assert_eq!(cell(1, "setting"), "batch 16");
        assert_eq!(cell(1, "batch"), "16");
        assert_eq!(
            (cell(1, "ratio"), cell(1, "ratio_low")),
            ("2".into(), "2".into())
        );
        assert_eq!(cell(1, "verdict"), "higher");
        assert_eq!(cell(1, "cpu_verdict"), "no_difference_shown");
        assert_eq!(
            (cell(0, "ratio"), cell(0, "base")),
            (String::new(), String::new())
        );
        assert!(cell(1, "lost_percent").starts_with("0.00999"));
        for (name, filled) in names.iter().zip(&rows[1]) {
            assert!(!filled.is_empty(), "{name}");
        }
    }
}
