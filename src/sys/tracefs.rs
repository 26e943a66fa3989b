//! An instance of the kernel's trace buffer of its own, in tracefs (Documentation/trace/ftrace.rst).
//!
//! An instance outlives its creator, and its events cost time until it is removed. So a guard, a shell that waits for the end of
//! its standard input, removes the instance when this process ends, even by SIGKILL; and every new instance first removes those of
//! processes that no longer exist.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::time::Duration;
use std::{ptr, thread};

use super::clock::monotonic_ns;

/// Where distributions mount tracefs.
const MOUNTS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Names of instances begin with this and the process id.
const PREFIX: &str = "wirebench-";

/// Commands of fsconfig(2) and flags of fsopen(2) and fsmount(2) (linux/mount.h).
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

/// Removes `$0` at the end of the standard input. It is busy until the ended process has closed its files.
const GUARD: &str = "read -r _; n=0; while [ -d \"$0\" ] && ! rmdir \"$0\" && [ $n -lt 100 ]; do n=$((n+1)); sleep 0.05; done";

/// Tries to remove an instance that is still busy, and the pause between them.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(5);

/// An instance, removed on drop.
#[derive(Debug)]
pub struct Instance {
    path: PathBuf,
    /// Ends, and tries to remove the instance, when its standard input is closed.
    guard: Option<Child>,
    /// A mount that no directory shows, if tracefs is mounted nowhere.
    _mount: Option<OwnedFd>,
}

impl Instance {
    /// Creates an instance. If tracefs is mounted nowhere, a private mount is used, which ends with the instance.
    ///
    /// # Errors
    /// Without privilege, or if the kernel has no tracefs.
    pub fn new() -> io::Result<Self> {
        let mounted = MOUNTS
            .into_iter()
            .map(PathBuf::from)
            .find(|root| root.join("instances").is_dir());
        let (root, mount) = match mounted {
            Some(root) => (root, None),
            None => {
                let mount = mount()?;
                let root = format!("/proc/self/fd/{}", mount.as_raw_fd());
                (PathBuf::from(root), Some(mount))
            }
        };
        let instances = root.join("instances");
        remove_abandoned(&instances);
        let name = format!("{PREFIX}{}-{:x}", process::id(), monotonic_ns());
        let path = instances.join(&name);
        fs::create_dir(&path)?;
        let guard = guard(&name, &instances, mount.as_ref());
        Ok(Self {
            path,
            // Without a shell, the next instance removes this one if this process is killed.
            guard: guard.ok(),
            _mount: mount,
        })
    }

    /// Writes a setting.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.path.join(file), text)
    }

    /// Reads a file to its end.
    ///
    /// # Errors
    /// As open(2) and read(2).
    pub fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.path.join(file))
    }

    /// The stream of events as text. Reads do not wait. It must be closed before the instance is dropped.
    ///
    /// # Errors
    /// As open(2).
    pub fn events(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.path.join("trace_pipe"))
    }

    /// Events that the buffer of a CPU had no room for.
    pub fn lost_events(&self) -> u64 {
        let Ok(cpus) = fs::read_dir(self.path.join("per_cpu")) else {
            return 0;
        };
        let of_cpus =
            cpus.filter_map(|cpu| fs::read_to_string(cpu.ok()?.path().join("stats")).ok());
        of_cpus
            .map(|stats| parse_lost(&stats))
            .fold(0, u64::saturating_add)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for _ in 0..TRIES {
            match fs::remove_dir(&self.path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => thread::sleep(PAUSE),
                _ => break,
            }
        }
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

/// Mounts tracefs without a directory: fsopen(2).
fn mount() -> io::Result<OwnedFd> {
    // SAFETY: the name is a string that ends in 0, and a non-negative result is a new file descriptor that nothing else owns.
    let context = unsafe {
        let fd = syscall!(syscall(
            libc::SYS_fsopen,
            c"tracefs".as_ptr(),
            FSOPEN_CLOEXEC
        ))?;
        OwnedFd::from_raw_fd(fd as libc::c_int)
    };
    let null = ptr::null::<libc::c_char>();
    // SAFETY: the command takes no key and no value.
    unsafe {
        syscall!(syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            null,
            null,
            0
        ))?
    };
    // SAFETY: takes no pointers, and a non-negative result is a new file descriptor that nothing else owns.
    unsafe {
        let fd = syscall!(syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            0
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as libc::c_int))
    }
}

/// Starts the guard of an instance. It inherits a private mount as its standard output, and no other file of this process.
fn guard(name: &str, instances: &Path, mount: Option<&OwnedFd>) -> io::Result<Child> {
    let (instances, output) = match mount {
        None => (instances, Stdio::null()),
        Some(mount) => (
            Path::new("/proc/self/fd/1/instances"),
            Stdio::from(mount.try_clone()?),
        ),
    };
    Command::new("/bin/sh")
        .args(["-c", GUARD])
        .arg(instances.join(name))
        .current_dir("/")
        // A terminal's Ctrl-C must not reach it.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
}

/// Removes the instances of processes that no longer exist. An instance in use by a process of another PID namespace is busy, and
/// stays.
fn remove_abandoned(instances: &Path) {
    let Ok(entries) = fs::read_dir(instances) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if let Some(process) = creator(&name.to_string_lossy())
            && !Path::new("/proc").join(process.to_string()).exists()
        {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The process in the name of an instance.
fn creator(name: &str) -> Option<u32> {
    let (process, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    process.parse().ok()
}

/// Lost events in the `stats` of a CPU.
fn parse_lost(stats: &str) -> u64 {
    let lost = stats.lines().filter_map(|row| {
        let (name, count) = row.split_once(": ")?;
        let is_lost = matches!(name, "overrun" | "commit overrun" | "dropped events");
        is_lost.then(|| count.trim().parse::<u64>().ok())?
    });
    lost.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_removed_on_drop() {
        let instance = match Instance::new() {
            Ok(instance) => instance,
            Err(error) => return println!("skipped: no tracefs here: {error}"),
        };
        assert!(instance.read("tracing_on").unwrap().starts_with('1'));
        let mut pipe = instance.events().unwrap();
        let read = io::Read::read(&mut pipe, &mut [0; 64]);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(instance.lost_events(), 0);
        drop(pipe);
        // A mount of its own keeps the root visible after the instance is gone.
        let mount = instance
            ._mount
            .as_ref()
            .map(|mount| mount.try_clone().unwrap());
        let path = match &mount {
            Some(mount) => PathBuf::from(format!("/proc/self/fd/{}/instances", mount.as_raw_fd()))
                .join(instance.path.file_name().unwrap()),
            None => instance.path.clone(),
        };
        assert!(path.is_dir());
        drop(instance);
        assert!(!path.exists());
    }

    #[test]
    fn names_have_their_process() {
        assert_eq!(creator("wirebench-17-a0"), Some(17));
        for other in ["wirebench-17", "wirebench-x-1", "other-17-1", ""] {
            assert_eq!(creator(other), None, "{other}");
        }
    }

    #[test]
    fn lost_events_are_summed() {
        assert_eq!(
            parse_lost(
                "entries: 4\noverrun: 3\ncommit overrun: 1\ndropped events: 2\nread events: 9\n"
            ),
            6
        );
    }
}
