//! CPU quota of the calling thread: the smallest quota of its control group and that group's ancestors (cgroups(7);
//! Documentation/scheduler/sched-bwc.rst, Documentation/admin-guide/cgroup-v2.rst).
//!
//! A thread whose group has used up the quota is stopped until the end of the period, usually 100 ms.

use std::fs;
use std::path::{Path, PathBuf};

/// The groups with a quota that apply to the calling thread.
#[derive(Debug, Clone, Default)]
pub struct CpuQuota {
    groups: Vec<(PathBuf, f64)>,
}

/// How often threads of these groups were stopped for lack of quota, and for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Throttled {
    /// Periods in which the quota was used up.
    pub periods: u64,
    /// Stopped time in ns, summed over CPUs.
    pub ns: u64,
}

impl CpuQuota {
    /// Of the calling thread; empty without a quota or if the files are invisible.
    pub fn of_this_thread() -> Self {
        let groups = read("/proc/thread-self/cgroup");
        // ip-netns(8) exec hides the control groups behind a new /sys. An ancestor process outside still sees them.
        let mut seen_by = std::process::id();
        for _ in 0..MOST_ANCESTORS {
            let root = PathBuf::from(format!("/proc/{seen_by}/root"));
            let mounts = read(&format!("/proc/{seen_by}/mountinfo"));
            let places = places(&groups, &mounts);
            if !places.is_empty() {
                return Self::of(places, &root);
            }
            match parent(&read(&format!("/proc/{seen_by}/stat"))) {
                Some(parent) if parent > 0 => seen_by = parent,
                _ => break,
            }
        }
        Self::default()
    }

    fn of(places: Vec<Place>, root: &Path) -> Self {
        let mut groups = Vec::new();
        for Place { mount, group } in places {
            let mut group = group;
            loop {
                let inside = mount.strip_prefix("/").unwrap_or(&mount).join(&group);
                let folder = root.join(inside);
                groups.extend(quota(&folder).map(|cpus| (folder, cpus)));
                if !group.pop() {
                    break;
                }
            }
        }
        Self { groups }
    }

    /// The quota in CPUs, for example 0.2; `None` without a quota.
    pub fn cpus(&self) -> Option<f64> {
        self.groups.iter().map(|&(_, cpus)| cpus).reduce(f64::min)
    }

    /// The kernel's counters; `None` without a quota.
    pub fn throttled(&self) -> Option<Throttled> {
        let mut all = None;
        for (folder, _) in &self.groups {
            let stat = stat(&read_at(&folder.join("cpu.stat")));
            let sum: &mut Throttled = all.get_or_insert_default();
            sum.periods = sum.periods.saturating_add(stat.periods);
            sum.ns = sum.ns.saturating_add(stat.ns);
        }
        all
    }
}

impl std::ops::Sub for Throttled {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            periods: self.periods.saturating_sub(earlier.periods),
            ns: self.ns.saturating_sub(earlier.ns),
        }
    }
}

/// Most ancestor processes whose mounts are read.
const MOST_ANCESTORS: usize = 32;

/// The mount point of a hierarchy, and the group within it.
#[derive(Debug, PartialEq)]
struct Place {
    mount: PathBuf,
    group: PathBuf,
}

/// Parses /proc/PID/cgroup and /proc/PID/mountinfo (proc_pid_cgroup(5), proc_pid_mountinfo(5)): version 1 with the cpu
/// controller, and version 2.
fn places(groups: &str, mounts: &str) -> Vec<Place> {
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let (before, after) = (before.split(' '), after.split(' '));
        let (before, after): (Vec<_>, Vec<_>) = (before.collect(), after.collect());
        let (&[_, _, _, root, mount, ..], &[kind, _, options, ..]) = (&before[..], &after[..])
        else {
            continue;
        };
        let group = match kind {
            "cgroup" if options.split(',').any(|option| option == "cpu") => group(groups, |has| {
                has.split(',').any(|controller| controller == "cpu")
            }),
            "cgroup2" => group(groups, str::is_empty),
            _ => None,
        };
        let Some(group) = group else { continue };
        let inside = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
        found.push(Place {
            mount: mount.into(),
            group: inside.strip_prefix("/").unwrap_or(inside).to_owned(),
        });
    }
    found
}

