//! Rank and size of a process, from the environment that its launcher sets. Pure: the environment is an argument.

use crate::udp::wire::fleet::MAX_RANKS;

/// A process of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// The rank, from 0.
    pub rank: u32,
    /// Number of ranks.
    pub size: u32,
    /// Names the fleet: the launcher's job, if it has one.
    pub fleet: String,
    /// Whether all ranks are on one host, as far as the launcher shows it; `true` without a launcher.
    pub one_host: bool,
    /// The host of rank 0, if the launcher names it.
    pub first_host: Option<String>,
}

/// A launcher's variables.
struct Launcher {
    name: &'static str,
    rank: &'static str,
    sizes: &'static [&'static str],
    /// Variables that together name the job.
    job: &'static [&'static str],
}

/// Launchers of MPI. One that runs within a Slurm job or a pod gives the rank that counts.
const MPI: [Launcher; 3] = [
    Launcher {
        name: "Open MPI",
        rank: "OMPI_COMM_WORLD_RANK",
        sizes: &["OMPI_COMM_WORLD_SIZE"],
        job: &["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"],
    },
    Launcher {
        name: "PMIx",
        rank: "PMIX_RANK",
        sizes: &["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"],
        job: &["PMIX_NAMESPACE"],
    },
    Launcher {
        name: "PMI",
        rank: "PMI_RANK",
        sizes: &["PMI_SIZE"],
        job: &["PMI_JOBID"],
    },
];

const OTHERS: [Launcher; 2] = [
    Launcher {
        name: "Slurm",
        rank: "SLURM_PROCID",
        sizes: &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"],
        job: &["SLURM_JOB_ID", "SLURM_STEP_ID"],
    },
    Launcher {
        name: "Kubernetes",
        rank: "JOB_COMPLETION_INDEX",
        sizes: &["JOB_COMPLETIONS"],
        job: &["JOB_NAME"],
    },
];

const ADVICE: &str =
    "start the processes with mpirun, srun or an Indexed Job, or give each --rank and --size";

impl Launch {
    /// The process with the options `--rank` and `--size` in the environment `env`.
    ///
    /// # Errors
    /// A sentence with advice: there is no rank or no size, they are not numbers, or two launchers disagree.
    pub fn find(
        rank: Option<u32>,
        size: Option<u32>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        if let (Some(rank), Some(size)) = (rank, size) {
            return checked(Self {
                rank,
                size,
                fleet: "fleet".to_owned(),
                one_host: true,
                first_host: None,
            });
        }
        let launcher = launcher(&env)?;
        let of_env = match launcher {
            Some(launcher) => Some(number(launcher.rank, &env)?.unwrap_or(0)),
            None => None,
        };
        let rank = match (rank, of_env, launcher) {
            (Some(rank), Some(other), Some(launcher)) if rank != other => {
                return Err(format!(
                    "--rank {rank} differs from {}={other}; leave out --rank, or give --size too",
                    launcher.rank
                ));
            }
            (rank, of_env, _) => rank.or(of_env),
        };
        let Some(rank) = rank else {
            return Err(format!("--fleet needs a rank and a size: {ADVICE}"));
        };
        let found = launcher.map(|launcher| self::size(launcher, &env));
        let found = found.transpose()?.flatten();
        let size = match (size, found) {
            (Some(size), Some((name, other))) if size != other => {
                return Err(format!(
                    "--size {size} differs from {name}={other}; leave out --size, or give --rank too"
                ));
            }
            (Some(size), _) | (None, Some((_, size))) => size,
            (None, None) => {
                let given = launcher.map_or("--rank", |launcher| launcher.rank);
                return Err(format!(
                    "{given} gives a rank without a size; add --size with the number of processes"
                ));
            }
        };
        checked(Self {
            rank,
            size,
            fleet: fleet(launcher, &env),
            one_host: is_one_host(launcher, size, &env),
            first_host: first_host(launcher, &env),
        })
    }
}

fn checked(launch: Launch) -> Result<Launch, String> {
    let Launch { rank, size, .. } = launch;
    if !(1..=MAX_RANKS).contains(&size) {
        return Err(format!(
            "a fleet of {size} ranks cannot be started; choose 1 to {MAX_RANKS}"
        ));
    }
    if rank >= size {
        return Err(format!(
            "rank {rank} is not one of {size} ranks, which are 0 to {}",
            size - 1
        ));
    }
    Ok(launch)
}

