//! The latency of each size of a mix. It is recorded apart from [`accounting`](super::accounting), so that runs of one size have no cost.

use crate::stats::latency::Latency;
use crate::sys::cmsg::Message;
use crate::udp::plan::sizes::Sizes;
use crate::udp::wire::header::{HEADER, Header};
use crate::udp::wire::results::SizeLatency;

/// Most sizes of a mix with latencies of their own, to bound memory.
const MOST_SIZES: usize = 16;

/// Latencies from the actual send by message bytes.
#[derive(Debug, Clone)]
pub struct LatencyBySize(Vec<(usize, Latency)>);

impl LatencyBySize {
    /// For the sizes of a mix; `None` for a range, or a mix of more than 16.
    pub fn of(sizes: Option<&Sizes>) -> Option<Self> {
        let Some(Sizes::Mix(mix)) = sizes else {
            return None;
        };
        let mut chunks: Vec<usize> = mix.iter().map(|(chunk, _)| *chunk).collect();
        chunks.sort_unstable();
        chunks.dedup();
        let all = chunks.into_iter().map(|chunk| (chunk, Latency::small()));
        let all: Vec<_> = all.collect();
        (2..=MOST_SIZES).contains(&all.len()).then_some(Self(all))
    }

    /// Adds the datagrams of a message, all of which are first arrivals. A short last datagram is left out.
    pub fn add(&mut self, message: &Message<'_>, received: u64) {
        for datagram in message.datagrams() {
            let chunk = datagram.len().saturating_sub(HEADER);
            let place = self.0.binary_search_by_key(&chunk, |(of, _)| *of);
            if let (Ok(place), Ok(header)) = (place, Header::decode(datagram))
                && let Some((_, latency)) = self.0.get_mut(place)
            {
                latency.record_between(header.sent, received);
            }
        }
    }

    /// Adds the latencies of another stream of the run.
    pub fn merge(&mut self, other: &Self) {
        for ((_, latency), (_, other)) in self.0.iter_mut().zip(&other.0) {
            latency.merge(other);
        }
    }

    /// The message about the sizes.
    pub fn message(&self) -> Vec<SizeLatency> {
        let each = self.0.iter().map(|(chunk, latency)| {
            let of = latency.summary();
            SizeLatency {
                chunk: *chunk,
                packets: of.count,
                mean_ns: of.mean,
                latency_ns: [of.min, of.p50, of.p90, of.p99, of.max],
            }
        });
        each.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mixes_of_a_few_sizes_have_latencies_by_size() {
        let of = |sizes: &Sizes| LatencyBySize::of(Some(sizes)).map(|of| of.0.len());
        assert_eq!(of(&Sizes::imix(false)), Some(3));
        assert_eq!(of(&Sizes::Mix(vec![(9, 1), (5, 1), (9, 2)])), Some(2));
        assert_eq!(of(&Sizes::Mix(vec![(9, 1)])), None);
        assert_eq!(
            of(&Sizes::Mix((1..=17).map(|size| (size, 1)).collect())),
            None
        );
        assert_eq!(of(&Sizes::Range(1, 9)), None);
        assert!(LatencyBySize::of(None).is_none());
    }
}
