//! `bench proxy`: starts missing processes, measures and writes the results.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use tempfile::NamedTempFile;

use super::args::{EngineArg, ForwardingArg, Load, ProxyArgs, RequestProtocolArg};
use super::child::Child;
use super::credentials;
use super::output::Output;
use super::{udp, with_advice};
use crate::cli::error::CliError;
use crate::cli::{interrupt, live};
use crate::load::measurement::Extent;
use crate::load::plan::{Plan, Proxy, Scenario};
use crate::load::session;
use crate::protocol::{Destination, Host, Kind, User};
use crate::proxy::options::Options;
use crate::report::model::MOST_RUNS;
use crate::report::store::partial::Partial;
use crate::sys::endpoint::Endpoint;
use crate::sys::{rlimit, usage};

/// The destination that a started proxy refuses: a documentation address (RFC 5737).
const BLOCKED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const BLOCKED_PORT: u16 = 9;

/// Why a running proxy is not measured with a refused destination.
pub(super) const NO_BLOCKED: &str =
    "blocked is left out: name a destination that the proxy refuses with --blocked HOST:PORT";

/// Most settings of a comparison: each is a running proxy.
const MAX_SETTINGS: usize = 16;

pub(super) fn run(proxy: &ProxyArgs, args: &Load) -> Result<(), CliError> {
    if args.is_udp() {
        return udp::run(proxy, args);
    }
    if args.origin.is_none() && args.via.is_some() && asks(args, Kind::Forward) {
        return Err(CliError::usage(
            "a forwarding proxy has a fixed server; name it with --origin ADDR:PORT",
        ));
    }
    let settings = settings(proxy, args)?;
    measure(args, true, || {
        // Errors of the origin should be reported first, so it starts first.
        let mut started = Started::default();
        if args.origin.is_none() {
            let arguments = ["origin", "--listen", "127.0.0.1:0", "--quiet"];
            started.origin = Some(Child::start(&arguments.map(str::to_owned))?);
        }
        if args.via.is_none() {
            let named = args.origin.as_ref().and_then(Endpoint::ip);
            let origin = named.or(started.origin.as_ref().map(Child::address));
            started.proxies(&settings, origin)?;
        }
        Ok(started)
    })
}

/// Processes started for a measurement; drop ends them.
#[derive(Default)]
pub(super) struct Started {
    origin: Option<Child>,
    proxies: Vec<(Setting, Child)>,
    blocklist: Option<(NamedTempFile, Partial)>,
}

/// Options of a started proxy and the protocol of its requests.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) name: Option<String>,
    pub(super) engine: EngineArg,
    forwarding: ForwardingArg,
    pub(super) threads: usize,
    pub(super) protocol: RequestProtocolArg,
}

/// Every combination, in the order of the given values; the last option varies fastest.
pub(super) fn settings(proxy: &ProxyArgs, args: &Load) -> Result<Vec<Setting>, CliError> {
    let mut all = Vec::new();
    for &engine in proxy.engine.iter() {
        for &forwarding in proxy.forwarding.iter() {
            for protocol in args.protocols() {
                let varied = [
                    (proxy.engine.iter().count(), name(engine)),
                    (proxy.forwarding.iter().count(), name(forwarding)),
                    (args.protocols().len(), name(protocol)),
                ];
                let words = varied.into_iter().filter(|(count, _)| *count > 1);
                let words: Vec<String> = words.map(|(_, word)| word).collect();
                all.push(Setting {
                    name: (!words.is_empty()).then(|| words.join(", ")),
                    engine,
                    forwarding,
                    threads: proxy.threads,
                    protocol,
                });
            }
        }
    }
    if all.len() > MAX_SETTINGS {
        return Err(CliError::Usage(format!(
            "these lists make more than {MAX_SETTINGS} combinations; leave out some values"
        )));
    }
    Ok(all)
}

/// The value's name on the command line.
pub(super) fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn asks(args: &Load, kind: Kind) -> bool {
    args.protocols()
        .into_iter()
        .any(|asked| Kind::from(asked) == kind)
}

