//! Statistics, free of I/O: [`latency`] histograms, [`jitter`], the [`spread`] of repeated runs, the [`ratio`] or
//! [`difference`] of two settings with a confidence interval, and the [`change`] of a level over many records.

mod bootstrap;
mod buckets;
pub mod change;
pub mod difference;
pub mod jitter;
pub mod latency;
pub mod ratio;
pub mod spread;
