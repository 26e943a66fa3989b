//! wirebench measures UDP and TCP proxying on Linux.
//!
//! The program `bench` is [`cli`]. Layers from top to bottom; a module imports only modules below it, except
//! that `udp`, `load` and `proxy` fill records of `report`:
//!
//! - [`cli`]: options, terminal output and exit codes.
//! - [`report`]: records of runs and their output formats.
//! - [`doctor`]: checks of what the machine supports.
//! - [`udp`]: the UDP workload with its datagram engines.
//! - [`load`]: load generator and origin server for proxy measurements.
//! - [`proxy`]: the TCP proxy.
//! - [`protocol`]: proxy protocols on the wire; [`blocklist`]: refused destinations; [`host`]: destination names and
//!   addresses.
//! - [`uring`]: the io_uring of datagram engine and proxy; [`engine`]: selection of the I/O interface.
//! - [`stats`], [`sys`] (system calls), [`units`].

pub mod blocklist;
pub mod cli;
pub mod doctor;
pub mod engine;
pub mod host;
pub mod load;
pub mod protocol;
pub mod proxy;
pub mod report;
pub mod stats;
pub mod sys;
pub mod udp;
pub mod units;
pub mod uring;
