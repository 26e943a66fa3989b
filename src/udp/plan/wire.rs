//! Conversion of a plan to and from its message.

use super::sizes::Sizes;
use super::traffic::{Ecn, Gap, IpFields, Schedule, TrafficOptions};
use super::{Amount, Df, Direction, Mode, Offload, Plan};
use crate::engine::{EngineChoice, EngineKind, UringReceive, UringSettings, ZeroCopy};
use crate::udp::plan::SpinChoice;
use crate::udp::wire::plan as wire;

/// Converts enums with the same variants both ways.
macro_rules! variants {
    ($($ours:ty = $theirs:ty { $($variant:ident $(($($value:ident),+))?),+ })+) => {$(
        impl From<$ours> for $theirs {
            fn from(choice: $ours) -> Self {
                type Ours = $ours;
                match choice { $(Ours::$variant $(($($value),+))? => Self::$variant $(($($value),+))?),+ }
            }
        }

        impl From<$theirs> for $ours {
            fn from(choice: $theirs) -> Self {
                type Theirs = $theirs;
                match choice { $(Theirs::$variant $(($($value),+))? => Self::$variant $(($($value),+))?),+ }
            }
        }
    )+};
}

variants! {
    Amount = wire::Amount { Bytes(bytes), Packets(packets), Time(time) }
    Mode = wire::Mode { Lossless, Paced(pps), Blast, RoundTrip(pps) }
    Direction = wire::Direction { Forward, Reverse, Both }
    Offload = wire::Toggle { On, Off, Auto }
    Df = wire::Toggle { On, Off, Auto }
    SpinChoice = wire::Toggle { On, Off, Auto }
    EngineKind = wire::EngineKind { Mio, Uring }
    ZeroCopy = wire::ZeroCopy { Off, Splice, Msg }
    UringReceive = wire::UringReceive { Multishot, Single }
    Ecn = wire::Ecn { NotEct, Ect0, Ect1, Ce }
    Sizes = wire::Sizes { Mix(mix), Range(first, last) }
}

/// Converts structs with the same fields both ways.
macro_rules! fields {
    ($($ours:ty = $theirs:ty { $($field:ident),+ $(,)? })+) => {$(
        impl From<$ours> for $theirs {
            fn from(ours: $ours) -> Self {
                Self { $($field: ours.$field.into()),+ }
            }
        }

        impl From<$theirs> for $ours {
            fn from(theirs: $theirs) -> Self {
                Self { $($field: theirs.$field.into()),+ }
            }
        }
    )+};
}

fields! {
    UringSettings = wire::Uring { sqpoll, ring_size, receive }
    EngineChoice = wire::Engine { kind, zerocopy, uring }
    Plan = wire::Plan {
        amount, mode, direction, chunk, engine, streams, batch, offload, df, spin, receive_buffer, send_buffer, interval,
        packet_rows, interval_histograms, traffic, kernel_latency, stages,
    }
}

/// Absent unless an option is set, so that a server that does not know the options runs all other plans.
impl From<TrafficOptions> for Option<wire::Traffic> {
    fn from(options: TrafficOptions) -> Self {
        options.is_any().then(|| wire::Traffic {
            dscp: options.ip.dscp,
            ecn: options.ip.ecn.map(Into::into),
            ttl: options.ip.ttl,
            burst: (options.schedule.burst != 1).then_some(options.schedule.burst),
            poisson: match options.schedule.gap {
                Gap::Fixed => None,
                Gap::Poisson { seed } => Some(seed),
            },
            sizes: options.sizes.map(Into::into),
            group: options.group,
        })
    }
}

impl From<Option<wire::Traffic>> for TrafficOptions {
    fn from(message: Option<wire::Traffic>) -> Self {
        let message = message.unwrap_or_default();
        Self {
            ip: IpFields {
                dscp: message.dscp,
                ecn: message.ecn.map(Into::into),
                ttl: message.ttl,
            },
            schedule: Schedule {
                burst: message.burst.unwrap_or(1),
                gap: match message.poisson {
                    None => Gap::Fixed,
                    Some(seed) => Gap::Poisson { seed },
                },
            },
            sizes: message.sizes.map(Into::into),
            group: message.group,
        }
    }
}
