//! Whether io_uring can be had, and which of its setup flags: io_uring_setup(2).
//!
//! Flags are tried, not looked up by the kernel's version: distributions carry newer features back. What a
//! ring can do once it is there is in `operations`; why there is none, in [`unavailable`].

pub(super) mod operations;
mod trial;
pub mod unavailable;

use std::io;
use std::thread;
use std::time::Duration;

use io_uring::{Builder, IoUring};

use super::{Check, State};
use crate::engine::choice::UringSettings;
use crate::sys::privilege::Privilege;
use crate::sys::{host, limit};
pub use unavailable::Unavailable;
use unavailable::{Circumstances, why};

const AREA: &str = "io_uring";

/// The check without which all others of this area fail.
const RING: &str = "a ring (io_uring_setup)";

/// Entries of a ring that is only tried.
const ENTRIES: u32 = 8;

/// How long the kernel's submission thread stays awake without work, in ms.
const SQPOLL_IDLE_MS: u32 = 50;

/// A way to set up a ring.
struct Flag {
    /// As the man page has it, less `IORING_SETUP_`.
    name: &'static str,
    /// The kernel that brought it.
    since: &'static str,
    /// What is not to be had without it.
    costs: &'static str,
    /// Whether the engine sets it with these settings.
    needed: fn(&UringSettings) -> bool,
    set: fn(&mut Builder) -> &mut Builder,
}

const NO_ENGINE: &str = "--engine uring is refused";

/// Oldest first, so that the last one refused says which kernel would do.
const FLAGS: [Flag; 7] = [
    Flag {
        name: "CQSIZE",
        since: "5.5",
        costs: NO_ENGINE,
        needed: |_| true,
        set: |builder| builder.setup_cqsize(4 * ENTRIES),
    },
    Flag {
        name: "CLAMP",
        since: "5.6",
        costs: NO_ENGINE,
        needed: |_| true,
        set: Builder::setup_clamp,
    },
    Flag {
        name: "SQPOLL",
        since: "5.11",
        costs: "--uring-sqpoll is refused",
        needed: |settings| settings.sqpoll,
        set: |builder| builder.setup_sqpoll(SQPOLL_IDLE_MS),
    },
    Flag {
        name: "SUBMIT_ALL",
        since: "5.18",
        costs: "a request that is refused holds up those submitted behind it",
        needed: |_| false,
        set: Builder::setup_submit_all,
    },
    Flag {
        name: "COOP_TASKRUN with TASKRUN_FLAG",
        since: "5.19",
        costs: "--engine uring is refused without --uring-sqpoll",
        needed: |settings| !settings.sqpoll,
        set: |builder| builder.setup_coop_taskrun().setup_taskrun_flag(),
    },
    Flag {
        name: "SINGLE_ISSUER",
        since: "6.0",
        costs: NO_ENGINE,
        needed: |_| true,
        set: Builder::setup_single_issuer,
    },
    Flag {
        name: "DEFER_TASKRUN",
        since: "6.1",
        costs: "--engine uring is refused without --uring-sqpoll",
        needed: |settings| !settings.sqpoll,
        set: |builder| builder.setup_single_issuer().setup_defer_taskrun(),
    },
];

/// Whether the io_uring engine can be had with these settings: sets up a ring as it does and closes it again,
/// which takes well under 1 ms.
///
/// The oldest kernel that grants it, 6.0 with SQPOLL and 6.1 without, has all the requests that the engine
/// makes except zero-copy sends ([`super::zerocopy::available`]).
///
/// # Errors
/// [`Unavailable`], with the reason and the way out.
pub fn available(settings: &UringSettings) -> Result<(), Unavailable> {
    match again(|| ring(settings)) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(error, settings)),
    }
}

/// A ring with the flags that the engine needs, of whatever size.
pub(in crate::engine) fn builder(settings: &UringSettings) -> Builder {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_clamp();
    if settings.sqpoll {
        builder.setup_sqpoll(SQPOLL_IDLE_MS);
    } else {
        // Completions are made when this thread asks for them, not by interrupting it. The flag tells when to ask.
        builder.setup_defer_taskrun().setup_taskrun_flag();
    }
    builder
}

