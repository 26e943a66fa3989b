//! wirebench: how fast, how lossy and how late UDP and TCP proxying are on Linux.

pub mod report;
pub mod stats;
pub mod sys;
pub mod units;
