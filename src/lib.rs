//! wirebench: how fast, how lossy and how late UDP and TCP proxying are on Linux.
//!
//! The program `bench` is this library's [`cli`]. Floors, top to bottom, none of which imports upward:
//!
//! - [`cli`]: options become plans; what the terminal shows.
//! - [`udp`]: the UDP workload, from the datagram header to two processes that agree on a run.
//! - [`load`]: what a proxy is measured with: the answering server.
//! - [`proxy`]: the TCP proxy.
//! - [`report`]: the record of a run and the forms it is given out in; [`engine`]: how datagrams get into
//!   the kernel and out of it.
//! - [`protocol`]: what the proxy's clients ask for, in bytes; [`blocklist`]: which destinations are refused; both read
//!   them with [`destination`]; [`stats`], [`sys`] (the only place with system calls), [`units`].

pub mod blocklist;
pub mod cli;
pub mod destination;
pub mod engine;
pub mod load;
pub mod protocol;
pub mod proxy;
pub mod report;
pub mod stats;
pub mod sys;
pub mod udp;
pub mod units;
