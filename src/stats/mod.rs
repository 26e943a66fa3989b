//! Statistics, free of I/O: [`latency`] histograms and their [saved form](saved_histogram), [`jitter`], the [`spread`] of repeated
//! runs, the [`ratio`] or [`difference`] of two settings with a confidence interval, the [`change`] of a level over many records, the
//! [`union`] of spans of time, and random numbers.

mod bootstrap;
mod buckets;
pub mod change;
pub mod difference;
pub mod jitter;
pub mod latency;
pub(crate) mod random;
pub mod ratio;
pub mod saved_histogram;
pub mod spread;
pub mod union;
