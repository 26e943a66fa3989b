//! The datagrams of a run where they differ from the default: their sizes, their schedule, the fields of their IP header, and a multicast
//! group as their destination.

use std::net::IpAddr;

use thiserror::Error;

use super::sizes::{Sizes, SizesError};

/// The options of a run's datagrams.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrafficOptions {
    /// Fields of the IP header.
    pub ip: IpFields,
    /// The schedule of a paced run.
    pub schedule: Schedule,
    /// Message bytes of datagrams that differ in size; `None` if all but the last are as long as the plan's chunk.
    pub sizes: Option<Sizes>,
    /// The multicast group that the data go to, and that the receiver joins; `None` sends them to the receiver's address.
    ///
    /// The port is that of the flow. The receiver joins the group on the interface of its route to the client, and the client sends over
    /// that of its route to the server. All but the data is unicast.
    pub group: Option<IpAddr>,
}

impl TrafficOptions {
    /// Whether an option is set. A server must know the options then.
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// Checks the options.
    ///
    /// # Errors
    /// [`TrafficError`], with the first invalid value.
    pub fn validate(&self) -> Result<(), TrafficError> {
        if !(1..=MAX_BURST).contains(&self.schedule.burst) {
            return Err(TrafficError::Burst(self.schedule.burst));
        }
        if let Some(sizes) = &self.sizes {
            sizes.validate()?;
        }
        if let Some(group) = self.group
            && !group.is_multicast()
        {
            return Err(TrafficError::Group(group));
        }
        self.ip.validate()
    }
}

/// Why the options are invalid: a sentence with the value.
#[derive(Debug, Error, PartialEq)]
pub enum TrafficError {
    /// Outside 0 to [`MAX_DSCP`].
    #[error("a DSCP of {0} does not fit its 6 bits; choose 0 to {MAX_DSCP}")]
    Dscp(u8),
    /// 0: the kernel would not send the datagrams.
    #[error("datagrams with a TTL of 0 are not sent; choose 1 to 255")]
    Ttl,
    /// Outside 1 to [`MAX_BURST`].
    #[error("a burst of {0} datagrams cannot be sent; choose 1 to {MAX_BURST}")]
    Burst(u32),
    /// Invalid sizes.
    #[error(transparent)]
    Sizes(#[from] SizesError),
    /// The plan's chunk is not its largest size.
    #[error("a chunk of {0} bytes is not the largest size of the mix")]
    Chunk(usize),
    /// GSO splits a message into datagrams of one size.
    #[error(
        "GSO (--gso on) sends datagrams of one size; choose one --chunk, or --gso off or auto, which send datagrams of several sizes one by one"
    )]
    Segments,
    /// Not a multicast address.
    #[error(
        "{0} is no multicast address; choose one of 224.0.0.0/4 or ff00::/8, like 239.1.2.3 or ff15::1"
    )]
    Group(IpAddr),
    /// Credit, and responses of the receiver, would not arrive at a socket that is connected to a group.
    #[error(
        "--multicast needs a sender that waits for no receiver; add --rate, --pps or --unpaced, and leave out --round-trip"
    )]
    GroupCredit,
    /// The server sends to the client's address.
    #[error(
        "--multicast is for data of the client, which the server receives; leave out --reverse and --bidir"
    )]
    GroupDirection,
    /// A schedule without a pace.
    #[error("--burst and --gap divide the time of a paced run; add --rate or --pps")]
    NeedsPace,
}

/// Most datagrams of a burst.
pub const MAX_BURST: u32 = 65_536;

/// The longest exponential gap as a multiple of the mean: 53 ln 2.
pub const LONGEST_GAP: f64 = 37.0;

/// When the datagrams of a paced run are due. The mean pace is that of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Datagrams that are due at the same time, 1 to [`MAX_BURST`].
    pub burst: u32,
    /// The gaps between bursts.
    pub gap: Gap,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            burst: 1,
            gap: Gap::Fixed,
        }
    }
}

impl Schedule {
    /// The longest gap between two datagrams, as a multiple of the mean.
    pub fn longest_gap(self) -> f64 {
        let gap = match self.gap {
            Gap::Fixed => 1.0,
            Gap::Poisson { .. } => LONGEST_GAP,
        };
        gap * f64::from(self.burst)
    }
}

/// The gaps between bursts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Gap {
    /// Equal.
    #[default]
    Fixed,
    /// Exponentially distributed: a Poisson process. A seed has one schedule.
    Poisson {
        /// The seed.
        seed: u32,
    },
}

/// The largest differentiated services code point, of 6 bits.
pub const MAX_DSCP: u8 = 63;

/// Fields of the IP header of every datagram that either end sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IpFields {
    /// Differentiated services code point (RFC 2474); `None` leaves it to the kernel, which sends 0.
    pub dscp: Option<u8>,
    /// Explicit congestion notification; `None` leaves it to the kernel, which sends Not-ECT.
    pub ecn: Option<Ecn>,
    /// TTL of IPv4 and hop limit of IPv6; `None` leaves it to the kernel.
    pub ttl: Option<u8>,
}

