//! Shared by all tests: running `bench` with its own result folder, and reading its output.

#![allow(dead_code, reason = "each test program uses its own part of this")]

pub(crate) mod clocks;
pub(crate) mod cpu;
pub(crate) mod delay;
pub(crate) mod engine;
pub(crate) mod filter;
pub(crate) mod fleet;
pub(crate) mod network;
pub(crate) mod observed;
pub(crate) mod peer;
pub(crate) mod python;
pub(crate) mod relay;
pub(crate) mod routed;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Once;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use wirebench::sys::rlimit;

/// Longer than any step takes on a slow, busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A dead peer is detected within 5 s. The rest is for starting and ending a process on a busy machine.
pub(crate) const NOTICED: Duration = Duration::from_secs(7);

/// Polls until `is` returns true, and fails after [`PATIENCE`].
#[track_caller]
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// CPU time of a process in hundredths of a second (proc_pid_stat(5)); 0 if it has ended.
pub(crate) fn cpu_ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of a program may contain any character.
    let behind_name = stat.rsplit(") ").next().unwrap_or_default();
    let of_cpu = behind_name.split(' ').skip(11).take(2);
    of_cpu.map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum()
}

/// Kilobytes of memory that belong to no file. Pages of a program that was just linked are dirty too, and become private when
/// other processes end.
pub(crate) fn anonymous_kb(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("Anonymous:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1);
    kilobytes.unwrap().parse().unwrap()
}

/// Output of a finished `bench`.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Finished {
    /// Asserts success without any error output.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self
    }

    /// Asserts failure with `code` and one sentence that contains all of `words`.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        let sentence = self.stderr.trim_end();
        // clap prints the usage below its sentence.
        let lines = sentence.lines().count();
        assert!(
            lines == 1
                || sentence.contains("\nUsage: ")
                || sentence.contains("\nFor more information"),
            "{sentence}"
        );
        for word in words {
            assert!(sentence.contains(word), "no '{word}' in: {sentence}");
        }
        self
    }
}

/// Runs `bench` to its end.
pub(crate) fn bench<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Finished {
    start(args).wait(PATIENCE)
}

/// Starts `bench` outside the project's folder.
pub(crate) fn start<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(args);
    Running::new(command)
}

/// The time that a proxy leaves to flows and associations once it stops, unless a test sets its own. The default time passes a second
/// after their last datagram.
pub(crate) fn short_drain(options: &[&str]) -> &'static [&'static str] {
    match options.contains(&"--drain-timeout") {
        true => &[],
        false => &["--drain-timeout", "100ms"],
    }
}

/// A running program, killed on drop.
pub(crate) struct Running {
    child: Child,
    started: Instant,
    lines: Receiver<String>,
    seen: String,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn new(command: Command) -> Self {
        Self::read_for(command, usize::MAX)
    }

