//! What is counted and how it is summed up: [`latency`] histograms, [`jitter`], and the
//! [`spread`] of repeated runs. Pure: values in, figures out.

pub mod jitter;
pub mod latency;
pub mod spread;
