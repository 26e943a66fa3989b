//! Network devices: the device of a route, and the drops that the device and its queueing disciplines count (rtnetlink(7),
//! proc_pid_net(5)).
//!
//! Everything is read from the network namespace of the calling thread, which /sys/class/net need not show.

use std::ffi::{CStr, CString};
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::netlink::{ask, attribute, attributes};

/// Sizes of `struct rtmsg` and `struct tcmsg`.
const ROUTE: usize = 12;
const QDISC: usize = 20;

/// `TC_H_ROOT`: the parent of the qdisc that all packets enter.
const ROOT: u32 = u32::MAX;

/// `TC_H_INGRESS`: the parent of the qdiscs `ingress` and `clsact`, whose filters see packets before a queue.
const FILTERS: u32 = 0xFFFF_FFF1;

/// `TCA_KIND`, `TCA_STATS2` and `TCA_STATS_QUEUE` of linux/rtnetlink.h and linux/gen_stats.h.
const KIND: u16 = 1;
const STATS2: u16 = 7;
const QUEUE: u16 = 3;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    index: u32,
    /// Its name, like `eth0`.
    pub name: String,
}

impl Device {
    /// The device of the route to an address. Nothing is sent.
    ///
    /// # Errors
    /// As socket(2) of AF_NETLINK; without a route that of the route.
    pub fn towards(address: SocketAddr) -> io::Result<Self> {
        if let SocketAddr::V6(address) = address
            && address.scope_id() != 0
        {
            return Self::of_index(address.scope_id());
        }
        let (family, octets) = match address.ip().to_canonical() {
            IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
            IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
        };
        let mut route = [0; ROUTE];
        (route[0], route[1]) = (family as u8, octets.len() as u8 * 8);
        let body = [&route[..], &attribute(libc::RTA_DST, &octets)].concat();
        let mut index = None;
        ask(libc::RTM_GETROUTE, false, &body, |message| {
            let all = attributes(message.body.get(ROUTE..).unwrap_or_default());
            let mut outputs = all.filter(|(kind, _)| *kind == libc::RTA_OIF);
            index = outputs.next().and_then(|(_, index)| number(index, 0));
        })?;
        Self::of_index(index.ok_or(io::ErrorKind::NotFound)?)
    }

    /// The device with this name.
    ///
    /// # Errors
    /// As if_nametoindex(3).
    pub fn named(name: &str) -> io::Result<Self> {
        let text = CString::new(name)?;
        // SAFETY: `text` is a string that ends in 0.
        match unsafe { libc::if_nametoindex(text.as_ptr()) } {
            0 => Err(io::Error::last_os_error()),
            index => Ok(Self {
                index,
                name: name.to_owned(),
            }),
        }
    }

    /// Its index, by which the kernel identifies it.
    pub fn index(&self) -> u32 {
        self.index
    }

    fn of_index(index: u32) -> io::Result<Self> {
        let mut name = [0u8; libc::IF_NAMESIZE];
        // SAFETY: `name` has the documented size.
        let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
        if found.is_null() {
            return Err(io::Error::last_os_error());
        }
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        Ok(Self {
            index,
            name: name.to_string_lossy().into_owned(),
        })
    }

    /// The drops that its qdiscs have counted.
    ///
    /// # Errors
    /// As socket(2) of AF_NETLINK, and errors in the kernel's reply.
    pub fn qdisc_drops(&self) -> io::Result<QdiscDrops> {
        let mut drops = QdiscDrops::default();
        let mut request = [0; QDISC];
        request[4..8].copy_from_slice(&self.index.to_ne_bytes());
        ask(libc::RTM_GETQDISC, true, &request, |message| {
            drops.add(self.index, message.body);
        })?;
        Ok(drops)
    }
}

/// Drops of a device's qdiscs, in packets; a segmented run of datagrams may be one packet. The counters wrap around.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QdiscDrops {
    /// The kind of the root qdisc, like `fq_codel`. A device may have none.
    pub kind: Option<String>,
    /// Drops of the root qdisc, which include those of its classes.
    pub root: Option<u32>,
    /// Drops by filters at `ingress` or `clsact`, in both directions.
    pub filters: Option<u32>,
}

