//! Fleets of `bench udp` and `bench proxy load`, and `bench merge`. One program for all of them: each test program costs seconds to compile and to link.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod launchers;
mod load;
mod merge;
mod ranks;
mod unread;
