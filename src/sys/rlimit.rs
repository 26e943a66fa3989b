//! How much of something a process may have (getrlimit(2)).

use std::io;

/// A limit in force, and how far the process may raise it by itself. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// In force.
    pub soft: Option<u64>,
    /// Beyond this only a privileged process may go.
    pub hard: Option<u64>,
}

/// A shell command that lets the shell and its children lock any amount of memory.
pub const UNLIMITED_MEMLOCK: &str = "sudo prlimit --pid $$ --memlock=unlimited:unlimited";

/// Files open at once (`RLIMIT_NOFILE`).
///
/// # Errors
/// As getrlimit(2).
pub fn open_files() -> io::Result<Rlimit> {
    read(libc::RLIMIT_NOFILE).map(limit)
}

/// Bytes of memory locked, for io_uring and zero-copy sends (`RLIMIT_MEMLOCK`).
///
/// # Errors
/// As getrlimit(2).
pub fn locked_memory() -> io::Result<Rlimit> {
    read(libc::RLIMIT_MEMLOCK).map(limit)
}

/// Raises the limit of open files as far as this process may by itself, and says what it is then.
///
/// Many systems begin with 1024, which select(2) cannot go beyond; nothing here uses that.
///
/// # Errors
/// As getrlimit(2) and setrlimit(2).
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = read(libc::RLIMIT_NOFILE)?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is readable for the length of the call.
        unsafe { syscall!(setrlimit(libc::RLIMIT_NOFILE, &raw const limit))? };
    }
    Ok(limit.rlim_cur)
}

/// File descriptors of this process that are open now (`/proc/self/fd`).
///
/// # Errors
/// As opendir(3), where /proc is not mounted.
pub fn files_in_use() -> io::Result<u64> {
    // The folder that is read is open itself.
    Ok((std::fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1))
}

/// Whether a call failed for want of file descriptors, of the process (`EMFILE`) or the system (`ENFILE`), or of memory
/// (`ENOBUFS`, `ENOMEM`): it may succeed later.
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
    // SAFETY: `limit` is writable for the length of the call.
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
    fn it_is_raised_once_and_for_all() {
        let limit = raise_open_files().unwrap();
        assert!(limit > 0);
        assert_eq!(raise_open_files().unwrap(), limit);
        assert_eq!(open_files().unwrap().soft, Some(limit));
    }
}
