//! Programs with a system call forbidden by seccomp(2), as in containers.

#![allow(
    unsafe_code,
    reason = "a filter is put in place between fork and exec, which std cannot check"
)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A system call, possibly with one specific argument, that fails with an errno.
#[derive(Clone, Copy)]
pub(crate) struct Forbidden {
    pub(crate) call: libc::c_long,
    /// Index of the argument, and the forbidden value.
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

    /// Whether filters are available; prints the reason if not.
    pub(crate) fn can_be_had(self) -> bool {
        let mut command = Command::new("true");
        self.on(&mut command);
        match command.status() {
            Ok(status) => status.success(),
            Err(error) => {
                println!("skipped: no seccomp filter can be had here: {error}");
                false
            }
        }
    }

    fn on(self, command: &mut Command) {
        let mut filter = self.filter();
        // SAFETY: between fork and exec the closure only makes system calls and reads memory that it owns; it
        // allocates nothing and takes no lock.
        unsafe { command.pre_exec(move || install(&mut filter)) };
    }

    /// Offsets of `struct seccomp_data`: the number of the call at 0, the arguments, 8 bytes each, from 16 on.
    fn filter(self) -> Vec<libc::sock_filter> {
        let load = |offset| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0);
        // If equal continue, otherwise skip to the last step, which allows the call.
        let equal = |value, skip| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, skip);
        let answer = |value| step(libc::BPF_RET | libc::BPF_K, value, 0);
        let mut steps = vec![load(0)];
        match self.argument {
            Some((place, value)) => {
                // The low half, on a little-endian machine.
                steps.extend([equal(self.call as u32, 3), load(16 + 8 * place)]);
                steps.push(equal(value, 1));
            }
            None => steps.push(equal(self.call as u32, 1)),
        }
        steps.push(answer(libc::SECCOMP_RET_ERRNO | self.errno as u32));
        steps.push(answer(libc::SECCOMP_RET_ALLOW));
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

/// Installs the filter in this process and its children. Without privilege this needs no_new_privs.
fn install(filter: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as libc::c_ushort,
        filter: filter.as_mut_ptr(),
    };
    // prctl(2) reads whole words.
    let (zero, one): (libc::c_ulong, libc::c_ulong) = (0, 1);
    // SAFETY: the first call takes numbers only; `program` points at the filter, which outlives the second, and the
    // kernel keeps a copy.
    let answers = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, one, zero, zero, zero),
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
                &raw const program,
            ),
        ]
    };
    match answers {
        [0, 0] => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
