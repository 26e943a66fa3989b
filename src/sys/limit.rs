//! How many files a process may have open (getrlimit(2), `RLIMIT_NOFILE`).

use std::io;

/// Raises the limit as far as this process may by itself, and says what it is then.
///
/// Many systems begin with 1024, which select(2) cannot go beyond; nothing here uses that.
///
/// # Errors
/// As getrlimit(2) and setrlimit(2).
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable for the length of the call.
    unsafe { syscall!(getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))? };
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is readable for the length of the call.
        unsafe { syscall!(setrlimit(libc::RLIMIT_NOFILE, &raw const limit))? };
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_once_and_for_all() {
        let limit = raise_open_files().unwrap();
        assert!(limit > 0);
        assert_eq!(raise_open_files().unwrap(), limit);
    }
}
