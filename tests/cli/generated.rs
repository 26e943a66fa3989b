//! Generated files: completion scripts (`bench completions`) and manual pages (`bench man`).

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{PATIENCE, Running, bench};

/// Whether a program can be started.
fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Runs a bash script; returns its output. `None` without bash.
fn bash(script: &str, arg: &Path) -> Option<String> {
    if !exists("bash") {
        println!("skipped: no bash");
        return None;
    }
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"]).arg(arg);
    let output = bash.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_shell_has_a_completion_script() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench(["completions", shell]).done().stdout;
        for word in ["blocklist", "pps", "data-ports", "send-proxy"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    bench(["completions", "tcsh"]).failed(2, &["tcsh", "bash"]);
    bench(["completions"]).failed(2, &["SHELL"]);
}

#[test]
fn bash_script_is_valid_and_completes_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bench.bash");
    fs::write(&path, bench(["completions", "bash"]).done().stdout).unwrap();
    if bash("bash -n \"$1\"", &path).is_none() {
        return;
    }
    for (line, expected) in [
        ("bench ud", "udp"),
        ("bench udp --mb", "--mb"),
        ("bench udp --engine ur", "uring"),
        ("bench udp search --time", "--time-limit"),
        ("bench proxy serve --deny", "--deny-private"),
    ] {
        let script = format!(
            ". \"$1\"; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _bench bench \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
             echo \"${{COMPREPLY[*]}}\""
        );
        assert_eq!(bash(&script, &path).unwrap().trim(), expected, "{line}");
    }
}

#[test]
fn closed_output_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    for args in [
        ["completions", "bash"],
        ["man", folder.path().to_str().unwrap()],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        command.args(args);
        Running::read_for(command, 0).wait(PATIENCE).done();
    }
}

#[test]
fn man_writes_a_page_for_each_command_into_a_new_folder() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let finished = bench(["man", pages.to_str().unwrap()]).done();
    let mut written: Vec<_> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    let mut printed: Vec<_> = finished.stdout.lines().map(str::to_owned).collect();
    written.sort_unstable();
    printed.sort_unstable();
    assert_eq!(printed, written);
    // Every command that help lists has a page.
    let mut expected = vec!["bench.1".to_owned()];
    commands(&[], &mut expected);
    assert_eq!(written.len(), expected.len(), "{written:?}");
    for page in expected {
        assert!(pages.join(&page).exists(), "{page}");
    }
    let udp = fs::read_to_string(pages.join("bench-udp.1")).unwrap();
    for text in [
        ".TH bench-udp 1",
        "\\-\\-mb",
        "SH NOTES",
        "EXIT STATUS",
        "wirebench",
    ] {
        assert!(udp.contains(text), "no {text} in\n{udp}");
    }
}

/// Adds the page names of the commands below `path` that help lists.
fn commands(path: &[&str], pages: &mut Vec<String>) {
    let help = bench([path, &["-h"]].concat()).done().stdout;
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
    let listed = listed.lines().take_while(|line| !line.is_empty());
    // The name of a command is indented by 2, its description by more.
    for line in listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        if name == "help" {
            continue;
        }
        let path = [path, &[name]].concat();
        pages.push(format!("bench-{}.1", path.join("-")));
        commands(&path, pages);
    }
}

#[test]
fn manual_pages_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let pages = bench(["man", folder.path().to_str().unwrap()])
        .done()
        .stdout;
    let checkers: [&[&str]; 2] = [
        &["man", "--warnings", "-E", "UTF-8", "-l", "-Z"],
        &["mandoc", "-T", "lint", "-W", "warning"],
    ];
    for checker in checkers {
        if !exists(checker[0]) {
            println!("skipped: no {}", checker[0]);
            continue;
        }
        for page in pages.lines() {
            let mut command = Command::new(checker[0]);
            let output = command.args(&checker[1..]).arg(page).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let lint = match checker[0] {
                "mandoc" => lint(&String::from_utf8_lossy(&output.stdout)),
                _ => String::new(),
            };
            assert_eq!((errors.as_str(), lint.as_str()), ("", ""), "{page}");
        }
    }
}

/// The findings of `mandoc -T lint`, without those on blank lines of clap_mangen and on the date, which pages do not have.
fn lint(findings: &str) -> String {
    let accepted = ["skipping paragraph macro", "missing date"];
    let lines = findings.lines();
    let others = lines.filter(|line| !accepted.iter().any(|text| line.contains(text)));
    others.collect::<Vec<_>>().join("\n")
}

#[test]
fn folder_that_cannot_be_created_is_named() {
    bench(["man", "/dev/null/man"]).failed(3, &["cannot create /dev/null/man"]);
    bench(["man"]).failed(2, &["DIR"]);
}
