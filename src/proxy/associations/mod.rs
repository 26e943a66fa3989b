//! SOCKS5 UDP ASSOCIATE (RFC 1928, section 7): datagrams of a client to any destination, and their answers back.
//!
//! ```text
//!   client == TCP connection, stays open ==============> connection (worker of the proxy)
//!      |                                                    | opens, closes (handle)
//!      +-- header, payload --> relay socket --> destinations --> socket of a family --> destination
//!                                   ^         route, decision                              |
//!                                   +--- header, payload <-- sources that were asked <-----+
//! ```
//!
//! An association ends with its TCP connection, or after a time without datagrams ([`Timeouts::idle`]), which closes the
//! connection. Its relay socket has the address of this host to which the client connected, and takes datagrams of the client's
//! IP address only. The first valid one, or the request, fixes the port: from then on the socket is connected.
//!
//! - [`destinations`] (pure) finds the route of a header: the address that the rules allow, a cause to drop it, or a lookup.
//!   The route is kept for [`destinations::KEEP`]. After a reload it is decided again when it is used next, which an answer does
//!   too: a destination that is blocked now gets no answer through. Answers pass from addresses that were asked. The memory of
//!   both is bounded: [`destinations::BYTES`] for each of the last [`destinations::REMEMBERED`], and
//!   [`destinations::NAME_BYTES`] for all names.
//! - [`lookups`] (pure) has the datagrams that wait for the address of a name: few, so that a single question is not lost.
//! - [`own`] has the addresses of all sockets here. No datagram is sent to them, so no loop of associations forms.
//! - `handle` opens associations for the threads of connections, and starts the threads here with the first one.
//! - The `worker` is the loop of such a thread. A run of datagrams arrives as one message (`UDP_GRO`), is routed once if its
//!   headers are equal, and leaves as one message (`UDP_SEGMENT`). Headers are removed and added by gathering around them.
//! - The `backend` of the worker is that of forwarding ([`super::datagrams`]): epoll(7) or io_uring(7).
//!
//! Delivered datagrams of 1,000 B from one client to one destination on loopback, one thread, where other programs kept both cores
//! busy (Linux 6.18, interleaved rounds of 2 s, as root; release build without LTO). From a sender without GSO as fast as it can,
//! dante 1.4.2 delivered 27,000 and 77,000 a second and this proxy 210,000 and 275,000, which lost 0.3 % and nothing, so the sender
//! was the limit; back to the client, dante 34,000 and 30,000, this proxy 164,000 and 197,000 without loss. Of runs of 60 at
//! 400,000 a second this proxy lost nothing; dante delivered 18,000 to 19,000 a second. With buffers of the system's default limit,
//! which a process without privilege has, 4 to 15 % were lost at these rates. CPU time of a datagram: dante 9 to 12 us, this proxy
//! 1.4 to 2.7 us, and 0.2 to 0.4 us within runs. An association takes 3.6 kB of memory, its connection included, and
//! 34 kB more with 256 destinations.
//!
//! A reload costs an association nothing until its next datagram. With 400 associations of 256 destinations each, the longest of
//! many round trips through another association was 12 to 19 ms around a reload and 8 to 46 ms without one (2 busy cores).
//!
//! The proxy itself sends no datagram: each one that leaves is one that arrived, so it cannot amplify.
//!
//! [`Timeouts::idle`]: super::options::Timeouts::idle

mod association;
mod context;
pub mod counters;
pub mod destinations;
mod forward;
pub(super) mod handle;
pub mod lookups;
pub(super) mod metrics;
pub mod own;
pub mod recent;
pub mod record;
mod sort;
mod worker;

use std::net::IpAddr;

/// How many associations there may be, and which datagrams pass.
#[derive(Debug, Clone, Copy)]
pub struct AssociationOptions {
    /// Most associations, over all threads.
    pub most: usize,
    /// Most associations of one client IP address.
    pub per_client: usize,
    /// The address in replies to clients of its family, which they send datagrams to; `None` is that of the relay socket.
    pub address: Option<IpAddr>,
    /// Datagrams of any source are answers, and not only those of destinations that were asked.
    pub any_answers: bool,
}

impl Default for AssociationOptions {
    fn default() -> Self {
        Self {
            most: 4_000,
            per_client: 1_000,
            address: None,
            any_answers: false,
        }
    }
}
