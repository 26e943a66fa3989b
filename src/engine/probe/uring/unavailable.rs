//! Why io_uring cannot be had, and what to do about it: the errno alone does not tell a container's filter
//! from the system administrator's switch or an old kernel.

use std::io;

use thiserror::Error;

use crate::engine::probe::MORE_MEMORY;
use crate::sys::privilege::{Privilege, SYS_ADMIN};

/// The reason, in one sentence with the way out.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// io_uring_setup(2) is forbidden, or hidden, by seccomp(2).
    #[error(
        "a seccomp filter on this process, as containers have, forbids io_uring ({0}); run it outside, or in a container with a seccomp profile that allows it, or use --engine mio"
    )]
    Seccomp(io::Error),
    /// The value of the sysctl `kernel.io_uring_disabled` (Linux 6.6 and newer).
    #[error(
        "kernel.io_uring_disabled is {0}, which forbids io_uring to {who}; allow it with `sudo sysctl -w kernel.io_uring_disabled=0`, or use --engine mio",
        who = if *.0 == 1 { "users without privilege" } else { "everybody" }
    )]
    Disabled(u64),
    /// The call does not exist.
    #[error(
        "this kernel has no io_uring ({0}); use Linux 6.1 or newer, built with CONFIG_IO_URING, or --engine mio"
    )]
    NoSuchCall(io::Error),
    /// A ring can be had, but not of the kind that the engine needs.
    #[error("this kernel's io_uring has no {name}; use Linux {since} or newer, or --engine mio")]
    Flag {
        /// What is missing.
        name: &'static str,
        /// The kernel that brought it.
        since: &'static str,
    },
    /// No memory, or none that may be locked.
    #[error(
        "there is no memory for an io_uring ({} may be locked); raise that with `{MORE_MEMORY}`, choose a smaller --uring-ring-size, or use --engine mio",
        .0.map_or("any amount".to_owned(), |bytes| format!("{bytes} B"))
    )]
    Memory(Option<u64>),
    /// Anything else.
    #[error("io_uring cannot be set up: {0}; use --engine mio")]
    Other(io::Error),
}

impl Unavailable {
    /// A command that lifts it, if one does.
    pub fn lifts_with(&self) -> Option<String> {
        let command = match self {
            Self::Seccomp(_) => "docker run --security-opt seccomp=unconfined IMAGE bench doctor",
            Self::Disabled(_) => "sudo sysctl -w kernel.io_uring_disabled=0",
            Self::Memory(Some(_)) => MORE_MEMORY,
            Self::NoSuchCall(_) | Self::Flag { .. } | Self::Memory(None) | Self::Other(_) => {
                return None;
            }
        };
        Some(command.to_owned())
    }
}

/// What is known besides the errno.
pub(super) struct Circumstances {
    /// The flag that is refused where a plain ring is granted, and the kernel that has it.
    pub(super) flag: Option<(&'static str, &'static str)>,
    /// `kernel.io_uring_disabled`; `None` before Linux 6.6, or without io_uring.
    pub(super) disabled: Option<u64>,
    pub(super) privilege: Privilege,
    /// `RLIMIT_MEMLOCK` in bytes; `None` without a limit.
    pub(super) locked_memory: Option<u64>,
}

pub(super) fn why(error: io::Error, known: &Circumstances) -> Unavailable {
    if let Some((name, since)) = known.flag {
        return Unavailable::Flag { name, since };
    }
    let seccomp = known.privilege.seccomp;
    match (error.raw_os_error(), known.disabled) {
        (Some(libc::EPERM), Some(2)) => Unavailable::Disabled(2),
        // CAP_SYS_ADMIN overrides 1, so that a privileged process must look further.
        (Some(libc::EPERM), Some(1)) if !(seccomp && known.privilege.has(SYS_ADMIN)) => {
            Unavailable::Disabled(1)
        }
        // Filters answer with either, and sometimes EACCES.
        (Some(libc::EPERM | libc::EACCES | libc::ENOSYS), _) if seccomp => {
            Unavailable::Seccomp(error)
        }
        (Some(libc::ENOSYS), _) => Unavailable::NoSuchCall(error),
        (Some(libc::ENOMEM), _) => Unavailable::Memory(known.locked_memory),
        _ => Unavailable::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sentence for an errno, with or without a filter, and the sysctl's value.
    fn told(errno: i32, seccomp: bool, disabled: Option<u64>) -> String {
        let known = Circumstances {
            flag: None,
            disabled,
            privilege: Privilege {
                seccomp,
                ..Privilege::default()
            },
            locked_memory: Some(65_536),
        };
        why(io::Error::from_raw_os_error(errno), &known).to_string()
    }

    #[test]
    fn each_reason_is_told_from_the_others() {
        for (errno, seccomp, disabled, words) in [
            (libc::EPERM, true, Some(0), "seccomp"),
            (libc::ENOSYS, true, None, "seccomp"),
            (libc::EPERM, false, Some(2), "to everybody"),
            (libc::EPERM, true, Some(2), "kernel.io_uring_disabled is 2"),
            (libc::EPERM, false, Some(1), "without privilege"),
            (libc::ENOSYS, false, None, "no io_uring"),
            (libc::ENOMEM, false, Some(0), "65536 B"),
            (libc::EPERM, false, Some(0), "not permitted"),
            (libc::EMFILE, true, Some(0), "Too many open files"),
        ] {
            let sentence = told(errno, seccomp, disabled);
            assert!(sentence.contains(words), "{words}: {sentence}");
            assert!(sentence.contains("--engine mio"), "{sentence}");
            assert_eq!(sentence.lines().count(), 1, "{sentence}");
        }
    }

    #[test]
    fn a_refused_flag_names_the_kernel_that_has_it() {
        let known = Circumstances {
            flag: Some(("DEFER_TASKRUN", "6.1")),
            disabled: None,
            privilege: Privilege::default(),
            locked_memory: None,
        };
        let sentence = why(io::Error::from_raw_os_error(libc::EINVAL), &known).to_string();
        assert!(
            sentence.contains("DEFER_TASKRUN") && sentence.contains("6.1"),
            "{sentence}"
        );
    }
}
