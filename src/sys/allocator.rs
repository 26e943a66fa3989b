//! The allocator of the C library: mallopt(3).

/// From here on, free(3) returns buffers of at least 128 KiB to the system: each is a mapping of its own. By default glibc raises that
/// threshold to the size of the largest buffer freed so far, and keeps most buffers below it.
pub fn return_large_buffers() {
    #[cfg(target_env = "gnu")]
    {
        const THRESHOLD: libc::c_int = 128 << 10;
        // SAFETY: mallopt(3) has no pointer arguments. If it fails, the threshold stays as it is.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD) };
    }
}
