//! Which CPU each sending and receiving thread is kept on. It changes the result by up to six times, so it is a setting.

use thiserror::Error;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// A CPU a thread, or else a CPU a stream, where both ends are here and busy; else the kernel chooses.
    Auto,
    /// The kernel chooses.
    Free,
    /// One CPU a thread: sender, receiver, sender, receiver, and from the front again.
    /// Where only one end is here, all are for it.
    List(Vec<usize>),
}

/// Why a list of CPUs makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CpusError {
    /// Not a list.
    #[error("'{0}' is not a list of CPUs; write it like 0,1 (sender, receiver), or auto or free")]
    Unreadable(String),
    /// Not ours to use.
    #[error("CPU {cpu} is not one this process may run on; those are {allowed:?}")]
    NotAllowed {
        /// Asked for.
        cpu: usize,
        /// To choose from.
        allowed: Vec<usize>,
    },
}

impl Choice {
    /// Reads `auto`, `free` or a list like `0,1`.
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

    /// Whether every CPU named is among those allowed.
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

/// One CPU a stream; `None` where the kernel chooses.
pub type Cpus = Option<Vec<usize>>;

/// The CPUs of the senders and of the receivers, both here.
pub fn both(choice: &Choice, streams: usize, allowed: &[usize], paced: bool) -> (Cpus, Cpus) {
    match choice {
        // A thread that sleeps most of the time is woken soonest where nobody else is at work just then.
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

/// The CPUs of the threads of the only end that is here.
pub fn one(choice: &Choice, streams: usize) -> Cpus {
    match choice {
        Choice::Auto | Choice::Free => None,
        Choice::List(cpus) => Some(cpus.iter().copied().cycle().take(streams).collect()),
    }
}

/// A CPU for every thread while there are enough; else the two ends of a stream share one, since a
/// pair crossed over two busy CPUs is slowest of all.
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

/// The CPU of a stream's thread, where it is kept on one.
pub fn of(cpus: &Cpus, stream: usize) -> Option<usize> {
    cpus.as_ref()?.get(stream).copied()
}

/// Whether both ends of a stream, which are on one host, are kept on one CPU.
pub fn is_shared(senders: &Cpus, receivers: &Cpus, stream: usize) -> bool {
    let sender = of(senders, stream);
    sender.is_some() && sender == of(receivers, stream)
}

/// Whether a sender may spin: it has a CPU to itself as far as this process goes.
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
    fn every_thread_has_its_cpu_while_there_are_enough() {
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
    fn else_a_pair_shares_one() {
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
    fn a_list_goes_sender_receiver_and_round() {
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
    fn nonsense_is_named() {
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
    fn threads_left_to_the_kernel_share_nothing_for_certain() {
        assert!(is_shared(&Some(vec![0, 1]), &Some(vec![1, 1]), 1));
        assert!(!is_shared(&Some(vec![0, 1]), &Some(vec![1, 1]), 0));
        assert!(!is_shared(&None, &None, 0));
        assert!(!is_shared(&Some(vec![0]), &Some(vec![0]), 5));
    }

    #[test]
    fn nobody_spins_on_a_shared_cpu() {
        let allowed = [0, 1];
        assert!(may_spin(&Some(vec![0]), &Some(vec![1]), 1, &allowed));
        assert!(!may_spin(&Some(vec![0]), &Some(vec![0]), 1, &allowed));
        assert!(!may_spin(&Some(vec![0, 0]), &None, 2, &allowed));
        assert!(may_spin(&None, &None, 1, &allowed));
        assert!(!may_spin(&None, &None, 2, &allowed));
    }
}
