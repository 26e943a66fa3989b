//! What this kernel, user and machine allow, found out by trying it, and what each shortfall costs.
//!
//! A probe never prints, changes no setting of the system and leaves nothing behind. [`checks`] does them all,
//! for `bench doctor`. Before a run only what it asks for is tried: [`uring::available`] and
//! [`zerocopy::available`].

pub mod limits;
pub mod machine;
pub mod udp;
pub mod uring;
pub mod zerocopy;

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::sys::socket;

/// Lets the shell, and what it starts, lock any amount of memory.
const MORE_MEMORY: &str = "sudo prlimit --pid $$ --memlock=unlimited:unlimited";

/// How much of something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All that wirebench can use.
    Ok,
    /// It works, but not as well as it might.
    Limited,
    /// It cannot be had.
    Missing,
}

impl State {
    /// The word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it belongs to: `udp`, `zero-copy`, `io_uring`, `limits` or `machine`.
    pub area: &'static str,
    /// What was probed, unique among the checks.
    pub name: &'static str,
    /// Whether it is there.
    pub state: State,
    /// The value in force, or why there is none.
    pub found: String,
    /// What the shortfall costs, in a sentence. `None` when there is none, or another check tells.
    pub costs: Option<String>,
    /// A command of the shell that lifts it. `None` where no command does.
    pub lifts_with: Option<String>,
}

impl Check {
    /// All is well.
    fn ok(area: &'static str, name: &'static str, found: impl Into<String>) -> Self {
        Self {
            area,
            name,
            state: State::Ok,
            found: found.into(),
            costs: None,
            lifts_with: None,
        }
    }

    /// What was tried works, or is missing at a cost.
    fn tried(
        area: &'static str,
        name: &'static str,
        outcome: io::Result<String>,
        costs: &str,
    ) -> Self {
        match outcome {
            Ok(found) => Self::ok(area, name, found),
            Err(error) => Self::ok(area, name, error.to_string()).short(State::Missing, costs),
        }
    }

    fn short(mut self, state: State, costs: impl Into<String>) -> Self {
        self.state = state;
        self.costs = Some(costs.into());
        self
    }

    fn lifted_by(mut self, command: impl Into<String>) -> Self {
        self.lifts_with = Some(command.into());
        self
    }
}

/// Does every probe, in well under a second. `buffer` is what a run asks the kernel for, in bytes.
pub fn checks(buffer: usize) -> Vec<Check> {
    let mut checks = udp::checks();
    checks.extend(zerocopy::checks());
    checks.extend(uring::checks());
    checks.extend(limits::checks(buffer));
    checks.extend(machine::checks());
    checks
}

/// Whether what was found is enough for a run with the mio engine, GSO or not: all else is a bonus.
///
/// # Errors
/// What stands in the way, in one sentence.
pub fn enough_for_mio(checks: &[Check]) -> Result<(), String> {
    match checks.iter().find(|check| check.name == udp::EVENT_LOOP) {
        Some(check) if check.state == State::Missing => Err(check.found.clone()),
        _ => Ok(()),
    }
}

/// A sender and the receiver on loopback that it is connected to.
fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let receiver = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
    let sender = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
    sender.connect(receiver.local_addr()?)?;
    Ok((sender, receiver))
}

/// Tries again for up to 50 ms while there is nothing. On loopback there is something at once, unless the
/// machine hands packets to another CPU.
fn patiently<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            outcome => return outcome,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "the kernel took it, and nothing came of it within 50 ms",
    ))
}

/// An option was taken without an error and had no effect.
fn no_effect(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::monotonic_ns;

    #[test]
    fn every_check_is_quick_named_once_and_says_what_a_shortfall_costs() {
        let began = monotonic_ns();
        let checks = checks(4 << 20);
        let took = monotonic_ns() - began;
        assert!(took < 5_000_000_000, "{took} ns");
        let mut names: Vec<_> = checks.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), checks.len());
        for check in &checks {
            assert!(!check.found.is_empty(), "{check:?}");
            if check.state == State::Ok {
                assert!(
                    check.costs.is_none() && check.lifts_with.is_none(),
                    "{check:?}"
                );
            }
        }
        assert_eq!(enough_for_mio(&checks), Ok(()));
    }

    #[test]
    fn what_never_comes_is_given_up() {
        let error = patiently(|| -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
