//! `--live` on a real terminal: tmux shows the screen, and the tests read it.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::engine::available;
use crate::common::{Results, Serve, bench, until};

const BENCH: &str = env!("CARGO_BIN_EXE_bench");

/// A terminal with a command in it. Its server ends on drop.
struct Screen {
    socket: String,
}

impl Screen {
    /// Runs a shell command. `None`, with a printed reason, without tmux.
    fn new(command: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("skipped: tmux is not installed");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let screen = Self {
            socket: format!("wirebench-live-{}-{number}", std::process::id()),
        };
        screen.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "100",
            "-y",
            "30",
            command,
        ]);
        Some(screen)
    }

    /// Runs `bench` with `options` behind `environment`, then prints its exit code and the terminal's settings.
    fn bench(environment: &str, options: &str) -> Option<Self> {
        Self::new(&format!(
            "cd /; env {environment} {BENCH} {options}; echo \"exit code $?\"; stty -a; exec sleep 600"
        ))
    }

    #[track_caller]
    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.args(["-u", "-L", &self.socket]).args(arguments);
        // The pane must not have the variables of the tests.
        for name in ["TMUX", "NO_COLOR", "TERM"] {
            tmux.env_remove(name);
        }
        let done = tmux.env("LC_ALL", "C.UTF-8").output().unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// The text on the screen.
    #[track_caller]
    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// The text on the screen and above it.
    #[track_caller]
    fn history(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// Waits until the screen has all of `parts`.
    #[track_caller]
    fn shows(&self, parts: &[&str]) {
        for part in parts {
            let mut text = String::new();
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                until(part, || {
                    text = self.text();
                    text.contains(part)
                });
            }));
            assert!(found.is_ok(), "no '{part}' in:\n{text}");
        }
    }

    #[track_caller]
    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    #[track_caller]
    fn resize(&self, columns: &str, rows: &str) {
        self.tmux(&["resize-window", "-x", columns, "-y", rows]);
    }

    /// Waits for the end of `bench`, and checks that the terminal is as before. Returns all text.
    #[track_caller]
    fn ended(&self, code: i32) -> String {
        self.shows(&["exit code ", " icanon"]);
        let text = self.history();
        assert!(text.contains(&format!("exit code {code}\n")), "{text}");
        assert!(
            text.contains(" echo ") && !text.contains(" -echo "),
            "{text}"
        );
        let state = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(state.trim(), "0 1");
        assert!(
            !text.contains("ends the run"),
            "the view is left over:\n{text}"
        );
        text
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut tmux = Command::new("tmux");
        let _ = tmux.args(["-L", &self.socket, "kill-server"]).output();
    }
}

/// A paced run of a minute.
const LONG: &str = "udp --live --pps 2k --duration 60s";

/// What the view of a run shows once an interval has ended.
const RUNNING: [&str; 8] = [
    " bench udp  paced over mio, 1000 B data",
    " running ",
    "┌ forward: goodput ─",
    " KB/s",
    "packets ",
    "lost ",
    "p99.9 ",
    "≤ ",
];

#[test]
fn q_leaves_the_summary() {
    let results = Results::new();
    let options = format!("{LONG} --out {}", results.arg());
    let Some(screen) = Screen::bench("", &options) else {
        return;
    };
    screen.shows(&RUNNING);
    screen.press("q");
    let text = screen.ended(0);
    for part in [
        "listening on 127.0.0.1:",
        "\nINCOMPLETE: interrupted\n",
        "\nclient IP 127.0.0.1\n",
        "\nsaved       ",
    ] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    let run = results.run();
    assert_eq!(run["ended"], "interrupted");
    assert_eq!(run["intervals"][0]["seconds"], 0.25);
}

