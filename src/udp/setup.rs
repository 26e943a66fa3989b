//! Requirements of a plan on the kernel, and the errors of its sockets. `send::socket` and `receive::socket` set the sockets up.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use thiserror::Error;

use super::engine;
use super::engine::zerocopy::Unavailable;
use super::path_mtu::PathError;
use super::plan::Plan;
use super::plan::traffic::IpFields;
use crate::sys::ip_options;

/// Default socket buffers, in bytes: enough for the largest window, and the usual `rmem_max`.
pub const DEFAULT_BUFFER: usize = 4 << 20;

/// Default batch without offload, in messages per system call.
pub(super) const DEFAULT_BATCH: usize = 64;

/// Why an end of a stream cannot be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The socket cannot be bound.
    #[error("cannot bind a UDP socket to {local}: {cause}")]
    Bind {
        /// The local address.
        local: SocketAddr,
        /// The error.
        cause: io::Error,
    },
    /// A required option cannot be set.
    #[error("cannot set up a UDP socket: {0}")]
    Options(io::Error),
    /// The interface cannot be used.
    #[error("cannot send over the interface {device}: {cause}")]
    Device {
        /// The interface.
        device: String,
        /// The error.
        cause: io::Error,
    },
    /// The other end has no route.
    #[error("cannot send UDP to {to}: {cause}")]
    Connect {
        /// The remote address.
        to: SocketAddr,
        /// The error.
        cause: io::Error,
    },
    /// The interface has no route to groups of IPv6.
    #[error(
        "the interface {device} has no route to the group {group}: loopback has none to groups of IPv6. Use a group of IPv4, or a server on another host"
    )]
    NoGroups {
        /// The group.
        group: IpAddr,
        /// The interface.
        device: String,
    },
    /// `--gso on`, and GSO is unavailable.
    #[error("GSO is required (--gso on) but unavailable: {0}; use --gso off or auto{1}")]
    NoGso(String, String),
    /// `--gso on`, and GRO is unavailable at the receiver.
    #[error(
        "GRO is required (--gso on) but unavailable at the receiver: {0}; use --gso off or auto"
    )]
    NoGro(io::Error),
    /// The datagrams do not fit the path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The engine is unavailable.
    #[error(transparent)]
    NoEngine(#[from] engine::open::Unavailable),
    /// Zero-copy sends are unavailable.
    #[error("cannot use --zerocopy: {0}")]
    NoZeroCopy(#[from] Unavailable),
    /// The kernel takes no receive stamps.
    #[error("this kernel stamps no received datagrams: {0}; use --timestamps user")]
    NoStamps(io::Error),
}

/// Checks whether this host can receive as `plan` requires.
///
/// # Errors
/// [`SetupError`]: a required feature that is unavailable.
pub fn can_receive(plan: &Plan) -> Result<(), SetupError> {
    Ok(engine::open::available(&plan.engine)?)
}

/// Checks whether this host can send as `plan` requires.
///
/// # Errors
/// As [`can_receive`].
pub fn can_send(plan: &Plan) -> Result<(), SetupError> {
    can_receive(plan)?;
    Ok(engine::zerocopy::available(&plan.engine)?)
}

/// Sets the fields of the IP header of a socket's datagrams, as far as they are requested.
///
/// # Errors
/// [`SetupError::Options`].
pub fn set_ip_fields(socket: &UdpSocket, ip: IpFields) -> Result<(), SetupError> {
    if let Some(tos) = ip.tos() {
        ip_options::set_tos(socket, tos).map_err(SetupError::Options)?;
    }
    if let Some(hops) = ip.ttl {
        ip_options::set_hop_limit(socket, hops).map_err(SetupError::Options)?;
    }
    Ok(())
}
