//! Types that moved to [`load::result`](crate::load::result).

pub use crate::load::result::{BUSY, Cpu, Errors, Measured, Requested, Run};
