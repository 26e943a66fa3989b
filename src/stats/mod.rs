//! Statistics, free of I/O: [`latency`] histograms, [`jitter`], the [`spread`] of repeated runs, and the [`ratio`] or
//! [`difference`] of two settings with a confidence interval.

mod bootstrap;
pub mod difference;
pub mod jitter;
pub mod latency;
pub mod ratio;
pub mod spread;
