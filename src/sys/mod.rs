//! System calls. The only module besides the io_uring ones with `unsafe` code.
//!
//! Each file covers one kernel interface: options of UDP [`socket`]s and of their [IP headers](ip_options), [`tcp`] and [`unix`] stream sockets and their
//! [`endpoint`], listeners by [`activation`], [`pipe`]s for splicing, [`mmsg`] batches, received messages with
//! [`cmsg`], the [`error_queue`], [`clock`], [`tsc_clock`], [`timerfd`], [`timer_slack`], [`affinity`],
//! [`sched_policy`], [`eventfd`], [`rlimit`], [`privilege`], [`rx_timestamp`], [`tx_timestamp`] (requested by [`tx_control`]), [`usage`] (CPU time of a thread or
//! process), the CPU quota of the [`cgroup`], [`child`] processes, [`signal`]s, the [`terminal`], [`route`]s, [`local`]
//! addresses, [`loopback`] sockets, drops of a [`device`] and of the network stack ([`net_counters`]), the trace buffer in
//! [`tracefs`], runs of [`datagrams`] to forward, files to [`reopen`], and properties of the [`machine`].
//! All exported functions are safe: obligations of the man pages are checked or met here. This module knows nothing of
//! measurements.

#![allow(unsafe_code)]

/// Calls a libc function that returns -1 and sets `errno` on failure, as an [`std::io::Result`].
macro_rules! syscall {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        let result = libc::$name($($argument),*);
        if result == -1 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(result)
        }
    }};
}

pub mod activation;
pub mod affinity;
pub mod allocator;
pub mod cgroup;
pub mod child;
pub mod clock;
pub mod cmsg;
pub mod datagrams;
pub mod device;
pub mod endpoint;
pub mod error_queue;
pub mod eventfd;
pub mod ip_options;
pub mod local;
pub mod loopback;
pub mod machine;
pub mod mmap;
pub mod mmsg;
pub mod net_counters;
mod netlink;
pub mod pipe;
pub mod privilege;
pub mod reopen;
pub mod rlimit;
pub mod route;
pub mod rx_timestamp;
pub mod sched_policy;
pub mod shared_port;
pub mod signal;
pub mod small_tcp;
pub mod socket;
pub mod tcp;
pub mod terminal;
pub mod timer_slack;
pub mod timerfd;
pub mod tracefs;
pub mod tsc_clock;
pub mod tx_control;
pub mod tx_timestamp;
pub mod udp_sockets;
pub mod unix;
pub mod usage;
pub mod zerocopy;