/// The launcher that set a rank: the innermost, if one runs in another.
fn launcher(env: &impl Fn(&str) -> Option<String>) -> Result<Option<&'static Launcher>, String> {
    let mut found: Option<(&Launcher, u32)> = None;
    for launcher in MPI.iter().chain(&OTHERS) {
        let Some(rank) = number(launcher.rank, env)? else {
            continue;
        };
        let Some((inner, other)) = found else {
            found = Some((launcher, rank));
            continue;
        };
        let (inner_size, size) = (size(inner, env)?, size(launcher, env)?);
        let both = inner_size.zip(size);
        let is_one = other == rank && both.is_none_or(|((_, one), (_, size))| one == size);
        let is_outer = OTHERS.iter().any(|of| of.rank == launcher.rank);
        if is_one || is_outer && is_around(launcher, env)? {
            continue;
        }
        let shown = |name: &str, rank: u32, size: Option<(&str, u32)>| match size {
            Some((of, size)) => format!("{name}={rank} with {of}={size}"),
            None => format!("{name}={rank}"),
        };
        return Err(format!(
            "{} and {} contradict each other; give --rank and --size",
            shown(inner.rank, other, inner_size),
            shown(launcher.rank, rank, size)
        ));
    }
    Ok(found.map(|(launcher, _)| launcher))
}

/// The size that a launcher sets, with the name of the variable.
fn size(
    launcher: &Launcher,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Option<(&'static str, u32)>, String> {
    for name in launcher.sizes {
        if let Some(size) = number(name, env)? {
            return Ok(Some((name, size)));
        }
    }
    Ok(None)
}

/// Whether another launcher may run in this one: in its only process, in the script of a batch job before the job's tasks, or with one
/// daemon on each node, as mpirun does in a Slurm job.
fn is_around(launcher: &Launcher, env: &impl Fn(&str) -> Option<String>) -> Result<bool, String> {
    let step = number("SLURM_STEP_NUM_TASKS", env)?;
    Ok(match (launcher.name, step) {
        ("Slurm", Some(tasks)) => tasks <= 1 || number("SLURM_STEP_NUM_NODES", env)? == step,
        ("Slurm", None) => number(launcher.rank, env)? == Some(0),
        _ => size(launcher, env)?.is_none_or(|(_, size)| size <= 1),
    })
}

/// The value of a variable; `None` if it is not set or empty.
fn number(name: &str, env: &impl Fn(&str) -> Option<String>) -> Result<Option<u32>, String> {
    let Some(text) = env(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    // A number as launchers write it, without a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = text.parse().ok().filter(|_| digits);
    value.map(Some).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        format!(
            "{name}={} is not a number; give --rank and --size",
            shown.replace(char::is_control, "?")
        )
    })
}

fn fleet(launcher: Option<&Launcher>, env: &impl Fn(&str) -> Option<String>) -> String {
    let Some(launcher) = launcher else {
        return "fleet".to_owned();
    };
    let parts = launcher.job.iter().filter_map(|name| env(name));
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    let mut name = launcher.name.to_owned();
    for part in parts {
        name.push(' ');
        name.extend(part.chars().filter(|char| !char.is_control()).take(100));
    }
    name
}

fn is_one_host(
    launcher: Option<&Launcher>,
    size: u32,
    env: &impl Fn(&str) -> Option<String>,
) -> bool {
    let is = |name: &str, value: u32| env(name).and_then(|text| text.parse().ok()) == Some(value);
    match launcher.map(|launcher| launcher.name) {
        None => true,
        Some("Open MPI") => is("OMPI_COMM_WORLD_LOCAL_SIZE", size),
        Some("PMI") => is("MPI_LOCALNRANKS", size),
        Some("Slurm" | "PMIx") => {
            is("SLURM_STEP_NUM_NODES", 1)
                || is("SLURM_NNODES", 1)
                || is("OMPI_COMM_WORLD_LOCAL_SIZE", size)
        }
        Some(_) => size == 1,
    }
}

