//! One process of a fleet: what `bench udp --fleet` and `bench proxy load --fleet` share.
//!
//! A rank finds its place ([`LaunchArgs`]), joins the server of the fleet ([`rendezvous`]), measures, and hands its result over
//! ([`keep`]) to the rank that collects them ([`gather`]).

pub(super) mod gather;
pub(super) mod keep;
pub(super) mod rendezvous;

use std::time::{Duration, Instant};

use clap::Args;

use super::error::CliError;
use super::parse::nonzero_duration;
use crate::sys::machine;
use crate::udp::client::Cancel;
use crate::udp::fleet::launch::Launch;
use crate::udp::fleet::member::Member;
use crate::udp::wire::VERSION;
use crate::udp::wire::fleet::{FleetJoin, FleetReply};
use crate::units::parse_whole;

/// How long results are awaited after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// Wait for a message between two checks for a signal.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How long the roster may come after the wait for the ranks.
const ROSTER: Duration = Duration::from_secs(10);

/// Most bytes of a name.
const MAX_NAME: usize = 100;

/// The place of this process in its fleet.
#[derive(Debug, Args)]
pub(super) struct LaunchArgs {
    /// Rank of this process, from 0
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>, requires = "fleet", help_heading = "Fleet")]
    rank: Option<u32>,
    /// Number of processes
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>, requires = "fleet", help_heading = "Fleet")]
    size: Option<u32>,
    /// Longest wait for ranks that do not come or are not ready; the others start without them
    #[arg(long, value_name = "TIME", value_parser = nonzero_duration, default_value = "10s", requires = "fleet", help_heading = "Fleet")]
    pub(super) fleet_wait: Duration,
    /// Name of the fleet, which keeps the ranks of others out [default: that of the launcher's job]
    #[arg(long, value_name = "NAME", value_parser = fleet_name, requires = "fleet", help_heading = "Fleet")]
    fleet_name: Option<String>,
}

impl LaunchArgs {
    /// The place of this process by its options, or by the variables of its launcher.
    pub(super) fn launch(&self) -> Result<Launch, CliError> {
        let env = |name: &str| std::env::var(name).ok();
        let mut launch = Launch::find(self.rank, self.size, env).map_err(CliError::Usage)?;
        if let Some(name) = &self.fleet_name {
            launch.fleet.clone_from(name);
        }
        Ok(launch)
    }

    /// The first message to the server. `options` stands for the options that all ranks share ([`hash`]).
    pub(super) fn join(&self, launch: &Launch, sends: bool, options: String) -> FleetJoin {
        FleetJoin {
            version: VERSION,
            fleet: launch.fleet.clone(),
            rank: launch.rank,
            size: launch.size,
            sends,
            host: machine::hostname(),
            options,
            wait_ms: u64::try_from(self.fleet_wait.as_millis()).unwrap_or(u64::MAX),
            keeps: true,
        }
    }
}

fn fleet_name(text: &str) -> Result<String, String> {
    match (1..=MAX_NAME).contains(&text.len()) && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "expected 1 to {MAX_NAME} bytes, none of them a control character"
        )),
    }
}

/// A number that stands for a text (FNV-1a).
pub(super) fn hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Waits for the ranks, and returns the collector.
pub(super) fn roster(member: &Member, wait: Duration, cancel: &Cancel) -> Result<u32, CliError> {
    let began = Instant::now();
    loop {
        let reply = member.reply_within(TICK);
        match reply.map_err(CliError::runtime)? {
            Some(FleetReply::Roster { senders: 0, .. }) => {
                return Err(CliError::Runtime(format!(
                    "no other rank came within {} s; start the ranks at one time, or wait longer with --fleet-wait",
                    wait.as_secs_f64()
                )));
            }
            Some(FleetReply::Roster { collector, .. }) => return Ok(collector),
            Some(_) => {}
            None if cancel.is_cancelled() => {
                return Err(CliError::runtime(
                    "interrupted before the fleet was complete",
                ));
            }
            None if began.elapsed() > wait.saturating_add(ROSTER) => {
                return Err(CliError::Runtime(format!(
                    "the server of the fleet at {} does not answer",
                    member.server()
                )));
            }
            None => {}
        }
    }
}