#[test]
fn each_direction_and_each_finished_run_is_shown() {
    let options =
        "udp --live --no-save --bidir --chunk 100,200 --pps 2k --duration 1s --warmup 10ms";
    let Some(screen) = Screen::bench("", options) else {
        return;
    };
    screen.shows(&[
        "┌ forward: goodput ─",
        "┌ reverse: goodput ─",
        "setting 1 of 2",
    ]);
    screen.resize("120", "40");
    screen.shows(&["setting 2 of 2", "┌ finished runs ─", " KB/s"]);
    let text = screen.ended(0);
    assert!(text.contains("\nrun 3 "), "{text}");
}

#[test]
fn resizing_redraws_the_view() {
    let Some(screen) = Screen::bench("", &format!("{LONG} --no-save")) else {
        return;
    };
    screen.shows(&RUNNING);
    screen.resize("140", "40");
    let border = |columns: usize| format!("└{}┘\n", "─".repeat(columns - 2));
    screen.shows(&[&border(140)]);
    screen.resize("40", "8");
    screen.shows(&["has 40x8. The run goes on; q ends it."]);
    screen.resize("80", "24");
    screen.shows(&[&border(80)]);
    screen.shows(&RUNNING);
    screen.press("q");
    screen.ended(0);
}

#[test]
fn ctrl_c_and_sigterm_leave_the_summary() {
    for end in ["C-c", "TERM"] {
        let Some(screen) = Screen::bench("", &format!("{LONG} --no-save")) else {
            return;
        };
        screen.shows(&RUNNING);
        match end {
            "TERM" => {
                let shell = screen.tmux(&["display-message", "-p", "#{pane_pid}"]);
                let of_shell = format!("/proc/{0}/task/{0}/children", shell.trim());
                let bench = std::fs::read_to_string(of_shell).unwrap();
                let killed = Command::new("kill").args(["-TERM", bench.trim()]).status();
                assert!(killed.unwrap().success());
            }
            key => screen.press(key),
        }
        let text = screen.ended(0);
        assert!(text.contains("\nclient IP 127.0.0.1\n"), "{end}: {text}");
    }
}

#[test]
fn the_second_signal_restores_the_terminal() {
    let server = Serve::start(&[]);
    let options = format!("{LONG} --no-save --to {}", server.address);
    let Some(screen) = Screen::bench("", &options) else {
        return;
    };
    screen.shows(&RUNNING);
    // The result is unavailable, so the first key does not end the program.
    server.program.signal("STOP");
    screen.press("q");
    screen.shows(&[" stopping, waiting for the results"]);
    screen.press("C-c");
    screen.ended(130);
    server.program.signal("CONT");
}

#[test]
fn ctrl_z_stops_the_program_and_fg_continues_it() {
    let Some(screen) = Screen::new("cd /; exec sh -i") else {
        return;
    };
    let line = format!("{BENCH} {LONG} --no-save; stty -a");
    screen.tmux(&["send-keys", "-l", &line]);
    screen.press("Enter");
    screen.shows(&RUNNING);
    screen.press("C-z");
    screen.shows(&["topped"]);
    assert!(!screen.text().contains("forward: goodput"));
    screen.tmux(&["send-keys", "-l", "fg; echo exit code $?; stty -a"]);
    screen.press("Enter");
    screen.shows(&RUNNING);
    screen.press("q");
    let text = screen.ended(0);
    assert!(text.contains("\nclient IP 127.0.0.1\n"), "{text}");
}

#[test]
fn no_color_means_no_colours() {
    // SGR 30 to 38, 40 to 48, 90 to 97 and 100 to 107 select colours.
    let has_colours = |text: &str| {
        let sequences = text
            .split("\u{1b}[")
            .skip(1)
            .filter_map(|rest| rest.split_once('m'));
        let mut codes = sequences.flat_map(|(codes, _)| codes.split([';', ':']));
        codes.any(|code| matches!(code.parse::<u8>(), Ok(30..=38 | 40..=48 | 90..=107)))
    };
    for (environment, colours) in [("NO_COLOR=1", false), ("NO_COLOR=", true)] {
        let Some(screen) = Screen::bench(environment, &format!("{LONG} --no-save")) else {
            return;
        };
        screen.shows(&RUNNING);
        let text = screen.tmux(&["capture-pane", "-p", "-e"]);
        assert_eq!(has_colours(&text), colours, "{environment}: {text:?}");
        screen.press("q");
        screen.ended(0);
    }
}

