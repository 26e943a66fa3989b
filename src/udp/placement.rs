//! Placement: the CPU that each sending and receiving thread is pinned to. It changes the result by up to a factor of six, so it is
//! a setting.

use std::time::Duration;

use thiserror::Error;

use super::plan::{Direction, Mode, Plan};

/// The setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// If both ends of a stream are in this process and the run is not paced: the faster of a CPU per thread and a CPU per stream by
    /// short trials, or a CPU per stream if there are too few for the former. In other cases the kernel chooses.
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

/// The CPUs of the threads at both ends of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// Those of the client.
    pub client: Cpus,
    /// Those of the server; `None` too if the server is remote.
    pub server: Cpus,
}

impl Placement {
    /// From the CPUs of the senders and of the receivers of a run in this direction.
    pub fn new(direction: Direction, (senders, receivers): (Cpus, Cpus)) -> Self {
        let (client, server) = match direction {
            Direction::Reverse => (receivers, senders),
            Direction::Forward | Direction::Both => (senders, receivers),
        };
        Self { client, server }
    }

    /// The CPUs of the senders and of the receivers.
    pub fn by_role(&self, direction: Direction) -> (Cpus, Cpus) {
        let (client, server) = (self.client.clone(), self.server.clone());
        match direction {
            Direction::Reverse => (server, client),
            Direction::Forward | Direction::Both => (client, server),
        }
    }

    /// Whether a paced sender of this process may spin.
    pub fn may_spin(&self, plan: &Plan, allowed: &[usize]) -> bool {
        let (senders, receivers) = self.by_role(plan.direction);
        may_spin(&senders, &receivers, plan.all_streams(), allowed)
    }
}

/// The placement if both ends are in this process, or several of which trials choose the fastest.
pub fn both(choice: &Choice, plan: &Plan, allowed: &[usize]) -> Vec<Placement> {
    let streams = plan.streams;
    let placements = match choice {
        // A thread that sleeps most of the time wakes up soonest on an idle CPU, which the kernel finds.
        Choice::Auto if matches!(plan.mode, Mode::Paced(_) | Mode::RoundTrip(_)) => {
            vec![(None, None)]
        }
        // Two threads at each end: the kernel places them better than a rule for one.
        Choice::Auto if plan.direction == Direction::Both => vec![(None, None)],
        Choice::Auto => automatic(streams, allowed),
        Choice::Free => vec![(None, None)],
        Choice::List(cpus) => {
            let at = |thread: usize| cpus.get(thread % cpus.len().max(1)).copied();
            let senders = (0..streams).filter_map(|stream| at(2 * stream)).collect();
            let receivers = (0..streams)
                .filter_map(|stream| at(2 * stream + 1))
                .collect();
            vec![(Some(senders), Some(receivers))]
        }
    };
    placements
        .into_iter()
        .map(|threads| Placement::new(plan.direction, threads))
        .collect()
}

/// The CPUs of the threads of the only end in this process.
pub fn one(choice: &Choice, streams: usize) -> Cpus {
    match choice {
        Choice::Auto | Choice::Free => None,
        Choice::List(cpus) => Some(cpus.iter().copied().cycle().take(streams).collect()),
    }
}

/// A CPU for every thread if there are enough, and a CPU for every stream. Which is faster depends on the machine and on the hour: two
/// CPUs work at a time, but datagrams move between their caches. A pair across two busy CPUs is slowest.
fn automatic(streams: usize, allowed: &[usize]) -> Vec<(Cpus, Cpus)> {
    if allowed.is_empty() {
        return vec![(None, None)];
    }
    let cycle = allowed.iter().copied().cycle();
    let shared: Vec<usize> = cycle.clone().take(streams).collect();
    let mut placements = vec![(Some(shared.clone()), Some(shared))];
    if 2 * streams <= allowed.len() {
        let senders = cycle.clone().step_by(2).take(streams).collect();
        let receivers = cycle.skip(1).step_by(2).take(streams).collect();
        placements.push((Some(senders), Some(receivers)));
    }
    placements
}

/// Time of one trial.
pub const TRIAL: Duration = Duration::from_millis(10);

/// Trials of each placement. They alternate, so that a change of the machine's speed affects all alike.
const TRIALS: usize = 3;

