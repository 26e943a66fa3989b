//! Placement: the CPU that each sending and receiving thread is pinned to. It changes the result by up to a factor of six, so it is
//! a setting.

use thiserror::Error;

/// The setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// If both ends of a stream are in this process and the run is not paced: a CPU per thread if there are enough, else a CPU per
    /// stream. In other cases the kernel chooses.
    Auto,
    /// The kernel chooses.
    Free,
    /// A CPU per thread: sender, receiver, sender, receiver, and again from the start. If only one end is in this process, all CPUs
    /// are for that end.
    List(Vec<usize>),
}

/// Why a list of CPUs is invalid.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CpusError {
    /// Not a list.
    #[error("'{0}' is not a list of CPUs; write it like 0,1 (sender, receiver), or auto or free")]
    Unreadable(String),
    /// A CPU that this process may not run on.
    #[error("CPU {cpu} is not one this process may run on; those are {allowed:?}")]
    NotAllowed {
        /// The CPU.
        cpu: usize,
        /// The allowed CPUs.
        allowed: Vec<usize>,
    },
}

impl Choice {
    /// Parses `auto`, `free` or a list like `0,1`.
    ///
    /// # Errors
    /// [`CpusError::Unreadable`].
    pub fn parse(text: &str) -> Result<Self, CpusError> {
        match text {
            "auto" => Ok(Self::Auto),
            "free" => Ok(Self::Free),
            list => list
                .split(',')
                .map(|cpu| {
                    cpu.parse()
                        .map_err(|_| CpusError::Unreadable(text.to_owned()))
                })
                .collect::<Result<_, _>>()
                .map(Self::List),
        }
    }

    /// Checks that every CPU is allowed.
    ///
    /// # Errors
    /// [`CpusError::NotAllowed`].
    pub fn check(&self, allowed: &[usize]) -> Result<(), CpusError> {
        let Self::List(cpus) = self else {
            return Ok(());
        };
        match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(&cpu) => Err(CpusError::NotAllowed {
                cpu,
                allowed: allowed.to_vec(),
            }),
            None => Ok(()),
        }
    }
}

/// One CPU per stream; `None` if the kernel chooses.
pub type Cpus = Option<Vec<usize>>;

/// The CPUs of the senders and of the receivers, if both ends are in this process.
pub fn both(choice: &Choice, streams: usize, allowed: &[usize], paced: bool) -> (Cpus, Cpus) {
    match choice {
        // A thread that sleeps most of the time wakes up soonest on an idle CPU, which the kernel finds.
        Choice::Auto if paced => (None, None),
        Choice::Auto => spread(streams, allowed),
        Choice::Free => (None, None),
        Choice::List(cpus) => {
            let at = |thread: usize| cpus.get(thread % cpus.len().max(1)).copied();
            let senders = (0..streams).filter_map(|stream| at(2 * stream)).collect();
            let receivers = (0..streams)
                .filter_map(|stream| at(2 * stream + 1))
                .collect();
            (Some(senders), Some(receivers))
        }
    }
}

/// The CPUs of the threads of the only end in this process.
pub fn one(choice: &Choice, streams: usize) -> Cpus {
    match choice {
        Choice::Auto | Choice::Free => None,
        Choice::List(cpus) => Some(cpus.iter().copied().cycle().take(streams).collect()),
    }
}

/// A CPU for every thread if there are enough; else the two ends of a stream share one, since a pair across two busy CPUs is slowest.
fn spread(streams: usize, allowed: &[usize]) -> (Cpus, Cpus) {
    if allowed.is_empty() {
        return (None, None);
    }
    let cycle = allowed.iter().copied().cycle();
    if 2 * streams <= allowed.len() {
        let senders = cycle.clone().step_by(2).take(streams).collect();
        let receivers = cycle.skip(1).step_by(2).take(streams).collect();
        return (Some(senders), Some(receivers));
    }
    let shared: Vec<usize> = cycle.take(streams).collect();
    (Some(shared.clone()), Some(shared))
}