impl Started {
    fn proxies(
        &mut self,
        settings: &[Setting],
        origin: Option<SocketAddr>,
    ) -> Result<(), CliError> {
        let list = Partial::file(|| {
            let list = NamedTempFile::new()?;
            let path = list.path().to_owned();
            io::Result::Ok((list, path))
        });
        let (mut list, partial) = list.map_err(CliError::runtime)?;
        writeln!(list, "{BLOCKED}").map_err(CliError::runtime)?;
        let path = list.path().to_string_lossy().into_owned();
        self.blocklist = Some((list, partial));
        for setting in settings {
            let mut words: Vec<String> = ["serve", "--listen", "127.0.0.1:0", "--quiet"]
                .map(str::to_owned)
                .into();
            words.extend(["--engine".to_owned(), name(setting.engine)]);
            words.extend(["--forwarding".to_owned(), name(setting.forwarding)]);
            words.extend(["--threads".to_owned(), setting.threads.to_string()]);
            // The load generator is the only client.
            let most = Options::default().connections.to_string();
            words.extend(["--max-connections-per-client".to_owned(), most]);
            words.extend(["--blocklist".to_owned(), path.clone()]);
            match (setting.protocol, origin) {
                (RequestProtocolArg::Forward, Some(origin)) => {
                    words.extend(["--forward".to_owned(), origin.to_string()]);
                }
                _ => words.extend(["--protocol".to_owned(), name(setting.protocol)]),
            }
            self.proxies.push((setting.clone(), Child::start(&words)?));
        }
        Ok(())
    }
}

/// What a measurement consists of.
pub(super) struct Prepared {
    scenarios: Vec<Scenario>,
    /// Messages about omitted scenarios.
    pub(super) left_out: Vec<String>,
    user: Option<User>,
}

/// Checks the options. Without `proxied` only the direct path is measured.
pub(super) fn prepare(args: &Load, proxied: bool) -> Result<Prepared, CliError> {
    args.given.check(&args.scenarios())?;
    let (scenarios, left_out) = scenarios(args, proxied)?;
    let user = credentials::user(args)?;
    let is_asked =
        |asked: &RequestProtocolArg| *asked != RequestProtocolArg::Forward || args.via.is_none();
    if let (true, Some(origin @ Endpoint::Unix(_))) = (proxied, &args.origin)
        && args.protocols().iter().any(is_asked)
    {
        return Err(CliError::Usage(format!(
            "a proxy cannot be asked for {origin}; name a server by ADDR:PORT, or a running proxy with --via and --protocol forward"
        )));
    }
    check_processes(args)?;
    // A connection is a file descriptor.
    let _ = rlimit::raise_open_files();
    Ok(Prepared {
        scenarios,
        left_out,
        user,
    })
}

/// Checks that the processes of `--server-pid` exist.
pub(super) fn check_processes(args: &Load) -> Result<(), CliError> {
    let mut processes = args.server_pid.iter().flat_map(|list| list.iter());
    match processes.find(|&&process| usage::of_process(process).is_none()) {
        Some(process) => Err(CliError::usage(format!(
            "no process {process}; look up the proxy's with pidof and name it with --server-pid"
        ))),
        None => Ok(()),
    }
}

/// Measures as `args` request, after `start` started the missing processes. Without `proxied` only the direct path.
pub(super) fn measure(
    args: &Load,
    proxied: bool,
    start: impl FnOnce() -> Result<Started, CliError>,
) -> Result<(), CliError> {
    let prepared = prepare(args, proxied)?;
    let cancel = Arc::new(AtomicBool::new(false));
    let on_signal = cancel.clone();
    interrupt::on_signal_or_hangup(move || on_signal.store(true, Ordering::Relaxed))
        .map_err(|error| CliError::Runtime(format!("cannot start: {}", with_advice(&error))))?;
    let live = live::is_possible(args.live, args.exports.stdout_option())?;
    let mut output = Output::open(args, live)?;
    // Kept until the end.
    let mut started = None;
    let run = || {
        let started = started.insert(start()?);
        let plan = Plan {
            progress: output.progress(),
            ..plan(args, &prepared, started)?
        };
        output.expect(runs(&plan)?, prepared.left_out)?;
        session::run(&plan, &cancel, &mut output)
    };
    let outcome = run();
    output.close(outcome, cancel.load(Ordering::Relaxed))
}

