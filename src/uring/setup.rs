//! Setup flags of a ring, and why the kernel refuses one: io_uring_setup(2).
//!
//! A flag is tried, not derived from the kernel's version, since distributions backport features.

use std::io;
use std::thread;
use std::time::Duration;

use io_uring::{Builder, IoUring};

use super::unavailable::{Circumstances, Unavailable, why};
use crate::engine::UringSettings;
use crate::sys::privilege::Privilege;
use crate::sys::{machine, rlimit};

/// Entries of a ring made for a trial.
const ENTRIES: u32 = 8;

/// Idle time after which the kernel's submission thread sleeps, in ms.
const SQPOLL_IDLE_MS: u32 = 50;

/// A setup flag.
pub(crate) struct Flag {
    /// The name in io_uring_setup(2) without `IORING_SETUP_`.
    pub(crate) name: &'static str,
    /// The first kernel version with the flag.
    pub(crate) since: &'static str,
    /// The consequence if the flag is missing.
    pub(crate) costs: &'static str,
    /// Whether the engine uses the flag with these settings.
    needed: fn(&UringSettings) -> bool,
    set: fn(&mut Builder) -> &mut Builder,
}

pub(crate) const NO_ENGINE: &str = "--engine uring is refused";

/// In order of kernel version, so that the last refused flag determines the required kernel.
pub(crate) const FLAGS: [Flag; 7] = [
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
        costs: "a refused request delays the requests submitted after it",
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

/// Whether a ring with the flags of these settings can be created. The trial takes well under 1 ms.
///
/// The oldest kernels that accept the flags, 6.0 with SQPOLL and 6.1 without, support all requests of the engine except
/// zero-copy sends.
///
/// # Errors
/// [`Unavailable`], with the reason and a remedy.
pub fn available(settings: &UringSettings) -> Result<(), Unavailable> {
    match retry_while_out_of_memory(|| ring(settings)) {
        Ok(_) => Ok(()),
        Err(error) => Err(explain(error, settings)),
    }
}

/// A builder with the engine's flags, without sizes.
pub(super) fn builder(settings: &UringSettings) -> Builder {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_clamp();
    if settings.sqpoll {
        builder.setup_sqpoll(SQPOLL_IDLE_MS);
    } else {
        // Completions are produced when this thread enters the kernel, not by interrupting it. TASKRUN_FLAG shows when
        // to enter.
        builder.setup_defer_taskrun().setup_taskrun_flag();
    }
    builder
}

/// Explains `ENOMEM` of a ring that is larger than the one [`available`] tried.
pub(super) fn explain_build_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            let reason = Unavailable::Memory(memlock_limit());
            io::Error::new(io::ErrorKind::OutOfMemory, reason)
        }
        _ => error,
    }
}

fn memlock_limit() -> Option<u64> {
    rlimit::locked_memory().ok().and_then(|limit| limit.soft)
}

/// A ring with the engine's flags.
pub(crate) fn ring(settings: &UringSettings) -> io::Result<IoUring> {
    builder(settings).build(settings.ring_size.unwrap_or(ENTRIES))
}

/// Determines why a ring was refused with `error`.
pub(crate) fn explain(error: io::Error, settings: &UringSettings) -> Unavailable {
    let refused = || {
        let mut newest_first = FLAGS.iter().rev();
        newest_first.find(|flag| {
            (flag.needed)(settings) && retry_while_out_of_memory(|| with_flag(flag)).is_err()
        })
    };
    // With too little memory every flag would be refused.
    let flag = match error.raw_os_error() {
        Some(libc::ENOMEM) => None,
        _ if retry_while_out_of_memory(plain).is_err() => None,
        _ => refused(),
    };
    why(
        error,
        &Circumstances {
            flag: flag.map(|flag| (flag.name, flag.since)),
            disabled: machine::sysctl("kernel.io_uring_disabled"),
            privilege: Privilege::now(),
            locked_memory: memlock_limit(),
        },
    )
}

/// A ring without flags.
pub(crate) fn plain() -> io::Result<IoUring> {
    IoUring::new(ENTRIES)
}

/// Retries for up to 50 ms while memory is short. Rings count against `RLIMIT_MEMLOCK`, and the kernel frees a closed
/// ring after a delay.
pub(crate) fn retry_while_out_of_memory<T>(
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
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

pub(crate) fn with_flag(flag: &Flag) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    (flag.set)(&mut builder);
    builder.build(ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::MAX_RING_SIZE;

    #[test]
    fn largest_ring_is_granted_or_refused_with_a_reason() {
        let settings = UringSettings {
            ring_size: Some(MAX_RING_SIZE),
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
