//! `bench udp` and `bench serve`. One program for all of them: each test program costs seconds to compile and to link.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod explain;
mod fake_server;
mod hostile_control;
mod hostile_datagrams;
mod hostile_sessions;
mod limits;
mod local;
mod output;
mod path;
mod reach;
mod remote;
mod rows;
mod traffic;
mod via;
