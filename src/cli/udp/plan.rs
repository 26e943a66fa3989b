//! Turns options into validated plans, before anything is started.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use super::matrix::Combination;
use super::round_trip::{ECHO_PORT, Load};
use super::stamps::Timestamps;
use super::traffic::Chunk;
use super::via;
use crate::cli::args::{ClockArg, DEFAULT_PORT, Udp};
use crate::cli::endpoint::{self, Family};
use crate::cli::error::CliError;
use crate::cli::live;
use crate::report::compare::labels::labels;
use crate::report::compare::udp::Settings;
use crate::report::model::MOST_RUNS;
use crate::sys::affinity;
use crate::udp::client::{ClockChoice, Setup, Via};
use crate::udp::control::key::Key;
use crate::udp::fleet::share;
use crate::udp::placement::{self, Choice, Placement};
use crate::udp::plan::sizes::SizePattern;
use crate::udp::plan::traffic::{Gap, TrafficOptions};
use crate::udp::plan::{Amount, Direction, INTERVALS, Mode, Plan, SpinChoice};
use crate::udp::result;
use crate::udp::result::Requested;

/// Default message bytes.
const DEFAULT_BYTES: u64 = 100_000_000;

/// Default time of round trips.
const ROUND_TRIPS: Duration = Duration::from_secs(5);

/// One setting to run.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// The stream beside round trips.
    pub(super) load: Option<Plan>,
    /// Name of each direction in a comparison, the client's first; `None` without a comparison.
    pub(super) settings: Vec<Option<String>>,
    /// Placements of the threads, of which trials choose one.
    pub(super) placements: Vec<Placement>,
    /// Addresses of the server; none for a local one.
    servers: Vec<SocketAddr>,
    bind: Option<SocketAddr>,
    bind_device: Option<String>,
    via: Option<Via>,
    /// Port of a local server; `None` is any.
    pub(super) port: Option<u16>,
    key: Option<Key>,
    peer_timeout: Duration,
    spin: bool,
    clock: ClockChoice,
    explain: bool,
    is_echo: bool,
    requested: Requested,
}

impl Planned {
    /// A setting for each combination, the base of the comparison first. `live`: for the live view.
    pub(super) fn all(args: &Udp, live: bool) -> Result<Vec<Self>, CliError> {
        let combinations = Combination::all(args)?;
        if combinations.len() * args.repeat as usize > MOST_RUNS {
            return Err(CliError::Usage(format!(
                "{} settings with --repeat {} are more than {MOST_RUNS} runs; choose fewer of either",
                combinations.len(),
                args.repeat
            )));
        }
        let loads: Vec<Option<Load>> = combinations.iter().map(|one| one.load).collect();
        // The sizes of imix depend on the address family.
        let has_imix = args.chunk.iter().any(|chunk| *chunk == Chunk::Imix);
        let early = has_imix.then(|| Ends::new(args)).transpose()?;
        let is_v6 = early
            .as_ref()
            .map_or(args.is_local_v6(), |ends| ends.is_v6(args));
        let plans: Vec<(Plan, Requested)> = combinations
            .iter()
            .map(|one| {
                let plan = plan(args, one, live, is_v6)?;
                let requested = requested(args, one, &plan);
                Ok((plan, requested))
            })
            .collect::<Result<_, CliError>>()?;
        let settings = settings(&plans);
        for ((plan, _), settings) in plans.iter().zip(&settings) {
            let setting = settings.first().and_then(Option::as_deref);
            plan.validate()
                .map_err(|error| CliError::usage(impossible(setting, error)))?;
        }
        if let Some(time) = args.warmup
            && time > INTERVALS.1
        {
            return Err(CliError::Usage(format!(
                "--warmup {time:?} is too long; choose at most {:?}",
                INTERVALS.1
            )));
        }
        let allowed = affinity::allowed().map_err(CliError::runtime)?;
        args.cpus.check(&allowed).map_err(CliError::usage)?;
        let ends = match early {
            Some(ends) => ends,
            None => Ends::new(args)?,
        };
        for (plan, _) in &plans {
            via::check_size(args, plan, ends.is_v6(args))?;
        }
        let placed = |((plan, requested), (settings, load)): (_, (_, Option<Load>))| {
            let load = load.map(|load| load.plan(&plan));
            if let Some(load) = &load {
                load.validate().map_err(CliError::usage)?;
            }
            let planned = Self::place(args, &ends, &allowed, plan, requested, settings);
            Ok(Self { load, ..planned })
        };
        let settings = settings.into_iter().zip(loads);
        plans.into_iter().zip(settings).map(placed).collect()
    }

