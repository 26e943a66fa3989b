//! The types behind the saved files: records of `bench udp`, `bench udp search` and `bench proxy`, and the result of `bench doctor`.
//!
//! The runs in a record are the results of [`udp`](crate::udp) and [`load`](crate::load).

pub mod curve;
pub mod doctor;
pub mod meta;
pub mod proxy;
pub mod search;
pub mod udp;

pub use curve::{Curve, Curves, Distributed, histogram_name, typical};
pub use doctor::DoctorReport;
pub use meta::{Host, MOST_RUNS, Meta, SCHEMA};
pub use proxy::ProxyRecord;
pub use search::SearchRecord;
pub use udp::UdpRecord;
