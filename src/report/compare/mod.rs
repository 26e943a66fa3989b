//! Comparison of settings: the figures of each setting, and their ratios to a base.
//!
//! The settings of one command took turns in rounds ([`udp::within_command`], [`proxy::overhead`]); the settings of two records
//! did not ([`records`]). Both use the same groups and ratios, for any run that is [`Comparable`]. [`gate`] decides whether a
//! setting is slower than its base. Incomplete runs do not count.

pub mod gate;
mod group;
pub mod labels;
pub mod proxy;
pub mod records;
mod setting;
pub mod udp;

pub use group::{Comparable, Figure, Group};
pub use setting::{Compared, Judged};
