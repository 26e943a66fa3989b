//! What is counted and how it is summed up: [`latency`] histograms, [`jitter`], the [`spread`] of
//! repeated runs, and the [`ratio`] of one setting's to another's or their [`difference`]. Pure: values in, figures out.

mod bootstrap;
pub mod difference;
pub mod jitter;
pub mod latency;
pub mod ratio;
pub mod spread;
