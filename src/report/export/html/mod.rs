//! A self-contained HTML page: headline figures, environment, warnings and charts. It needs no network and no script.

mod chart;
mod comparison;
mod escape;
mod over_time;
mod page;
mod percentiles;
mod picture;
mod proxy;
mod search;
mod table;
mod trend;
mod udp;
mod units;

use std::io::{self, Write};

use super::{Document, Exporter};
use crate::report::compare::records::RecordComparison;
use escape::Escaped;

/// A page of one document.
#[derive(Debug, Clone, Copy)]
pub struct Html;

impl Exporter for Html {
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()> {
        write_page(std::slice::from_ref(document), &[], out)
    }
}

/// The headline charts of one document as one SVG.
#[derive(Debug, Clone, Copy)]
pub struct Picture;

impl Exporter for Picture {
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()> {
        let (meta, charts) = match document {
            Document::UdpRuns { record, .. } => (&record.meta, udp::charts(record)?),
            Document::UdpSearch { record, .. } => (&record.meta, search::charts(record)?),
            Document::ProxyRuns { record, .. } => (&record.meta, proxy::charts(record)?),
            Document::UdpComparison(found) => (&found.new.meta, comparison::udp_charts(found)?),
            Document::ProxyComparison(found) => (&found.new.meta, comparison::proxy_charts(found)?),
        };
        let heading = match document {
            Document::UdpComparison(_) | Document::ProxyComparison(_) => title(document),
            _ => meta.command_line(),
        };
        let host = &meta.host;
        let machine = format!(
            "wirebench {}, Linux {}, {}, {} CPUs, {}",
            meta.wirebench,
            host.kernel,
            host.cpu,
            host.cores,
            meta.started()
        );
        picture::write(&heading, &[machine], &charts, out)
    }
}

/// Writes a page with a section for each of `documents`, and `notes` above them.
///
/// # Errors
/// Those of `out`.
pub fn write_page(
    documents: &[Document<'_>],
    notes: &[String],
    out: &mut dyn Write,
) -> io::Result<()> {
    let titles = documents.iter().map(title).enumerate();
    let contents: Vec<_> = titles
        .map(|(at, title)| (format!("s{at}"), title))
        .collect();
    let trends = trend::Trends::of(documents);
    let trend = trends
        .iter()
        .map(|_| ("trend".to_owned(), "Trend".to_owned()));
    let listed: Vec<_> = trend.chain(contents.iter().cloned()).collect();
    page::begin(&listed, out)?;
    page::notices(false, notes, out)?;
    if let Some(trends) = trends {
        writeln!(out, "<section id=\"trend\">\n<h2>Trend</h2>")?;
        trends.section(out)?;
        writeln!(out, "</section>")?;
    }
    for ((anchor, title), document) in contents.iter().zip(documents) {
        writeln!(out, "<section id=\"{anchor}\">")?;
        writeln!(out, "<h2>{}</h2>", Escaped(title))?;
        match document {
            Document::UdpRuns { record, .. } => udp::section(record, out)?,
            Document::UdpSearch { record, .. } => search::section(record, out)?,
            Document::ProxyRuns { record, .. } => proxy::section(record, out)?,
            Document::UdpComparison(found) => comparison::udp_records(found, out)?,
            Document::ProxyComparison(found) => comparison::proxy_records(found, out)?,
        }
        writeln!(out, "</section>")?;
    }
    page::end(out)
}

fn title(document: &Document<'_>) -> String {
    fn records<C>(found: &RecordComparison<C>) -> String {
        let [base, new] = [&found.base, &found.new].map(|of| of.path.display());
        format!("{new} compared with {base}")
    }
    let runs = |command: &str, id: &str| match id {
        "" => command.to_owned(),
        id => format!("{command}: {id}"),
    };
    match document {
        Document::UdpRuns { id, .. } => runs("bench udp", id),
        Document::UdpSearch { id, .. } => runs("bench udp search", id),
        Document::ProxyRuns { id, .. } => runs("bench proxy", id),
        Document::UdpComparison(found) => records(found),
        Document::ProxyComparison(found) => records(found),
    }
}

#[cfg(test)]
mod tests;
