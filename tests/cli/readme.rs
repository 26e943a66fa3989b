//! The README is correct: every option in its examples exists, and the short examples run.

use std::path::Path;

use assert_cmd::Command;

const README: &str = include_str!("../../README.md");

/// The `bench` commands in code blocks, without their comments.
fn examples() -> Vec<Vec<&'static str>> {
    let lines = README
        .lines()
        .filter_map(|line| line.strip_prefix("bench "));
    lines
        .map(|line| {
            line.split_once('#')
                .map_or(line, |(command, _)| command)
                .split_whitespace()
                .collect()
        })
        .collect()
}

#[test]
fn every_example_is_valid() {
    let examples = examples();
    assert!(examples.len() >= 10, "{examples:?}");
    for example in examples {
        let command = command(&example);
        let help = Command::cargo_bin("bench")
            .unwrap()
            .args(command)
            .arg("--help")
            .output()
            .unwrap();
        assert!(help.status.success(), "{command:?} is no command");
        let help = String::from_utf8(help.stdout).unwrap();
        // No options follow a bare --.
        let options = example.iter().take_while(|word| **word != "--");
        for option in options.filter(|word| word.starts_with("--")) {
            assert!(
                help.contains(&format!("{option} ")) || help.contains(&format!("{option}\n")),
                "{command:?} {option}"
            );
        }
    }
}

/// The command of an example: two words if the first has subcommands.
fn command<'a>(example: &'a [&'static str]) -> &'a [&'static str] {
    let roles = ["udp", "proxy", "blocklist"].contains(&example[0]);
    let role = roles && example.get(1).is_some_and(|word| !word.starts_with('-'));
    &example[..if role { 2 } else { 1 }]
}

#[test]
fn the_short_examples_on_loopback_run() {
    let out = tempfile::tempdir().unwrap();
    let short = ["--gso off", "--packets-csv", "--json -", "--ipv6"];
    for example in examples() {
        let line = example.join(" ");
        if example[0] != "udp" || !short.iter().any(|option| line.contains(option)) {
            continue;
        }
        if line.contains("--ipv6") && !Path::new("/proc/net/if_inet6").exists() {
            println!("skipped: this host has no IPv6");
            continue;
        }
        Command::cargo_bin("bench")
            .unwrap()
            .current_dir(out.path())
            .args(&example)
            .assert()
            .success();
    }
}