/// Number of measurements.
pub(super) fn runs(plan: &Plan) -> Result<usize, CliError> {
    let all = plan
        .scenarios
        .iter()
        .map(|&scenario| plan.paths(scenario).len());
    let runs = all.sum::<usize>() * plan.rounds;
    match runs > MOST_RUNS {
        true => Err(CliError::Usage(format!(
            "{runs} runs are more than the {MOST_RUNS} of a record; choose a smaller --repeat or leave out some values"
        ))),
        false => Ok(runs),
    }
}

/// The scenarios to measure, and messages about omitted ones.
fn scenarios(args: &Load, proxied: bool) -> Result<(Vec<Scenario>, Vec<String>), CliError> {
    let mut left_out = Vec::new();
    let mut scenarios = Vec::new();
    if args.no_direct && !proxied {
        return Err(CliError::usage(
            "--no-direct leaves nothing to measure; name a proxy with --via ADDR:PORT",
        ));
    }
    if args.scenario.is_some() && !proxied && args.scenarios() == [Scenario::Blocked] {
        return Err(CliError::usage(
            "scenario blocked needs a proxy; name one with --via ADDR:PORT",
        ));
    }
    for scenario in args.scenarios() {
        let mut reasons: Vec<String> = args
            .protocols()
            .into_iter()
            .filter_map(|protocol| {
                let why = scenario.impossible(protocol.into())?;
                Some(format!(
                    "{} is left out of {}: {why}",
                    name(protocol),
                    scenario.name()
                ))
            })
            .collect();
        if scenario == Scenario::Blocked && args.via.is_some() && args.blocked.is_none() {
            reasons = vec![NO_BLOCKED.to_owned()];
        } else if reasons.len() < args.protocols().len() {
            scenarios.push(scenario);
        }
        if args.scenario.is_some() && !reasons.is_empty() && proxied {
            return Err(CliError::usage(reasons.remove(0)));
        }
        left_out.extend(reasons);
    }
    Ok((scenarios, left_out))
}

pub(super) fn plan(args: &Load, prepared: &Prepared, started: &Started) -> Result<Plan, CliError> {
    let of_child = || started.origin.as_ref().map(Child::address);
    let origin = args.origin.clone().or_else(|| of_child().map(Endpoint::Ip));
    let Some(origin) = origin else {
        return Err(CliError::runtime("no origin server"));
    };
    let blocked = Destination {
        host: Host::Ip(BLOCKED),
        port: BLOCKED_PORT,
    };
    let started_proxies = started.proxies.iter().map(|(setting, child)| Proxy {
        setting: setting.name.clone(),
        address: child.address().into(),
        protocol: setting.protocol.into(),
        processes: vec![child.id()],
        engine: Some(name(setting.engine)),
        forwarding: Some(name(setting.forwarding)),
        threads: Some(setting.threads),
    });
    let several = args.protocols().len() > 1;
    let running = args.via.iter().flat_map(|address| {
        args.protocols().into_iter().map(move |protocol| Proxy {
            setting: several.then(|| name(protocol)),
            address: address.clone(),
            protocol: protocol.into(),
            processes: args
                .server_pid
                .iter()
                .flat_map(|list| list.iter().copied())
                .collect(),
            engine: None,
            forwarding: None,
            threads: None,
        })
    });
    let rounds = args.repeat as usize;
    Ok(Plan {
        scenarios: prepared.scenarios.clone(),
        origin,
        origin_process: started.origin.as_ref().map(Child::id),
        direct: !args.no_direct,
        blocked: match args.via {
            Some(_) => args.blocked.clone(),
            None => (!started.proxies.is_empty()).then_some(blocked),
        },
        proxies: started_proxies.chain(running).collect(),
        user: prepared.user.clone(),
        connections: args.connections,
        streams: args.streams,
        message: args.message(),
        rate: args.rate,
        phase: 0.0,
        bytes: args.mb,
        extent: Extent {
            duration: args.duration / args.repeat,
            warmup: args.warmup,
            threads: args.load_threads,
        },
        timeout: args.timeout,
        rounds,
        via: args.via.as_ref().map(Endpoint::to_string),
        origin_named: args.origin.as_ref().map(Endpoint::to_string),
        progress: None,
    })
}
