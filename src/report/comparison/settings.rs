//! What makes runs of `bench udp` alike.

use super::labels::Described;
use crate::report::record::{Requested, Run};
use crate::units::prefixed;

/// All that was asked for but how much to send, and to whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    engine: String,
    mode: String,
    direction: String,
    requested: Requested,
}

impl Settings {
    /// Of a run over `engine` in `mode` and `direction` that asks for `requested`.
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
                zerocopy: or(&requested.zerocopy, "off"),
                df: or(&requested.df, "auto"),
                spin: or(&requested.spin, "auto"),
                ..requested.clone()
            },
        }
    }

    /// Of `run`.
    pub fn of(run: &Run) -> Self {
        Self::new(&run.engine, &run.mode, &run.direction, &run.requested)
    }
}

impl Described for Settings {
    fn words(&self) -> Vec<Option<String>> {
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
            Some(format!("chunk {}", asked.chunk)),
            Some(chosen("batch", asked.batch.map(|batch| batch.to_string()))),
            Some(format!("GSO {}", asked.gso)),
            Some(format!("DF {}", asked.df)),
            Some(format!("spin {}", asked.spin)),
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

/// Records from before there was a choice do not have it.
fn or(value: &str, then: &str) -> String {
    match value {
        "" => then.to_owned(),
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
    use crate::report::comparison::labels::labels;
    use crate::report::record::UringRequested;

    fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::new("mio", "lossless", "forward", &Requested::default());
        change(&mut settings);
        settings
    }

    #[test]
    fn a_label_has_what_tells_settings_apart_and_nothing_else() {
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
    fn a_pace_is_named_as_it_was_given() {
        let paced = |rate, pps| {
            settings(|of| (of.requested.rate_bits_per_s, of.requested.pps) = (rate, pps))
        };
        assert_eq!(
            labels(&[paced(Some(5e8), None), paced(None, Some(2e4))]),
            ["500M bit/s", "20k packets/s"]
        );
    }

    #[test]
    fn how_much_is_sent_and_to_whom_and_what_was_no_choice_yet_makes_no_other_setting() {
        let asked = Requested {
            bytes: Some(1),
            packets: Some(2),
            duration_s: Some(3.0),
            to: Some("host".into()),
            zerocopy: "off".into(),
            ..Requested::default()
        };
        assert_eq!(
            Settings::new("mio", "lossless", "forward", &asked),
            Settings::new("mio", "lossless", "forward", &Requested::default())
        );
    }
}