    /// Names of all settings.
    pub(super) fn settings(all: &[Self]) -> impl Iterator<Item = Option<&str>> {
        let settings = all.iter().flat_map(|planned| &planned.settings);
        settings.map(Option::as_deref)
    }

    /// Assigns CPUs to the threads.
    fn place(
        args: &Udp,
        ends: &Ends,
        allowed: &[usize],
        plan: Plan,
        requested: Requested,
        settings: Vec<Option<String>>,
    ) -> Self {
        let placements = match &ends.servers {
            Some(_) => vec![Placement {
                client: placement::one(&args.cpus, plan.streams),
                server: None,
            }],
            // The relay needs a CPU too.
            None if args.via.via.is_some() && args.cpus == Choice::Auto => {
                vec![Placement::default()]
            }
            None => placement::both(&args.cpus, &plan, allowed),
        };
        let spin = placements.iter().all(|one| one.may_spin(&plan, allowed));
        Self {
            spin,
            load: None,
            plan,
            settings,
            servers: ends.servers.clone().unwrap_or_default(),
            placements,
            bind: ends.bind,
            bind_device: args.bind_dev.clone(),
            via: ends.via.clone(),
            port: args.via.port,
            key: ends.key.clone(),
            peer_timeout: args.peer_timeout,
            clock: match args.clock {
                ClockArg::Auto => ClockChoice::Auto,
                ClockArg::Estimate => ClockChoice::Estimate,
            },
            explain: args.stamps.explain,
            is_echo: args.round_trip.echo.is_some(),
            requested,
        }
    }

    /// The name of the setting in a comparison.
    pub(super) fn name(&self) -> Option<String> {
        let names: Vec<&str> = self.settings.iter().filter_map(Option::as_deref).collect();
        (!names.is_empty()).then(|| names.join(" and "))
    }

    /// Prefixes an error with the setting in a comparison.
    pub(super) fn wrong(&self, error: impl Display) -> String {
        match self.settings.first() {
            Some(Some(setting)) => format!("with {setting}: {error}"),
            _ => error.to_string(),
        }
    }

    /// Reduces the amount and the rate to the share of sender number `index` of `count` of a fleet.
    pub(super) fn take_share(
        &mut self,
        index: u64,
        count: u64,
        may_spin: bool,
    ) -> Result<(), CliError> {
        let asked = &mut self.requested;
        self.plan.amount = match self.plan.amount {
            Amount::Bytes(bytes) => Amount::Bytes(share::of(bytes, index, count)),
            Amount::Packets(packets) => Amount::Packets(share::of(packets, index, count)),
            time => time,
        };
        asked.bytes = asked.bytes.map(|bytes| share::of(bytes, index, count));
        asked.packets = asked
            .packets
            .map(|packets| share::of(packets, index, count));
        let rate = |whole: Option<f64>| whole.map(|whole| share::of_rate(whole, index, count));
        (asked.pps, asked.rate_bits_per_s) = (rate(asked.pps), rate(asked.rate_bits_per_s));
        if let Mode::Paced(pps) = &mut self.plan.mode {
            // Of a rate in bits, the datagrams a second need not be whole.
            *pps = asked.pps.unwrap_or(*pps / count as f64);
        }
        self.spin &= may_spin;
        self.plan.validate().map_err(|error| {
            CliError::Usage(format!(
                "one share of {count} in the amount and the rate: {error}"
            ))
        })
    }

