//! Requests to the kernel's routing service: rtnetlink(7).

use std::io::{self, Read};
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Larger than any message of a dump (`netlink_dump` in the kernel limits messages to 32 KiB).
pub(super) const BUFFER: usize = 64 << 10;

/// Longest wait for the kernel, which replies at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Size of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;

/// Size of the length and the type of an attribute.
const ATTRIBUTE: usize = 4;

pub(super) fn open() -> io::Result<Socket> {
    Socket::new(
        Domain::from(libc::AF_NETLINK),
        Type::RAW,
        Some(Protocol::from(libc::NETLINK_ROUTE)),
    )
}

/// A message and its header.
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) body: &'a [u8],
}

/// The messages of a datagram, up to the first truncated one.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = u32::from_ne_bytes(*length) as usize;
        let kind = u16::from_ne_bytes(*rest.first_chunk()?);
        let body = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, body })
    })
}

/// Type and value of each attribute, up to the first truncated one.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let kind = u16::from_ne_bytes(*rest.first_chunk()?);
        let value = bytes.get(ATTRIBUTE..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// An attribute whose value is a multiple of 4 bytes long.
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (ATTRIBUTE + value.len()) as u16;
    let parts = [&length.to_ne_bytes()[..], &kind.to_ne_bytes()[..], value];
    parts.concat()
}

/// Why a request failed. The difference matters: without a socket nothing is known, while the kernel's reply may be that a thing does
/// not exist.
pub(super) enum AskError {
    /// The request could not be made, as socket(2), where AF_NETLINK may be forbidden, send(2) and recv(2).
    Io(io::Error),
    /// The error in the kernel's reply.
    Reply(io::Error),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<AskError> for io::Error {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Io(error) | AskError::Reply(error) => error,
        }
    }
}

/// Sends a request, and passes each message of the reply to `each`. A dump is a reply of many messages.
///
/// # Errors
/// [`AskError`].
pub(super) fn ask(
    kind: u16,
    is_dump: bool,
    body: &[u8],
    mut each: impl FnMut(&Message<'_>),
) -> Result<(), AskError> {
    let mut socket = open()?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Without strict checking the kernel ignores the fields that restrict a dump: it sends all tables, which are millions of
    // routes on a router.
    let on: libc::c_int = 1;
    // SAFETY: `on` is readable for the given length during the call.
    unsafe {
        syscall!(setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_GET_STRICT_CHK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        ))?
    };
    socket.send(&request(kind, is_dump, body))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let bytes = match socket.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        for message in messages(buffer.get(..bytes).unwrap_or_default()) {
            match libc::c_int::from(message.kind) {
                libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                    return end(&message).map_err(AskError::Reply);
                }
                _ => each(&message),
            }
            if !is_dump {
                return Ok(());
            }
        }
    }
}

/// The outcome in the last message of a dump, or in an error.
fn end(message: &Message<'_>) -> io::Result<()> {
    let number = message
        .body
        .first_chunk()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    match number.checked_neg() {
        None | Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A request: `struct nlmsghdr` and the body.
pub(super) fn request(kind: u16, is_dump: bool, body: &[u8]) -> Vec<u8> {
    let dump = if is_dump { libc::NLM_F_DUMP } else { 0 };
    let flags = (libc::NLM_F_REQUEST | dump) as u16;
    let length = (HEADER + body.len()) as u32;
    let parts = [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes()[..],
        &flags.to_ne_bytes()[..],
        // Sequence number and port.
        &[0; 8],
        body,
    ];
    parts.concat()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Bytes with small numbers, which make valid lengths likely.
    pub(in crate::sys) fn noise() -> impl Iterator<Item = Vec<u8>> {
        let mut state = 1u64;
        (0..400).map(move |length| {
            let mut byte = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 40) as u8 & 31
            };
            (0..length).map(|_| byte()).collect()
        })
    }

    #[test]
    fn arbitrary_bytes_are_parsed_without_panic() {
        for bytes in noise() {
            for message in messages(&bytes) {
                let _ = (end(&message), attributes(message.body).count());
            }
        }
    }

    #[test]
    fn a_request_is_parsed_as_it_was_built() {
        let body = [attribute(7, &[1, 2, 3, 4]), attribute(9, &[])].concat();
        let bytes = request(libc::RTM_GETROUTE, true, &body);
        let all: Vec<_> = messages(&bytes).collect();
        assert_eq!(
            (all.len(), all[0].kind, all[0].body),
            (1, libc::RTM_GETROUTE, &body[..])
        );
        let found: Vec<_> = attributes(all[0].body).collect();
        assert_eq!(found, [(7, &[1u8, 2, 3, 4][..]), (9, &[][..])]);
    }
}
