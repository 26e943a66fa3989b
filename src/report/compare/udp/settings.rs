//! The options that make runs of `bench udp` comparable.

use crate::report::compare::labels::Described;
use crate::udp::plan::traffic::dscp_name;
use crate::udp::result::{Requested, Run, TrafficRequested};
use crate::units::prefixed;

/// The requested options except the amount of data and the addresses of the server and of a relay.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    engine: String,
    mode: String,
    direction: String,
    requested: Requested,
}

impl Settings {
    /// Settings of a run over `engine` in `mode` and `direction` with the options `requested`.
    pub fn new(engine: &str, mode: &str, direction: &str, requested: &Requested) -> Self {
        Self {
            engine: engine.to_owned(),
            mode: mode.to_owned(),
            direction: direction.to_owned(),
            requested: Requested {
                bytes: None,
                packets: None,
                duration_s: None,
                to: None,
                via: None,
                // A seed is one sample of the same schedule.
                traffic: TrafficRequested {
                    seed: None,
                    ..requested.traffic.clone()
                },
                zerocopy: or(&requested.zerocopy, "off"),
                df: or(&requested.df, "auto"),
                spin: or(&requested.spin, "auto"),
                timestamps: or(&requested.timestamps, "user"),
                ..requested.clone()
            },
        }
    }

    /// Settings of `run`.
    pub fn of(run: &Run) -> Self {
        Self::new(&run.engine, &run.mode, &run.direction, &run.requested)
    }
}

impl Described for Settings {
    fn parts(&self) -> Vec<Option<String>> {
        let asked = &self.requested;
        let uring = asked.uring.as_ref();
        let bytes = |size: Option<usize>| size.map(|size| prefixed(size as f64));
        vec![
            Some(self.engine.clone()),
            Some(self.mode.clone()),
            Some(self.direction.clone()),
            Some(format!("zerocopy {}", asked.zerocopy)),
            uring.map(|uring| uring.receive.clone()),
            uring.map(|uring| chosen("ring", uring.ring_size.map(|size| size.to_string()))),
            uring.map(|uring| if uring.sqpoll { "SQPOLL" } else { "no SQPOLL" }.to_owned()),
            Some(match &asked.traffic.sizes {
                Some(sizes) => format!("chunk {sizes}"),
                None => format!("chunk {}", asked.chunk),
            }),
            Some(chosen("batch", asked.batch.map(|batch| batch.to_string()))),
            Some(format!("GSO {}", asked.gso)),
            Some(format!("DF {}", asked.df)),
            Some(format!("spin {}", asked.spin)),
            Some(match &asked.traffic.multicast {
                Some(group) => format!("to the group {group}"),
                None => "unicast".to_owned(),
            }),
            Some(format!("burst {}", asked.traffic.burst.unwrap_or(1))),
            Some(format!(
                "{} gaps",
                asked.traffic.gap.as_deref().unwrap_or("fixed")
            )),
            Some(chosen("DSCP", asked.traffic.dscp.map(dscp_name))),
            Some(chosen("ECN", asked.traffic.ecn.clone())),
            Some(chosen(
                "TTL",
                asked.traffic.ttl.map(|hops| hops.to_string()),
            )),
            Some(format!("{} timestamps", asked.timestamps)),
            Some(match &asked.under_load {
                Some(load) => format!("under load {load}"),
                None => "idle".to_owned(),
            }),
            Some(match asked.streams {
                1 => "1 stream".to_owned(),
                streams => format!("{streams} streams"),
            }),
            Some(chosen("CPUs", asked.cpus.clone())),
            Some(chosen("sndbuf", bytes(asked.sndbuf))),
            Some(chosen("rcvbuf", bytes(asked.rcvbuf))),
            match (asked.rate_bits_per_s, asked.pps) {
                (Some(rate), _) => Some(format!("{} bit/s", prefixed(rate))),
                (None, pps) => pps.map(|pps| format!("{} packets/s", prefixed(pps))),
            },
        ]
    }
}

/// `value`, or `default` for records that were written before the option existed.
fn or(value: &str, default: &str) -> String {
    match value {
        "" => default.to_owned(),
        value => value.to_owned(),
    }
}

fn chosen(name: &str, value: Option<String>) -> String {
    match value {
        Some(value) => format!("{name} {value}"),
        None => format!("default {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compare::labels::labels;
    use crate::udp::result::UringRequested;

    fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::new("mio", "lossless", "forward", &Requested::default());
        change(&mut settings);
        settings
    }

    #[test]
    fn label_has_only_the_parts_that_differ() {
        let uring = |receive: &str| {
            settings(|of| {
                of.engine = "uring".into();
                of.requested.uring = Some(UringRequested {
                    receive: receive.into(),
                    ..UringRequested::default()
                });
            })
        };
        let mio = settings(|_| ());
        assert_eq!(labels(std::slice::from_ref(&mio)), [""]);
        assert_eq!(labels(&[mio.clone(), uring("single")]), ["mio", "uring"]);
        assert_eq!(
            labels(&[mio.clone(), uring("single"), uring("multishot")]),
            ["mio", "uring, single", "uring, multishot"]
        );
        let batch = |batch| settings(|of| of.requested.batch = batch);
        assert_eq!(
            labels(&[batch(Some(16)), batch(None)]),
            ["batch 16", "default batch"]
        );
        let both = |gso: &str, streams| {
            settings(|of| (of.requested.gso, of.requested.streams) = (gso.into(), streams))
        };
        assert_eq!(
            labels(&[both("on", 1), both("off", 2)]),
            ["GSO on, 1 stream", "GSO off, 2 streams"]
        );
    }

    #[test]
    fn pace_is_named_as_given() {
        let paced = |rate, pps| {
            settings(|of| (of.requested.rate_bits_per_s, of.requested.pps) = (rate, pps))
        };
        assert_eq!(
            labels(&[paced(Some(5e8), None), paced(None, Some(2e4))]),
            ["500M bit/s", "20k packets/s"]
        );
    }

    #[test]
    fn amount_address_and_missing_options_do_not_change_the_settings() {
        let asked = Requested {
            bytes: Some(1),
            packets: Some(2),
            duration_s: Some(3.0),
            to: Some("host".into()),
            traffic: TrafficRequested {
                seed: Some(9),
                ..TrafficRequested::default()
            },
            zerocopy: "off".into(),
            ..Requested::default()
        };
        assert_eq!(
            Settings::new("mio", "lossless", "forward", &asked),
            Settings::new("mio", "lossless", "forward", &Requested::default())
        );
    }
}