    /// From the common start of a fleet to the first send of sender number `index` of `count`, in ns: 0 unless paced with even gaps.
    pub(super) fn phase_ns(&self, index: u64, count: u64) -> u64 {
        let schedule = self.plan.traffic.schedule;
        match self.plan.mode {
            Mode::Paced(pps) if schedule.gap == Gap::Fixed => {
                share::phase_ns(pps, schedule.burst, index, count)
            }
            _ => 0,
        }
    }

    /// The setup, with the first placement.
    pub(super) fn setup(&self) -> Setup {
        Setup {
            servers: self.servers.clone(),
            bind: self.bind,
            bind_device: self.bind_device.clone(),
            via: self.via.clone(),
            key: self.key.clone(),
            peer_timeout: self.peer_timeout,
            cpus: self.placements.first().and_then(|one| one.client.clone()),
            cpu_trials: None,
            spin: self.spin,
            clock: self.clock,
            explain: self.explain,
            is_echo: self.is_echo,
            requested: self.requested.clone(),
        }
    }
}

fn plan(args: &Udp, of: &Combination, live: bool, is_v6: bool) -> Result<Plan, CliError> {
    let (chunk, sizes) = of.chunk.sizes(is_v6);
    let mean = match &sizes {
        Some(sizes) => SizePattern::new(sizes).mean(),
        None => chunk.max(1) as f64,
    };
    Ok(Plan {
        amount: amount(args)?,
        mode: mode(args, of, mean)?,
        direction: direction(args),
        chunk,
        engine: of.engine,
        streams: of.streams,
        batch: of.batch,
        offload: of.offload,
        df: of.df,
        spin: match (args.round_trip.round_trip, args.round_trip.busy_poll) {
            (false, _) => of.spin,
            (true, true) => SpinChoice::On,
            (true, false) => SpinChoice::Off,
        },
        receive_buffer: of.receive_buffer,
        send_buffer: of.send_buffer,
        interval: args.interval.unwrap_or(match live {
            true => live::INTERVAL,
            false => Duration::from_secs(1),
        }),
        packet_rows: args.packets_csv,
        // Without --interval the log has a line for the whole run.
        interval_histograms: live || (args.exports.has_hlog() && args.interval.is_some()),
        traffic: TrafficOptions {
            sizes,
            ..of.traffic.clone()
        },
        kernel_latency: args.stamps.timestamps == Timestamps::Kernel,
        stages: args.stamps.explain,
    })
}

fn requested(args: &Udp, of: &Combination, plan: &Plan) -> Requested {
    Requested {
        rate_bits_per_s: of.rate,
        pps: of.pps,
        cpus: match &args.cpus {
            Choice::Auto => None,
            Choice::Free => Some("free".to_owned()),
            Choice::List(cpus) => Some(
                cpus.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
            ),
        },
        under_load: of.load.map(Load::name),
        to: args.to.clone().or_else(|| args.round_trip.echo.clone()),
        via: args.via.via.as_ref().map(via::RelayUrl::name),
        ..result::requested(plan)
    }
}

/// Names of the directions of each plan; `None` if there is only one.
fn settings(plans: &[(Plan, Requested)]) -> Vec<Vec<Option<String>>> {
    let directions = |plan: &Plan| match plan.direction {
        Direction::Forward => vec!["forward"],
        Direction::Reverse => vec!["reverse"],
        Direction::Both => vec!["forward", "reverse"],
    };
    let all: Vec<Settings> = plans
        .iter()
        .flat_map(|(plan, asked)| {
            let (engine, mode) = (plan.engine.kind.name(), plan.mode.name());
            directions(plan)
                .into_iter()
                .map(move |direction| Settings::new(engine, mode, direction, asked))
        })
        .collect();
    let mut names = labels(&all)
        .into_iter()
        .map(|name| (all.len() > 1).then_some(name));
    plans
        .iter()
        .map(|(plan, _)| names.by_ref().take(directions(plan).len()).collect())
        .collect()
}

fn direction(args: &Udp) -> Direction {
    match (args.reverse, args.bidir) {
        (true, _) => Direction::Reverse,
        (_, true) => Direction::Both,
        _ => Direction::Forward,
    }
}

/// Addresses and key of both ends, from options.
struct Ends {
    servers: Option<Vec<SocketAddr>>,
    bind: Option<SocketAddr>,
    via: Option<Via>,
    key: Option<Key>,
}

