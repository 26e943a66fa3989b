//! Child processes that do not outlive this one.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Command};

/// Has the child ended (SIGTERM) when the thread that starts it is no more, whatever became of that (PR_SET_PDEATHSIG(2const)); and
/// keeps a terminal's Ctrl-C from it, which is for whoever started it to act on.
pub fn tie(command: &mut Command) -> &mut Command {
    tie_to(command, process::id())
}

fn tie_to(command: &mut Command, parent: u32) -> &mut Command {
    command.process_group(0);
    let tie = move || {
        // SAFETY: takes no pointers and concerns only the calling process.
        unsafe {
            syscall!(prctl(
                libc::PR_SET_PDEATHSIG,
                libc::SIGTERM as libc::c_ulong
            ))?
        };
        // A parent that was gone before that sends no signal any more: the child has another parent by now.
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec only what is async-signal-safe may be called; prctl(2) and getppid(2) are plain system calls, and
    // neither reading errno nor making an error of a number allocates anything.
    unsafe { command.pre_exec(tie) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_whose_parent_is_gone_runs_nothing() {
        assert!(tie(&mut Command::new("true")).status().unwrap().success());
        // The parent of this process is not that of its children, as is whoever takes in an orphan.
        let gone = std::os::unix::process::parent_id();
        let refused = tie_to(&mut Command::new("true"), gone).status();
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
