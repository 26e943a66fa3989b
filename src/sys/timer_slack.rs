//! How late the kernel may end a sleep of the calling thread, to join it with other wake-ups.

use std::io;

/// Asks that this thread's sleeps end as close to their deadline as the kernel can
/// (PR_SET_TIMERSLACK(2const), 1 ns instead of 50 µs).
///
/// # Errors
/// As prctl(2).
pub fn tighten() -> io::Result<()> {
    // SAFETY: takes no pointers and concerns only the calling thread.
    unsafe { syscall!(prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong))? };
    Ok(())
}

/// How much later than its deadline a sleep of this thread may end, in ns, as the kernel has it
/// (PR_GET_TIMERSLACK(2const)).
///
/// # Errors
/// As prctl(2).
pub fn get() -> io::Result<u64> {
    // SAFETY: takes no pointers and concerns only the calling thread.
    let slack = unsafe { syscall!(prctl(libc::PR_GET_TIMERSLACK))? };
    Ok(u64::try_from(slack).unwrap_or(0))
}
