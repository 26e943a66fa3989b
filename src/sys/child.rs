//! Child processes that do not outlive this one.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the child ended (SIGTERM) when the thread that starts it is no more, whatever became of that (PR_SET_PDEATHSIG(2const)); and
/// keeps a terminal's Ctrl-C from it, which is for whoever started it to act on.
pub fn tie(command: &mut Command) -> &mut Command {
    command.process_group(0);
    let tie = || {
        // SAFETY: takes no pointers and concerns only the calling process.
        unsafe {
            syscall!(prctl(
                libc::PR_SET_PDEATHSIG,
                libc::SIGTERM as libc::c_ulong
            ))?
        };
        io::Result::Ok(())
    };
    // SAFETY: between fork and exec only what is async-signal-safe may be called; prctl(2) is a plain system call, and reading errno
    // allocates nothing.
    unsafe { command.pre_exec(tie) }
}
