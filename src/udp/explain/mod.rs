//! Explains losses: `bench udp --explain`.
//!
//! Each host reads the drop counters of its network namespace before and after the run, and traces the kernel's drops with the
//! tracepoint `skb:kfree_skb` where it may. The client computes the causes from the reports of both hosts
//! ([`crate::udp::result::causes`]).
//!
//! **Numbers are those of the counters; reasons and places are those of the trace.** The counters of /proc/net/snmp, of a device
//! and of its qdiscs belong to a network namespace, and nothing is lost from them. The tracepoint sees the whole machine: it has
//! no addresses, ports or namespace, and its buffer may overflow. So a traced drop names the cause of drops that a
//! counter has, and counts for nothing by itself. Netfilter has no counter of its drops; the packets that IP received and did not
//! deliver, less those that other counters have, are its number.
//!
//! Counters cover other traffic in the namespace too. If the sum of the causes exceeds the losses, the record has the difference.
//!
//! A counter counts packets. With GSO or GRO a packet may be a message of several datagrams, so that a number of drops is a range of
//! datagrams. A qdisc counts one drop for a message (`qdisc_drop` in the kernel), or one for each datagram where it divides messages
//! (`tbf_segment`); the sender repeats a message only if all of it was dropped.

pub mod drops;
mod snapshot;
mod trace;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::thread;

use crate::sys::device::Device;
use crate::udp::wire::explain::{ExplainRequest, HostReport};
use crate::units::counted;
use snapshot::Snapshot;
use trace::Trace;

/// The start of the note of a host that did not trace.
pub const NO_REASONS: &str = "The kernel's reasons are unknown";

/// Explains the losses on this host.
#[derive(Debug)]
pub struct Explainer {
    kernel: Option<String>,
    trace: Result<Trace, String>,
    route: Option<Route>,
}

/// The way to the other host.
#[derive(Debug)]
struct Route {
    ipv6: bool,
    device: Result<Device, String>,
    before: Snapshot,
}

impl Explainer {
    /// Starts to trace, if this is possible.
    pub fn start() -> Self {
        Self {
            kernel: kernel(),
            trace: Trace::start(),
            route: None,
        }
    }

    /// As [`Self::start`], but does not trace a kernel that the client traces.
    pub fn requested(request: &ExplainRequest) -> Self {
        let kernel = kernel();
        if kernel.is_none() || request.traced_kernel != kernel {
            return Self::start();
        }
        Self {
            kernel,
            trace: Err("the client traces this kernel".to_owned()),
            route: None,
        }
    }

    /// The request for the other host.
    pub fn request(&self) -> ExplainRequest {
        let is_traced = self.trace.is_ok();
        ExplainRequest {
            traced_kernel: self.kernel.clone().filter(|_| is_traced),
        }
    }

    /// Reads the counters before the run. Datagrams to `peer` leave through `device`, or through that of the route.
    pub fn begin(&mut self, peer: SocketAddr, device: Option<&str>) {
        let ipv6 = peer.ip().to_canonical().is_ipv6();
        let device = match device {
            Some(name) => Device::named(name),
            None => Device::towards(peer),
        };
        let device = device.map_err(|error| error.to_string());
        self.route = Some(Route {
            ipv6,
            before: Snapshot::now(ipv6, device.as_ref().ok()),
            device,
        });
    }

    /// Removes the trace in a thread of its own: the kernel takes some 50 ms, which an event loop does not have.
    pub fn end_in_background(self) {
        if self.trace.is_ok() {
            // Without a thread, it is removed here.
            let _ = thread::Builder::new()
                .name("explain-end".to_owned())
                .spawn(move || drop(self));
        }
    }

    /// The drops since [`Self::begin`], with the datagrams that the kernel refused by errno.
    pub fn report(&self, refused: &BTreeMap<i32, u64>) -> HostReport {
        let mut report = HostReport {
            kernel: self.kernel.clone(),
            namespace: namespace(),
            refused: refused
                .iter()
                .map(|(errno, count)| (*errno, *count))
                .collect(),
            ..HostReport::default()
        };
        let Some(route) = &self.route else {
            return report;
        };
        let device = route.device.as_ref();
        let now = Snapshot::now(route.ipv6, device.ok());
        report.counters = now.since(&route.before);
        report.qdisc = now.qdisc().map(str::to_owned);
        match device {
            Ok(device) => report.device = Some(device.name.clone()),
            Err(error) => {
                let note = format!(
                    "The device of the route is unknown ({error}): drops of qdiscs and devices are not counted."
                );
                report.notes.push(note);
            }
        }
        match &self.trace {
            Ok(trace) => {
                let (drops, lost) = trace.drops(route.ipv6);
                (report.traced, report.drops) = (true, drops);
                if lost > 0 {
                    let note = format!("The trace of drops lost {}.", counted(lost, "event"));
                    report.notes.push(note);
                }
            }
            Err(why) => {
                let note = format!("{NO_REASONS}: {why}.");
                report.notes.push(note);
            }
        }
        report
    }
}

/// The boot id of this kernel.
fn kernel() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// The network namespace of this thread.
fn namespace() -> Option<String> {
    let link = fs::read_link("/proc/thread-self/ns/net").ok()?;
    Some(link.to_string_lossy().into_owned())
}
