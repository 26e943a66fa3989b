//! Programs under a seccomp filter that forbids a system call, as in containers (seccomp(2)).

#![allow(
    unsafe_code,
    reason = "the filter is installed between fork and exec, which std cannot check"
)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A system call that fails with an errno, identified by its number and optionally an argument.
#[derive(Clone, Copy)]
pub(crate) struct Forbidden {
    pub(crate) call: libc::c_long,
    /// Index of an argument, from 0, and the forbidden value.
    pub(crate) argument: Option<(u32, u32)>,
    pub(crate) errno: i32,
}

impl Forbidden {
    /// io_uring_setup(2).
    pub(crate) fn io_uring(errno: i32) -> Self {
        Self {
            call: libc::SYS_io_uring_setup,
            argument: None,
            errno,
        }
    }

    /// `bench` under this filter.
    pub(crate) fn bench(self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        command.args(args);
        self.on(&mut command);
        command
    }

    /// Whether filters are supported. Prints the reason if not.
    pub(crate) fn is_supported(self) -> bool {
        let mut command = Command::new("true");
        self.on(&mut command);
        match command.status() {
            Ok(status) => status.success(),
            Err(error) => {
                println!("skipped: seccomp filters are not supported here: {error}");
                false
            }
        }
    }

    fn on(self, command: &mut Command) {
        let mut filter = self.filter();
        // SAFETY: between fork and exec the closure only makes system calls and reads memory it owns. It neither
        // allocates nor locks.
        unsafe { command.pre_exec(move || install(&mut filter)) };
    }

    /// Offsets follow `struct seccomp_data`: the number of the call at 0, and 8 bytes per argument from 16 on.
    fn filter(self) -> Vec<libc::sock_filter> {
        let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0);
        // On a mismatch the jump leads to the last step, which allows the call.
        let equal = |value, skip| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, skip);
        let action = |value| step(libc::BPF_RET | libc::BPF_K, value, 0);
        let mut steps = vec![load(0)];
        match self.argument {
            Some((place, value)) => {
                // The lower half of the argument on a little-endian machine.
                steps.extend([equal(self.call as u32, 3), load(16 + 8 * place)]);
                steps.push(equal(value, 1));
            }
            None => steps.push(equal(self.call as u32, 1)),
        }
        steps.push(action(libc::SECCOMP_RET_ERRNO | self.errno as u32));
        steps.push(action(libc::SECCOMP_RET_ALLOW));
        steps
    }
}

fn step(code: u32, k: u32, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    }
}

/// Installs the filter on this process and its later programs. An unprivileged process must give up gaining privileges
/// first.
fn install(filter: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as libc::c_ushort,
        filter: filter.as_mut_ptr(),
    };
    // prctl(2) reads whole words.
    let (zero, one): (libc::c_ulong, libc::c_ulong) = (0, 1);
    // SAFETY: the first call passes only numbers. `program` points to the filter, which outlives the second call, and
    // the kernel keeps a copy.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, zero, zero, zero),
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
                &raw const program,
            ),
        ]
    };
    match results {
        [0, 0] => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
