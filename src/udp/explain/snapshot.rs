//! The drop counters of a host at one time, and their increase.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use crate::sys::device::{self, Device, QdiscDrops};
use crate::sys::net_counters;

/// Reads of the counters until two agree: a packet on its way through another CPU is counted as received and not yet as
/// delivered.
const READS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(1);

/// The counters of a host.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    counters: BTreeMap<&'static str, u64>,
    qdisc: QdiscDrops,
}

impl Snapshot {
    /// The counters of this thread's network namespace for IPv6 or IPv4, and those of the device.
    pub(super) fn now(ipv6: bool, device: Option<&Device>) -> Self {
        let mut counters = net_counters::now(ipv6);
        for _ in 1..READS {
            thread::sleep(PAUSE);
            let again = net_counters::now(ipv6);
            if again == counters {
                break;
            }
            counters = again;
        }
        let mut counters: BTreeMap<_, _> = counters.into_iter().collect();
        counters.extend(net_counters::backlog_drops().map(|drops| ("softnet_dropped", drops)));
        let mut qdisc = QdiscDrops::default();
        if let Some(device) = device {
            let drops = device::parse_drops(&net_counters::devices(), &device.name);
            counters.extend(drops.into_iter().flat_map(|drops| {
                [
                    ("rx_errors", drops.receive_errors),
                    ("rx_dropped", drops.receive_dropped),
                    ("tx_errors", drops.send_errors),
                    ("tx_dropped", drops.send_dropped),
                ]
            }));
            qdisc = device.qdisc_drops().unwrap_or_default();
        }
        Self { counters, qdisc }
    }

    /// The kind of the device's root qdisc.
    pub(super) fn qdisc(&self) -> Option<&str> {
        self.qdisc.kind.as_deref()
    }

    /// The increase of each counter since `before`.
    pub(super) fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let known = self.counters.iter().filter_map(|(name, now)| {
            let before = before.counters.get(name)?;
            Some(((*name).to_owned(), now.saturating_sub(*before)))
        });
        let qdiscs = [
            ("qdisc_drops", self.qdisc.root, before.qdisc.root),
            ("filter_drops", self.qdisc.filters, before.qdisc.filters),
        ];
        let qdiscs = qdiscs.into_iter().filter_map(|(name, now, before)| {
            // A qdisc that was added since has counted from 0.
            Some((name.to_owned(), increase(now?, before.unwrap_or(0))))
        });
        known.chain(qdiscs).collect()
    }
}

/// The increase of a counter that wraps around, or begins again at 0 when the qdisc is replaced.
fn increase(now: u32, before: u32) -> u64 {
    match before {
        _ if now >= before => (now - before).into(),
        0x8000_0000.. => now.wrapping_sub(before).into(),
        _ => now.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_wrap_around_or_begin_again() {
        assert_eq!(increase(7, 5), 2);
        assert_eq!(increase(2, u32::MAX - 1), 4);
        assert_eq!(increase(3, 5), 3);
    }

    #[test]
    fn a_quiet_moment_has_no_drops_of_the_device() {
        let device = Device::named("lo").unwrap();
        let before = Snapshot::now(false, Some(&device));
        let increase = Snapshot::now(false, Some(&device)).since(&before);
        for name in ["NoPorts", "InReceives", "softnet_dropped", "rx_dropped"] {
            assert!(increase.contains_key(name), "{name}");
        }
        assert_eq!(increase["tx_errors"], 0);
    }
}
