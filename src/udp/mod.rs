//! The UDP workload: datagrams from senders to receivers, every one of them accounted for.

pub mod client;
pub mod clock_offset;
pub mod control;
pub mod credit;
pub mod engine;
pub mod placement;
pub mod plan;
pub mod receive;
pub mod result;
pub mod send;
pub mod server;
pub mod setup;
pub mod wire;
