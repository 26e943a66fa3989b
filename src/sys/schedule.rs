//! How the scheduler treats the calling thread (sched(7)).

use std::io;

/// Makes the thread one that does not push another off its CPU when it is woken (`SCHED_BATCH`).
///
/// Two threads on one CPU that hand work to each other then do it in long turns instead of changing
/// places at every datagram.
///
/// # Errors
/// As sched_setscheduler(2); no privilege is needed.
pub fn do_not_preempt_others() -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anybody_may() {
        std::thread::spawn(|| do_not_preempt_others().unwrap())
            .join()
            .unwrap();
    }
}
