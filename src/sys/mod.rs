//! The only place with system calls, and so the only one with `unsafe`.
//!
//! Each file is one kernel concept: [`socket`] options of a UDP socket, [`tcp`] and [`unix`] ones, the [`endpoint`] of either and
//! listeners by [`activation`], [`pipe`] from one or from memory into another, [`mmsg`] batched sends and
//! receives, [`message`] received, the [`error_queue`] of a socket, [`clock`], [`burst`] stamps, [`timer`], [`affinity`], [`schedule`], [`wake`]
//! between threads, [`limit`]s of a process and its [`privilege`], the kernel's own [`stamp`]s, [`usage`] (CPU
//! time of a thread or a process), the [`cgroup`] quota of it, a [`child`], [`signal`]s, [`route`]s to this host itself and its
//! [`local`] addresses, and [`host`] facts.
//! Everything exported is safe: what the man page asks of the caller is checked or arranged here.
//! Nothing in this module knows what wirebench measures.

#![allow(unsafe_code)]

/// Calls a libc function that answers -1 and sets `errno` on failure, as an [`std::io::Result`].
macro_rules! syscall {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        let answer = libc::$name($($argument),*);
        if answer == -1 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(answer)
        }
    }};
}

pub mod activation;
pub mod affinity;
pub mod burst;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod endpoint;
pub mod error_queue;
pub mod host;
pub mod limit;
pub mod local;
pub mod message;
pub mod mmsg;
pub mod pipe;
pub mod privilege;
pub mod region;
pub mod route;
pub mod schedule;
pub mod shared_port;
pub mod signal;
pub mod small_tcp;
pub mod socket;
pub mod stamp;
pub mod tcp;
pub mod timer;
pub mod unix;
pub mod usage;
pub mod wake;
pub mod zerocopy;
