//! `bench proxy` with datagrams: forwarding, SOCKS5 associations, and their measurement. One program for all of them: each test program costs seconds to compile and to link.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/associate.rs"]
mod associate;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/udp_proxy.rs"]
mod udp_proxy;

mod associations;
mod associations_hostile;
mod associations_paths;
mod bench;
mod flows;
mod forwarding;
mod rules;
