//! A fleet: many processes, of one host or of many, that measure at one time as one.
//!
//! A launcher gives each process a rank and a size ([`launch`]). The processes connect to a server ([`hub`] there, [`member`] here), which
//! starts each run at one time and passes the results to one rank. A rank without a session estimates the server's [`clock`]. [`share`] divides the amount and the rate. Results are merged by
//! [`crate::udp::merge`].

pub mod clock;
pub mod hub;
pub mod launch;
pub mod member;
pub mod share;
