//! UDP segmentation offload (udp(7)). Trials show whether the kernel and the path support it.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

use thiserror::Error;

use crate::sys::mmsg::SendBatch;
use crate::sys::socket::{self, PathMtuDiscovery};

/// Most bytes of UDP payload per send, segmented or not: 65,535 minus the IPv4 and UDP headers.
pub const MAX_PAYLOAD: usize = 65_507;

/// Most datagrams per segmented send (`UDP_MAX_SEGMENTS`): 128 from Linux 6.9 on, 64 before.
const SEGMENT_LIMITS: [usize; 2] = [128, 64];

/// Most datagrams per segmented send on this kernel, tried on loopback.
///
/// # Errors
/// The kernel lacks `UDP_SEGMENT`, or loopback is unavailable.
pub fn max_segments() -> io::Result<usize> {
    let receiver = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
    let sender = socket::bind_udp((Ipv4Addr::LOCALHOST, 0).into())?;
    sender.connect(receiver.local_addr()?)?;
    socket::set_segment_size(sender.as_fd(), 1)?;
    let payload = [0; SEGMENT_LIMITS[0]];
    let mut batch = SendBatch::new(1);
    let mut last = io::Error::from(io::ErrorKind::Unsupported);
    for segments in SEGMENT_LIMITS {
        match batch.send(sender.as_fd(), payload.get(..segments).into_iter()) {
            Ok(_) => return Ok(segments),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Datagrams of `datagram` bytes that fit one segmented send on a kernel that accepts `most` of them.
pub fn segments_for(datagram: usize, most: usize) -> usize {
    (MAX_PAYLOAD / datagram.max(1)).clamp(1, most)
}

/// Why segmented sends are unavailable on a path.
#[derive(Debug, Error)]
pub enum NoSegments {
    /// The kernel does not fragment segments, so each must fit the path MTU.
    #[error(
        "a datagram of {datagram} B with {headers} B of IP and UDP headers exceeds the path MTU of {mtu} B"
    )]
    Mtu {
        /// UDP payload of a segment in bytes.
        datagram: usize,
        /// Bytes of the IP and UDP headers.
        headers: usize,
        /// Path MTU in bytes.
        mtu: usize,
    },
    /// The socket option is unknown or out of range.
    #[error("the kernel refuses UDP_SEGMENT: {0}")]
    Kernel(io::Error),
    /// The socket option was accepted, but a segmented send was refused.
    #[error("the path refuses segmented sends: {0}")]
    Path(io::Error),
}

/// Enables segmented sends of `datagram` bytes each on a connected socket. First sends the two datagrams of `trial`, if there
/// is one, as one segmented send.
///
/// # Errors
/// [`NoSegments`]; then the socket still sends one datagram per message.
pub fn enable_segments(
    socket: &UdpSocket,
    datagram: usize,
    trial: Option<[&[u8]; 2]>,
) -> Result<(), NoSegments> {
    let headers = socket::headers(socket);
    let mtu = socket::path_mtu(socket).map_err(NoSegments::Path)?;
    if datagram + headers > mtu {
        return Err(NoSegments::Mtu {
            datagram,
            headers,
            mtu,
        });
    }
    let size = |bytes: usize| {
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        socket::set_segment_size(socket.as_fd(), bytes).map_err(NoSegments::Kernel)
    };
    let Some(trial) = trial else {
        return size(datagram);
    };
    size(trial.map(<[u8]>::len).into_iter().max().unwrap_or(0))?;
    let sent = SendBatch::new(1).send(socket.as_fd(), [trial.concat().as_slice()].into_iter());
    if let Err(error) = sent {
        size(0)?;
        return Err(NoSegments::Path(error));
    }
    size(datagram)
}

/// Sends one datagram per message from now on. With `fragments` this host fragments datagrams longer than the path MTU.
///
/// # Errors
/// As setsockopt(2).
pub fn disable_segments(socket: &UdpSocket, fragments: bool) -> io::Result<()> {
    socket::set_segment_size(socket.as_fd(), 0)?;
    match fragments {
        true => socket::set_path_mtu_discovery(socket, PathMtuDiscovery::Want),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fill_a_payload() {
        assert_eq!(segments_for(1_032, 128), 63);
        assert_eq!(segments_for(1_032, 32), 32);
        assert_eq!(segments_for(33, 128), 128);
        assert_eq!(segments_for(65_507, 128), 1);
        assert_eq!(segments_for(100_000, 128), 1);
    }

    #[test]
    fn reported_maximum_is_a_known_limit() {
        match max_segments() {
            Ok(most) => assert!(SEGMENT_LIMITS.contains(&most)),
            Err(error) => println!("skipped: no UDP_SEGMENT here: {error}"),
        }
    }
}
