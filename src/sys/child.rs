//! Child processes that end with their parent.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Command};

/// Sends the child SIGTERM when the thread that started it ends (PR_SET_PDEATHSIG(2const)), and puts the child into its
/// own process group, so that a terminal's Ctrl-C reaches only the parent.
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    end_with(command, process::id())
}

fn end_with(command: &mut Command, parent: u32) -> &mut Command {
    command.process_group(0);
    let set_death_signal = move || {
        // SAFETY: takes no pointers and affects only the calling process.
        unsafe {
            syscall!(prctl(
                libc::PR_SET_PDEATHSIG,
                libc::SIGTERM as libc::c_ulong
            ))?
        };
        // If the parent ended before the prctl, no signal follows: the child already has another parent.
        if std::os::unix::process::parent_id() != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: only async-signal-safe functions may run between fork and exec. prctl(2) and getppid(2) are plain system
    // calls, and reading errno or building an error from a number does not allocate.
    unsafe { command.pre_exec(set_death_signal) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_of_a_dead_parent_does_not_start() {
        assert!(
            end_with_parent(&mut Command::new("true"))
                .status()
                .unwrap()
                .success()
        );
        // The parent of this process is not the parent of its children, as after reparenting.
        let gone = std::os::unix::process::parent_id();
        let refused = end_with(&mut Command::new("true"), gone).status();
        assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
