//! Resource limits (getrlimit(2)).

use std::io;

/// Limit of one resource. `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// The limit in force.
    pub soft: Option<u64>,
    /// The ceiling that an unprivileged process may raise the limit to.
    pub hard: Option<u64>,
}

/// A shell command that lets the shell and its children lock any amount of memory.
pub const UNLIMITED_MEMLOCK: &str = "sudo prlimit --pid $$ --memlock=unlimited:unlimited";

/// Open files (`RLIMIT_NOFILE`).
///
/// # Errors
/// As getrlimit(2).
pub fn open_files() -> io::Result<Rlimit> {
    read(libc::RLIMIT_NOFILE).map(limit)
}

/// Bytes of locked memory, used by io_uring and zero-copy sends (`RLIMIT_MEMLOCK`).
///
/// # Errors
/// As getrlimit(2).
pub fn locked_memory() -> io::Result<Rlimit> {
    read(libc::RLIMIT_MEMLOCK).map(limit)
}

/// Raises the soft limit of open files to the hard limit, and returns it.
///
/// Many systems start with 1024, the maximum of select(2), which this program does not use.
///
/// # Errors
/// As getrlimit(2) and setrlimit(2).
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = read(libc::RLIMIT_NOFILE)?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is readable during the call.
        unsafe { syscall!(setrlimit(libc::RLIMIT_NOFILE, &raw const limit))? };
    }
    Ok(limit.rlim_cur)
}

/// Open file descriptors of this process (`/proc/self/fd`).
///
/// # Errors
/// As opendir(3), if /proc is not mounted.
pub fn files_in_use() -> io::Result<u64> {
    // The directory being read is open itself.
    Ok((std::fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1))
}

/// Whether a call failed for lack of file descriptors of the process (`EMFILE`) or the system (`ENFILE`), or for lack
/// of memory (`ENOBUFS`, `ENOMEM`), and may succeed later.
pub fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn read(resource: Resource) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable during the call.
    unsafe { syscall!(getrlimit(resource, &raw mut limit))? };
    Ok(limit)
}

fn limit(limit: libc::rlimit) -> Rlimit {
    let finite = |value| (value != libc::RLIM_INFINITY).then_some(value);
    Rlimit {
        soft: finite(limit.rlim_cur),
        hard: finite(limit.rlim_max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_raised_to_the_hard_limit() {
        let limit = raise_open_files().unwrap();
        assert!(limit > 0);
        assert_eq!(raise_open_files().unwrap(), limit);
        assert_eq!(open_files().unwrap().soft, Some(limit));
    }
}
