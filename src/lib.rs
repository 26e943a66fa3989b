//! wirebench measures UDP throughput, loss and one-way latency, and the cost of a TCP proxy, on Linux.
//!
//! The program `bench` is this library's [`cli`]. A layer imports only from layers below it:
//!
//! - [`cli`]: options, plans, terminal output and exit codes.
//! - [`udp`]: the UDP workload: wire format, sender, receiver, client and server.
//! - [`load`]: the load generator and the origin server of the proxy benchmark.
//! - [`proxy`]: the TCP proxy.
//! - [`report`]: records of runs and their formats; [`engine`]: datagram I/O with mio and io_uring.
//! - [`protocol`]: request protocols of the proxy; [`blocklist`]: refused destinations; both parse them with [`destination`];
//!   [`stats`]; [`sys`], the only module with system calls; [`units`].

pub mod blocklist;
pub mod cli;
pub mod dates;
pub mod destination;
pub mod doctor;
pub mod engine;
pub mod load;
pub mod protocol;
pub mod proxy;
pub mod report;
pub mod stats;
pub mod sys;
pub mod udp;
pub mod units;
pub mod uring;

mod api;
pub use api::{
    CompareError, LoadError, Origin, Proxy, ProxyComparison, ProxyLoad, Record, UdpComparison,
    UdpError, UdpMeasurement, UdpServer,
};
pub use blocklist::policy::Sources as BlocklistSources;
pub use blocklist::reload::Policies;
pub use engine::EngineKind;
pub use load::plan::Scenario;
pub use protocol::Kind as ProxyProtocol;
pub use proxy::options::Options as ProxyOptions;
pub use proxy::rules::Rules as ProxyRules;
pub use report::proxy::Run as ProxyRun;
pub use report::record::Run as UdpRun;
pub use udp::plan::{Amount, Direction};
