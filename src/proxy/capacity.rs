//! How many connections, pipes and lookups the limit of open files (`RLIMIT_NOFILE`) permits: pure.
//!
//! A connection is two files, its client and its server. A sixteenth of the files each is for clients over the limit, for
//! parallel connection attempts (RFC 8305) and, if bytes are spliced, for pipes; an eighth is for sockets to name
//! servers. An association of datagrams is a connection with one or two files more, which these shares contain. A flow of datagrams
//! is one file, its socket to the server; all flows get at most half of the files, or
//! more if there are few connections.

use super::options::Options;
use super::relay::Forwarding;

/// Most clients over the limit, over all threads.
const REFUSALS: usize = 1_024;

/// Most parallel connection attempts, over all threads.
const ATTEMPTS: usize = 1_024;

/// Most concurrent lookups.
const LOOKUPS: usize = 256;

/// Sockets of a lookup: both families, of two name servers.
const SOCKETS: usize = 4;

/// Files of a thread: its epoll(7) or ring, twice, its eventfd and its listener, and as many again in reserve.
const THREAD: u64 = 8;

/// Files of the rest of the program: the log, the metrics server and its clients, lists that are reloaded, those of the
/// resolver.
const PROGRAM: u64 = 16;

/// What may be open at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Connections, over all threads.
    pub connections: usize,
    /// Clients over that limit, a thread. Each gets a refusal in its own protocol.
    pub refusals: usize,
    /// Parallel connection attempts, over all threads.
    pub attempts: usize,
    /// Pipes, a thread.
    pub pipes: usize,
    /// Lookups.
    pub lookups: usize,
    /// Flows of datagrams, over all threads.
    pub flows: usize,
    /// Associations of datagrams, over all threads.
    pub associations: usize,
}

impl Capacity {
    /// The capacity that `options` request, as far as a limit of `files` permits it if `in_use` are already open.
    pub fn new(options: &Options, files: Option<u64>, in_use: u64) -> Self {
        let threads = options.threads.max(1);
        let taken = in_use + PROGRAM + THREAD * threads as u64;
        let room = files.map_or(u64::MAX, |files| files.saturating_sub(taken));
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let requested = options.datagrams.as_ref().map_or(0, |what| what.flows);
        // Connections that are requested keep half of the files, or fewer if that is enough for them.
        let reserved = options.connections.saturating_mul(4).saturating_add(16);
        let flows = requested.min(room - reserved.min(room / 2));
        let room = room - flows;
        let sixteenth = room / 16;
        let refusals = (sixteenth / threads).clamp(1, REFUSALS.div_ceil(threads));
        let attempts = sixteenth.clamp(1, ATTEMPTS);
        let lookups = (room / 8 / SOCKETS).clamp(1, LOOKUPS);
        let pipes = match options.forwarding {
            Forwarding::Splice => (sixteenth / 2 / threads).max(1).min(options.pipes),
            // Optional: without one, a chunk is copied. They take no more files than parallel attempts may, which are rare.
            Forwarding::Auto => (sixteenth / 2 / threads).min(options.pipes),
            Forwarding::Copy => 0,
        };
        let spliced = match options.forwarding {
            Forwarding::Splice => 2 * pipes * threads,
            Forwarding::Auto | Forwarding::Copy => 0,
        };
        let others = refusals * threads + attempts + lookups * SOCKETS + spliced;
        Self {
            connections: (room.saturating_sub(others) / 2).clamp(1, options.connections.max(1)),
            refusals,
            attempts,
            pipes,
            lookups,
            flows,
            // Each is a connection whose server is a socket for datagrams, and up to two files more.
            associations: options.associations.most.min(sixteenth.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options(threads: usize, connections: usize, forwarding: Forwarding) -> Options {
        Options {
            threads,
            connections,
            forwarding,
            ..Options::default()
        }
    }

    #[test]
    fn without_a_limit_capacity_is_as_requested() {
        let capacity = Capacity::new(&options(2, 10_000, Forwarding::Splice), None, 10);
        assert_eq!((capacity.connections, capacity.pipes), (10_000, 64));
        let none = Options {
            pipes: 0,
            ..options(1, 1, Forwarding::Splice)
        };
        assert_eq!(Capacity::new(&none, None, 10).pipes, 0);
        let enough = Capacity::new(&options(1, 10_000, Forwarding::Auto), Some(1 << 20), 10);
        assert_eq!(enough.connections, 10_000);
    }

    #[test]
    fn few_files_permit_few_connections() {
        let of = |files| Capacity::new(&options(1, 10_000, Forwarding::Auto), Some(files), 8);
        assert_eq!(of(128).connections, 36);
        assert_eq!(of(200).connections, 64);
        assert_eq!(of(1_024).connections, 372);
        assert_eq!(of(8).connections, 1);
    }

    #[test]
    fn flows_leave_half_of_the_files_to_connections() {
        use crate::proxy::datagrams::DatagramOptions;
        let of = |files, connections| {
            let options = Options {
                datagrams: Some(DatagramOptions::new("127.0.0.1:53".parse().unwrap())),
                ..options(1, connections, Forwarding::Auto)
            };
            Capacity::new(&options, files, 8)
        };
        let all = of(None, 10_000);
        assert_eq!((all.flows, all.connections), (10_000, 10_000));
        assert_eq!(of(Some(1_032), 1).flows, 980);
        let few = of(Some(1_032), 10_000);
        assert_eq!(few.flows, 500);
        assert!(few.connections < 250 && few.connections > 100);
        let none = Capacity::new(&options(1, 10_000, Forwarding::Auto), None, 8);
        assert_eq!(none.flows, 0);
    }

    proptest! {
        #[test]
        fn capacity_fits_the_limit(files in 64u64..100_000, in_use in 3u64..20, threads in 1usize..4, splice: bool) {
            let forwarding = if splice { Forwarding::Splice } else { Forwarding::Copy };
            let options = options(threads, 1_000_000, forwarding);
            let capacity = Capacity::new(&options, Some(files), in_use);
            let pipes = if splice { capacity.pipes * 2 * threads } else { 0 };
            let open = 2 * capacity.connections + capacity.refusals * threads + capacity.attempts
                + capacity.lookups * SOCKETS + pipes;
            let room = files.saturating_sub(in_use + PROGRAM + THREAD * threads as u64) as usize;
            // At least one of each is permitted in any case.
            prop_assert!(open <= room.max(2 + threads * 3 + 1 + SOCKETS));
        }
    }
}
