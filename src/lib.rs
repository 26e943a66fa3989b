//! wirebench measures UDP throughput, loss and one-way latency, and the cost of a TCP proxy, on Linux.
//!
//! A program can do what the command `bench` does:
//!
//! | to | use |
//! |---|---|
//! | measure UDP, here or to another host | [`UdpMeasurement`], [`UdpServer`], [`UdpRun`] |
//! | run a proxy that enforces blocklists | [`Proxy`], [`ProxyRules`], [`BlocklistSources`], [`Policies`], [`ProxyOptions`] |
//! | measure a proxy | [`ProxyLoad`], [`Origin`], [`Scenario`], [`ProxyRun`] |
//! | compare saved runs | [`Record`] |
//!
//! ```
//! use wirebench::{Amount, UdpMeasurement};
//!
//! let runs = UdpMeasurement::new(Amount::Packets(100)).pps(10_000.0).run()?;
//! let run = &runs[0];
//! println!("{} of {} datagrams arrived", run.received.unique, run.sent.packets);
//! if let Some(latency) = &run.latency_ns {
//!     println!("latency in ns: median {:?}, 99 % {:?}", latency.p50, latency.p99);
//! }
//! # Ok::<(), wirebench::UdpError>(())
//! ```
//!
//! The other modules are the program's own. They are public for its benchmarks, tests and fuzz targets, are hidden from this page,
//! and change without notice.
//!
//! # Layers
//!
//! A module imports only modules below its line.
//!
//! ```text
//! cli            options, terminal output, exit codes
//! api            the types of this page
//! report         records, comparisons, output formats, the store       doctor   checks of the machine
//! udp            the UDP workload and its datagram engines
//! load           load generator and origin server
//! proxy          the proxy of TCP and UDP
//! protocol       proxy protocols on the wire      blocklist   refused destinations
//! destination    names and addresses              uring       the io_uring of udp and proxy
//! engine, stats, dates, units, sys (system calls)
//! ```
//!
//! # The way of a datagram
//!
//! `udp::send::stream` decides what is sent next, by a schedule (`pacing`) or by the receiver's credit (`credit`), and writes the
//! header (`udp::wire::header`) into a slot of the engine (`udp::engine`), which hands batches of slots to the kernel. The engine of
//! the other end returns messages with the kernel's receive timestamps. `udp::receive::receiver` splits messages that GRO joined,
//! and `accounting` classifies every datagram by the sequence window and records its latency. At the end `udp::server` uploads the
//! counts and histograms (`udp::wire`), the client relates both clocks (`clock_offset`), and `udp::result` computes the [`UdpRun`].
//!
//! # The way of a proxied byte
//!
//! `proxy::worker` accepts the client over a backend (`proxy::backend`, epoll or io_uring). `proxy::handshake` parses the request
//! with `protocol`, has the name resolved, and asks `proxy::rules` whether the destination is blocked. The connection
//! (`proxy::connection`) connects to the server and starts the relay. `proxy::relay` decides for each direction whether to fill or
//! drain, and the backend's pump copies or splices the chunk. When both directions have ended, the record goes to the access log.

mod api;
#[doc(hidden)]
pub mod blocklist;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod dates;
#[doc(hidden)]
pub mod destination;
#[doc(hidden)]
pub mod doctor;
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod exposition;
#[doc(hidden)]
pub mod load;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod proxy;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod stats;
#[doc(hidden)]
pub mod sys;
#[doc(hidden)]
pub mod udp;
#[doc(hidden)]
pub mod units;
#[doc(hidden)]
pub mod uring;

pub use api::{
    CompareError, LoadError, Origin, Proxy, ProxyComparison, ProxyLoad, Record, UdpComparison,
    UdpError, UdpMeasurement, UdpServer,
};
#[doc(inline)]
pub use blocklist::{policy::Sources as BlocklistSources, reload::Policies};
#[doc(inline)]
pub use engine::EngineKind;
#[doc(inline)]
pub use load::plan::Scenario;
#[doc(inline)]
pub use load::result::Run as ProxyRun;
#[doc(inline)]
pub use protocol::Kind as ProxyProtocol;
#[doc(inline)]
pub use proxy::{options::Options as ProxyOptions, rules::Rules as ProxyRules};
#[doc(inline)]
pub use udp::plan::{Amount, Direction};
#[doc(inline)]
pub use udp::result::Run as UdpRun;
