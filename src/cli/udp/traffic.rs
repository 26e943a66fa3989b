//! The options of the datagrams.

use clap::builder::EnumValueParser;
use clap::{Args, ValueEnum};

use crate::cli::list::{List, list};
use crate::sys::clock;
use crate::udp::plan::traffic::{Ecn, Gap, MAX_DSCP, parse_dscp};
use crate::units::parse_whole;

#[derive(Debug, Args)]
pub(in crate::cli) struct TrafficArgs {
    /// Datagrams that are due at the same time, 1 to 65536; the mean rate is that of --rate or --pps
    #[arg(long, value_name = "N,...", value_parser = list(parse_whole::<u32>), requires = "pace", help_heading = "Rate")]
    pub(in crate::cli) burst: Option<List<u32>>,
    /// Gaps between datagrams or bursts: equal, or exponentially distributed (a Poisson process) with the same mean
    #[arg(long, value_name = "GAP,...", value_parser = list(EnumValueParser::<GapArg>::new()), requires = "pace", help_heading = "Rate")]
    pub(in crate::cli) gap: Option<List<GapArg>>,
    /// Seed of --gap poisson: the same seed gives the same schedule [default: a random one, which the report has]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>, requires = "gap", help_heading = "Rate")]
    pub(in crate::cli) seed: Option<u32>,
    /// DSCP of the datagrams of both ends, by number or name (EF, AF41, CS5, LE); the receiver counts those that arrive with another one
    #[arg(long, value_name = "DSCP,...", value_parser = list(dscp), help_heading = "Network")]
    pub(in crate::cli) dscp: Option<List<u8>>,
    /// ECN field of the datagrams of both ends; the receiver counts the fields that arrive, such as CE marks of a router
    #[arg(long, value_name = "ECN,...", value_parser = list(EnumValueParser::<EcnArg>::new()), help_heading = "Network")]
    pub(in crate::cli) ecn: Option<List<EcnArg>>,
    /// TTL or hop limit of the datagrams of both ends, 1 to 255
    #[arg(long, value_name = "N", value_parser = ttl, help_heading = "Network")]
    pub(in crate::cli) ttl: Option<u8>,
}

impl TrafficArgs {
    /// The gaps of a value of `--gap`. `drawn` is the seed unless one was given.
    pub(super) fn gap(&self, gap: GapArg, drawn: u32) -> Gap {
        match gap {
            GapArg::Fixed => Gap::Fixed,
            GapArg::Poisson => Gap::Poisson {
                seed: self.seed.unwrap_or(drawn),
            },
        }
    }
}

/// A seed that differs from run to run.
pub(super) fn draw_seed() -> u32 {
    // The lower half of the time in ns.
    clock::realtime_ns() as u32
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(in crate::cli) enum GapArg {
    Fixed,
    Poisson,
}

fn dscp(text: &str) -> Result<u8, String> {
    parse_dscp(text)
        .ok_or_else(|| format!("expected 0 to {MAX_DSCP}, or a name like EF, AF41, CS5 or LE"))
}

fn ttl(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(hops @ 1..) => Ok(hops),
        _ => Err("expected 1 to 255".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(in crate::cli) enum EcnArg {
    /// Not ECN-capable
    NotEct,
    /// ECT(0)
    Ect0,
    /// ECT(1), the mark of L4S
    Ect1,
    /// Congestion experienced
    Ce,
}

impl From<EcnArg> for Ecn {
    fn from(ecn: EcnArg) -> Self {
        match ecn {
            EcnArg::NotEct => Self::NotEct,
            EcnArg::Ect0 => Self::Ect0,
            EcnArg::Ect1 => Self::Ect1,
            EcnArg::Ce => Self::Ce,
        }
    }
}
