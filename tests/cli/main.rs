//! Options, files and formats of `bench` that several commands share. One program for all of them: each test program costs seconds to compile and to link.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod blocklist;
mod compare;
mod compare_settings;
mod doctor;
mod formats;
mod generated;
mod html_report;
mod html_valid;
mod json_stream;
mod live;
mod markdown;
mod nightly;
mod readme;
mod signals;
