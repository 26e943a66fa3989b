//! Privileges of this process (/proc/self/status: capabilities(7), seccomp(2)).

use std::fs;

/// `CAP_IPC_LOCK`: lock memory beyond `RLIMIT_MEMLOCK`.
pub const IPC_LOCK: u32 = 14;

/// `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u32 = 21;

/// `CAP_SYS_RESOURCE`: exceed the limits of pipes.
pub const SYS_RESOURCE: u32 = 24;

/// Privileges at the time of the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Privilege {
    /// A seccomp filter restricts system calls, as in containers.
    pub seccomp: bool,
    /// Effective capabilities as a bit mask.
    pub capabilities: u64,
}

impl Privilege {
    /// Of the calling thread's process; no capability and no filter if /proc is unavailable.
    pub fn now() -> Self {
        parse(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    /// Whether the process has this capability. In a user namespace it may apply only there.
    pub fn has(self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }
}

fn parse(status: &str) -> Privilege {
    let field = |name: &str| {
        let row = status.lines().find_map(|row| row.strip_prefix(name))?;
        Some(row.trim())
    };
    let bits = field("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    Privilege {
        seccomp: field("Seccomp:") == Some("2"),
        capabilities: bits.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let status = "Name:\tbench\nCapPrm:\tffff\nCapEff:\t0000000000204000\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let privilege = parse(status);
        assert!(privilege.seccomp && privilege.has(SYS_ADMIN) && privilege.has(IPC_LOCK));
        assert!(!privilege.has(SYS_RESOURCE));
        assert_eq!(parse("Seccomp:\t0\nCapEff:\tzz\n"), Privilege::default());
        assert_eq!(parse(""), Privilege::default());
    }
}
