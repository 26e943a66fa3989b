//! The arrivals of a stream, and the replies to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::sys::clock::monotonic_ns;
use crate::sys::cmsg::Message;
use crate::udp::credit::CreditIssuer;
use crate::udp::engine::Rx;
use crate::udp::mark_counts::MarkCounts;
use crate::udp::receive::accounting::{Classified, StreamAccounting};
use crate::udp::receive::by_size::LatencyBySize;
use crate::udp::receive::interval_clock::server_ns;
use crate::udp::receive::packet_log::{PacketLog, PacketRecord};
use crate::udp::receive::stamps::RxStamps;
use crate::udp::relay_header::RelayHeader;
use crate::udp::wire::header::{Header, Kind};

/// Most replies to one batch; further requests of the batch are dropped.
pub(super) const MAX_REPLIES: usize = 16;

/// Counts the datagrams of a stream, and collects the replies to them.
pub(super) struct Arrivals {
    pub(super) accounting: StreamAccounting,
    pub(super) token: u64,
    /// The header in front of each datagram.
    pub(super) relay: RelayHeader,
    pub(super) issuer: Option<CreditIssuer>,
    /// Whether a datagram of this stream arrived since the flag was last taken.
    pub(super) is_active: bool,
    /// Source of the data, and destination of the credit.
    pub(super) peer: Option<SocketAddr>,
    pub(super) replies: Vec<(Header, SocketAddr)>,
    pub(super) packet_log: Option<PacketLog>,
    /// The latency of each size of a mix.
    pub(super) by_size: Option<LatencyBySize>,
    /// The marks of the data, if they are counted.
    pub(super) marks: Option<MarkCounts>,
    /// Drops at the socket for which the window was halved.
    pub(super) drops: u32,
    /// The server's clock minus this host's, in ns.
    pub(super) offset: Arc<AtomicI64>,
}

impl Arrivals {
    #[inline]
    pub(super) fn take(&mut self, message: &Message<'_>) {
        if message.truncated {
            return self.accounting.truncated();
        }
        let received = server_ns(&self.offset);
        self.take_at(message, received);
    }

    /// As [`Self::take`], with the kernel's stamp.
    fn take_stamped(&mut self, message: &Message<'_>, stamps: &mut RxStamps) {
        if message.truncated {
            return self.accounting.truncated();
        }
        let offset = self.offset.load(Ordering::Relaxed);
        let read = monotonic_ns().wrapping_add_signed(offset);
        let stamp = stamps.stamp(message, offset);
        let received = stamps.received(stamp, read);
        let before = self.accounting.unique();
        self.take_at(message, received);
        // A message with a duplicate or a foreign datagram is left out.
        let unique = self.accounting.unique() - before;
        if unique == message.datagrams().count() as u64 {
            let headers = message.datagrams().filter_map(|of| Header::decode(of).ok());
            headers.for_each(|header| stamps.add(header.sequence, stamp, read));
        }
    }

    /// Counts the datagrams of a message. The only instance of this loop, so that all parts of it are inlined.
    fn take_at(&mut self, message: &Message<'_>, received: u64) {
        if message.bytes.is_empty() {
            self.accounting.datagram(message.bytes, received);
        }
        let mut data = false;
        for datagram in message.datagrams() {
            let classified = self.accounting.datagram(datagram, received);
            self.is_active |= !matches!(classified, Classified::Foreign | Classified::Response);
            match classified {
                Classified::Data(header) => {
                    data = true;
                    if let Some(packet_log) = &mut self.packet_log {
                        packet_log.push(PacketRecord {
                            sequence: header.sequence,
                            sent: header.sent,
                            received,
                            lateness: header.lateness,
                        });
                    }
                }
                Classified::Probe(sent) => self.credit(sent, message),
                Classified::Ping(number) => self.pong(number, received, message),
                Classified::Late | Classified::Response | Classified::Foreign => {}
            }
        }
        if data && self.issuer.is_some() {
            self.peer = message.source();
        }
        if let (Some(drops), Some(issuer)) = (message.drops, &mut self.issuer)
            && drops != self.drops
        {
            self.drops = drops;
            issuer.shrink();
        }
    }

    /// Whether [`Self::take`] is enough: there are no headers of a relay, and neither marks nor sizes are counted.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.relay.is_empty() && self.marks.is_none() && self.by_size.is_none()
    }

    /// As [`Self::take`], without the header of a relay, and with the kernel's stamp, the marks of the data and their latency by
    /// size, as far as the plan has them.
    pub(super) fn take_observed(
        &mut self,
        message: &Message<'_>,
        stamps: &mut Option<Box<RxStamps>>,
    ) {
        if self.relay.is_empty() || message.truncated {
            return self.take_direct(message, stamps);
        }
        for datagram in message.datagrams() {
            let datagram = self.relay.payload(datagram);
            self.take_direct(&message.with(datagram), stamps);
        }
    }

    fn take_direct(&mut self, message: &Message<'_>, stamps: &mut Option<Box<RxStamps>>) {
        let before = self.accounting.received();
        let unique = self.accounting.unique();
        match stamps {
            Some(stamps) => self.take_stamped(message, stamps),
            None => self.take(message),
        }
        if let (Some(marks), Some(tos)) = (&mut self.marks, message.tos) {
            marks.add(tos, self.accounting.received() - before);
        }
        let unique = self.accounting.unique() - unique;
        if let (Some(by_size), Some(received)) =
            (&mut self.by_size, self.accounting.last_received())
            // A message with a duplicate or a foreign datagram is left out.
            && unique == message.datagrams().count() as u64
        {
            by_size.add(message, received);
        }
    }

    fn credit(&mut self, sent: u64, message: &Message<'_>) {
        let Some(peer) = message.source() else { return };
        // A stream that needs no credit sends probes only to see whether the receiver is up.
        let limit = match &mut self.issuer {
            Some(issuer) => issuer.on_probe(sent, self.accounting.next()),
            None => sent,
        };
        self.queue_reply(Header::bare(Kind::Credit, self.token, limit), peer);
    }

    fn pong(&mut self, number: u64, received: u64, message: &Message<'_>) {
        let Some(peer) = message.source() else { return };
        self.queue_reply(
            Header {
                sent: received,
                ..Header::bare(Kind::Pong, self.token, number)
            },
            peer,
        );
    }

    fn queue_reply(&mut self, header: Header, peer: SocketAddr) {
        if self.replies.len() < MAX_REPLIES {
            self.replies.push((header, peer));
        }
    }

    /// Sends the queued replies: at most one datagram of 32 bytes for each that arrived.
    #[inline]
    pub(super) fn reply<R: Rx>(&mut self, rx: &mut R) {
        for (mut header, peer) in self.replies.drain(..) {
            if header.kind == Kind::Pong {
                header.lateness = server_ns(&self.offset).saturating_sub(header.sent);
            }
            rx.send_control(&self.relay.wrap(&header.encode()), peer);
        }
        if let (Some(issuer), Some(peer)) = (&mut self.issuer, self.peer)
            && let Some(limit) = issuer.due(self.accounting.next())
        {
            let credit = Header::bare(Kind::Credit, self.token, limit).encode();
            rx.send_control(&self.relay.wrap(&credit), peer);
        }
    }
}