#[test]
fn a_proxy_benchmark_is_shown() {
    let options = "proxy --live --no-save --scenario connect,request-response,bulk --duration 5s";
    let Some(screen) = Screen::bench("", options) else {
        return;
    };
    screen.shows(&[
        " bench proxy  connect direct",
        "measurement 1 of 30, round 1",
        "┌ connect direct: answered requests ─",
        " requests/s",
        "answered ",
        "errors 0",
        "p99.9 ",
        "≤ ",
        "┌ finished runs ─",
        "┌ bulk proxied: bytes sent ─",
        " GB/s",
    ]);
    screen.press("q");
    let text = screen.ended(0);
    assert!(text.contains("\nrequest-response     requests/s"), "{text}");
}

#[test]
fn a_dumb_terminal_has_the_ordinary_output() {
    let options = "udp --live --packets 10 --no-save";
    let Some(screen) = Screen::bench("TERM=dumb", options) else {
        return;
    };
    let text = screen.ended(0);
    assert!(
        text.contains("bench: --live is ignored: the terminal cannot move its cursor"),
        "{text}"
    );
    assert!(text.contains("\nclient IP 127.0.0.1\n"), "{text}");
}

#[test]
fn output_to_a_pipe_is_the_ordinary_output() {
    for command in [
        "udp --live --packets 10 --no-save",
        "proxy --live --scenario connect --duration 50ms --repeat 1 --no-save",
    ] {
        let done = bench(command.split(' '));
        assert_eq!(
            (done.code, done.stderr.as_str()),
            (
                Some(0),
                "bench: --live is ignored: standard output is not a terminal\n"
            )
        );
        assert!(done.stdout.len() > 100 && !done.stdout.contains('\u{1b}'));
    }
}

#[test]
fn quiet_and_documents_on_stdout_exclude_the_view() {
    for command in ["udp", "proxy", "proxy load --origin 127.0.0.1:1"] {
        let with = |more: &str| bench(format!("{command} --live --no-save {more}").split(' '));
        with("--quiet").failed(2, &["--live", "--quiet"]);
        with("--json -").failed(2, &["--live and --json - cannot share standard output"]);
        for option in [
            "--csv",
            "--markdown",
            "--html",
            "--svg",
            "--openmetrics",
            "--prometheus",
            "--hlog",
            "--json-stream",
        ] {
            let advice = format!("give {option} a path");
            with(&format!("{option} -")).failed(2, &[&advice]);
        }
    }
    let iperf3 = bench("udp --live --no-save --iperf3-json -".split(' '));
    iperf3.failed(2, &["give --iperf3-json a path"]);
}

#[test]
fn an_error_is_printed_after_the_view() {
    // Without a listener.
    let options = "udp --live --no-save --to 127.0.0.1:1";
    let Some(screen) = Screen::bench("", options) else {
        return;
    };
    let text = screen.ended(3);
    assert!(text.starts_with("bench: "), "{text}");
}

#[test]
fn latencies_are_shown_with_an_estimated_offset() {
    let server = Serve::start(&[]);
    let options = format!("{LONG} --no-save --to {} --clock estimate", server.address);
    let Some(screen) = Screen::bench("", &options) else {
        return;
    };
    screen.shows(&["p99.9 ", "≤ "]);
    screen.press("q");
    let text = screen.ended(0);
    assert!(text.contains("clocks     offset "), "{text}");
}

#[test]
fn the_view_shows_io_uring() {
    let Some(_) = available("--engine uring") else {
        return;
    };
    let options = format!("{LONG} --no-save --engine uring");
    let Some(screen) = Screen::bench("", &options) else {
        return;
    };
    screen.shows(&[" paced over uring", " KB/s", "p99.9 "]);
    screen.press("q");
    screen.ended(0);
}
