//! JSON: the record itself, as in `run.json`.

use std::io::{self, Write};

use serde::Serialize;

use super::{Document, Exporter};

/// The record or the comparison, indented.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Exporter for Json {
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()> {
        match document {
            Document::UdpRuns { record, .. } => write(record, out),
            Document::UdpSearch { record, .. } => write(record, out),
            Document::ProxyRuns { record, .. } => write(record, out),
            Document::UdpComparison(found) => write(found, out),
            Document::ProxyComparison(found) => write(found, out),
        }
    }
}

/// Writes `value` indented, with a newline at the end.
///
/// # Errors
/// Those of `out`.
pub fn write(value: &impl Serialize, mut out: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")
}
