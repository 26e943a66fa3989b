//! The figures that several ranks report of one counter: those of a host increase by the drops of all of its ranks. Of reports at one
//! time the largest counts; that of the rank that ended last has all. Pure.

use std::collections::BTreeMap;

use crate::udp::result::causes::apportion::apportion;
use crate::udp::result::{Explained, HostDrops, Increase, LossCause, Reason, Run};

/// Causes that each rank has for itself: refusals of its sends, and the drops of its own sockets.
const OWN: [&str; 4] = [
    "sender_firewall",
    "sender_route",
    "sender_socket",
    "receiver_socket",
];

/// The most datagrams that a drop may be: the segments of a message.
const MOST_SEGMENTS: u64 = 128;

/// The start of the note of a rank whose causes exceed its losses.
const SURPLUS: &str = "The causes exceed the losses";

/// Where and when a rank measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The rank's host, if the ranks are of one fleet, which has one server.
    pub(super) host: Option<&'a str>,
    /// From the start to the end, in ns of a clock of all ranks.
    pub(super) span: (u64, u64),
}

/// The largest of the values whose spans overlap.
#[derive(Debug, Clone)]
struct Largest<V>(Vec<((u64, u64), V)>);

impl<V> Default for Largest<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Ord + Copy> Largest<V> {
    fn add(&mut self, (start, end): (u64, u64), value: V) {
        let end = end.max(start);
        let first = self.0.partition_point(|(span, _)| span.1 < start);
        let rest = self.0.get(first..).unwrap_or_default();
        let count = rest.partition_point(|(span, _)| span.0 <= end);
        let joined = rest.iter().take(count);
        let joined = joined.fold(((start, end), value), |(all, most), (span, value)| {
            let all = (all.0.min(span.0), all.1.max(span.1));
            (all, most.max(*value))
        });
        self.0.splice(first..first + count, [joined]);
    }

    fn values(&self) -> impl Iterator<Item = V> {
        self.0.iter().map(|(_, value)| *value)
    }
}

fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

/// A network namespace or a kernel, and a cause.
type Key = (String, String);

/// The causes that the ranks share. The counters of a cause belong to a network namespace, the kernel's reasons to the kernel.
#[derive(Debug, Default)]
pub(super) struct SharedCauses {
    /// Drops and datagrams, and whether a rank estimates them.
    causes: BTreeMap<Key, (Largest<(u64, u64)>, bool)>,
    counters: BTreeMap<(Key, String), Largest<u64>>,
    /// By reason and place.
    reasons: BTreeMap<(Key, String, String), Largest<u64>>,
}

impl SharedCauses {
    /// Takes the shared figures from what a rank explains. Without the identity of its host, a saved run shares none.
    pub(super) fn take(&mut self, explained: &mut Explained, place: Place<'_>) {
        let (sender, receiver) = (explained.sender.take(), explained.receiver.take());
        let mut own = Vec::new();
        for cause in std::mem::take(&mut explained.causes) {
            let is_sender = cause.cause.starts_with("sender_");
            let (side, host) = match is_sender {
                true => (&sender, place.host),
                // The fleet has one receiver.
                false => (&receiver, place.host.map(|_| "")),
            };
            let Some((namespace, kernel)) = scopes(side.as_ref(), host) else {
                own.push(cause);
                continue;
            };
            explained.notes.retain(|note| !note.starts_with(SURPLUS));
            own.extend(self.take_cause(cause, namespace, kernel, place.span));
        }
        explained.causes = own;
    }

