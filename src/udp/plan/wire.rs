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
    Mode = wire::Mode { Lossless, Paced(pps), Blast }
    Direction = wire::Direction { Forward, Reverse, Both }
    Offload = wire::Toggle { On, Off, Auto }
    Df = wire::Toggle { On, Off, Auto }
    SpinChoice = wire::Toggle { On, Off, Auto }
    EngineKind = wire::EngineKind { Mio, Uring }
    ZeroCopy = wire::ZeroCopy { Off, Splice, Msg }
    UringReceive = wire::UringReceive { Multishot, Single }
}

impl From<&Plan> for wire::Plan {
    fn from(plan: &Plan) -> Self {
        let EngineChoice {
            kind,
            zerocopy,
            uring,
        } = plan.engine;
        Self {
            amount: plan.amount.into(),
            mode: plan.mode.into(),
            direction: plan.direction.into(),
            chunk: plan.chunk,
            engine: wire::Engine {
                kind: kind.into(),
                zerocopy: zerocopy.into(),
                uring: wire::Uring {
                    sqpoll: uring.sqpoll,
                    ring_size: uring.ring_size,
                    receive: uring.receive.into(),
                },
            },
            streams: plan.streams,
            batch: plan.batch,
            offload: plan.offload.into(),
            df: plan.df.into(),
            spin: plan.spin.into(),
            receive_buffer: plan.receive_buffer,
            send_buffer: plan.send_buffer,
            interval: plan.interval,
            packet_rows: plan.packet_rows,
        }
    }
}

impl From<wire::Plan> for Plan {
    fn from(plan: wire::Plan) -> Self {
        let wire::Engine {
            kind,
            zerocopy,
            uring,
        } = plan.engine;
        Self {
            amount: plan.amount.into(),
            mode: plan.mode.into(),
            direction: plan.direction.into(),
            chunk: plan.chunk,
            engine: EngineChoice {
                kind: kind.into(),
                zerocopy: zerocopy.into(),
                uring: UringSettings {
                    sqpoll: uring.sqpoll,
                    ring_size: uring.ring_size,
                    receive: uring.receive.into(),
                },
            },
            streams: plan.streams,
            batch: plan.batch,
            offload: plan.offload.into(),
            df: plan.df.into(),
            spin: plan.spin.into(),
            receive_buffer: plan.receive_buffer,
            send_buffer: plan.send_buffer,
            interval: plan.interval,
            packet_rows: plan.packet_rows,
        }
    }
}
