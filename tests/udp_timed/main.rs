//! `bench udp`: tests that measure times. They mostly wait, so that few of them need a CPU at once, and run apart from tests that
//! keep the CPUs busy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod delay;
mod round_trip;
mod search;
mod sending;
mod spin;
mod stages;
