//! Which CPUs a thread may run on (sched_setaffinity(2)).

use std::io;
use std::mem;

/// The CPUs the calling thread may run on, ascending.
///
/// # Errors
/// As sched_getaffinity(2).
pub fn allowed() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is plain bits, for which all zero is valid; the kernel fills at most the
    // size it is told.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        syscall!(sched_getaffinity(
            0,
            size_of::<libc::cpu_set_t>(),
            &raw mut set
        ))?;
        set
    };
    let all = 0..8 * size_of::<libc::cpu_set_t>();
    // SAFETY: CPU_ISSET reads one bit of `set`, and the index is within its size.
    Ok(all
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect())
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// `InvalidInput` if that CPU does not exist or is outside this process's cpuset.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: cpu_set_t is plain bits, for which all zero is valid; the index was checked against
    // the size of the set, and the kernel only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        syscall!(sched_setaffinity(
            0,
            size_of::<libc::cpu_set_t>(),
            &raw const set
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_pinned_to_an_allowed_cpu_is_allowed_only_there() {
        let cpu = *allowed().unwrap().last().unwrap();
        std::thread::spawn(move || {
            pin(cpu).unwrap();
            assert_eq!(allowed().unwrap(), vec![cpu]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_cpu_no_machine_has_is_refused() {
        assert_eq!(
            pin(1_000_000).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
