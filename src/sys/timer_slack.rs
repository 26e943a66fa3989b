//! Timer slack: how late the kernel may end a sleep of the calling thread to coalesce wake-ups.

use std::io;

/// Reduces the timer slack of this thread from 50 µs to 1 ns (PR_SET_TIMERSLACK(2const)).
///
/// # Errors
/// As prctl(2).
pub fn tighten() -> io::Result<()> {
    // SAFETY: takes no pointers and affects only the calling thread.
    unsafe { syscall!(prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong))? };
    Ok(())
}

/// The timer slack of this thread in ns (PR_GET_TIMERSLACK(2const)).
///
/// # Errors
/// As prctl(2).
pub fn get() -> io::Result<u64> {
    // SAFETY: takes no pointers and affects only the calling thread.
    let slack = unsafe { syscall!(prctl(libc::PR_GET_TIMERSLACK))? };
    Ok(u64::try_from(slack).unwrap_or(0))
}