/// The error of the engine's own ring: where that is larger than the one tried, there may be too little memory after all.
pub(in crate::engine) fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            let reason = Unavailable::Memory(may_lock());
            io::Error::new(io::ErrorKind::OutOfMemory, reason)
        }
        _ => error,
    }
}

fn may_lock() -> Option<u64> {
    limit::locked_memory().ok().and_then(|limit| limit.soft)
}

/// A ring as the engine has it.
fn ring(settings: &UringSettings) -> io::Result<IoUring> {
    builder(settings).build(settings.ring_size.unwrap_or(ENTRIES))
}

/// Finds out what stands in the way of the ring that was refused with `error`.
fn explain(error: io::Error, settings: &UringSettings) -> Unavailable {
    let refused = || {
        let mut newest_first = FLAGS.iter().rev();
        newest_first.find(|flag| (flag.needed)(settings) && again(|| with_flag(flag)).is_err())
    };
    // Whichever flag is tried, there may be too little memory.
    let flag = match error.raw_os_error() {
        Some(libc::ENOMEM) => None,
        _ if again(plain).is_err() => None,
        _ => refused(),
    };
    why(
        error,
        &Circumstances {
            flag: flag.map(|flag| (flag.name, flag.since)),
            disabled: host::sysctl("kernel.io_uring_disabled"),
            privilege: Privilege::now(),
            locked_memory: may_lock(),
        },
    )
}

/// A ring without any flags.
fn plain() -> io::Result<IoUring> {
    IoUring::new(ENTRIES)
}

/// Tries again for up to 50 ms what is refused for want of memory: a ring counts against the memory that may be
/// locked, and the kernel takes it down only a little after it is closed.
fn again<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    const TRIES: u32 = 50;
    for _ in 1..TRIES {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                thread::sleep(Duration::from_millis(1));
            }
            outcome => return outcome,
        }
    }
    attempt()
}

fn with_flag(flag: &Flag) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    (flag.set)(&mut builder);
    builder.build(ENTRIES)
}

/// Does all that concerns io_uring.
pub fn checks() -> Vec<Check> {
    let mut checks = match again(plain) {
        Ok(ring) => vec![Check::ok(
            AREA,
            RING,
            format!("{} entries granted", ring.params().sq_entries()),
        )],
        Err(error) => return without_ring(&explain(error, &UringSettings::default())),
    };
    checks.extend(FLAGS.iter().map(|flag| {
        let outcome = again(|| with_flag(flag)).map(|_| "works".to_owned());
        let costs = format!("{}; Linux {} or newer has it", flag.costs, flag.since);
        Check::tried(AREA, flag.name, outcome, &costs)
    }));
    checks.extend(operations::checks());
    checks
}

/// Names every check, and the reason once.
fn without_ring(reason: &Unavailable) -> Vec<Check> {
    let mut first = Check::ok(AREA, RING, reason.to_string()).short(
        State::Missing,
        "--engine uring is refused; mio is not affected",
    );
    first.lifts_with = reason.lifts_with();
    let flags = FLAGS.iter().map(|flag| flag.name);
    let rest = flags.chain(operations::names()).map(|name| Check {
        state: State::Missing,
        ..Check::ok(AREA, name, "there is no ring")
    });
    [first].into_iter().chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_checks_are_named_with_and_without_a_ring() {
        let reason = Unavailable::Other(io::ErrorKind::Unsupported.into());
        let names = |checks: Vec<Check>| checks.iter().map(|check| check.name).collect::<Vec<_>>();
        let with = checks();
        assert_eq!(names(with), names(without_ring(&reason)));
    }

    #[test]
    fn more_entries_than_there_are_is_no_error() {
        let settings = UringSettings {
            ring_size: Some(crate::engine::choice::MOST_RING),
            ..UringSettings::default()
        };
        let sqpoll = UringSettings {
            sqpoll: true,
            ..settings
        };
        for settings in [settings, sqpoll] {
            if let Err(error) = available(&settings) {
                println!("skipped: {error}");
            }
        }
    }
}