/// The path of the hierarchy with the wanted controllers.
fn group(groups: &str, is: impl Fn(&str) -> bool) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        is(controllers).then(|| parts.next()).flatten()
    })
}

/// Quota of one group in CPUs.
fn quota(folder: &Path) -> Option<f64> {
    let read = |name: &str| read_at(&folder.join(name));
    let (quota, period) = match read("cpu.max") {
        text if text.is_empty() => (read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")),
        text => {
            let (quota, period) = text.split_once(' ')?;
            (quota.to_owned(), period.to_owned())
        }
    };
    // Without a quota the value is `max` in version 2 and -1 in version 1.
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|us| *us > 0.0);
    Some(number(&quota)? / number(&period)?)
}

fn stat(text: &str) -> Throttled {
    let of = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().parse::<u64>().ok()
    };
    Throttled {
        periods: of("nr_throttled ").unwrap_or(0),
        ns: of("throttled_time ")
            .or_else(|| of("throttled_usec ").map(|us| us.saturating_mul(1_000)))
            .unwrap_or(0),
    }
}

/// The fourth field of a stat file. The name before it may contain any character.
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

fn read(path: &str) -> String {
    read_at(Path::new(path))
}

fn read_at(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct\n\
        33 31 0:30 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n";

    #[test]
    fn group_is_found_below_its_mount_in_both_versions() {
        let groups = "3:cpuset:/\n2:cpu,cpuacct:/a/b\n0::/x\n";
        let place = Place {
            mount: "/sys/fs/cgroup/cpu,cpuacct".into(),
            group: "a/b".into(),
        };
        assert_eq!(places(groups, V1), [place]);
        // In a container the root of the mount is the group of the container.
        let v2 = "40 1 0:38 /docker/7 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let place = Place {
            mount: "/sys/fs/cgroup".into(),
            group: "web".into(),
        };
        assert_eq!(places("0::/docker/7/web\n", v2), [place]);
        assert_eq!(places("0::/x\n", V1), []);
        assert_eq!(places("", "nonsense - \n - cgroup\n"), []);
    }

    #[test]
    fn smallest_quota_of_group_and_ancestors_applies() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("m/a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(folder.path().join("m/a/cpu.max"), "20000 100000\n").unwrap();
        fs::write(inner.join("cpu.max"), "max 100000\n").unwrap();
        fs::write(folder.path().join("m/cpu.cfs_quota_us"), "-1\n").unwrap();
        fs::write(folder.path().join("m/cpu.cfs_period_us"), "100000\n").unwrap();
        let stat = "nr_periods 9\nnr_throttled 7\nthrottled_usec 35\n";
        fs::write(folder.path().join("m/a/cpu.stat"), stat).unwrap();
        let place = Place {
            mount: "/m".into(),
            group: "a/b".into(),
        };
        let quota = CpuQuota::of(vec![place], folder.path());
        assert_eq!(quota.cpus(), Some(0.2));
        let throttled = Throttled {
            periods: 7,
            ns: 35_000,
        };
        assert_eq!(quota.throttled(), Some(throttled));
        assert_eq!(CpuQuota::default().throttled(), None);
    }

    #[test]
    fn counters_of_both_versions_are_converted_to_ns() {
        assert_eq!(stat("nr_throttled 2\nthrottled_time 900\n").ns, 900);
        assert_eq!(stat("nr_throttled 2\nthrottled_usec 9\n").ns, 9_000);
    }

    #[test]
    fn parent_is_found_after_any_name() {
        assert_eq!(parent("7 (a) b (c)) S 5 7 7"), Some(5));
        assert_eq!(parent(""), None);
    }
}
