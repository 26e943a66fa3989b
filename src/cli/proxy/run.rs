//! `bench proxy`: starts what is not running already, measures, and gives out what came of it.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use tempfile::NamedTempFile;

use super::args::{AskedArg, EngineArg, ForwardingArg, Load, Own};
use super::child::Child;
use super::output::Output;
use super::user;
use crate::cli::failure::Failure;
use crate::cli::interrupt;
use crate::load::plan::{Plan, Proxy, Scenario};
use crate::load::session;
use crate::load::slice::Extent;
use crate::protocol::{Destination, Host, Kind};
use crate::report::model::MOST_RUNS;
use crate::report::store::partial::Partial;
use crate::sys::endpoint::Endpoint;
use crate::sys::limit;

/// What a proxy that is started here refuses: an address that only documents have (RFC 5737).
const BLOCKED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const BLOCKED_PORT: u16 = 9;

/// Most settings of a comparison: each is a process that waits for its turn.
const MOST_SETTINGS: usize = 16;

pub(super) fn run(own: &Own, args: &Load) -> Result<(), Failure> {
    if args.origin.is_none() && args.via.is_some() && asks(args, Kind::Forward) {
        return Err(Failure::usage(
            "a proxy that forwards has its server already; name that with --origin ADDR:PORT",
        ));
    }
    let settings = settings(own, args)?;
    measure(args, true, || {
        // Its own words of trouble come first, so it is started first.
        let mut started = Started::default();
        if args.origin.is_none() {
            let words = ["origin", "--listen", "127.0.0.1:0", "--quiet"];
            started.origin = Some(Child::start(&words.map(str::to_owned))?);
        }
        if args.via.is_none() {
            let named = args.origin.as_ref().and_then(Endpoint::ip);
            let origin = named.or(started.origin.as_ref().map(Child::address));
            started.proxies(&settings, origin)?;
        }
        Ok(started)
    })
}

/// What was started for a measurement, and ends with it.
#[derive(Default)]
pub(super) struct Started {
    origin: Option<Child>,
    proxies: Vec<(Setting, Child)>,
    blocklist: Option<(NamedTempFile, Partial)>,
}

/// A way in which a proxy is started and asked.
#[derive(Debug, Clone)]
struct Setting {
    name: Option<String>,
    engine: EngineArg,
    forwarding: ForwardingArg,
    threads: usize,
    protocol: AskedArg,
}

/// Every combination, in the order in which the values were given; the last changes fastest.
fn settings(own: &Own, args: &Load) -> Result<Vec<Setting>, Failure> {
    let mut all = Vec::new();
    for &engine in own.engine.iter() {
        for &forwarding in own.forwarding.iter() {
            for &protocol in args.protocol.iter() {
                let varied = [
                    (own.engine.iter().count(), name(engine)),
                    (own.forwarding.iter().count(), name(forwarding)),
                    (args.protocol.iter().count(), name(protocol)),
                ];
                let words = varied.into_iter().filter(|(count, _)| *count > 1);
                let words: Vec<String> = words.map(|(_, word)| word).collect();
                all.push(Setting {
                    name: (!words.is_empty()).then(|| words.join(", ")),
                    engine,
                    forwarding,
                    threads: own.threads,
                    protocol,
                });
            }
        }
    }
    if all.len() > MOST_SETTINGS {
        return Err(Failure::Usage(format!(
            "these lists make more than {MOST_SETTINGS} combinations; leave out some values"
        )));
    }
    Ok(all)
}