/// The CPU that a stream's thread is pinned to, if it is pinned.
pub fn of(cpus: &Cpus, stream: usize) -> Option<usize> {
    cpus.as_ref()?.get(stream).copied()
}

/// Whether both ends of a stream, which are on one host, are pinned to one CPU.
pub fn is_shared(senders: &Cpus, receivers: &Cpus, stream: usize) -> bool {
    let sender = of(senders, stream);
    sender.is_some() && sender == of(receivers, stream)
}

/// Whether senders may spin: no other thread of this process is pinned to a sender's CPU.
pub fn may_spin(senders: &Cpus, receivers: &Cpus, streams: usize, allowed: &[usize]) -> bool {
    match senders {
        Some(senders) => {
            let others = receivers.iter().flatten();
            senders.iter().all(|cpu| {
                senders
                    .iter()
                    .chain(others.clone())
                    .filter(|other| *other == cpu)
                    .count()
                    == 1
            })
        }
        None => streams < allowed.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_its_own_cpu_if_there_are_enough() {
        assert_eq!(
            both(&Choice::Auto, 1, &[0, 1], false),
            (Some(vec![0]), Some(vec![1]))
        );
        assert_eq!(
            both(&Choice::Auto, 2, &[0, 1, 4, 5], false),
            (Some(vec![0, 4]), Some(vec![1, 5]))
        );
    }

    #[test]
    fn a_paced_run_is_left_to_the_kernel() {
        assert_eq!(both(&Choice::Auto, 1, &[0, 1], true), (None, None));
    }

    #[test]
    fn the_ends_of_a_stream_share_a_cpu_if_there_are_too_few() {
        assert_eq!(
            both(&Choice::Auto, 2, &[0, 1], false),
            (Some(vec![0, 1]), Some(vec![0, 1]))
        );
        assert_eq!(
            both(&Choice::Auto, 1, &[3], false),
            (Some(vec![3]), Some(vec![3]))
        );
    }

    #[test]
    fn a_list_alternates_between_senders_and_receivers() {
        let list = Choice::parse("0,1").unwrap();
        assert_eq!(
            both(&list, 2, &[0, 1], false),
            (Some(vec![0, 0]), Some(vec![1, 1]))
        );
        let pairs = Choice::parse("0,0,1,1").unwrap();
        assert_eq!(
            both(&pairs, 2, &[0, 1], false),
            (Some(vec![0, 1]), Some(vec![0, 1]))
        );
        assert_eq!(one(&list, 3), Some(vec![0, 1, 0]));
    }

    #[test]
    fn an_invalid_list_is_refused() {
        for text in ["", "x", "0,", "0-1", "-1", "0, 1"] {
            assert_eq!(
                Choice::parse(text),
                Err(CpusError::Unreadable(text.to_owned()))
            );
        }
        let error = Choice::List(vec![0, 9]).check(&[0, 1]).unwrap_err();
        assert_eq!(
            error,
            CpusError::NotAllowed {
                cpu: 9,
                allowed: vec![0, 1]
            }
        );
    }

    #[test]
    fn only_threads_pinned_to_the_same_cpu_share_it() {
        assert!(is_shared(&Some(vec![0, 1]), &Some(vec![1, 1]), 1));
        assert!(!is_shared(&Some(vec![0, 1]), &Some(vec![1, 1]), 0));
        assert!(!is_shared(&None, &None, 0));
        assert!(!is_shared(&Some(vec![0]), &Some(vec![0]), 5));
    }

    #[test]
    fn no_sender_spins_on_a_shared_cpu() {
        let allowed = [0, 1];
        assert!(may_spin(&Some(vec![0]), &Some(vec![1]), 1, &allowed));
        assert!(!may_spin(&Some(vec![0]), &Some(vec![0]), 1, &allowed));
        assert!(!may_spin(&Some(vec![0, 0]), &None, 2, &allowed));
        assert!(may_spin(&None, &None, 1, &allowed));
        assert!(!may_spin(&None, &None, 2, &allowed));
    }
}
