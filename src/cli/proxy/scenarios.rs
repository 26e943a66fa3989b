//! The scenarios that each option of `bench proxy` and `bench proxy load` is for. An option without effect is refused.

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::args::{Load, ProxyArgs};
use super::fleet::LoadFleetArgs;
use crate::cli::error::CliError;
use crate::load::plan::Scenario::{self, Blocked, Bulk, Connect, RequestResponse, Udp};

/// Options by the scenarios on which they have an effect. `no-direct` is for every scenario: `blocked` has no direct path.
const TABLE: [(&[Scenario], &[&str]); 8] = [
    (
        &[Connect, RequestResponse, Bulk, Blocked, Udp],
        &[
            "scenario",
            "protocol",
            "duration",
            "no-direct",
            "engine",
            "threads",
            "via",
            "user",
            "password",
            "password-file",
            "origin",
            "server-pid",
            "repeat",
            "warmup",
            "json",
            "markdown",
            "html",
            "svg",
            "openmetrics",
            "prometheus",
            "csv",
            "hlog",
            "json-stream",
            "out",
            "no-save",
            "quiet",
        ],
    ),
    (
        &[Connect, RequestResponse, Bulk, Blocked],
        &[
            "timeout",
            "load-threads",
            "live",
            "fleet",
            "rendezvous",
            "rank",
            "size",
            "fleet-wait",
            "fleet-name",
        ],
    ),
    (&[Connect, RequestResponse, Blocked], &["connections"]),
    (
        &[Connect, RequestResponse, Blocked, Udp],
        &["message", "rate"],
    ),
    // A proxy that refuses forwards nothing, and a UDP relay has one method.
    (&[Connect, RequestResponse, Bulk], &["forwarding"]),
    (&[Bulk, Udp], &["streams"]),
    (&[Bulk], &["mb"]),
    (&[Blocked, Udp], &["blocked"]),
];

