//! The socket of a receiver: the options that are requested from the kernel, and the values that it grants.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use crate::sys::ip_options;
use crate::sys::rx_timestamp::{self, RxTimestamps};
use crate::sys::socket::{self, Buffers};
use crate::udp::credit::CreditIssuer;
use crate::udp::engine::Layout;
use crate::udp::plan::{Mode, Offload, Plan};
use crate::udp::setup::{DEFAULT_BATCH, DEFAULT_BUFFER, SetupError, set_ip_fields};

/// Coalesced messages of 64 KiB per receive call: more would exceed the cache.
const COALESCED: usize = 4;

/// Most bytes per receive call: the client chooses the size of a datagram and of a batch.
const MAX_RECEIVE_BYTES: usize = 2 << 20;

/// Buffer for a coalesced message, in bytes; a longer message would be truncated (udp(7)).
const COALESCED_BYTES: usize = 65_536;

/// A receiver's socket with its options set, and the values granted.
#[derive(Debug)]
pub struct ReceiverSocket {
    /// The socket.
    pub socket: UdpSocket,
    /// Buffer sizes as read back.
    pub buffers: Buffers,
    /// Whether receives are coalesced.
    pub gro: bool,
    /// Why GRO is off although `auto` would use it.
    pub gro_note: Option<String>,
    /// Layout of messages.
    pub layout: Layout,
    /// Whether the sender is pinned to the same CPU.
    pub shared_cpu: bool,
    /// Datagrams that the receive buffer holds.
    pub capacity: u64,
    /// Credit window in datagrams; `None` unless lossless.
    pub window: Option<u64>,
}

impl ReceiverSocket {
    /// Sets a socket up for one stream of `plan`, whose datagrams have a relay's header of up to `front` bytes. `shared_cpu` is true if the
    /// sender is pinned to the same CPU.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(
        socket: UdpSocket,
        plan: &Plan,
        shared_cpu: bool,
        front: usize,
    ) -> Result<Self, SetupError> {
        let refuse = SetupError::Options;
        let datagram = plan.datagram() + front;
        set_ip_fields(&socket, plan.traffic.ip)?;
        if plan.traffic.ip.tos().is_some() {
            ip_options::receive_tos(&socket).map_err(refuse)?;
        }
        let force = plan.receive_buffer.is_some();
        let receive = Some(plan.receive_buffer.unwrap_or(DEFAULT_BUFFER));
        let buffers = socket::set_buffers(&socket, None, receive, force).map_err(refuse)?;
        // Without the option, drops are still read at the end of the run.
        let _ = socket::set_overflow_count(socket.as_fd());
        if plan.kernel_latency || plan.stages {
            let stamped = rx_timestamp::enable(socket.as_fd(), RxTimestamps::Software);
            // Without stamps the receiver's stage is empty.
            if let (Err(error), true) = (stamped, plan.kernel_latency) {
                return Err(SetupError::NoStamps(error));
            }
        }
        let coalesce = match plan.offload_in_force() {
            Offload::Off => Ok(false),
            Offload::On | Offload::Auto => socket::set_gro(socket.as_fd(), true).map(|()| true),
        };
        let (gro, gro_note) = match coalesce {
            Ok(gro) => (gro, None),
            Err(error) if plan.offload == Offload::On => return Err(SetupError::NoGro(error)),
            Err(error) => (false, Some(format!("no GRO at the receiver: {error}"))),
        };
        let layout = if gro {
            Layout {
                messages: COALESCED,
                bytes: COALESCED_BYTES,
                datagram,
                fragments: false,
            }
        } else {
            let bytes = datagram.next_multiple_of(64);
            let messages = plan.batch.unwrap_or(DEFAULT_BATCH);
            Layout {
                messages: messages.min(MAX_RECEIVE_BYTES / bytes).max(1),
                bytes,
                datagram,
                fragments: false,
            }
        };
        let zerocopy = plan.engine.zerocopy;
        let capacity = CreditIssuer::window_for(buffers.receive, datagram, zerocopy, shared_cpu);
        let window = (plan.mode == Mode::Lossless).then_some(capacity);
        Ok(Self {
            socket,
            buffers,
            gro,
            gro_note,
            layout,
            shared_cpu,
            capacity,
            window,
        })
    }
}
