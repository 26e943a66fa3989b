//! The requested options of the datagrams of a run.

use serde::{Deserialize, Serialize};

use crate::udp::plan::traffic::{Gap, TrafficOptions};

/// The options of the datagrams as given. Each is absent by default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficRequested {
    /// Sizes of the datagrams: `imix`, sizes with weights, or a range; absent if all have one size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<String>,
    /// Multicast group of the data; absent if they were sent to the receiver's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multicast: Option<String>,
    /// Datagrams of a burst; absent without bursts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// `poisson`; absent if the gaps are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// Seed of random gaps; absent if the gaps are equal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Differentiated services code point; absent if it was left to the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dscp: Option<u8>,
    /// `not-ect`, `ect0`, `ect1` or `ce`; absent if it was left to the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecn: Option<String>,
    /// TTL or hop limit; absent if it was left to the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
}

impl From<&TrafficOptions> for TrafficRequested {
    fn from(options: &TrafficOptions) -> Self {
        let (ip, schedule) = (options.ip, options.schedule);
        let seed = match schedule.gap {
            Gap::Fixed => None,
            Gap::Poisson { seed } => Some(seed),
        };
        Self {
            sizes: options.sizes.as_ref().map(ToString::to_string),
            multicast: options.group.map(|group| group.to_string()),
            burst: (schedule.burst != 1).then_some(schedule.burst),
            gap: seed.map(|_| "poisson".to_owned()),
            seed,
            dscp: ip.dscp,
            ecn: ip.ecn.map(|ecn| ecn.name().to_owned()),
            ttl: ip.ttl,
        }
    }
}