/// As on the command line.
fn name(value: impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn asks(args: &Load, kind: Kind) -> bool {
    args.protocol.iter().any(|&asked| Kind::from(asked) == kind)
}

impl Started {
    fn proxies(&mut self, settings: &[Setting], origin: Option<SocketAddr>) -> Result<(), Failure> {
        let list = Partial::file(|| {
            let list = NamedTempFile::new()?;
            let path = list.path().to_owned();
            io::Result::Ok((list, path))
        });
        let (mut list, partial) = list.map_err(Failure::undone)?;
        writeln!(list, "{BLOCKED}").map_err(Failure::undone)?;
        let path = list.path().to_string_lossy().into_owned();
        self.blocklist = Some((list, partial));
        for setting in settings {
            let mut words: Vec<String> = ["serve", "--listen", "127.0.0.1:0", "--quiet"]
                .map(str::to_owned)
                .into();
            words.extend(["--engine".to_owned(), name(setting.engine)]);
            words.extend(["--forwarding".to_owned(), name(setting.forwarding)]);
            words.extend(["--threads".to_owned(), setting.threads.to_string()]);
            words.extend(["--blocklist".to_owned(), path.clone()]);
            match (setting.protocol, origin) {
                (AskedArg::Forward, Some(origin)) => {
                    words.extend(["--forward".to_owned(), origin.to_string()]);
                }
                _ => words.extend(["--protocol".to_owned(), name(setting.protocol)]),
            }
            self.proxies.push((setting.clone(), Child::start(&words)?));
        }
        Ok(())
    }
}

/// Measures what `args` ask for, once `start` has started what is missing; only the direct path unless `proxied`.
pub(super) fn measure(
    args: &Load,
    proxied: bool,
    start: impl FnOnce() -> Result<Started, Failure>,
) -> Result<(), Failure> {
    let (scenarios, left_out) = scenarios(args, proxied)?;
    let user = user::of(args)?;
    let is_asked = |asked: &AskedArg| *asked != AskedArg::Forward || args.via.is_none();
    if let (true, Some(origin @ Endpoint::Unix(_))) = (proxied, &args.origin)
        && args.protocol.iter().any(is_asked)
    {
        return Err(Failure::Usage(format!(
            "no proxy can be asked for {origin}; name a server by ADDR:PORT, or a running proxy with --via and --protocol forward"
        )));
    }
    if let Some(process) = args
        .server_pid
        .iter()
        .flat_map(|list| list.iter())
        .find(|&&process| crate::sys::usage::of_process(process).is_none())
    {
        return Err(Failure::usage(format!(
            "there is no process {process} to tell the CPU time of; look it up with pidof and give it with --server-pid"
        )));
    }
    // A connection is a file.
    let _ = limit::raise_open_files();
    let cancel = Arc::new(AtomicBool::new(false));
    let on_signal = cancel.clone();
    interrupt::on_signal_or_hangup(move || on_signal.store(true, Ordering::Relaxed))
        .map_err(Failure::undone)?;
    let mut output = Output::open(args)?;
    // Kept until the end.
    let started = start()?;
    let plan = Plan {
        user,
        ..plan(args, scenarios, &started)?
    };
    let all = plan
        .scenarios
        .iter()
        .map(|&scenario| plan.paths(scenario).len());
    let runs = all.sum::<usize>() * plan.rounds;
    if runs > MOST_RUNS {
        return Err(Failure::Usage(format!(
            "these are {runs} runs, more than the {MOST_RUNS} that a record holds; choose a smaller --repeat or leave out some values"
        )));
    }
    output.expect(runs, left_out)?;
    let outcome = session::run(&plan, &cancel, &mut output);
    output.close(outcome, cancel.load(Ordering::Relaxed))
}

/// What is measured, and sentences on what is left out of that.
fn scenarios(args: &Load, proxied: bool) -> Result<(Vec<Scenario>, Vec<String>), Failure> {
    let mut left_out = Vec::new();
    let mut scenarios = Vec::new();
    let asked: Vec<Scenario> = match &args.scenario {
        Some(list) => list.iter().map(|&one| one.into()).collect(),
        None => Scenario::ALL.to_vec(),
    };
    if args.no_direct && !proxied {
        return Err(Failure::usage(
            "--no-direct leaves nothing to measure here: say with --via ADDR:PORT which proxy to load",
        ));
    }
    for scenario in asked {
        let mut reasons: Vec<String> = args
            .protocol
            .iter()
            .filter_map(|&protocol| {
                let why = scenario.impossible(protocol.into())?;
                Some(format!(
                    "{} is left out of {}: {why}",
                    name(protocol),
                    scenario.name()
                ))
            })
            .collect();
        if scenario == Scenario::Blocked && args.via.is_some() && args.blocked.is_none() {
            reasons = vec!["blocked is left out: what the proxy refuses is not known; say it with --blocked HOST:PORT".to_owned()];
        } else if reasons.len() < args.protocol.iter().count() {
            scenarios.push(scenario);
        }
        if args.scenario.is_some() && !reasons.is_empty() && proxied {
            return Err(Failure::usage(reasons.remove(0)));
        }
        left_out.extend(reasons);
    }
    Ok((scenarios, left_out))
}

fn plan(args: &Load, scenarios: Vec<Scenario>, started: &Started) -> Result<Plan, Failure> {
    let of_child = || started.origin.as_ref().map(Child::address);
    let origin = args.origin.clone().or_else(|| of_child().map(Endpoint::Ip));
    let Some(origin) = origin else {
        return Err(Failure::undone("there is no answering server"));
    };
    let blocked = Destination {
        host: Host::Ip(BLOCKED),
        port: BLOCKED_PORT,
    };
    let own = started.proxies.iter().map(|(setting, child)| Proxy {
        setting: setting.name.clone(),
        address: child.address().into(),
        protocol: setting.protocol.into(),
        processes: vec![child.id()],
        engine: Some(name(setting.engine)),
        forwarding: Some(name(setting.forwarding)),
        threads: Some(setting.threads),
    });
    let several = args.protocol.iter().count() > 1;
    let running = args.via.iter().flat_map(|address| {
        args.protocol.iter().map(move |&protocol| Proxy {
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
        scenarios,
        origin,
        origin_process: started.origin.as_ref().map(Child::id),
        direct: !args.no_direct,
        blocked: match args.via {
            Some(_) => args.blocked.clone(),
            None => (!started.proxies.is_empty()).then_some(blocked),
        },
        proxies: own.chain(running).collect(),
        user: None,
        connections: args.connections,
        streams: args.streams,
        message: args.message,
        rate: args.rate,
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
    })
}