impl IpFields {
    /// The TOS byte of IPv4 and traffic class of IPv6: DSCP and ECN. `None` if neither is set; receivers read no marks then.
    pub fn tos(self) -> Option<u8> {
        let is_set = self.dscp.is_some() || self.ecn.is_some();
        let ecn = self.ecn.unwrap_or_default();
        is_set.then(|| (self.dscp.unwrap_or(0) << 2) | ecn as u8)
    }

    fn validate(self) -> Result<(), TrafficError> {
        match (self.dscp, self.ttl) {
            (Some(dscp), _) if dscp > MAX_DSCP => Err(TrafficError::Dscp(dscp)),
            (_, Some(0)) => Err(TrafficError::Ttl),
            _ => Ok(()),
        }
    }
}

/// The ECN field (RFC 3168), with its two bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable.
    #[default]
    NotEct = 0,
    /// ECN-capable; the mark of L4S (RFC 9331).
    Ect1 = 1,
    /// ECN-capable.
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

impl Ecn {
    /// The name in reports and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotEct => "not-ect",
            Self::Ect1 => "ect1",
            Self::Ect0 => "ect0",
            Self::Ce => "ce",
        }
    }
}

/// Names of code points: RFC 2474 (CS), 2597 (AF), 3246 (EF), 5865 (VA) and 8622 (LE). The first name of a code point is printed.
const DSCP_NAMES: [(&str, u8); 25] = [
    ("CS0", 0),
    ("BE", 0),
    ("DF", 0),
    ("LE", 1),
    ("CS1", 8),
    ("AF11", 10),
    ("AF12", 12),
    ("AF13", 14),
    ("CS2", 16),
    ("AF21", 18),
    ("AF22", 20),
    ("AF23", 22),
    ("CS3", 24),
    ("AF31", 26),
    ("AF32", 28),
    ("AF33", 30),
    ("CS4", 32),
    ("AF41", 34),
    ("AF42", 36),
    ("AF43", 38),
    ("CS5", 40),
    ("VA", 44),
    ("EF", 46),
    ("CS6", 48),
    ("CS7", 56),
];

/// The name of a code point, or its number.
pub fn dscp_name(dscp: u8) -> String {
    let named = DSCP_NAMES.iter().find(|(_, number)| *number == dscp);
    named.map_or(dscp.to_string(), |(name, _)| (*name).to_owned())
}

/// A code point from its name, in any case, or from its number.
pub fn parse_dscp(text: &str) -> Option<u8> {
    let named = DSCP_NAMES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text));
    let number = || match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let found = named.map(|(_, number)| *number).or_else(number);
    found.filter(|dscp| *dscp <= MAX_DSCP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tos_byte_has_the_dscp_above_the_ecn_field() {
        let tos = |dscp, ecn| {
            IpFields {
                dscp,
                ecn,
                ttl: None,
            }
            .tos()
        };
        assert_eq!(tos(None, None), None);
        assert_eq!(tos(Some(0), None), Some(0));
        assert_eq!(tos(Some(46), None), Some(0xb8));
        assert_eq!(tos(Some(46), Some(Ecn::Ect0)), Some(0xba));
        assert_eq!(tos(None, Some(Ecn::Ect1)), Some(1));
        assert_eq!(tos(None, Some(Ecn::Ce)), Some(3));
    }

    #[test]
    fn code_points_have_names_and_numbers() {
        for (name, number) in DSCP_NAMES {
            assert_eq!(parse_dscp(name), Some(number), "{name}");
            assert_eq!(parse_dscp(&name.to_lowercase()), Some(number), "{name}");
        }
        // RFC 2597: AF class c with drop precedence p is 8c + 2p.
        for (class, precedence) in [(1, 1), (2, 3), (4, 2)] {
            let name = format!("AF{class}{precedence}");
            assert_eq!(parse_dscp(&name), Some(8 * class + 2 * precedence));
        }
        for number in 0..=MAX_DSCP {
            assert_eq!(parse_dscp(&number.to_string()), Some(number));
            assert_eq!(parse_dscp(&dscp_name(number)), Some(number));
        }
        assert_eq!(parse_dscp("0x2e"), Some(46));
        for text in ["64", "-1", "AF14", "CS8", "", "0x40", "4.5", "+3x"] {
            assert_eq!(parse_dscp(text), None, "{text}");
        }
        assert_eq!(
            (dscp_name(46), dscp_name(5)),
            ("EF".to_owned(), "5".to_owned())
        );
    }

    #[test]
    fn a_field_out_of_range_is_an_error() {
        let with = |dscp, ttl| {
            let ip = IpFields {
                dscp,
                ecn: None,
                ttl,
            };
            TrafficOptions {
                ip,
                ..TrafficOptions::default()
            }
            .validate()
        };
        assert_eq!(with(Some(63), Some(1)), Ok(()));
        assert_eq!(with(Some(64), None), Err(TrafficError::Dscp(64)));
        assert_eq!(with(None, Some(0)), Err(TrafficError::Ttl));
        for burst in [0, MAX_BURST + 1] {
            let options = TrafficOptions {
                schedule: Schedule {
                    burst,
                    ..Schedule::default()
                },
                ..TrafficOptions::default()
            };
            assert_eq!(options.validate(), Err(TrafficError::Burst(burst)));
        }
    }
}
