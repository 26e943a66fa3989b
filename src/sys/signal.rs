//! Signal dispositions of this process.

use std::fs;

/// Whether `signal` was ignored when this process started, as nohup(1) does with SIGHUP. Read from the mask `SigIgn` of
/// proc_pid_status(5); `false` if unreadable.
pub fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored(&status, signal)
}

fn ignored(status: &str, signal: i32) -> bool {
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let place = u32::try_from(signal - 1).unwrap_or(u32::MAX);
    mask.is_some_and(|mask| mask.checked_shr(place).is_some_and(|rest| rest & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_signal_has_its_bit() {
        let status = "Name:\tbench\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        assert!(ignored(status, libc::SIGHUP));
        assert!(ignored(status, libc::SIGPIPE));
        assert!(!ignored(status, libc::SIGINT));
        for odd in ["", "SigIgn:\tno\n"] {
            assert!(!ignored(odd, libc::SIGHUP));
        }
        assert!(!ignored(status, 0) && !ignored(status, i32::MIN + 1));
    }
}
