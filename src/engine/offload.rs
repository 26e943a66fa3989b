//! What UDP segmentation offload can do here, found out by trying it (udp(7)).

use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

use thiserror::Error;

use crate::sys::mmsg::SendBatch;
use crate::sys::socket::{self, PathMtuDiscovery};

/// Most bytes of UDP payload in one send, segmented or not: 65,535 less the IPv4 and UDP headers.
pub const MOST_PAYLOAD: usize = 65_507;

/// Datagrams a segmented send may hold, by kernel: 128 from 6.9 on, 64 before (`UDP_MAX_SEGMENTS`).
const SEGMENT_LIMITS: [usize; 2] = [128, 64];

/// How many datagrams one segmented send may hold on this kernel, tried out on loopback.
///
/// # Errors
/// When the kernel has no `UDP_SEGMENT`, or loopback is not to be had.
pub fn most_segments() -> io::Result<usize> {
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

/// How many datagrams of `datagram` bytes fit one segmented send of a kernel that takes `most` of them.
pub fn segments_for(datagram: usize, most: usize) -> usize {
    (MOST_PAYLOAD / datagram.max(1)).clamp(1, most)
}

/// Why a path takes no segmented sends.
#[derive(Debug, Error)]
pub enum NoSegments {
    /// The kernel does not fragment what it segments, so each segment must fit whole.
    #[error(
        "a datagram of {datagram} B with {headers} B of IP and UDP headers exceeds the path MTU of {mtu} B"
    )]
    Mtu {
        /// UDP payload of a segment.
        datagram: usize,
        /// What IP and UDP add.
        headers: usize,
        /// Of the path, as far as the kernel knows.
        mtu: usize,
    },
    /// The option is unknown or out of range.
    #[error("the kernel does not take UDP_SEGMENT: {0}")]
    Kernel(io::Error),
    /// The option was taken, but a segmented send was not.
    #[error("the path refuses segmented sends: {0}")]
    Path(io::Error),
}

/// Sets a connected socket up for segmented sends of `datagram` bytes each, after trying with two
/// segments, `trial`, that the path takes any.
///
/// # Errors
/// [`NoSegments`]; then the socket sends one datagram a message, as before.
pub fn enable_segments(
    socket: &UdpSocket,
    datagram: usize,
    trial: [&[u8; TRIAL]; 2],
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
    size(TRIAL)?;
    let sent = SendBatch::new(1).send(
        socket.as_fd(),
        [trial.map(<[u8; TRIAL]>::as_slice).concat().as_slice()].into_iter(),
    );
    if let Err(error) = sent {
        size(0)?;
        return Err(NoSegments::Path(error));
    }
    size(datagram)
}

/// Sends one datagram a message from now on. With `fragments` one that is longer than the path MTU is fragmented here.
///
/// # Errors
/// As setsockopt(2).
pub fn stop_segments(socket: &UdpSocket, fragments: bool) -> io::Result<()> {
    socket::set_segment_size(socket.as_fd(), 0)?;
    match fragments {
        true => socket::set_path_mtu_discovery(socket, PathMtuDiscovery::Want),
        false => Ok(()),
    }
}

/// Bytes of each of the two segments that are tried.
pub const TRIAL: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fill_a_payload_and_no_more() {
        assert_eq!(segments_for(1_032, 128), 63);
        assert_eq!(segments_for(1_032, 32), 32);
        assert_eq!(segments_for(33, 128), 128);
        assert_eq!(segments_for(65_507, 128), 1);
        assert_eq!(segments_for(100_000, 128), 1);
    }

    #[test]
    fn what_the_kernel_says_it_takes_it_takes() {
        match most_segments() {
            Ok(most) => assert!(SEGMENT_LIMITS.contains(&most)),
            Err(error) => println!("skipped: no UDP_SEGMENT here: {error}"),
        }
    }
}
