//! The sockets of a session's receivers, set up before any stream is open.

use std::net::{SocketAddr, UdpSocket};

use crate::sys::shared_port;
use crate::udp::placement::Cpus;
use crate::udp::plan::Plan;
use crate::udp::receive::socket::ReceiverSocket;
use crate::udp::setup::SetupError;
use crate::udp::wire::control::ReceiverEffective;

/// Sockets with their options set but not bound, and the settings that the sender must know.
pub struct PreparedReceivers {
    pub(super) sockets: Vec<Option<ReceiverSocket>>,
    pub(super) effective: ReceiverEffective,
}

impl PreparedReceivers {
    /// Creates a socket of the address family of `local` for each stream. The receivers are pinned to `cpus`. `shared` returns
    /// whether the sender of a stream is pinned to the same CPU.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(
        plan: &Plan,
        local: SocketAddr,
        cpus: Cpus,
        shared: impl Fn(usize) -> bool,
    ) -> Result<Self, SetupError> {
        let socket = || {
            shared_port::unbound(local).map_err(|cause| SetupError::Bind {
                local: shared_port::any(local),
                cause,
            })
        };
        let sockets: Vec<UdpSocket> = (0..plan.streams)
            .map(|_| socket())
            .collect::<Result<_, _>>()?;
        Self::with(plan, sockets, cpus, shared, 0)
    }

    /// As [`Self::new`], on existing sockets, whose datagrams have a relay's header of up to `front` bytes.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn with(
        plan: &Plan,
        sockets: Vec<UdpSocket>,
        cpus: Cpus,
        shared: impl Fn(usize) -> bool,
        front: usize,
    ) -> Result<Self, SetupError> {
        let mut sockets: Vec<ReceiverSocket> = sockets
            .into_iter()
            .enumerate()
            .map(|(stream, socket)| ReceiverSocket::new(socket, plan, shared(stream), front))
            .collect::<Result<_, _>>()?;
        // The sender has one window, and reuses its zero-copy pages by it: the smallest applies to every stream.
        let window = sockets.iter().filter_map(|socket| socket.window).min();
        sockets.iter_mut().for_each(|socket| socket.window = window);
        let effective = sockets
            .first()
            .map_or_else(ReceiverEffective::default, |first| ReceiverEffective {
                receive_buffer: first.buffers.receive,
                gro: first.gro,
                gro_note: first.gro_note.clone(),
                window,
                cpus,
                shares_loops: false,
                kernel_latency: plan.kernel_latency,
            });
        Ok(Self {
            sockets: sockets.into_iter().map(Some).collect(),
            effective,
        })
    }

    /// Sets whether the receivers share their threads.
    pub fn set_shares_loops(&mut self, shares: bool) {
        self.effective.shares_loops = shares;
    }

    /// The settings in force.
    pub fn effective(&self) -> &ReceiverEffective {
        &self.effective
    }
}