impl QdiscDrops {
    /// Adds a qdisc, if it is at the top of the device: `struct tcmsg` and attributes.
    fn add(&mut self, index: u32, body: &[u8]) {
        let (device, parent) = (number(body, 4), number(body, 12));
        if device != Some(index) {
            return;
        }
        let (mut kind, mut drops) = (None, None);
        for (of, value) in attributes(body.get(QDISC..).unwrap_or_default()) {
            match of {
                KIND => kind = CStr::from_bytes_until_nul(value).ok(),
                // `struct gnet_stats_queue`: qlen, backlog, drops.
                STATS2 => {
                    let mut nested = attributes(value);
                    let queue = nested.find(|(kind, _)| *kind == QUEUE);
                    drops = queue.and_then(|(_, queue)| number(queue, 8));
                }
                _ => {}
            }
        }
        match parent {
            Some(ROOT) => {
                self.kind = kind.map(|kind| kind.to_string_lossy().into_owned());
                self.root = drops;
            }
            Some(FILTERS) => self.filters = drops,
            _ => {}
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// Packets that a device dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceDrops {
    /// Faulty arrivals.
    pub receive_errors: u64,
    /// Arrivals without a buffer or a protocol, including those that found the receive backlog full.
    pub receive_dropped: u64,
    /// Failed transmissions.
    pub send_errors: u64,
    /// Packets dropped before the transmission.
    pub send_dropped: u64,
}

/// The drops of the device `name` in /proc/net/dev.
pub fn parse_drops(text: &str, name: &str) -> Option<DeviceDrops> {
    let row = text.lines().find_map(|row| {
        let (device, counters) = row.split_once(':')?;
        (device.trim() == name).then_some(counters)
    })?;
    let counters: Vec<u64> = row
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    Some(DeviceDrops {
        receive_errors: *counters.get(2)?,
        receive_dropped: *counters.get(3)?,
        send_errors: *counters.get(10)?,
        send_dropped: *counters.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::netlink::tests::noise;
    use super::*;

    #[test]
    fn the_device_of_loopback_addresses_is_lo() {
        for address in ["127.0.0.1:9", "[::ffff:127.0.0.1]:9"] {
            let device = Device::towards(address.parse().unwrap()).unwrap();
            assert_eq!(device, Device::named("lo").unwrap());
            assert_eq!(device.qdisc_drops().unwrap().filters, None);
        }
        assert!(Device::named("no such device").is_err());
    }

    #[test]
    fn only_the_qdiscs_at_the_top_of_the_device_count() {
        let qdisc = |device: u32, parent: u32, drops: u32| {
            let numbers = [0, device, 0x1_0000, parent, 2];
            let header: Vec<u8> = numbers
                .into_iter()
                .flat_map(|number: u32| number.to_ne_bytes())
                .collect();
            let queue: Vec<u8> = [3, 4, drops, 5, 6]
                .into_iter()
                .flat_map(|number: u32| number.to_ne_bytes())
                .collect();
            let stats = attribute(STATS2, &attribute(QUEUE, &queue));
            [header, attribute(KIND, b"tbf\0"), stats].concat()
        };
        let mut drops = QdiscDrops::default();
        for (device, parent, count) in [(7, ROOT, 11), (7, 0x1_0001, 12), (8, ROOT, 13)] {
            drops.add(7, &qdisc(device, parent, count));
        }
        assert_eq!(
            (drops.kind.as_deref(), drops.root, drops.filters),
            (Some("tbf"), Some(11), None)
        );
        drops.add(7, &qdisc(7, FILTERS, 14));
        assert_eq!(drops.filters, Some(14));
        for bytes in noise() {
            drops.add(7, &bytes);
        }
    }

    #[test]
    fn drops_of_a_device_are_read_by_column() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n\
            \x20   lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  eth0:21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36\n";
        let drops = DeviceDrops {
            receive_errors: 23,
            receive_dropped: 24,
            send_errors: 31,
            send_dropped: 32,
        };
        assert_eq!(parse_drops(text, "eth0"), Some(drops));
        assert_eq!(parse_drops(text, "eth1"), None);
        assert_eq!(parse_drops("eth0: 1 2 3", "eth0"), None);
    }
}
