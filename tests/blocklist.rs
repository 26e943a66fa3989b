//! `bench blocklist check` from outside: what it prints, its exit codes, and what it says of lists that are not right.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use common::{Finished, bench};
use tempfile::TempDir;

/// A folder with lists, which `bench` is told by their paths.
struct Lists(TempDir);

impl Lists {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        Self(folder)
    }

    /// What is printed has no paths, only names.
    fn check(&self, words: &[&str]) -> Finished {
        let at = format!("{}/", self.0.path().display());
        let word = |word: &&str| word.replace('@', &at);
        let fixed = ["blocklist", "check"].map(str::to_owned);
        let mut finished = bench(fixed.into_iter().chain(words.iter().map(word)));
        finished.stdout = finished.stdout.replace(&at, "");
        finished.stderr = finished.stderr.replace(&at, "");
        finished
    }
}

#[test]
fn each_destination_is_told_with_what_blocks_it() {
    let lists = Lists::new(&[
        (
            "net",
            "# mine\n203.0.113.0/24\n198.51.100.7:25\n*.ads.example\n",
        ),
        ("hosts", "127.0.0.1 localhost\n0.0.0.0 bad.example\n"),
    ]);
    let destinations = [
        "203.0.113.9",
        "203.0.113.9:443",
        "[::ffff:203.0.113.9]:443",
        "64:ff9b::203.0.113.9",
        "fe80::5efe:203.0.113.9%eth0",
        "198.51.100.7:26",
        "198.51.100.7",
        "a.ads.example:80",
        "ads.example",
        "xads.example",
        "BAD.example.",
        "localhost",
        "1.1.1.1",
    ];
    let words = [&["@net", "@hosts", "--"][..], &destinations].concat();
    let finished = lists.check(&words).failed(1, &["9 of 13 destinations"]);
    let expected = [
        "203.0.113.9 blocked by net:2 (203.0.113.0/24)",
        "203.0.113.9:443 blocked by net:2 (203.0.113.0/24)",
        "[::ffff:203.0.113.9]:443 blocked by net:2 (203.0.113.0/24)",
        "64:ff9b::203.0.113.9 blocked by net:2 (203.0.113.0/24)",
        "fe80::5efe:203.0.113.9%eth0 blocked by net:2 (203.0.113.0/24)",
        "198.51.100.7:26 allowed",
        "198.51.100.7 blocked by net:3 (198.51.100.7:25)",
        "a.ads.example:80 blocked by net:4 (*.ads.example)",
        "ads.example blocked by net:4 (*.ads.example)",
        "xads.example allowed",
        "BAD.example. blocked by hosts:2 (bad.example)",
        "localhost allowed",
        "1.1.1.1 allowed",
    ];
    assert_eq!(finished.stdout, expected.join("\n") + "\n");
}

#[test]
fn all_allowed_is_exit_code_0() {
    let lists = Lists::new(&[("list", "203.0.113.0/24\n")]);
    let finished = lists.check(&["@list", "--", "1.1.1.1", "example.com:443"]);
    let finished = finished.done();
    assert_eq!(
        finished.stdout,
        "1.1.1.1 allowed\nexample.com:443 allowed\n"
    );
}

#[test]
fn an_allow_list_and_private_networks_block_too() {
    let lists = Lists::new(&[("allow", "192.0.2.0/24\n1.1.1.1\n")]);
    let words = ["--allow", "@allow", "--", "1.1.1.1", "8.8.8.8"];
    let finished = lists.check(&words).failed(1, &["1 of 2"]);
    let expected = "1.1.1.1 allowed\n8.8.8.8 blocked by --allow (not on the list)\n";
    assert_eq!(finished.stdout, expected);
    let finished = lists.check(&["--deny-private", "--", "2002:a00:1::"]);
    let finished = finished.failed(1, &["the destination is blocked"]);
    let expected = "2002:a00:1:: blocked by --deny-private (10.0.0.0/8, private)\n";
    assert_eq!(finished.stdout, expected);
}

#[test]
fn an_empty_list_is_said_to_be_one() {
    let lists = Lists::new(&[("empty", ""), ("comments", "# nothing\n")]);
    let finished = lists.check(&["@empty", "@comments", "--", "1.1.1.1"]);
    assert_eq!(
        (finished.code, finished.stdout.as_str()),
        (Some(0), "1.1.1.1 allowed\n")
    );
    let expected = "bench: empty: an empty list, it has no entries\n\
                    bench: comments: an empty list, it has no entries\n";
    assert_eq!(finished.stderr, expected);
}

#[test]
fn a_bad_line_is_told_by_file_and_line() {
    let lists = Lists::new(&[("list", "192.0.2.1\n# two\n192.0.2\n")]);
    let finished = lists.check(&["@list", "--", "1.1.1.1"]);
    let finished = finished.failed(
        3,
        &["list:3: \"192.0.2\" ends in a number", "like 127.0.0.1"],
    );
    assert_eq!(finished.stdout, "");
    lists
        .check(&["@gone", "--", "1.1.1.1"])
        .failed(3, &["cannot read gone", "No such file"]);
    lists
        .check(&["@.", "--", "1.1.1.1"])
        .failed(3, &["cannot read", "directory"]);
}

#[test]
fn many_bad_lines_are_told_up_to_ten() {
    let lists = Lists::new(&[("list", &"127.1\n".repeat(25))]);
    let finished = lists.check(&["@list", "--", "1.1.1.1"]);
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!((finished.code, lines.len()), (Some(3), 11), "{lines:?}");
    assert!(lines[9].starts_with("bench: list:10: "), "{lines:?}");
    assert_eq!(lines[10], "bench: and 15 more bad lines");
}

#[test]
fn a_destination_in_a_deceptive_form_is_bad_usage() {
    let lists = Lists::new(&[("list", "")]);
    for (destination, named) in [
        ("127.1", "127.1"),
        ("0x7f000001", "0x7f000001"),
        ("2130706433:80", "2130706433"),
        ("0177.0.0.1", "0177.0.0.1"),
        ("１２７.0.0.1", "１２７.0.0.1"),
        (" 127.0.0.1", "' '"),
        ("127.0.0.1 ", "' '"),
        ("", "is empty"),
        ("example.com:0", "\"0\" is not a port"),
        ("[::1", "[::1"),
        ("::ffff:127.1", "::ffff:127.1"),
    ] {
        let finished = lists.check(&["@list", "--", "1.1.1.1", destination]);
        let finished = finished.failed(2, &[named]);
        assert_eq!(finished.stdout, "", "{destination}");
    }
    lists.check(&["@list"]).failed(2, &["DEST"]);
    lists.check(&["--", "1.1.1.1"]).failed(2, &["FILE"]);
    bench(["blocklist"]).failed(2, &[]);
}

#[test]
fn a_long_list_is_read_in_no_time() {
    let mut content = String::new();
    for number in 0..120_000u32 {
        let address = std::net::Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761));
        writeln!(content, "{address}").unwrap();
    }
    let lists = Lists::new(&[("long", &content)]);
    let last = content.lines().last().unwrap();
    let finished = lists.check(&["@long", "--", last]).failed(1, &["blocked"]);
    assert_eq!(
        finished.stdout,
        format!("{last} blocked by long:120000 ({last})\n")
    );
    // Within 1 s when optimised; this may be a debug build on a busy machine.
    assert!(
        finished.took < Duration::from_secs(10),
        "{:?}",
        finished.took
    );
}