impl Ends {
    /// Whether the first address to try is of IPv6.
    fn is_v6(&self, args: &Udp) -> bool {
        let first = self.servers.as_ref().and_then(|servers| servers.first());
        first.map_or(args.is_local_v6(), SocketAddr::is_ipv6)
    }

    fn new(args: &Udp) -> Result<Self, CliError> {
        let family = match (args.ipv4, args.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        let bind = match &args.bind {
            None => None,
            Some(text) => {
                let found = endpoint::resolve("--bind", text, 0, family, "");
                found.map_err(CliError::into_usage)?.first().copied()
            }
        };
        // Only addresses of the family of --bind are reachable.
        let family = match bind {
            Some(SocketAddr::V4(_)) => Family::V4,
            Some(SocketAddr::V6(_)) => Family::V6,
            None => family,
        };
        let end = match &args.round_trip.echo {
            Some(text) => Some(("--echo", text, ECHO_PORT)),
            None => args.to.as_ref().map(|text| ("--to", text, DEFAULT_PORT)),
        };
        let servers = match end {
            None => None,
            Some((option, text, port)) => {
                let because = match &args.bind {
                    Some(bind) => format!(", which --bind {bind} needs"),
                    None => String::new(),
                };
                let found = endpoint::resolve(option, text, port, family, &because);
                Some(found?)
            }
        };
        if servers.iter().flatten().any(|server| server.port() == 0) {
            return Err(CliError::Usage(match &args.round_trip.echo {
                Some(echo) => format!("--echo {echo} has port 0; name the port of the echo server"),
                None => format!(
                    "--to {} has port 0; name the port that `bench serve` prints",
                    args.to.as_deref().unwrap_or_default()
                ),
            }));
        }
        let key = args.key_file.as_deref().map(Key::read).transpose();
        let via = via::relay(args, servers.as_deref(), family)?;
        Ok(Self {
            servers,
            bind,
            via,
            key: key.map_err(CliError::usage)?,
        })
    }
}

/// The error of a setting that cannot be run.
fn impossible(setting: Option<&str>, error: impl Display) -> String {
    match setting {
        Some(setting) => format!("the setting '{setting}' cannot be run: {error}"),
        None => error.to_string(),
    }
}

fn amount(args: &Udp) -> Result<Amount, CliError> {
    match (args.mb, args.packets, args.duration) {
        (Some(mb), ..) => {
            let bytes = (mb * 1e6).round();
            if !(1.0..=1e18).contains(&bytes) {
                return Err(CliError::Usage(format!(
                    "--mb {mb} cannot be sent; choose 0.000001 (one byte) to 10^12"
                )));
            }
            Ok(Amount::Bytes(bytes as u64))
        }
        (None, Some(packets), _) => Ok(Amount::Packets(packets)),
        (None, None, Some(time)) => Ok(Amount::Time(time)),
        (None, None, None) if args.round_trip.round_trip => Ok(Amount::Time(ROUND_TRIPS)),
        (None, None, None) => Ok(Amount::Bytes(DEFAULT_BYTES)),
    }
}

/// `chunk` is the mean of the message bytes of a datagram.
fn mode(args: &Udp, of: &Combination, chunk: f64) -> Result<Mode, CliError> {
    match (of.rate, of.pps) {
        (_, pps) if args.round_trip.round_trip => Ok(Mode::RoundTrip(pps)),
        (Some(rate), _) => {
            let pps = rate / 8.0 / chunk;
            if !(crate::udp::plan::MIN_PPS..=crate::udp::plan::MAX_PPS).contains(&pps) {
                return Err(CliError::Usage(format!(
                    "--rate {rate} is {pps} datagrams of {chunk} bytes a second, which cannot be paced; choose another rate or --chunk"
                )));
            }
            Ok(Mode::Paced(pps))
        }
        (None, Some(pps)) => Ok(Mode::Paced(pps)),
        (None, None) if args.unpaced => Ok(Mode::Blast),
        (None, None) => Ok(Mode::Lossless),
    }
}
