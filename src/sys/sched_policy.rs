//! Scheduling policy of the calling thread (sched(7)).

use std::io;
use std::mem;

/// Selects `SCHED_BATCH`: the thread does not preempt others when it wakes up.
///
/// Two threads on one CPU that pass work to each other then run in long turns instead of switching at every datagram.
///
/// # Errors
/// As sched_setscheduler(2); no privilege is needed.
pub fn set_batch() -> io::Result<()> {
    // SAFETY: `sched_param` consists of plain integers, for which all-zero is valid. The priority of `SCHED_BATCH` is 0.
    let parameters: libc::sched_param = unsafe { mem::zeroed() };
    // SAFETY: `parameters` is readable during the call, which affects only the calling thread.
    unsafe {
        syscall!(sched_setscheduler(
            0,
            libc::SCHED_BATCH,
            &raw const parameters
        ))?
    };
    Ok(())
}

/// Requests a time slice of `ns`, from 100,000 to 100,000,000. A waking thread preempts a thread with a longer slice
/// (`sched_runtime` of sched_setattr(2) with `SCHED_OTHER`, Linux 6.12; ignored by older kernels). The share of the CPU
/// does not change, and no privilege is needed.
///
/// # Errors
/// As sched_getattr(2) and sched_setattr(2).
pub fn request_time_slice(ns: u64) -> io::Result<()> {
    let size = size_of::<libc::sched_attr>() as u32;
    let (this_thread, no_flags): (libc::pid_t, libc::c_uint) = (0, 0);
    // SAFETY: `attributes` consists of plain integers, for which all-zero is valid, and has `size` bytes that the first
    // call writes and the second reads.
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

/// Runs the thread in the background: the lowest priority (`nice` 19, setpriority(2)) and [`set_batch`]. For work of
/// several seconds beside latency-sensitive threads.
///
/// # Errors
/// As setpriority(2) and sched_setscheduler(2); no privilege is needed.
pub fn set_background() -> io::Result<()> {
    // SAFETY: takes no pointers. On Linux 0 means the calling thread, not its process (setpriority(2), BUGS).
    unsafe { syscall!(setpriority(libc::PRIO_PROCESS, 0, 19))? };
    set_batch()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_need_no_privilege() {
        let changes = [set_batch, set_background, || request_time_slice(100_000)];
        for change in changes {
            std::thread::spawn(move || change().unwrap())
                .join()
                .unwrap();
        }
    }
}
