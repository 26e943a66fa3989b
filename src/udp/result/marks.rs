//! The marks with which the datagrams of a run arrived.

use serde::{Deserialize, Serialize};

use crate::udp::mark_counts::MarkCounts;
use crate::udp::plan::traffic::IpFields;
use crate::udp::wire::results::StreamReceived;

/// The received datagrams, including duplicates, by the DSCP and the ECN field of their IP header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Not ECN-capable.
    pub not_ect: u64,
    /// ECT(0).
    pub ect0: u64,
    /// ECT(1).
    pub ect1: u64,
    /// Congestion experienced.
    pub ce: u64,
    /// Datagrams with another DSCP than they were sent with.
    pub dscp_changed: u64,
    /// The code points that arrived.
    pub dscp: Vec<DscpCount>,
}

/// Datagrams with a code point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DscpCount {
    /// The code point.
    pub dscp: u8,
    /// Datagrams.
    pub packets: u64,
}

impl Marks {
    /// The marks of all streams, whose datagrams were sent with the fields `ip`. `None` if none was counted. The numbers
    /// come from another process.
    pub(super) fn of(ip: IpFields, streams: &[StreamReceived]) -> Option<Self> {
        ip.tos()?;
        let sent = ip.dscp.unwrap_or(0);
        let mut counts = MarkCounts::default();
        for (tos, datagrams) in streams.iter().flat_map(|stream| &stream.marks) {
            counts.add(*tos, *datagrams);
        }
        let mut marks = Self::default();
        for (tos, packets) in counts.counts() {
            let dscp = tos >> 2;
            let ecn = match tos & 3 {
                0 => &mut marks.not_ect,
                1 => &mut marks.ect1,
                2 => &mut marks.ect0,
                _ => &mut marks.ce,
            };
            *ecn = ecn.saturating_add(packets);
            if dscp != sent {
                marks.dscp_changed = marks.dscp_changed.saturating_add(packets);
            }
            match marks.dscp.last_mut() {
                Some(last) if last.dscp == dscp => {
                    last.packets = last.packets.saturating_add(packets);
                }
                _ => marks.dscp.push(DscpCount { dscp, packets }),
            }
        }
        (!marks.dscp.is_empty()).then_some(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::traffic::Ecn;

    fn stream(marks: &[(u8, u64)]) -> StreamReceived {
        StreamReceived {
            marks: marks.to_vec(),
            ..StreamReceived::default()
        }
    }

    #[test]
    fn marks_of_all_streams_are_added_by_field() {
        let ip = IpFields {
            dscp: Some(46),
            ecn: Some(Ecn::Ect0),
            ttl: None,
        };
        let (ef, af41) = (46 << 2, 34 << 2);
        let streams = [
            stream(&[(ef | 2, 90), (ef | 3, 5), (af41 | 2, 3)]),
            stream(&[(ef | 2, 10), (0, 2), (ef | 1, 1)]),
        ];
        let count = |dscp, packets| DscpCount { dscp, packets };
        let expected = Marks {
            not_ect: 2,
            ect0: 103,
            ect1: 1,
            ce: 5,
            dscp_changed: 5,
            dscp: vec![count(0, 2), count(34, 3), count(46, 106)],
        };
        assert_eq!(Marks::of(ip, &streams), Some(expected));
        assert_eq!(Marks::of(IpFields::default(), &streams), None);
        assert_eq!(Marks::of(ip, &[stream(&[])]), None);
    }

    #[test]
    fn counts_of_a_hostile_server_saturate() {
        let ip = IpFields {
            dscp: Some(0),
            ..IpFields::default()
        };
        let all: Vec<(u8, u64)> = (0..=255).map(|tos| (tos, u64::MAX)).collect();
        let marks = Marks::of(ip, &[stream(&all), stream(&all)]).unwrap();
        assert_eq!((marks.ce, marks.dscp_changed), (u64::MAX, u64::MAX));
        assert_eq!(marks.dscp.len(), 64);
    }
}