    /// Reads only so many lines of its output, then closes the pipe.
    pub(crate) fn read_for(mut command: Command, lines: usize) -> Self {
        // Tests that run at once share the files of this process, and many systems start with 1024.
        static FILES: Once = Once::new();
        FILES.call_once(|| {
            let _ = rlimit::raise_open_files();
        });
        let mut child = command
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, kept) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().take(lines).map_while(Result::ok) {
                // Continues to read if no test waits for lines, since a full pipe would block the program.
                let _ = sender.send(line);
            }
        });
        let mut errors: ChildStderr = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        Self {
            child,
            started: Instant::now(),
            lines: kept,
            seen: String::new(),
            stderr: Some(stderr),
        }
    }

    /// Waits for a line of output that satisfies `wanted`.
    #[track_caller]
    pub(crate) fn line(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no such line; output so far:\n{}", self.seen);
            };
            self.seen.push_str(&line);
            self.seen.push('\n');
            if wanted(&line) {
                return line;
            }
        }
    }

    /// Waits for the line with the listening address.
    #[track_caller]
    pub(crate) fn listening(&mut self) -> SocketAddr {
        let line = self.line(|line| line.starts_with("listening on "));
        line["listening on ".len()..].parse().unwrap()
    }

    /// Waits for the first interval row of `bench udp --interval`.
    #[track_caller]
    pub(crate) fn first_row(&mut self) {
        self.line(|line| line.contains("KB/s") && line.contains("p99"));
        self.line(|_| true);
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal with kill(1), which is built into the shell.
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(status.success(), "{command}");
    }

    /// Waits at most `most` for the program to end.
    #[track_caller]
    pub(crate) fn wait(mut self, most: Duration) -> Finished {
        let deadline = Instant::now() + most;
        // The output ends before the process does.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!(
                        "the program did not end within {most:?}; output so far:\n{}",
                        self.seen
                    )
                }
            }
        }
        let mut status = None;
        until("the process ends after its output", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        Finished {
            code: status.unwrap().code(),
            stdout: std::mem::take(&mut self.seen),
            stderr: self.stderr.take().unwrap().join().unwrap(),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `bench serve` on loopback with its own result folder.
pub(crate) struct Serve {
    pub(crate) program: Running,
    pub(crate) address: SocketAddr,
    pub(crate) results: Results,
}

impl Serve {
    #[track_caller]
    pub(crate) fn start(more: &[&str]) -> Self {
        let results = Results::new();
        let out = results.arg();
        let args = ["serve", "--bind", "127.0.0.1:0", "--out", &out];
        let mut program = start(args.iter().chain(more));
        let address = program.listening();
        Self {
            program,
            address,
            results,
        }
    }

    /// Starts a client of this server that saves its record.
    #[track_caller]
    pub(crate) fn client(&self, options: &str) -> (Running, Results) {
        let results = Results::new();
        let (to, out) = (self.address.to_string(), results.arg());
        let fixed = ["udp", "--to", &to, "--out", &out];
        (
            start(fixed.into_iter().chain(options.split_whitespace())),
            results,
        )
    }

    /// Stops the server as Ctrl-C does.
    #[track_caller]
    pub(crate) fn stop(self) -> (Finished, Results) {
        self.program.signal("INT");
        (self.program.wait(NOTICED).done(), self.results)
    }
}

/// A result folder, removed after the test.
pub(crate) struct Results {
    pub(crate) folder: TempDir,
}

impl Results {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn arg(&self) -> String {
        self.folder.path().to_str().unwrap().to_owned()
    }

    /// All names in the folder, including hidden ones, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }

    /// The folder of the only command that saved results.
    #[track_caller]
    pub(crate) fn only(&self) -> PathBuf {
        let mut folders = self.names();
        folders.retain(|name| name != "udp.csv" && name != "proxy.csv");
        assert_eq!(folders.len(), 1, "{folders:?}");
        assert!(!folders[0].starts_with('.'), "{folders:?}");
        self.folder.path().join(&folders[0])
    }

    /// The `run.json` of the only command.
    #[track_caller]
    pub(crate) fn record(&self) -> Value {
        let text = fs::read_to_string(self.only().join("run.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The only run.
    #[track_caller]
    pub(crate) fn run(&self) -> Value {
        let record = self.record();
        let runs = record["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1);
        runs[0].clone()
    }

    /// Header and rows of the ledger.
    #[track_caller]
    pub(crate) fn ledger(&self) -> Vec<csv::StringRecord> {
        table(&self.folder.path().join("udp.csv"))
    }
}

/// Names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Rows of a CSV file, header first. Panics if their lengths differ.
#[track_caller]
pub(crate) fn table(path: &Path) -> Vec<csv::StringRecord> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_path(path)
        .unwrap();
    reader.records().map(Result::unwrap).collect()
}

/// The number at a path such as `lost.packets` of a run.
#[track_caller]
pub(crate) fn number(run: &Value, path: &str) -> u64 {
    let value = path.split('.').fold(run, |value, key| &value[key]);
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{path} is {value}: {run:#}"))
}

/// Asserts the identities of every run.
#[track_caller]
pub(crate) fn assert_identities(run: &Value) {
    let of = |path: &str| number(run, path);
    assert_eq!(
        of("sent.packets"),
        of("received.unique") + of("lost.packets"),
        "{run:#}"
    );
    assert_eq!(
        of("received.packets"),
        of("received.unique") + of("received.duplicates")
    );
    let parts = of("lost.not_sent") + of("lost.receiver_socket") + of("lost.elsewhere");
    assert_eq!(of("lost.packets"), parts);
    let kinds = ["token", "short", "malformed"].map(|kind| of(&format!("received.foreign_{kind}")));
    assert_eq!(of("received.foreign"), kinds.iter().sum::<u64>());
    assert!(of("sent.bytes") >= of("received.bytes"));
}

/// Asserts the additional identities of runs with figures of both sides.
#[track_caller]
pub(crate) fn assert_accounted(run: &Value) {
    assert_identities(run);
    assert_arrivals(run);
    for path in ["sent.packets", "sent.bytes", "lost.packets"] {
        assert_eq!(total_of_streams(run, path), number(run, path), "{path}");
    }
}

#[track_caller]
fn total_of_streams(run: &Value, path: &str) -> u64 {
    let streams = run["streams"].as_array().unwrap();
    streams.iter().map(|stream| number(stream, path)).sum()
}

/// Asserts the identities of the receiver's figures, which do not need the sender's.
#[track_caller]
pub(crate) fn assert_arrivals(run: &Value) {
    let latencies = |key: &str| {
        let latency = |part: &str| number(run, &format!("{key}.{part}"));
        latency("count") + latency("out_of_range.negative") + latency("out_of_range.too_long")
    };
    let unique = number(run, "received.unique");
    assert_eq!(latencies("latency_ns"), unique);
    if run["mode"] == "paced" {
        assert_eq!(latencies("latency_from_intended_ns"), unique);
    }
    let rows = run["intervals"].as_array().unwrap();
    let total = |key: &str| rows.iter().map(|row| number(row, key)).sum::<u64>();
    assert_eq!(total("packets"), number(run, "received.packets"));
    assert_eq!(total("bytes"), number(run, "received.bytes"));
    for path in ["received.unique", "received.bytes"] {
        assert_eq!(total_of_streams(run, path), number(run, path), "{path}");
    }
}