    /// Returns the rank's own part of a cause.
    fn take_cause(
        &mut self,
        cause: LossCause,
        namespace: String,
        kernel: String,
        span: (u64, u64),
    ) -> Option<LossCause> {
        let is_own = OWN.contains(&cause.cause.as_str());
        let key = (namespace, cause.cause.clone());
        let of_kernel = (kernel, cause.cause.clone());
        let counters = cause.counters.into_iter();
        let (own, shared): (Vec<Increase>, Vec<Increase>) =
            counters.partition(|counter| is_own && is_errno(&counter.name));
        for Increase { name, increase } in shared {
            let most = self.counters.entry((key.clone(), name)).or_default();
            most.add(span, increase);
        }
        for reason in cause.reasons {
            let Reason {
                reason,
                place,
                drops,
            } = reason;
            let most = self.reasons.entry((of_kernel.clone(), reason, place));
            most.or_default().add(span, drops);
        }
        if is_own {
            return Some(LossCause {
                counters: own,
                reasons: Vec::new(),
                ..cause
            });
        }
        let (most, is_estimated) = self.causes.entry(key).or_default();
        most.add(span, (cause.drops, cause.datagrams));
        *is_estimated |= cause.estimated;
        None
    }

    /// Whether no rank shares a cause.
    pub(super) fn is_empty(&self) -> bool {
        self.causes.is_empty() && self.counters.is_empty() && self.reasons.is_empty()
    }

    /// The causes of all hosts. Several may have one name.
    pub(super) fn into_causes(self) -> impl Iterator<Item = LossCause> {
        let named = |cause| LossCause {
            cause,
            ..LossCause::default()
        };
        let causes = self
            .causes
            .into_iter()
            .map(move |((_, cause), (most, is_estimated))| LossCause {
                drops: sum(most.values().map(|(drops, _)| drops)),
                datagrams: sum(most.values().map(|(_, datagrams)| datagrams)),
                estimated: is_estimated,
                ..named(cause)
            });
        let counters = self
            .counters
            .into_iter()
            .map(move |(((_, cause), name), most)| LossCause {
                counters: vec![Increase {
                    name,
                    increase: sum(most.values()),
                }],
                ..named(cause)
            });
        let reasons = self
            .reasons
            .into_iter()
            .map(move |(((_, cause), reason, place), most)| LossCause {
                reasons: vec![Reason {
                    reason,
                    place,
                    drops: sum(most.values()),
                }],
                ..named(cause)
            });
        causes.chain(counters).chain(reasons)
    }
}

/// The network namespace and the kernel of a host, as keys; those of a fleet's host without an identity are its name.
fn scopes(side: Option<&HostDrops>, host: Option<&str>) -> Option<Key> {
    let identity = side.and_then(|side| Some((side.namespace.as_ref()?, side.kernel.as_ref()?)));
    match (identity, host) {
        (Some((namespace, kernel)), _) => Some((format!("{kernel} {namespace}"), kernel.clone())),
        (None, Some(host)) => Some((host.to_owned(), host.to_owned())),
        (None, None) => None,
    }
}