/// The rate of each of several placements, by the median of its trials: `rate` does one. `None` if a trial fails, or if there is
/// nothing to choose.
pub fn rates<P>(placements: &[P], mut rate: impl FnMut(&P) -> Option<f64>) -> Option<Vec<f64>> {
    if placements.len() < 2 {
        return None;
    }
    let mut trials = vec![Vec::new(); placements.len()];
    for _ in 0..TRIALS {
        for (placement, trials) in placements.iter().zip(&mut trials) {
            trials.push(rate(placement)?);
        }
    }
    let medians = trials.into_iter().map(|mut trials| {
        trials.sort_by(f64::total_cmp);
        trials.get(TRIALS / 2).copied().unwrap_or_default()
    });
    Some(medians.collect())
}

/// The index of the highest rate, the first of equal ones; 0 if there is none.
pub fn fastest(rates: &[f64]) -> usize {
    let mut best = 0;
    for (number, rate) in rates.iter().enumerate() {
        if *rate > rates[best] {
            best = number;
        }
    }
    best
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
    use crate::udp::plan::tests::small_plan;

    /// The CPUs of the senders and of the receivers of a lossless run.
    fn threads(choice: &Choice, streams: usize, allowed: &[usize]) -> Vec<(Cpus, Cpus)> {
        let plan = Plan {
            streams,
            ..small_plan()
        };
        let placements = both(choice, &plan, allowed);
        let by_role = placements.iter().map(|one| one.by_role(plan.direction));
        by_role.collect()
    }

    #[test]
    fn the_client_receives_in_a_reverse_run() {
        let plan = Plan {
            direction: Direction::Reverse,
            ..small_plan()
        };
        let list = Choice::List(vec![0, 1]);
        let placements = both(&list, &plan, &[0, 1]);
        let expected = Placement {
            client: Some(vec![1]),
            server: Some(vec![0]),
        };
        assert_eq!(placements, [expected]);
    }

    #[test]
    fn a_cpu_per_stream_and_a_cpu_per_thread_are_tried_if_there_are_enough() {
        assert_eq!(
            threads(&Choice::Auto, 1, &[0, 1]),
            [
                (Some(vec![0]), Some(vec![0])),
                (Some(vec![0]), Some(vec![1]))
            ]
        );
        assert_eq!(
            threads(&Choice::Auto, 2, &[0, 1, 4, 5]),
            [
                (Some(vec![0, 1]), Some(vec![0, 1])),
                (Some(vec![0, 4]), Some(vec![1, 5]))
            ]
        );
    }

    #[test]
    fn trials_alternate_and_the_best_median_wins() {
        let mut order = Vec::new();
        // The first trial of `b` is an outlier.
        let mut results = [5.0, 9.0, 6.0, 4.0, 5.0, 4.0].into_iter();
        let found = rates(&["a", "b"], |&placement| {
            order.push(placement);
            results.next()
        });
        assert_eq!(found, Some(vec![5.0, 4.0]));
        assert_eq!(order, ["a", "b", "a", "b", "a", "b"]);
        assert_eq!(fastest(&[5.0, 4.0]), 0);
        assert_eq!(fastest(&[4.0, 5.0, 5.0]), 1);
    }

    #[test]
    fn a_single_placement_is_not_tried_and_a_failed_trial_chooses_nothing() {
        assert_eq!(rates(&["a"], |_| Some(1.0)), None);
        assert_eq!(rates(&["a", "b"], |_| None), None);
        assert_eq!(fastest(&[]), 0);
    }

    #[test]
    fn a_paced_run_is_left_to_the_kernel() {
        let plan = Plan {
            mode: Mode::Paced(1_000.0),
            ..small_plan()
        };
        assert_eq!(both(&Choice::Auto, &plan, &[0, 1]), [Placement::default()]);
    }

    #[test]
    fn the_ends_of_a_stream_share_a_cpu_if_there_are_too_few() {
        assert_eq!(
            threads(&Choice::Auto, 2, &[0, 1]),
            [(Some(vec![0, 1]), Some(vec![0, 1]))]
        );
        assert_eq!(
            threads(&Choice::Auto, 1, &[3]),
            [(Some(vec![3]), Some(vec![3]))]
        );
    }

    #[test]
    fn a_list_alternates_between_senders_and_receivers() {
        let list = Choice::parse("0,1").unwrap();
        assert_eq!(
            threads(&list, 2, &[0, 1]),
            [(Some(vec![0, 0]), Some(vec![1, 1]))]
        );
        let pairs = Choice::parse("0,0,1,1").unwrap();
        assert_eq!(
            threads(&pairs, 2, &[0, 1]),
            [(Some(vec![0, 1]), Some(vec![0, 1]))]
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