/// Rank 0 is on the first host of Slurm's list.
fn first_host(
    launcher: Option<&Launcher>,
    env: &impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let is_slurm = launcher.is_some_and(|launcher| ["Slurm", "PMIx"].contains(&launcher.name));
    let list = env("SLURM_STEP_NODELIST").or_else(|| env("SLURM_JOB_NODELIST"));
    list.filter(|_| is_slurm).as_deref().and_then(first_of)
}

/// The first host of a list like `node[01-04,7],other`.
fn first_of(list: &str) -> Option<String> {
    let end = |text: &str, ends: &[char]| text.find(ends).unwrap_or(text.len());
    let mut rest = list;
    let mut host = String::new();
    loop {
        let plain = end(rest, &['[', ',']);
        host.push_str(&rest[..plain]);
        rest = &rest[plain..];
        match rest.strip_prefix('[') {
            Some(range) => {
                let close = range.find(']')?;
                let first = end(&range[..close], &['-', ',']);
                host.push_str(&range[..first]);
                rest = &range[close + 1..];
            }
            // A comma, or the end.
            None => break,
        }
    }
    let is_host = |char: char| char.is_ascii_alphanumeric() || ".-_:".contains(char);
    (!host.is_empty() && host.chars().all(is_host)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn find(rank: Option<u32>, size: Option<u32>, env: &[(&str, &str)]) -> Result<Launch, String> {
        let env: HashMap<&str, &str> = env.iter().copied().collect();
        Launch::find(rank, size, |name| {
            env.get(name).map(|text| (*text).to_owned())
        })
    }

    fn pair(env: &[(&str, &str)]) -> (u32, u32) {
        let launch = find(None, None, env).unwrap();
        (launch.rank, launch.size)
    }

    #[test]
    fn each_launcher_gives_rank_and_size() {
        let ompi = [("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "8")];
        assert_eq!(pair(&ompi), (3, 8));
        assert_eq!(pair(&[("PMI_RANK", "0"), ("PMI_SIZE", "1")]), (0, 1));
        let slurm = [("SLURM_PROCID", "2"), ("SLURM_NTASKS", "4")];
        assert_eq!(pair(&slurm), (2, 4));
        assert_eq!(pair(&[("PMIX_RANK", "1"), ("SLURM_NTASKS", "4")]), (1, 4));
        let pod = [("JOB_COMPLETION_INDEX", "5"), ("JOB_COMPLETIONS", "6")];
        assert_eq!(pair(&pod), (5, 6));
        assert_eq!(find(Some(1), Some(2), &[]).unwrap().rank, 1);
        // mpirun within a Slurm job: in one task, in the script of a batch job, by a daemon on each node; and launchers that agree.
        for outer in [
            &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1")][..],
            &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")],
            &[
                ("SLURM_PROCID", "1"),
                ("SLURM_STEP_NUM_TASKS", "2"),
                ("SLURM_STEP_NUM_NODES", "2"),
            ],
            &[
                ("PMI_RANK", "3"),
                ("PMI_SIZE", "8"),
                ("SLURM_PROCID", "3"),
                ("SLURM_NTASKS", "8"),
            ],
            &[("JOB_COMPLETION_INDEX", "5")],
        ] {
            assert_eq!(pair(&[&ompi, outer].concat()), (3, 8), "{outer:?}");
        }
        // Both options replace the launcher.
        assert_eq!(find(Some(0), Some(2), &ompi).unwrap().size, 2);
        let index = find(None, Some(6), &[("JOB_COMPLETION_INDEX", "5")]).unwrap();
        assert_eq!((index.rank, index.one_host), (5, false));
    }

    #[test]
    fn conflicts_and_garbage_are_refused_by_one_sentence() {
        for (rank, size, env, words) in [
            (None, None, &[][..], "--fleet needs a rank and a size"),
            (Some(1), None, &[], "--rank gives a rank without a size"),
            (None, Some(4), &[], "--fleet needs a rank and a size"),
            (
                Some(4),
                Some(4),
                &[],
                "rank 4 is not one of 4 ranks, which are 0 to 3",
            ),
            (
                Some(0),
                Some(0),
                &[],
                "a fleet of 0 ranks cannot be started",
            ),
            (
                None,
                None,
                &[("PMIX_RANK", "1")],
                "PMIX_RANK gives a rank without a size",
            ),
            (
                None,
                None,
                &[("PMI_RANK", "x"), ("PMI_SIZE", "2")],
                "PMI_RANK=x is not a number",
            ),
            (
                None,
                None,
                &[("PMI_RANK", "-1"), ("PMI_SIZE", "2")],
                "PMI_RANK=-1 is not a number",
            ),
            (
                None,
                None,
                &[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "99999999999")],
                "is not a number",
            ),
            (
                None,
                None,
                &[
                    ("OMPI_COMM_WORLD_RANK", "1"),
                    ("OMPI_COMM_WORLD_SIZE", "2"),
                    ("PMIX_RANK", "0"),
                ],
                "PMIX_RANK=0 with OMPI_COMM_WORLD_SIZE=2 contradict each other; give --rank and --size",
            ),
            (
                None,
                None,
                &[
                    ("OMPI_COMM_WORLD_RANK", "1"),
                    ("OMPI_COMM_WORLD_SIZE", "4"),
                    ("PMI_RANK", "1"),
                    ("PMI_SIZE", "8"),
                ],
                "OMPI_COMM_WORLD_RANK=1 with OMPI_COMM_WORLD_SIZE=4 and PMI_RANK=1 with PMI_SIZE=8 contradict each other",
            ),
            (
                None,
                None,
                &[
                    ("OMPI_COMM_WORLD_RANK", "1"),
                    ("OMPI_COMM_WORLD_SIZE", "4"),
                    ("SLURM_PROCID", "2"),
                    ("SLURM_STEP_NUM_TASKS", "3"),
                    ("SLURM_STEP_NUM_NODES", "1"),
                ],
                "SLURM_PROCID=2 with SLURM_STEP_NUM_TASKS=3 contradict each other",
            ),
            (
                None,
                None,
                &[
                    ("SLURM_PROCID", "0"),
                    ("SLURM_NTASKS", "4"),
                    ("JOB_COMPLETION_INDEX", "0"),
                    ("JOB_COMPLETIONS", "3"),
                ],
                "SLURM_PROCID=0 with SLURM_NTASKS=4 and JOB_COMPLETION_INDEX=0 with JOB_COMPLETIONS=3",
            ),
            (
                None,
                Some(3),
                &[("PMI_RANK", "1"), ("PMI_SIZE", "2")],
                "--size 3 differs from PMI_SIZE=2",
            ),
            (
                Some(0),
                None,
                &[("PMI_RANK", "1"), ("PMI_SIZE", "2")],
                "--rank 0 differs from PMI_RANK=1",
            ),
        ] {
            let error = find(rank, size, env).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn hosts_are_known_from_the_launcher() {
        let ompi = |local| {
            let env = [
                ("OMPI_COMM_WORLD_RANK", "3"),
                ("OMPI_COMM_WORLD_SIZE", "8"),
                ("OMPI_COMM_WORLD_LOCAL_SIZE", local),
                ("PMIX_NAMESPACE", "123"),
            ];
            find(None, None, &env).unwrap()
        };
        assert!(ompi("8").one_host && !ompi("4").one_host);
        assert_eq!(ompi("8").fleet, "Open MPI 123");
        let slurm = find(
            None,
            None,
            &[
                ("SLURM_PROCID", "1"),
                ("SLURM_NTASKS", "2"),
                ("SLURM_NNODES", "2"),
                ("SLURM_JOB_NODELIST", "node[07-12,3],x"),
            ],
        );
        let slurm = slurm.unwrap();
        assert_eq!(
            (slurm.first_host.as_deref(), slurm.one_host),
            (Some("node07"), false)
        );
        for (list, host) in [
            ("a", Some("a")),
            ("a,b", Some("a")),
            ("n[1]-ib[3,4],b", Some("n1-ib3")),
            ("n[1", None),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(first_of(list).as_deref(), host, "{list}");
        }
    }

    proptest! {
        #[test]
        fn no_environment_panics(rank: Option<u32>, size: Option<u32>, values in prop::collection::vec(".{0,12}|[0-9]{1,11}", 16), list in "[a-z0-9\\[\\],-]{0,20}") {
            let launch = Launch::find(rank, size, |name| match name.contains("NODELIST") {
                true => Some(list.clone()),
                false => values.get(name.len() % 16).cloned(),
            });
            if let Ok(launch) = launch {
                prop_assert!(launch.rank < launch.size && launch.size <= MAX_RANKS);
            }
        }
    }
}
