//! How the scheduler treats the calling thread (sched(7)).

use std::io;
use std::mem;

/// Makes the thread one that does not push another off its CPU when it is woken (`SCHED_BATCH`).
///
/// Two threads on one CPU that hand work to each other then do it in long turns instead of changing
/// places at every datagram.
///
/// # Errors
/// As sched_setscheduler(2); no privilege is needed.
pub fn set_batch() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is readable during the call, which concerns only the calling thread.
    unsafe {
        syscall!(sched_setscheduler(
            0,
            libc::SCHED_BATCH,
            &raw const parameters
        ))?
    };
    Ok(())
}

/// Asks for turns of `ns` on the CPU, 100,000 to 100,000,000: a thread that is woken runs at once where the thread on the CPU
/// has longer turns (`sched_runtime` of sched_setattr(2) with `SCHED_OTHER`, Linux 6.12; older kernels ignore it). The share of
/// the CPU stays as it is, and no privilege is needed.
///
/// # Errors
/// As sched_getattr(2) and sched_setattr(2).
pub fn request_time_slice(ns: u64) -> io::Result<()> {
    let size = size_of::<libc::sched_attr>() as u32;
    let (this_thread, no_flags): (libc::pid_t, libc::c_uint) = (0, 0);
    // SAFETY: `attributes` is plain integers, for which all zero is valid, and has `size` bytes that the first call writes
    // and the second one reads.
    unsafe {
        let mut attributes: libc::sched_attr = mem::zeroed();
        syscall!(syscall(
            libc::SYS_sched_getattr,
            this_thread,
            &raw mut attributes,
            size,
            no_flags
        ))?;
        attributes.sched_runtime = ns;
        syscall!(syscall(
            libc::SYS_sched_setattr,
            this_thread,
            &raw const attributes,
            no_flags
        ))?;
    }
    Ok(())
}

/// Makes the thread one that runs when others would not: it is the least nice one can be (`nice` 19, setpriority(2)) and
/// does not push another off its CPU. For work that takes seconds beside threads that are to answer at once.
///
/// # Errors
/// As setpriority(2) and sched_setscheduler(2); no privilege is needed.
pub fn set_background() -> io::Result<()> {
    // SAFETY: takes no pointers. To Linux 0 is the calling thread and not its process (setpriority(2), BUGS).
    unsafe { syscall!(setpriority(libc::PRIO_PROCESS, 0, 19))? };
    set_batch()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anybody_may() {
        let changes = [set_batch, set_background, || request_time_slice(100_000)];
        for change in changes {
            std::thread::spawn(move || change().unwrap())
                .join()
                .unwrap();
        }
    }
}
