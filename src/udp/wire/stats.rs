//! The counters of an engine as they are sent.

use serde::{Deserialize, Serialize};

use crate::stats::latency;
use crate::udp::engine::stats;

/// Defines a message part with the fields of another struct, and the conversions both ways. A field converts as it is,
/// `into` its counterpart, or as an `optional` counterpart.
macro_rules! counters {
    ($(#[$attribute:meta])* $name:ident = $of:path { $($(#[$serde:meta])* $field:ident: $type:ty $(=> $convert:ident)?),+ $(,)? }) => {
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        $(#[$attribute])*
        pub struct $name {
            $(
                #[doc = concat!("The same field of [`", stringify!($of), "`].")]
                $(#[$serde])*
                pub $field: $type,
            )+
        }

        impl From<$of> for $name {
            fn from(counters: $of) -> Self {
                Self { $($field: counters!(@ counters.$field $(, $convert)?)),+ }
            }
        }

        impl From<$name> for $of {
            fn from(counters: $name) -> Self {
                Self { $($field: counters!(@ counters.$field $(, $convert)?)),+ }
            }
        }
    };
    (@ $value:expr) => { $value };
    (@ $value:expr, into) => { $value.into() };
    (@ $value:expr, optional) => { $value.map(Into::into) };
}

counters! {
    /// The counters of a sender's engine.
    SendStats = stats::SendStats {
        syscalls: u64,
        messages: u64,
        partial: u64,
        eagain: u64,
        enobufs: u64,
        errors: u64,
        last_error: Option<i32>,
        waits: u64,
        fallbacks: u64,
        fallback_error: Option<i32>,
        icmp: IcmpStats => into,
        ring: Option<RingStats> => optional,
        zerocopy: Option<ZeroCopyStats> => optional,
    }
}

counters! {
    /// The counters of a receiver's engine.
    ReceiveStats = stats::ReceiveStats {
        syscalls: u64,
        messages: u64,
        eagain: u64,
        truncated: u64,
        waits: u64,
        answers: u64,
        #[serde(default)]
        icmp: IcmpStats => into,
        ring: Option<RingStats> => optional,
    }
}

counters! {
    /// ICMP errors by type.
    #[serde(default)]
    IcmpStats = stats::IcmpStats {
        port_unreachable: u64,
        host_unreachable: u64,
        net_unreachable: u64,
        admin_prohibited: u64,
        protocol_unreachable: u64,
        time_exceeded: u64,
        fragmentation_needed: u64,
        other: u64,
    }
}

counters! {
    /// The counters of an io_uring.
    RingStats = stats::RingStats {
        size: u32,
        sqes: u64,
        cqes: u64,
        enters: u64,
        rearms: u64,
        cq_overflows: u64,
        thread_cpu_ns: Option<u64>,
    }
}

counters! {
    /// The counters of zero-copy sends.
    ZeroCopyStats = stats::ZeroCopyStats {
        messages: u64,
        copied: u64,
    }
}

counters! {
    /// Latencies that a histogram cannot hold.
    OutOfRange = latency::OutOfRange {
        negative: u64,
        too_long: u64,
    }
}
