//! The options of the datagrams.

use clap::builder::EnumValueParser;
use clap::{Args, ValueEnum};

use crate::cli::list::{List, list};
use crate::udp::plan::traffic::{Ecn, MAX_DSCP, parse_dscp};

#[derive(Debug, Args)]
pub(in crate::cli) struct TrafficArgs {
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
