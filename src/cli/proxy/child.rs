//! Subcommands of `bench proxy` as child processes of this program, so that each has its own CPU time.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child as Process, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::with_advice;
use crate::cli::error::CliError;
use crate::sys::child::end_with_parent;

/// How long a child may take to listen. It takes milliseconds, unless the host is very busy.
const START: Duration = Duration::from_secs(20);

/// Bytes of a child's stderr that are kept for its first line.
const MAX_STDERR: u64 = 4 << 10;

/// Bytes of stdout in which a child must print its address.
const MAX_GREETING: u64 = 64 << 10;

/// A listening child process. Drop kills it.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    address: SocketAddr,
}

impl Child {
    /// Starts `bench proxy` with these arguments and waits until it listens.
    pub(super) fn start(arguments: &[String]) -> Result<Self, CliError> {
        let name = format!("bench proxy {}", arguments.join(" "));
        let program = std::env::current_exe()
            .map_err(|error| CliError::Runtime(format!("cannot start {name}: {error}")))?;
        let mut command = Command::new(program);
        command.arg("proxy").args(arguments);
        Self::spawn(command, &name, START)
    }

    fn spawn(mut command: Command, name: &str, limit: Duration) -> Result<Self, CliError> {
        let failed = |error: io::Error| {
            CliError::Runtime(format!("cannot start {name}: {}", with_advice(&error)))
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is handled by the parent, which reports before it ends the child.
            .process_group(0);
        let process = end_with_parent(&mut command).spawn().map_err(failed)?;
        // From here on, drop kills the child.
        let mut child = Self {
            process,
            address: SocketAddr::from(([0; 4], 0)),
        };
        let (out, errors) = (child.process.stdout.take(), child.process.stderr.take());
        let stderr = drain_stderr(errors).map_err(failed)?;
        let listening = listening_address(out).map_err(failed)?.recv_timeout(limit);
        let why = match listening {
            Ok(address) => {
                child.address = address;
                return Ok(child);
            }
            Err(RecvTimeoutError::Timeout) => format!("did not start to listen within {limit:?}"),
            Err(RecvTimeoutError::Disconnected) => "did not start to listen".to_owned(),
        };
        // Ends the child's stderr.
        drop(child);
        let stderr = stderr.join().unwrap_or_default();
        let stderr = stderr.trim().trim_start_matches("bench: ");
        Err(CliError::Runtime(format!(
            "{name} {why}: {}",
            stderr.lines().next().unwrap_or("no error message")
        )))
    }

    /// The address that it listens on.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
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

/// Reads all of a child's stderr, so that a full pipe never blocks it, and keeps the beginning.
fn drain_stderr(errors: Option<ChildStderr>) -> io::Result<JoinHandle<String>> {
    thread::Builder::new()
        .name("child".to_owned())
        .spawn(move || {
            let mut kept = Vec::new();
            if let Some(mut errors) = errors {
                let _ = errors.by_ref().take(MAX_STDERR).read_to_end(&mut kept);
                let _ = io::copy(&mut errors, &mut io::sink());
            }
            String::from_utf8_lossy(&kept).into_owned()
        })
}

/// The address that a child prints. The channel closes if the child ends or prints too much without it.
fn listening_address(out: Option<ChildStdout>) -> io::Result<Receiver<SocketAddr>> {
    let (sender, address) = mpsc::channel();
    thread::Builder::new()
        .name("child".to_owned())
        .spawn(move || {
            let Some(mut out) = out else { return };
            let lines = BufReader::new(out.by_ref().take(MAX_GREETING)).lines();
            let found = lines
                .map_while(Result::ok)
                .find_map(|line| line.strip_prefix("listening on ")?.parse().ok());
            match found {
                // After a timeout there is no receiver.
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
            CliError::Runtime(sentence) => sentence,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn child_with_much_output_is_not_blocked_by_a_full_pipe() {
        // More than a pipe's capacity, to both, before and after it listens.
        let much = "head -c 3000000 /dev/zero";
        let script =
            format!("{much} >&2; echo listening on 127.0.0.1:7; {much}; {much} >&2; echo done >&3");
        let (mut done, pipe) = io::pipe().unwrap();
        let mut command = Command::new("sh");
        // The script opens the pipe by its path, since only three files are inherited.
        let path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            std::os::fd::AsRawFd::as_raw_fd(&pipe)
        );
        command.args(["-c", &format!("exec 3>{path}; {script}")]);
        let child = Child::spawn(command, "bench proxy x", START).unwrap();
        assert_eq!(child.address(), "127.0.0.1:7".parse().unwrap());
        let mut word = [0; 5];
        done.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"done\n");
    }

    #[test]
    fn child_that_does_not_listen_is_reported_with_its_first_line() {
        let child = started("echo bench: no such list >&2; echo more >&2; exit 3", START);
        assert_eq!(
            child.unwrap_err(),
            "bench proxy x did not start to listen: no such list"
        );
        let child = started("echo listening on nowhere", START);
        assert_eq!(
            child.unwrap_err(),
            "bench proxy x did not start to listen: no error message"
        );
    }

    #[test]
    fn hanging_child_is_killed_at_the_limit() {
        let limit = Duration::from_millis(50);
        let child = started("echo bench: it is slow >&2; exec sleep 600", limit);
        let error = child.unwrap_err();
        assert!(
            error.starts_with("bench proxy x did not start to listen within 50ms: "),
            "{error}"
        );
    }
}
