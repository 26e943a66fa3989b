//! Plain text for a terminal, at most 80 columns wide.
//!
//! The figure that was asked for comes first. Unknown values are `-`, or their line is left out; they are never 0.

mod comparison;
mod costs;
mod doctor;
mod explained;
mod fleet;
mod latency;
mod layout;
mod live;
mod observed;
mod proxy;
mod records;
mod repeats;
mod run;
mod search;
mod sparkline;
mod stages;
mod traffic;

use std::io::{self, Write};

use super::{Document, Exporter};

pub use comparison::{compared_run, comparing};
pub use doctor::doctor;
pub use live::{interval, interval_header};
pub use run::summary;

/// The summary of all runs of a command, or of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl Exporter for Text {
    fn write(&self, document: &Document<'_>, mut out: &mut dyn Write) -> io::Result<()> {
        match document {
            Document::UdpRuns { record, .. } => match (&record.comparison[..], &record.runs[..]) {
                ([], [] | [_]) => Ok(()),
                ([], runs) => {
                    repeats::repeats(runs, &mut out)?;
                    observed::observed(runs, &mut out)
                }
                (settings, runs) => {
                    comparison::comparison(settings, &mut out)?;
                    observed::observed(runs, &mut out)
                }
            },
            Document::UdpSearch { record, .. } => search::summary(record, &mut out),
            Document::ProxyRuns { record, .. } => proxy::summary(record, &mut out),
            Document::UdpComparison(found) => {
                records::records(found, comparison::comparison, &mut out)
            }
            Document::ProxyComparison(found) => records::records(found, proxy::settings, &mut out),
        }
    }
}
