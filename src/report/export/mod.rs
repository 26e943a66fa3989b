//! The formats that results are written in, one module each.
//!
//! An [`Exporter`] writes any [`Document`]: [`text`] for a terminal, [`json`] for programs, [`csv`] for spreadsheets, [`markdown`]
//! for pull requests, [`html`] as a page with charts, [`metrics`] for Prometheus and OpenMetrics, [`iperf3`] for its parsers. Tables
//! take names, units and values from [`columns`], which also feed the ledger and the documentation. [`hgrm`], [`intervals`] and
//! [`packets`] write files of the run folder. [`hlog`] and [`json_stream`] are written while a command runs.

pub mod column;
pub mod columns;
pub mod csv;
mod headline;
pub mod hgrm;
pub mod hlog;
pub mod html;
pub mod intervals;
pub mod iperf3;
pub mod json;
pub mod json_stream;
mod losses;
pub mod markdown;
pub mod metrics;
mod observed;
pub mod packets;
pub mod ranks;
mod rate;
pub mod text;

use std::io::{self, Write};

use super::compare::records::RecordComparison;
use super::model::{ProxyRecord, SearchRecord, UdpRecord, proxy, udp};

/// A result that can be exported.
#[derive(Debug, Clone, Copy)]
pub enum Document<'a> {
    /// The runs of a `bench udp`.
    UdpRuns {
        /// Name of the command's folder; empty without a folder.
        id: &'a str,
        /// The command.
        record: &'a UdpRecord,
    },
    /// A `bench udp search`.
    UdpSearch {
        /// Name of the command's folder; empty without a folder.
        id: &'a str,
        /// The command.
        record: &'a SearchRecord,
    },
    /// The runs of a `bench proxy`.
    ProxyRuns {
        /// Name of the command's folder; empty without a folder.
        id: &'a str,
        /// The command.
        record: &'a ProxyRecord,
    },
    /// Two records of `bench udp`.
    UdpComparison(&'a RecordComparison<udp::ComparedSetting>),
    /// Two records of `bench proxy`.
    ProxyComparison(&'a RecordComparison<proxy::ComparedSetting>),
}

/// A format.
pub trait Exporter {
    /// Writes the document to `out`.
    ///
    /// # Errors
    /// Those of `out`.
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()>;
}
