//! Conversion of a plan to and from its message.

use super::{Amount, Df, Direction, Mode, Offload, Plan};
use crate::engine::{EngineChoice, EngineKind, UringReceive, UringSettings, ZeroCopy};
use crate::udp::send::spin::SpinChoice;
use crate::udp::wire::plan as wire;

/// Converts enums with the same variants both ways.
macro_rules! variants {
    ($($ours:ty = $theirs:ty { $($variant:ident $(($value:ident))?),+ })+) => {$(
        impl From<$ours> for $theirs {
            fn from(choice: $ours) -> Self {
                type Ours = $ours;
                match choice { $(Ours::$variant $(($value))? => Self::$variant $(($value))?),+ }
            }
        }

        impl From<$theirs> for $ours {
            fn from(choice: $theirs) -> Self {
                type Theirs = $theirs;
                match choice { $(Theirs::$variant $(($value))? => Self::$variant $(($value))?),+ }
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
        packet_rows, interval_histograms, kernel_latency, stages,
    }
}