/// Whether a counter is the rank's own count of an error of its sends, as opposed to one of the kernel.
fn is_errno(counter: &str) -> bool {
    counter.starts_with("errno ") || counter.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// The increase of `UdpRcvbufErrors` at the receivers.
#[derive(Debug, Default)]
pub(super) struct ReceiverErrors(BTreeMap<String, Largest<u64>>);

impl ReceiverErrors {
    pub(super) fn add(&mut self, run: &Run, place: Place<'_>) {
        let Some(errors) = run.engine_stats.host_receive_buffer_errors else {
            return;
        };
        let explained = run.explained.as_ref();
        let side = explained.and_then(|explained| explained.receiver.as_ref());
        let is_forward = run.direction == "forward";
        let receiver = match (scopes(side, None), place.host) {
            (Some((namespace, _)), _) => namespace,
            (None, Some(_)) if is_forward => String::new(),
            (None, Some(host)) => host.to_owned(),
            // Runs without a server may be of one host.
            (None, None) => run
                .requested
                .to
                .clone()
                .filter(|_| is_forward)
                .unwrap_or_default(),
        };
        self.0.entry(receiver).or_default().add(place.span, errors);
    }

    /// The sum over all receivers; `None` if no rank has the counter.
    pub(super) fn sum(&self) -> Option<u64> {
        let values = self.0.values().flat_map(Largest::values);
        (!self.0.is_empty()).then(|| sum(values))
    }
}

/// Distributes `lost` over the causes anew, since the ranks' own numbers are of a part of the losses each.
pub(super) fn distribute(explained: &mut Explained, lost: u64) {
    let ranges = explained.causes.iter().map(|cause| match cause.estimated {
        true => (0, cause.drops.saturating_mul(MOST_SEGMENTS)),
        false => (cause.datagrams, cause.datagrams),
    });
    let ranges: Vec<(u64, u64)> = ranges.collect();
    let apportioned = apportion(lost, &ranges);
    for (cause, datagrams) in explained.causes.iter_mut().zip(apportioned.counts) {
        cause.datagrams = datagrams;
    }
    explained.causes.retain(|cause| cause.datagrams > 0);
    match explained.unexplained.is_some() {
        true => explained.unexplained = Some(apportioned.rest),
        false => explained.between = Some(apportioned.rest),
    }
    explained.surplus = apportioned.surplus;
    if apportioned.surplus > 0 {
        explained.notes.push(format!(
            "{SURPLUS} by {}: other traffic in the network namespaces is counted too.",
            apportioned.surplus
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cause(name: &str, drops: u64, estimated: bool) -> LossCause {
        LossCause {
            cause: name.to_owned(),
            datagrams: drops,
            estimated,
            drops,
            ..LossCause::default()
        }
    }

    /// The merged causes of ranks on these hosts with a loss each.
    fn merged(ranks: &[(&str, Vec<LossCause>, u64)]) -> Explained {
        let mut shared = SharedCauses::default();
        let mut sum: Option<Explained> = None;
        let mut lost = 0u64;
        for (host, causes, of_rank) in ranks {
            let mut explained = Explained {
                causes: causes.clone(),
                between: Some(0),
                notes: vec![format!("{SURPLUS} by 7: other traffic.")],
                ..Explained::default()
            };
            let place = Place {
                host: Some(host),
                span: (0, u64::MAX),
            };
            shared.take(&mut explained, place);
            lost = lost.saturating_add(*of_rank);
            sum = match sum {
                None => Some(explained),
                sum => super::super::sums::explained(sum, Some(&explained)),
            };
        }
        let mut sum = super::super::sums::add_causes(sum.unwrap(), shared.into_causes());
        distribute(&mut sum, lost);
        sum
    }

    fn counts(explained: &Explained) -> Vec<(&str, u64)> {
        let causes = explained.causes.iter();
        causes
            .map(|cause| (cause.cause.as_str(), cause.datagrams))
            .collect()
    }

    #[test]
    fn counters_of_a_host_count_once() {
        let of_receiver = || cause("receiver_firewall", 400, false);
        let ranks = [
            (
                "a",
                vec![of_receiver(), cause("sender_qdisc", 30, false)],
                150,
            ),
            ("a", vec![cause("sender_qdisc", 28, false)], 100),
            (
                "b",
                vec![
                    cause("receiver_firewall", 399, false),
                    cause("sender_qdisc", 20, false),
                    cause("receiver_socket", 5, false),
                ],
                200,
            ),
            (
                "b",
                vec![of_receiver(), cause("receiver_socket", 6, false)],
                21,
            ),
        ];
        let all = merged(&ranks);
        assert_eq!(
            counts(&all),
            [
                ("sender_qdisc", 50),
                ("receiver_firewall", 400),
                ("receiver_socket", 11)
            ]
        );
        assert_eq!((all.between, all.surplus), (Some(10), 0));
        assert!(all.notes.is_empty(), "{:?}", all.notes);
    }

    /// A host that explains its side.
    fn host(kernel: &str, namespace: &str) -> Option<HostDrops> {
        Some(HostDrops {
            kernel: Some(kernel.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..HostDrops::default()
        })
    }

    #[test]
    fn saved_runs_share_counters_of_one_namespace_at_one_time() {
        let mut shared = SharedCauses::default();
        let mut own = Vec::new();
        for (namespace, span, qdisc, socket) in [
            ("one", (0, 10), 30, 5),
            ("one", (8, 12), 40, 6),
            // Later, in another namespace, and of a host that is not known.
            ("one", (20, 30), 7, 0),
            ("two", (0, 10), 100, 0),
            ("", (0, 10), 1_000, 0),
        ] {
            let reason = |drops| Reason {
                reason: "QDISC_DROP".to_owned(),
                place: "place".to_owned(),
                drops,
            };
            let mut explained = Explained {
                causes: vec![
                    LossCause {
                        reasons: vec![reason(qdisc + 3)],
                        counters: vec![Increase {
                            name: "qdisc_drops".to_owned(),
                            increase: qdisc,
                        }],
                        ..cause("sender_qdisc", qdisc, false)
                    },
                    LossCause {
                        counters: vec![Increase {
                            name: "RcvbufErrors".to_owned(),
                            increase: socket + 2,
                        }],
                        ..cause("receiver_socket", socket, false)
                    },
                ],
                sender: host("kernel", namespace).filter(|_| !namespace.is_empty()),
                receiver: host("kernel", "server"),
                ..Explained::default()
            };
            shared.take(&mut explained, Place { host: None, span });
            own.append(&mut explained.causes);
        }
        let sum = super::super::sums::add_causes(
            Explained::default(),
            own.into_iter().chain(shared.into_causes()),
        );
        assert_eq!(
            counts(&sum),
            [("sender_qdisc", 1_147), ("receiver_socket", 11)]
        );
        let [qdisc, socket] = &sum.causes[..] else {
            panic!("{sum:?}");
        };
        assert_eq!((qdisc.drops, qdisc.counters[0].increase), (1_147, 1_147));
        // The trace has the whole kernel: 103 drops at first, 10 later, and 1,003 of the host that is not known.
        assert_eq!(qdisc.reasons[0].drops, 1_116);
        assert_eq!(socket.counters[0].increase, 8 + 2);
    }

    #[test]
    fn errors_of_a_receiver_count_once() {
        let mut errors = ReceiverErrors::default();
        assert_eq!(errors.sum(), None);
        for (to, span, increase) in [
            (Some("a"), (0, 10), 5),
            (Some("a"), (5, 15), 7),
            (Some("a"), (20, 25), 1),
            (Some("b"), (0, 10), 100),
        ] {
            let mut run = Run {
                direction: "forward".to_owned(),
                ..Run::default()
            };
            run.requested.to = to.map(str::to_owned);
            run.engine_stats.host_receive_buffer_errors = Some(increase);
            errors.add(&run, Place { host: None, span });
        }
        assert_eq!(errors.sum(), Some(108));
    }

    #[test]
    fn estimates_have_the_losses_that_are_left() {
        let ranks = [(
            "a",
            vec![
                cause("receiver_firewall", 235, true),
                cause("receiver_no_port", 100, false),
            ],
            401,
        )];
        let all = merged(&ranks);
        assert_eq!(
            counts(&all),
            [("receiver_firewall", 301), ("receiver_no_port", 100)]
        );
        assert_eq!((all.between, all.surplus), (Some(0), 0));
    }

    proptest! {
        #[test]
        fn causes_and_rest_sum_to_the_losses(
            ranks in prop::collection::vec((any::<bool>(), 0usize..4, any::<u64>(), any::<bool>(), any::<u64>()), 1..12),
        ) {
            let names = ["sender_qdisc", "receiver_firewall", "receiver_socket", "sender_route"];
            let ranks: Vec<_> = ranks.into_iter().map(|(host, name, drops, estimated, lost)| {
                (if host { "a" } else { "b" }, vec![cause(names[name], drops >> 8, estimated)], lost >> 8)
            }).collect();
            let lost: u64 = ranks.iter().map(|(_, _, lost)| lost).sum();
            let all = merged(&ranks);
            let sum: u64 = all.causes.iter().map(|cause| cause.datagrams).sum();
            prop_assert_eq!(sum + all.between.unwrap(), lost + all.surplus);
        }
    }
}
