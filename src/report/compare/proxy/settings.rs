//! The options that make runs of `bench proxy` comparable.

use crate::load::result::{Requested, Run};
use crate::report::compare::labels::Described;
use crate::units::prefixed;

/// The requested options except amount, duration and addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    scenario: String,
    path: String,
    engine: Option<String>,
    protocol: Option<String>,
    forwarding: Option<String>,
    proxy_threads: Option<usize>,
    requested: Requested,
}

impl Settings {
    /// Settings of `run`.
    pub fn of(run: &Run) -> Self {
        Self {
            scenario: run.scenario.clone(),
            path: run.path.clone(),
            engine: run.engine.clone(),
            protocol: run.protocol.clone(),
            forwarding: run.forwarding.clone(),
            proxy_threads: run.proxy_threads,
            requested: Requested {
                via: None,
                origin: None,
                bytes: None,
                duration_s: 0.0,
                ..run.requested.clone()
            },
        }
    }
}

impl Described for Settings {
    /// Scenario and path.
    const ALWAYS: usize = 1;

    fn parts(&self) -> Vec<Option<String>> {
        let asked = &self.requested;
        let (is_direct, is_bulk) = (self.path == "direct", self.scenario == "bulk");
        // The settings of a proxy that the command did not start are unknown.
        let unknown = || (!is_direct).then(|| "a running proxy".to_owned());
        let pace = match asked.rate_per_s {
            Some(rate) => format!("{} requests/s", prefixed(rate)),
            None => "no rate".to_owned(),
        };
        vec![
            Some(match self.scenario == self.path {
                true => self.path.clone(),
                false => format!("{} {}", self.scenario, self.path),
            }),
            self.engine.clone().or_else(unknown),
            self.forwarding.clone(),
            self.protocol.clone(),
            self.proxy_threads.map(|count| counted(count, "thread")),
            asked.signed_in.then(|| "signed in".to_owned()),
            (!is_bulk).then(|| counted(asked.connections, "connection")),
            is_bulk.then(|| counted(asked.connections, "stream")),
            asked.message.map(|bytes| format!("{bytes} B messages")),
            (!is_bulk).then_some(pace),
            Some(counted(asked.load_threads, "load thread")),
        ]
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::compare::labels::labels;
    use crate::report::sample::proxy::measured;

    fn settings(scenario: &str, path: &str, change: impl FnOnce(&mut Run)) -> Settings {
        let mut run = measured(scenario, path, None, 0, 1_000).run;
        run.engine = run.protocol.as_ref().map(|_| "mio".to_owned());
        change(&mut run);
        Settings::of(&run)
    }

    #[test]
    fn label_has_the_scenario_and_the_parts_that_differ() {
        let all = [
            settings("connect", "direct", |_| ()),
            settings("connect", "proxied", |_| ()),
            settings("connect", "proxied", |run| {
                run.engine = Some("uring".into())
            }),
            settings("bulk", "direct", |run| run.requested.connections = 1),
            settings("blocked", "blocked", |_| ()),
        ];
        let expected = [
            "connect direct",
            "connect proxied, mio",
            "connect proxied, uring",
            "bulk direct",
            "blocked, mio",
        ];
        assert_eq!(labels(&all), expected);
    }

    #[test]
    fn rate_threads_and_unknown_proxies_are_part_of_the_label() {
        for (change, one, other) in [
            (
                (|run| run.requested.rate_per_s = Some(2e4)) as fn(&mut Run),
                "no rate",
                "20k requests/s",
            ),
            (
                |run| run.requested.load_threads = 2,
                "1 load thread",
                "2 load threads",
            ),
            (|run| run.engine = None, "mio", "a running proxy"),
        ] {
            let all = [
                settings("connect", "proxied", |_| ()),
                settings("connect", "proxied", change),
            ];
            let expected = [one, other].map(|word| format!("connect proxied, {word}"));
            assert_eq!(labels(&all), expected);
        }
    }

    #[test]
    fn duration_amount_and_addresses_do_not_change_the_settings() {
        let other = settings("bulk", "proxied", |run| {
            run.requested.via = Some("192.0.2.7:1080".into());
            run.requested.origin = Some("192.0.2.8:80".into());
            run.requested.bytes = Some(1_000_000);
            run.requested.duration_s = 7.0;
            run.setting = Some("mio".into());
            run.round = 3;
        });
        assert_eq!(other, settings("bulk", "proxied", |_| ()));
    }
}
