//! Listeners that whoever started this program has opened for it: sd_listen_fds(3).
//!
//! `LISTEN_FDS` says how many there are, from descriptor 3 on, `LISTEN_PID` whom they are for, and `LISTEN_FDNAMES` what they
//! are called, with colons between. The variables stay set; a program started by this one is not the process that they name.

use std::env;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process;

use socket2::{Domain, SockRef, Type};
use thiserror::Error;

use super::endpoint::Endpoint;

/// The first descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// More than any unit has; a number beyond is a slip.
const MOST: RawFd = 1_024;

/// A listener that came so. It is non-blocking.
#[derive(Debug)]
pub struct Passed {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Where it listens.
    pub local: Endpoint,
    /// The listener, of either family.
    pub listener: TcpListener,
}

/// Why what came is of no use.
#[derive(Debug, Error)]
pub enum ActivationError {
    /// Not a number of descriptors.
    #[error("LISTEN_FDS is {0:?}, not a number of file descriptors from 1 to {MOST}")]
    Count(String),
    /// A descriptor that is not open.
    #[error("file descriptor {0} of LISTEN_FDS cannot be used: {1}")]
    Descriptor(RawFd, #[source] io::Error),
    /// A descriptor that nobody can connect to.
    #[error("file descriptor {0} of LISTEN_FDS is not a listening stream socket of TCP or AF_UNIX")]
    NoListener(RawFd),
}

/// Takes them over; none where none came for this process. To be called once, before this program opens listeners of its own.
///
/// # Errors
/// [`ActivationError`].
pub fn take() -> Result<Vec<Passed>, ActivationError> {
    let of = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let mine = of("LISTEN_PID").is_some_and(|pid| pid == process::id().to_string());
    let Some(count) = of("LISTEN_FDS").filter(|_| mine) else {
        return Ok(Vec::new());
    };
    let count = match count.parse() {
        Ok(number @ 1..=MOST) => number,
        _ => return Err(ActivationError::Count(count)),
    };
    let names = of("LISTEN_FDNAMES").unwrap_or_default();
    let names = names
        .split(':')
        .map(str::to_owned)
        .chain(std::iter::repeat(String::new()));
    (FIRST..FIRST + count)
        .zip(names)
        .map(|(descriptor, name)| {
            let (local, listener) = adopt(descriptor)?;
            Ok(Passed {
                name: Some(name).filter(|name| !name.is_empty()),
                local,
                listener,
            })
        })
        .collect()
}

fn adopt(descriptor: RawFd) -> Result<(Endpoint, TcpListener), ActivationError> {
    let failed = |error| ActivationError::Descriptor(descriptor, error);
    // SAFETY: it takes numbers alone. A descriptor that is not open fails.
    let flags = unsafe { syscall!(fcntl(descriptor, libc::F_GETFD)) }.map_err(failed)?;
    // SAFETY: as above.
    unsafe { syscall!(fcntl(descriptor, libc::F_SETFD, flags | libc::FD_CLOEXEC)) }
        .map_err(failed)?;
    // SAFETY: it was open just now, and is borrowed to be looked at only.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let Some(local) = local(&borrowed) else {
        return Err(ActivationError::NoListener(descriptor));
    };
    // SAFETY: this program has opened no listener yet, so this one is what it was given, and nobody else owns it here.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    SockRef::from(&owned)
        .set_nonblocking(true)
        .map_err(failed)?;
    Ok((local, owned.into()))
}

/// Where a socket listens; `None` where it is none that does.
fn local(socket: &impl AsFd) -> Option<Endpoint> {
    let socket = SockRef::from(socket);
    let listens = socket.is_listener().ok()? && socket.r#type().ok()? == Type::STREAM;
    if !listens {
        return None;
    }
    let address = socket.local_addr().ok()?;
    match socket.domain().ok()? {
        Domain::IPV4 | Domain::IPV6 => address.as_socket().map(Endpoint::Ip),
        Domain::UNIX => {
            let path = address.as_pathname().map(PathBuf::from);
            // An abstract name (unix(7)) is written with @ by most.
            let name = || {
                let name = std::ffi::OsStr::from_bytes(address.as_abstract_namespace()?);
                Some(PathBuf::from(format!("@{}", name.to_string_lossy())))
            };
            path.or_else(name).map(Endpoint::Unix)
        }
        _ => None,
    }
}
