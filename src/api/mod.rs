//! The library's façade: measurements, servers and records for other programs, re-exported at the crate's root.
//!
//! Each type here wraps what the command of the same purpose uses. It chooses defaults as the command does.

mod compare;
mod load;
pub(crate) mod local;
mod proxy;
mod udp;
pub(crate) mod udp_server;

pub use compare::{CompareError, ProxyComparison, Record, UdpComparison};
pub use load::{LoadError, Origin, ProxyLoad};
pub use proxy::Proxy;
pub use udp::{UdpError, UdpMeasurement};
pub use udp_server::UdpServer;
