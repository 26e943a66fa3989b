//! The roles of `bench proxy` as child processes: each is this very program, and has its CPU time for itself.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child as Process, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::cli::failure::Failure;
use crate::sys::child::end_with_parent;

/// How long a role may take until it listens. It does so within milliseconds, unless the host is very busy.
const START: Duration = Duration::from_secs(20);

/// Bytes of a child's words of trouble that are kept: the first sentence is what counts.
const KEPT: u64 = 4 << 10;

/// Bytes in which it must say where it listens.
const GREETING: u64 = 64 << 10;

/// A role that listens. Dropped, it is ended.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    address: SocketAddr,
}

impl Child {
    /// Starts `bench proxy` with these words, and waits until it listens.
    pub(super) fn start(words: &[String]) -> Result<Self, Failure> {
        let name = format!("bench proxy {}", words.join(" "));
        let program = std::env::current_exe()
            .map_err(|error| Failure::Undone(format!("cannot start {name}: {error}")))?;
        let mut command = Command::new(program);
        command.arg("proxy").args(words);
        Self::spawn(command, &name, START)
    }

    fn spawn(mut command: Command, name: &str, limit: Duration) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Undone(format!("cannot start {name}: {error}"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the parent, which reports before it ends this one.
            .process_group(0);
        let process = end_with_parent(&mut command).spawn().map_err(failed)?;
        // From here on it is ended when it is dropped.
        let mut child = Self {
            process,
            address: SocketAddr::from(([0; 4], 0)),
        };
        let (out, errors) = (child.process.stdout.take(), child.process.stderr.take());
        let trouble = words_of(errors).map_err(failed)?;
        let listening = greeting_of(out).map_err(failed)?.recv_timeout(limit);
        let why = match listening {
            Ok(address) => {
                child.address = address;
                return Ok(child);
            }
            Err(RecvTimeoutError::Timeout) => format!("did not begin to listen within {limit:?}"),
            Err(RecvTimeoutError::Disconnected) => "did not begin to listen".to_owned(),
        };
        // With its end, what it says ends.
        drop(child);
        let told = trouble.join().unwrap_or_default();
        let told = told.trim().trim_start_matches("bench: ");
        Err(Failure::Undone(format!(
            "{name} {why}: {}",
            told.lines().next().unwrap_or("it said nothing")
        )))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads all that a child says in trouble, so that a full pipe never stops it, and keeps the beginning.
fn words_of(errors: Option<ChildStderr>) -> io::Result<JoinHandle<String>> {
    thread::Builder::new()
        .name("child".to_owned())
        .spawn(move || {
            let mut kept = Vec::new();
            if let Some(mut errors) = errors {
                let _ = errors.by_ref().take(KEPT).read_to_end(&mut kept);
                let _ = io::copy(&mut errors, &mut io::sink());
            }
            String::from_utf8_lossy(&kept).into_owned()
        })
}

/// Where a role says that it listens; nothing where it ends, or says much else, without having said so.
fn greeting_of(out: Option<ChildStdout>) -> io::Result<Receiver<SocketAddr>> {
    let (sender, address) = mpsc::channel();
    thread::Builder::new()
        .name("child".to_owned())
        .spawn(move || {
            let Some(mut out) = out else { return };
            let lines = BufReader::new(out.by_ref().take(GREETING)).lines();
            let found = lines
                .map_while(Result::ok)
                .find_map(|line| line.strip_prefix("listening on ")?.parse().ok());
            match found {
                // Nobody waits any more where it took too long.
                Some(address) => drop(sender.send(address)),
                None => return,
            }
            let _ = io::copy(&mut out, &mut io::sink());
        })?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(script: &str, limit: Duration) -> Result<Child, String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Child::spawn(command, "bench proxy x", limit).map_err(|failure| match failure {
            Failure::Undone(sentence) => sentence,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn a_child_that_says_much_is_not_stopped_by_a_full_pipe() {
        // More than any pipe holds, to both, before and after it listens.
        let much = "head -c 3000000 /dev/zero";
        let script =
            format!("{much} >&2; echo listening on 127.0.0.1:7; {much}; {much} >&2; echo done >&3");
        let (mut told, pipe) = io::pipe().unwrap();
        let mut command = Command::new("sh");
        // The script opens the pipe by its path, since no more than three files are passed on.
        let path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            std::os::fd::AsRawFd::as_raw_fd(&pipe)
        );
        command.args(["-c", &format!("exec 3>{path}; {script}")]);
        let child = Child::spawn(command, "bench proxy x", START).unwrap();
        assert_eq!(child.address(), "127.0.0.1:7".parse().unwrap());
        let mut word = [0; 5];
        told.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"done\n");
    }

    #[test]
    fn one_that_does_not_begin_to_listen_is_told_in_its_own_words() {
        let told = started("echo bench: no such list >&2; echo more >&2; exit 3", START);
        assert_eq!(
            told.unwrap_err(),
            "bench proxy x did not begin to listen: no such list"
        );
        let told = started("echo listening on nowhere", START);
        assert_eq!(
            told.unwrap_err(),
            "bench proxy x did not begin to listen: it said nothing"
        );
    }

    #[test]
    fn one_that_hangs_is_waited_for_no_longer_than_the_limit() {
        let limit = Duration::from_millis(50);
        let told = started("echo bench: it is slow >&2; exec sleep 600", limit);
        let told = told.unwrap_err();
        assert!(
            told.starts_with("bench proxy x did not begin to listen within 50ms: "),
            "{told}"
        );
    }
}