/// The options of the command line whose values are not the defaults. Parsed before all other options, which take their values.
#[derive(Debug)]
pub(super) struct Given(Vec<&'static str>);

impl Given {
    /// Refuses options without an effect on any of these scenarios.
    pub(super) fn check(&self, scenarios: &[Scenario]) -> Result<(), CliError> {
        let refused = self.0.iter().find_map(|option| refusal(option, scenarios));
        refused.map_or(Ok(()), |sentence| Err(CliError::Usage(sentence)))
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let command = options(Command::new(""));
        let is_given = |option: &&str| {
            let id = option.replace('-', "_");
            // `bench proxy` has no options of fleets.
            let is_there = matches.try_contains_id(&id).is_ok_and(|is_there| is_there);
            if !is_there || matches.value_source(&id) != Some(ValueSource::CommandLine) {
                return false;
            }
            let values = matches.get_raw(&id).into_iter().flatten();
            let defined = command.get_arguments().find(|arg| arg.get_id() == &*id);
            let defaults = defined.map(|arg| arg.get_default_values());
            let defaults = defaults.into_iter().flatten();
            !values.eq(defaults.map(|value| &**value))
        };
        Ok(Self(all().filter(is_given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// No further options.
impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

/// The options of both commands.
fn options(command: Command) -> Command {
    LoadFleetArgs::augment_args(ProxyArgs::augment_args(Load::augment_args(command)))
}

fn all() -> impl Iterator<Item = &'static str> {
    let options = TABLE.iter().flat_map(|(_, options)| options.iter());
    options.copied()
}

/// Why an option is refused; `None` if it has an effect on one of the scenarios.
fn refusal(option: &str, scenarios: &[Scenario]) -> Option<String> {
    let (suited, _) = TABLE
        .iter()
        .find(|(_, options)| options.contains(&option))?;
    if scenarios.iter().any(|scenario| suited.contains(scenario)) {
        return None;
    }
    Some(format!(
        "--{option} has no effect on {}; it is for {}",
        listed(scenarios),
        listed(suited)
    ))
}

/// `scenario udp`, or `scenarios connect, bulk and blocked`.
fn listed(scenarios: &[Scenario]) -> String {
    let names: Vec<&str> = scenarios.iter().map(|scenario| scenario.name()).collect();
    match names.split_last() {
        Some((last, [])) => format!("scenario {last}"),
        Some((last, rest)) => format!("scenarios {} and {last}", rest.join(", ")),
        None => "no scenario".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    const SCENARIOS: [Scenario; 5] = [Connect, RequestResponse, Bulk, Blocked, Udp];

    /// The long names of a command's options.
    fn options_of(path: &[&str]) -> Vec<String> {
        let mut command = crate::cli::args::Bench::command();
        command.build();
        let command = path.iter().fold(&command, |command, name| {
            command.find_subcommand(name).unwrap()
        });
        let longs = command.get_arguments().filter_map(|arg| arg.get_long());
        longs
            .filter(|long| *long != "help")
            .map(str::to_owned)
            .collect()
    }

    fn given(line: &str) -> Vec<&'static str> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        let matches = options(Command::new("bench")).try_get_matches_from(words);
        let mut given = Given::from_arg_matches(&matches.unwrap()).unwrap().0;
        given.sort_unstable();
        given
    }

    #[test]
    fn every_option_is_in_the_table_once() {
        let (alone, load) = (options_of(&["proxy"]), options_of(&["proxy", "load"]));
        assert!(alone.len() > 30 && load.len() > 30, "{alone:?} {load:?}");
        for option in alone.iter().chain(&load) {
            let rows = all().filter(|name| name == option).count();
            assert_eq!(rows, 1, "--{option}");
        }
        for name in all() {
            let is_there = alone.iter().chain(&load).any(|option| option == name);
            assert!(is_there, "--{name}");
        }
    }

    #[test]
    fn option_without_effect_is_refused_with_its_scenarios() {
        for (suited, options) in TABLE {
            for option in options {
                for scenario in SCENARIOS {
                    let refusal = refusal(option, &[scenario]);
                    assert_eq!(refusal.is_none(), suited.contains(&scenario), "{option}");
                    for words in refusal.iter().flat_map(|_| suited) {
                        let sentence = refusal.as_deref().unwrap();
                        assert!(sentence.starts_with(&format!("--{option} ")), "{sentence}");
                        assert!(sentence.contains(scenario.name()), "{sentence}");
                        assert!(sentence.contains(words.name()), "{sentence}");
                    }
                }
                // With all scenarios of TCP, only an option for datagrams is without effect.
                let refusal = refusal(option, &Scenario::ALL);
                assert_eq!(refusal.is_some(), *suited == [Udp], "{option}");
            }
        }
        assert_eq!(
            refusal("timeout", &[Udp]).unwrap(),
            "--timeout has no effect on scenario udp; it is for scenarios connect, request-response, bulk and blocked"
        );
        assert_eq!(
            refusal("mb", &[Connect, Blocked]).unwrap(),
            "--mb has no effect on scenarios connect and blocked; it is for scenario bulk"
        );
    }

    #[test]
    fn defaults_count_as_not_given() {
        assert_eq!(given(""), [""; 0]);
        let defaults = "--connections 32 --forwarding auto --timeout 5s --load-threads 1 --streams 1 --warmup 50ms --repeat 5";
        assert_eq!(given(defaults), [""; 0]);
        let others = "--connections 4 --forwarding auto,copy --timeout 1s --load-threads 2 --streams=2 --live --mb 1";
        assert_eq!(
            given(others),
            [
                "connections",
                "forwarding",
                "live",
                "load-threads",
                "mb",
                "streams",
                "timeout"
            ]
        );
        assert_eq!(
            given("--fleet --rank 0 --size 2 -q"),
            ["fleet", "quiet", "rank", "size"]
        );
    }
}
