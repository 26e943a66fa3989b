//! The options of the datagrams.

use std::net::IpAddr;

use clap::builder::EnumValueParser;
use clap::{Args, ValueEnum};

use crate::cli::args::Udp;
use crate::cli::list::{List, list};
use crate::sys::clock;
use crate::udp::plan::sizes::Sizes;
use crate::udp::plan::traffic::{Ecn, Gap, MAX_DSCP, parse_dscp};
use crate::units::parse_whole;

#[derive(Debug, Args)]
pub(in crate::cli) struct TrafficArgs {
    /// Datagrams that are due at the same time, 1 to 65536; the mean rate is that of --rate or --pps (not with --round-trip)
    #[arg(long, value_name = "N,...", value_parser = list(parse_whole::<u32>), requires = "paced", help_heading = "Rate")]
    pub(in crate::cli) burst: Option<List<u32>>,
    /// Gaps between datagrams or bursts: equal, or exponentially distributed (a Poisson process), whose mean comes close to that in many datagrams (not with --round-trip)
    #[arg(long, value_name = "GAP,...", value_parser = list(EnumValueParser::<GapArg>::new()), requires = "paced", help_heading = "Rate")]
    pub(in crate::cli) gap: Option<List<GapArg>>,
    /// Seed of --gap poisson: the same seed gives the same schedule [default: a random one, which the report has]
    #[arg(long, value_name = "N", value_parser = parse_whole::<u32>, requires = "gap", help_heading = "Rate")]
    pub(in crate::cli) seed: Option<u32>,
    /// Multicast group to send the data to; the server joins it on the interface of its route to this host. The port is that of the
    /// server, and the group ends at the first router unless --ttl is given
    #[arg(long, value_name = "GROUP", value_parser = group, requires = "pace", conflicts_with_all = ["reverse", "bidir", "round_trip"], help_heading = "Network")]
    pub(in crate::cli) multicast: Option<IpAddr>,
    /// DSCP of the datagrams of both ends, by number or name (EF, AF41, CS5, LE); the receiver counts those that arrive with another
    /// one (not with --round-trip)
    #[arg(long, value_name = "DSCP,...", value_parser = list(dscp), help_heading = "Network")]
    pub(in crate::cli) dscp: Option<List<u8>>,
    /// ECN field of the datagrams of both ends; the receiver counts the fields that arrive, such as CE marks of a
    /// router (not with --round-trip)
    #[arg(long, value_name = "ECN,...", value_parser = list(EnumValueParser::<EcnArg>::new()), help_heading = "Network")]
    pub(in crate::cli) ecn: Option<List<EcnArg>>,
    /// TTL or hop limit of the datagrams of both ends, 1 to 255
    #[arg(long, value_name = "N", value_parser = ttl, help_heading = "Network")]
    pub(in crate::cli) ttl: Option<u8>,
}

impl TrafficArgs {
    /// Whether a seed was given and no gaps are random.
    pub(super) fn is_seed_unused(&self) -> bool {
        let mut gaps = self.gap.iter().flat_map(|gaps| gaps.iter());
        self.seed.is_some() && !gaps.any(|gap| *gap == GapArg::Poisson)
    }

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

impl Udp {
    /// Whether a run without a server is over IPv6.
    pub(super) fn is_local_v6(&self) -> bool {
        let group = self.traffic.multicast;
        self.ipv6 || (group.is_some_and(|group| group.is_ipv6()) && !self.ipv4)
    }
}

/// A value of `--chunk`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum Chunk {
    /// One size.
    Bytes(usize),
    Several(Sizes),
    /// The simple Internet mix, whose sizes depend on the address family.
    Imix,
}

/// Whether a value of `--chunk` is a size with a weight; successive ones are one mix.
pub(in crate::cli) fn is_weighted(text: &str) -> bool {
    text.contains(':')
}

impl Chunk {
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        let whole = |text: &str| parse_whole::<usize>(text).map_err(|error| error.to_string());
        let sizes = match text.split_once('-') {
            _ if text == "imix" => return Ok(Self::Imix),
            Some((first, last)) if !first.is_empty() => Sizes::Range(whole(first)?, whole(last)?),
            _ if is_weighted(text) => {
                let weighted = text.split(',').map(|item| {
                    let (size, weight) = item.split_once(':').unwrap_or((item, ""));
                    let weight = parse_whole(weight).map_err(|error| error.to_string())?;
                    Ok((whole(size)?, weight))
                });
                Sizes::Mix(weighted.collect::<Result<_, String>>()?)
            }
            _ => return Ok(Self::Bytes(whole(text)?)),
        };
        sizes.validate().map_err(|error| error.to_string())?;
        Ok(Self::Several(sizes))
    }

    /// The largest size, and all sizes if there are several.
    pub(super) fn sizes(&self, is_v6: bool) -> (usize, Option<Sizes>) {
        let sizes = match self {
            Self::Bytes(bytes) => return (*bytes, None),
            Self::Several(sizes) => sizes.clone(),
            Self::Imix => Sizes::imix(is_v6),
        };
        (sizes.bounds().1, Some(sizes))
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

fn group(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(group) if group.is_multicast() => Ok(group),
        _ => Err("expected a multicast address, like 239.1.2.3 or ff15::1".to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_a_size_a_range_a_mix_or_imix() {
        let several = |sizes| Ok(Chunk::Several(sizes));
        assert_eq!(Chunk::parse("1000"), Ok(Chunk::Bytes(1_000)));
        assert_eq!(Chunk::parse("imix"), Ok(Chunk::Imix));
        assert_eq!(Chunk::parse("64-1400"), several(Sizes::Range(64, 1_400)));
        let mix = Sizes::Mix(vec![(100, 7), (500, 4), (1_400, 1)]);
        assert_eq!(Chunk::parse("100:7,500:4,1400:1"), several(mix));
        for wrong in [
            "-1", "", "1.5", "64-", "1400-64", "0-9", "100:", ":7", "100:0", "100:-1", "1:2:3",
            "mix",
        ] {
            assert!(Chunk::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Chunk::Imix.sizes(true), (1_420, Some(Sizes::imix(true))));
    }
}
