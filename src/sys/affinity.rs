//! CPU affinity of a thread (sched_setaffinity(2)).

use std::io;
use std::mem;

/// The CPUs the calling thread may run on, ascending.
///
/// # Errors
/// As sched_getaffinity(2).
pub fn allowed() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is plain bits, for which all-zero is valid. The kernel writes at most the given size.
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

/// Pins the calling thread to one CPU.
///
/// # Errors
/// `InvalidInput` if the CPU does not exist or is outside the cpuset of this process.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: cpu_set_t is plain bits, for which all-zero is valid. The index was checked against the size of the set,
    // and the kernel only reads the set.
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
    fn pinned_thread_is_allowed_on_its_cpu_only() {
        let cpu = *allowed().unwrap().last().unwrap();
        std::thread::spawn(move || {
            pin(cpu).unwrap();
            assert_eq!(allowed().unwrap(), vec![cpu]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn nonexistent_cpu_is_refused() {
        assert_eq!(
            pin(1_000_000).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
