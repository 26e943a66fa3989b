//! What a run leaves behind: one [`record`] of everything, and the forms it is given out in.
//!
//! [`text`] is for a person and [`json`] is the record itself. The tables are [`ledger`] (a row a run,
//! in one file over all commands), [`intervals`] and [`packets`]; [`hgrm`] is the histogram for
//! plotters, and [`comparison`] what the runs of several settings say of each other. [`store`] is the
//! folder of a run that they lie in, [`output`] a file that is either whole or not there, [`partial`] what is neither yet, and [`dates`]
//! how instants are written in all of them. What each column and key means is told in
//! `results/README.md`, which a test holds to these files. [`findings`] are of no run, but `bench doctor`'s.
//!
//! All that is of `bench udp`; what is different of `bench proxy` is in [`proxy`].

pub mod comparison;
pub use crate::units::dates;
pub mod findings;
pub mod hgrm;
pub mod intervals;
pub mod json;
pub mod ledger;
pub mod output;
pub mod packets;
pub mod partial;
pub mod proxy;
pub mod record;
pub mod store;
pub mod text;

#[cfg(test)]
mod readme;
#[cfg(test)]
mod sample;
