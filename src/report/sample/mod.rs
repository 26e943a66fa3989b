//! Records and runs with a value for every key, for tests.

pub(super) mod proxy;
pub(super) mod search;
pub(super) mod udp;
