//! Resource usage of a thread (getrusage(2), `RUSAGE_THREAD`) or a process.

use std::collections::HashMap;
use std::fs;
use std::mem;
use std::ops::{AddAssign, Sub};

/// CPU time in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuTime {
    /// Seconds in user mode.
    pub user: f64,
    /// Seconds in kernel mode.
    pub system: f64,
}

impl CpuTime {
    /// CPU time of the calling thread since its start.
    pub fn of_this_thread() -> Self {
        let usage = of_this_thread();
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        Self {
            user: seconds(usage.ru_utime),
            system: seconds(usage.ru_stime),
        }
    }
}

/// Involuntary context switches of the calling thread (`ru_nivcsw`).
pub fn preemptions() -> u64 {
    u64::try_from(of_this_thread().ru_nivcsw).unwrap_or(0)
}

fn of_this_thread() -> libc::rusage {
    // SAFETY: rusage consists of plain integers, for which all-zero is valid, and the kernel fills it. RUSAGE_THREAD
    // exists since Linux 2.6.26, so the call cannot fail.
    unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    }
}

/// CPU time in ns of a thread of this process, including kernel threads: the first figure of its schedstat (proc(5)).
/// `None` if the thread does not exist or the kernel keeps no such figures.
pub fn of_task(thread: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    stat.split_whitespace().next()?.parse().ok()
}

/// CPU time of a process with all its threads, its descendants, and its children that ended and were waited for. `None`
/// if the process does not exist.
///
/// The sum is exact to the ns for existing processes (clock_getcpuclockid(3)). The share of user mode is known in ticks
/// of 10 ms (proc_pid_stat(5)).
pub fn of_process(process: u32) -> Option<CpuTime> {
    let all = stats();
    all.get(&process)?;
    let (mut user, mut system, mut seconds) = (0, 0, 0.0);
    for member in family_in(&all, process) {
        let Some(stat) = all.get(&member) else {
            continue;
        };
        let gone = (stat.gone_user + stat.gone_system) as f64 / TICKS;
        let own = (stat.user + stat.system) as f64 / TICKS;
        seconds += gone + process_clock(member).unwrap_or(own);
        user += stat.user + stat.gone_user;
        system += stat.system + stat.gone_system;
    }
    let share = match user + system {
        0 => 0.0,
        all => user as f64 / all as f64,
    };
    Some(CpuTime {
        user: seconds * share,
        system: seconds * (1.0 - share),
    })
}

/// A process and its descendants.
pub fn family(process: u32) -> Vec<u32> {
    family_in(&stats(), process)
}

fn family_in(all: &HashMap<u32, Stat>, process: u32) -> Vec<u32> {
    let mut family = vec![process];
    let mut known = 0;
    while let Some(&member) = family.get(known) {
        known += 1;
        let children = all.iter().filter(|(_, stat)| stat.parent == member);
        family.extend(children.map(|(&child, _)| child));
    }
    family
}

/// Ticks per second in /proc: USER_HZ, which is 100 on every Linux architecture that Rust supports (time(7)).
const TICKS: f64 = 100.0;

/// Fields of a process's stat file.
#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    user: u64,
    system: u64,
    /// Of its children that were waited for.
    gone_user: u64,
    gone_system: u64,
}

/// Stat files of all visible processes.
fn stats() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let read = |process| {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        Some((process, stat(&text)?))
    };
    numbers.filter_map(read).collect()
}

fn stat(text: &str) -> Option<Stat> {
    // The name in parentheses may contain any character, including parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    // The first of these is the third field of proc_pid_stat(5).
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        user: field(14)?,
        system: field(15)?,
        gone_user: field(16)?,
        gone_system: field(17)?,
    })
}

/// CPU time in seconds of a process's threads, including ended ones.
fn process_clock(process: u32) -> Option<f64> {
    let process = libc::pid_t::try_from(process).ok()?;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both pointers lead to writable values that outlive the calls. The second call uses the clock id that the
    // first one wrote, which is valid if it returned 0.
    let known = unsafe {
        let mut clock: libc::clockid_t = 0;
        libc::clock_getcpuclockid(process, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    known.then_some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user - earlier.user,
            system: self.system - earlier.system,
        }
    }
}

impl AddAssign for CpuTime {
    fn add_assign(&mut self, other: Self) {
        self.user += other.user;
        self.system += other.system;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn stat_file_is_parsed_with_any_process_name() {
        let text = "7 (a) b (c)) S 5 7 7 0 -1 4194560 100 0 0 0 12 34 56 78 20 0 1 0 9 0 0\n";
        let read = Stat {
            parent: 5,
            user: 12,
            system: 34,
            gone_user: 56,
            gone_system: 78,
        };
        assert_eq!(stat(text), Some(read));
        assert_eq!(stat("7 (a) S 5"), None);
        assert_eq!(stat(""), None);
    }

    #[test]
    fn process_includes_its_threads_and_children() {
        let sum = |time: CpuTime| time.user + time.system;
        let me = std::process::id();
        let before = of_process(me).unwrap();
        let spent = std::thread::spawn(move || {
            while sum(CpuTime::of_this_thread()) < 0.02 {
                std::hint::spin_loop();
            }
        });
        spent.join().unwrap();
        let after = of_process(me).unwrap();
        assert!(sum(after - before) >= 0.02);
        // Cheap to start, with measurable cost before it waits.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done; echo done; read end",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 5];
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut line).unwrap();
        let with_child = of_process(me).unwrap();
        let alone = of_process(child.id()).unwrap();
        assert!(sum(alone) > 0.0);
        assert!(sum(with_child) > sum(alone));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_process(u32::MAX), None);
    }
}
