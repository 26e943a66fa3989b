//! `bench proxy` over TCP. One program for all of them: each test program costs seconds to compile and to link.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/associate.rs"]
mod associate;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/dns.rs"]
mod dns;

mod bench;
mod clients;
mod fairness;
mod fronts;
mod headers;
mod hostile;
mod http;
mod interrupt;
mod listeners;
mod lists;
mod log;
mod metrics;
mod names;
mod origin;
mod pipes;
mod relay;
mod send;
mod sign_in;
mod signals;
mod unix;
