//! Why io_uring is unavailable, and the remedy. The errno alone does not distinguish a seccomp filter, a sysctl and an
//! old kernel.

use std::io;

use thiserror::Error;

use crate::sys::privilege::{Privilege, SYS_ADMIN};
use crate::sys::rlimit::UNLIMITED_MEMLOCK;

/// The reason, in one sentence with a remedy.
#[derive(Debug, Error)]
pub enum Unavailable {
    /// A seccomp(2) filter forbids or hides io_uring_setup(2).
    #[error(
        "a seccomp filter forbids io_uring to this process ({0}), which is usual in containers; allow io_uring in the container's seccomp profile, run outside a container, or use --engine mio"
    )]
    Seccomp(io::Error),
    /// The sysctl `kernel.io_uring_disabled` (Linux 6.6).
    #[error(
        "kernel.io_uring_disabled is {0}, which forbids io_uring to {who}; allow it with `sudo sysctl -w kernel.io_uring_disabled=0`, or use --engine mio",
        who = if *.0 == 1 { "unprivileged users" } else { "all users" }
    )]
    Disabled(u64),
    /// The kernel lacks the system call.
    #[error(
        "this kernel has no io_uring ({0}); use Linux 6.1 or newer, built with CONFIG_IO_URING, or --engine mio"
    )]
    NoSuchCall(io::Error),
    /// The kernel lacks a required setup flag.
    #[error("this kernel's io_uring has no {name}; use Linux {since} or newer, or --engine mio")]
    Flag {
        /// The flag.
        name: &'static str,
        /// The first kernel version with the flag.
        since: &'static str,
    },
    /// Not enough memory, or not enough lockable memory. Contains the limit in bytes.
    #[error(
        "too little lockable memory for an io_uring (limit: {}); raise the limit with `{UNLIMITED_MEMLOCK}`, choose a smaller --uring-ring-size, or use --engine mio",
        .0.map_or("none".to_owned(), |bytes| format!("{bytes} B"))
    )]
    Memory(Option<u64>),
    /// Any other error.
    #[error("io_uring cannot be set up: {0}; use --engine mio")]
    Other(io::Error),
}

impl Unavailable {
    /// A shell command that removes the obstacle, if one exists.
    pub fn lifts_with(&self) -> Option<String> {
        let command = match self {
            Self::Seccomp(_) => "docker run --security-opt seccomp=unconfined IMAGE bench doctor",
            Self::Disabled(_) => "sudo sysctl -w kernel.io_uring_disabled=0",
            Self::Memory(Some(_)) => UNLIMITED_MEMLOCK,
            Self::NoSuchCall(_) | Self::Flag { .. } | Self::Memory(None) | Self::Other(_) => {
                return None;
            }
        };
        Some(command.to_owned())
    }
}

/// System state that distinguishes the reasons.
pub(super) struct Circumstances {
    /// The flag that is refused although a plain ring is granted, and the kernel version that has it.
    pub(super) flag: Option<(&'static str, &'static str)>,
    /// `kernel.io_uring_disabled`; `None` before Linux 6.6 or without io_uring.
    pub(super) disabled: Option<u64>,
    pub(super) privilege: Privilege,
    /// `RLIMIT_MEMLOCK` in bytes; `None` if unlimited.
    pub(super) locked_memory: Option<u64>,
}

pub(super) fn why(error: io::Error, known: &Circumstances) -> Unavailable {
    if let Some((name, since)) = known.flag {
        return Unavailable::Flag { name, since };
    }
    let seccomp = known.privilege.seccomp;
    match (error.raw_os_error(), known.disabled) {
        (Some(libc::EPERM), Some(2)) => Unavailable::Disabled(2),
        // CAP_SYS_ADMIN overrides the value 1, so for a privileged process the filter is the reason.
        (Some(libc::EPERM), Some(1)) if !(seccomp && known.privilege.has(SYS_ADMIN)) => {
            Unavailable::Disabled(1)
        }
        // Filters return EPERM or ENOSYS, sometimes EACCES.
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

    /// The sentence for an errno, with or without a filter, and the value of the sysctl.
    fn sentence(errno: i32, seccomp: bool, disabled: Option<u64>) -> String {
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
    fn each_reason_has_its_own_sentence() {
        for (errno, seccomp, disabled, words) in [
            (libc::EPERM, true, Some(0), "seccomp"),
            (libc::ENOSYS, true, None, "seccomp"),
            (libc::EPERM, false, Some(2), "to all users"),
            (libc::EPERM, true, Some(2), "kernel.io_uring_disabled is 2"),
            (libc::EPERM, false, Some(1), "unprivileged users"),
            (libc::ENOSYS, false, None, "no io_uring"),
            (libc::ENOMEM, false, Some(0), "65536 B"),
            (libc::EPERM, false, Some(0), "not permitted"),
            (libc::EMFILE, true, Some(0), "Too many open files"),
        ] {
            let sentence = sentence(errno, seccomp, disabled);
            assert!(sentence.contains(words), "{words}: {sentence}");
            assert!(sentence.contains("--engine mio"), "{sentence}");
            assert_eq!(sentence.lines().count(), 1, "{sentence}");
        }
    }

    #[test]
    fn refused_flag_names_the_required_kernel() {
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
