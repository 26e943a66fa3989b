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

/// Makes the thread one that runs when others would not: it is the least nice one can be (`nice` 19, setpriority(2)) and
/// does not push another off its CPU. For work that takes seconds beside threads that are to answer at once.
///
/// # Errors
/// As setpriority(2) and sched_setscheduler(2); no privilege is needed.
pub fn run_in_background() -> io::Result<()> {
    // SAFETY: takes no pointers. To Linux 0 is the calling thread and not its process (setpriority(2), BUGS).
    unsafe { syscall!(setpriority(libc::PRIO_PROCESS, 0, 19))? };
    do_not_preempt_others()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anybody_may() {
        for change in [do_not_preempt_others, run_in_background] {
            std::thread::spawn(move || change().unwrap())
                .join()
                .unwrap();
        }
    }
}
