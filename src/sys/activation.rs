//! Listeners passed by a service manager: sd_listen_fds(3).
//!
//! `LISTEN_FDS` is their number, from descriptor 3 on, `LISTEN_PID` the process they are for, and `LISTEN_FDNAMES`
//! their names, separated by colons. The variables stay set. A child process ignores them, since `LISTEN_PID` names
//! another process.

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

/// More than any unit has. A larger number is an error.
const MOST: RawFd = 1_024;

/// A passed listener. It is non-blocking.
#[derive(Debug)]
pub struct Passed {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The address it listens on.
    pub local: Endpoint,
    /// The listener, of any supported family.
    pub listener: TcpListener,
}

/// Why a passed descriptor is unusable.
#[derive(Debug, Error)]
pub enum ActivationError {
    /// Not a number of descriptors.
    #[error("LISTEN_FDS is {0:?}, not a number of file descriptors from 1 to {MOST}")]
    Count(String),
    /// A descriptor that is not open.
    #[error("file descriptor {0} of LISTEN_FDS cannot be used: {1}")]
    Descriptor(RawFd, #[source] io::Error),
    /// A descriptor that is not a listening stream socket.
    #[error("file descriptor {0} of LISTEN_FDS is not a listening stream socket of TCP or AF_UNIX")]
    NoListener(RawFd),
}

/// Takes ownership of the listeners passed to this process; empty if none were passed. Must be called once, before this
/// program opens listeners.
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
    // SAFETY: passes only numbers. A closed descriptor fails.
    let flags = unsafe { syscall!(fcntl(descriptor, libc::F_GETFD)) }.map_err(failed)?;
    // SAFETY: as above.
    unsafe { syscall!(fcntl(descriptor, libc::F_SETFD, flags | libc::FD_CLOEXEC)) }
        .map_err(failed)?;
    // SAFETY: the descriptor was open just now and is only borrowed for queries.
    let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let Some(local) = local(&borrowed) else {
        return Err(ActivationError::NoListener(descriptor));
    };
    // SAFETY: this program has opened no listener yet, so the descriptor was passed to it and has no other owner.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    SockRef::from(&owned)
        .set_nonblocking(true)
        .map_err(failed)?;
    Ok((local, owned.into()))
}

/// The address a socket listens on; `None` if it is not a listening stream socket.
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
            // By convention an abstract name (unix(7)) is written with @.
            let name = || {
                let name = std::ffi::OsStr::from_bytes(address.as_abstract_namespace()?);
                Some(PathBuf::from(format!("@{}", name.to_string_lossy())))
            };
            path.or_else(name).map(Endpoint::Unix)
        }
        _ => None,
    }
}
