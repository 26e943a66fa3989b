//! The columns of each table. A new column goes to the end of its list: programs rely on the order.

mod comparison;
mod interval;
mod packet;
mod proxy;
mod proxy_comparison;
mod proxy_rank;
mod rank;
mod search;
mod udp;

use super::column::{Cell, Column, Heading, columns};
use crate::load::result::Run as ProxyRun;
use crate::report::model::Meta;
use crate::udp::result::Run as UdpRun;

pub use comparison::UDP_SETTING;
pub use interval::INTERVAL;
pub use packet::PACKET;
pub use proxy::PROXY_RUN;
pub use proxy_comparison::{PROXY_OVERHEAD, PROXY_RATIOS, PROXY_SETTING, PROXY_TOTAL};
pub use proxy_rank::{PROXY_RANK, ProxyRank};
pub use rank::RANK;
pub use search::{SEARCH_GOAL, SEARCH_TRIAL};
pub use udp::UDP_RUN;

/// The command's id in the ledger.
const ID: Column<str> = Column {
    name: "id",
    unit: "",
    help: "name of the command's folder; empty if nothing else was saved",
    get: |id| Cell::from(id),
};

/// The first column of each table with rows of several runs.
pub const RUN_NUMBER: Column<usize> = Column {
    name: "run",
    unit: "",
    help: "number of the run within the command, from 0",
    get: |number| Cell::from(*number),
};

columns! {
    META: Meta = |meta| {
        "started_at" [""] "start of the command" => &meta.started_at;
        "wirebench" [""] "version of wirebench" => &meta.wirebench;
        "kernel" [""] "`uname -r` of the machine; of two, the sender's or the load generator's" => &meta.host.kernel;
        "cpu" [""] "CPU model of that machine" => &meta.host.cpu;
        "cores" [""] "CPUs of that machine that the command might use" => meta.host.cores;
    }
}

/// A run that has a row in a ledger.
pub trait LedgerRun: Sized + 'static {
    /// File name of the ledger.
    const LEDGER: &'static str;
    /// The columns after those of the command.
    const COLUMNS: &'static [Column<Self>];
}

impl LedgerRun for UdpRun {
    const LEDGER: &'static str = "udp.csv";
    const COLUMNS: &'static [Column<Self>] = UDP_RUN;
}

impl LedgerRun for ProxyRun {
    const LEDGER: &'static str = "proxy.csv";
    const COLUMNS: &'static [Column<Self>] = PROXY_RUN;
}

/// A row of a ledger: one run of a command.
#[derive(Debug)]
pub struct LedgerRow<'a, R> {
    /// Name of the command's folder; empty without a folder.
    pub id: &'a str,
    /// Number of the run within the command, from 0.
    pub number: usize,
    /// The command.
    pub meta: &'a Meta,
    /// The run.
    pub run: &'a R,
}

impl<'a, R: LedgerRun> LedgerRow<'a, R> {
    /// A row for each of `runs`.
    pub fn all(id: &'a str, meta: &'a Meta, runs: &'a [R]) -> impl Iterator<Item = Self> {
        runs.iter().enumerate().map(move |(number, run)| Self {
            id,
            number,
            meta,
            run,
        })
    }

    /// The row of the last of `runs`.
    pub fn last(id: &'a str, meta: &'a Meta, runs: &'a [R]) -> Option<Self> {
        Self::all(id, meta, runs).last()
    }

    /// The headings of all columns, in order.
    pub fn headings() -> impl Iterator<Item = Heading> {
        [ID.heading(), RUN_NUMBER.heading()]
            .into_iter()
            .chain(META.iter().map(Column::heading))
            .chain(R::COLUMNS.iter().map(Column::heading))
    }

    /// The names of all columns, in order.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::headings().map(|heading| heading.name)
    }

    /// The cells, in the order of the names.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        [(ID.get)(self.id), (RUN_NUMBER.get)(&self.number)]
            .into_iter()
            .chain(META.iter().map(|column| (column.get)(self.meta)))
            .chain(R::COLUMNS.iter().map(|column| (column.get)(self.run)))
    }
}
