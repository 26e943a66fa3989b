//! The roles of `bench proxy` as child processes: each is this very program, and has its CPU time for itself.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child as Process, Command, Stdio};

use crate::cli::failure::Failure;
use crate::sys::child::tie;

/// A role that listens. Dropped, it is ended.
pub(super) struct Child {
    process: Process,
    address: SocketAddr,
}

impl Child {
    /// Starts `bench proxy` with these words, and waits until it listens.
    pub(super) fn start(words: &[String]) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::Undone(format!(
                "cannot start bench proxy {}: {error}",
                words.join(" ")
            ))
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .arg("proxy")
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for the parent, which reports before it ends this one.
            .process_group(0);
        let mut process = tie(&mut command).spawn().map_err(failed)?;
        let listening = listening(&mut process);
        // From here on it is ended when it is dropped.
        let mut child = Self {
            process,
            address: SocketAddr::from(([0; 4], 0)),
        };
        match listening {
            Some(address) => {
                child.address = address;
                Ok(child)
            }
            None => Err(child.reason(words)),
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Why it does not listen, in its own words.
    fn reason(mut self, words: &[String]) -> Failure {
        let mut told = String::new();
        if let Some(errors) = &mut self.process.stderr {
            let _ = errors.read_to_string(&mut told);
        }
        let told = told.trim().trim_start_matches("bench: ");
        Failure::Undone(format!(
            "bench proxy {} did not begin to listen: {}",
            words.join(" "),
            told.lines().next().unwrap_or("it said nothing")
        ))
    }
}

/// Where a role says that it listens; `None` where it ends without having said so.
fn listening(process: &mut Process) -> Option<SocketAddr> {
    let out = BufReader::new(process.stdout.take()?);
    let mut lines = out.lines().map_while(Result::ok);
    lines.find_map(|line| line.strip_prefix("listening on ")?.parse().ok())
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
