//! From a plan to sockets: what is asked of the kernel for each end of a stream, and what it grants.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use thiserror::Error;

use super::engine::zerocopy::Unavailable;
use super::engine::{self, Layout, Path, offload};
use crate::engine::{EngineKind, ZeroCopy};
use crate::sys::socket::{self, Buffers};
use crate::sys::zerocopy;
use crate::udp::credit::{Grantor, MOST_WINDOW};
use crate::udp::plan::{Df, Mode, Offload, Plan};
use crate::udp::send::path::{PathError, TooLong};
use crate::udp::send::sender::Manner;
use crate::udp::send::spin::SpinChoice;
use crate::udp::wire::control::SenderEffective;
use crate::udp::wire::header::{Header, Kind};

/// Asked for where nothing is said, in bytes: room for the largest window, and what the usual `rmem_max` allows at most.
pub const DEFAULT_BUFFER: usize = 4 << 20;

/// Messages a system call without offload, where nothing is said.
const DEFAULT_BATCH: usize = 64;

/// Segmented messages of up to 64 KiB a send call, where nothing is said: two are 3 % faster than one, four no faster than two.
const MESSAGES: usize = 2;

/// Messages that zero-copy sends may hold on to besides those of a call.
const PINNED: usize = 64;

/// Coalesced messages of 64 KiB a receive call: more would not stay in the cache.
const COALESCED: usize = 4;

/// Bytes that are received in a call at most: a client chooses the datagrams, and how many a batch has.
const MOST_RECEIVE_BYTES: usize = 2 << 20;

/// Bytes of buffer for a coalesced message; what is longer would be cut off (udp(7)).
const COALESCED_BYTES: usize = 65_536;

/// Why an end of a stream cannot be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    /// Binding, or an option that must work.
    #[error("cannot bind a UDP socket to {local}: {cause}")]
    Bind {
        /// Where to.
        local: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// An option that must work.
    #[error("cannot set up a UDP socket: {0}")]
    Options(io::Error),
    /// The interface.
    #[error("cannot send over the interface {device}: {cause}")]
    Device {
        /// Its name.
        device: String,
        /// Why not.
        cause: io::Error,
    },
    /// The route to the receiver.
    #[error("cannot send UDP to {to}: {cause}")]
    Connect {
        /// Where to.
        to: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// `--gso on` where it cannot be had.
    #[error("GSO was asked for (--gso on) and cannot be had: {0}; use --gso off or auto{1}")]
    NoGso(String, String),
    /// `--gso on` on a kernel whose receiver cannot do GRO.
    #[error(
        "GRO was asked for (--gso on) and cannot be had at the receiver: {0}; use --gso off or auto"
    )]
    NoGro(io::Error),
    /// `--df on` where a datagram does not fit.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The engine.
    #[error(transparent)]
    NoEngine(#[from] engine::open::Unavailable),
    /// Of the sender.
    #[error("cannot use --zerocopy: {0}")]
    NoZeroCopy(#[from] Unavailable),
}

/// Whether this host can receive as `plan` says, found out before anything is started.
///
/// # Errors
/// [`SetupError`]: what was asked for and is missing, with the reason and the way out.
pub fn can_receive(plan: &Plan) -> Result<(), SetupError> {
    Ok(engine::open::available(&plan.engine)?)
}

/// Whether this host can send as `plan` says, found out before anything is started.
///
/// # Errors
/// As [`can_receive`].
pub fn can_send(plan: &Plan) -> Result<(), SetupError> {
    can_receive(plan)?;
    Ok(engine::zerocopy::available(&plan.engine)?)
}

/// A receiver's socket, ready, with what it was granted.
#[derive(Debug)]
pub struct ReceiverSocket {
    /// As it was given.
    pub socket: UdpSocket,
    /// As read back.
    pub buffers: Buffers,
    /// Whether receives are coalesced.
    pub gro: bool,
    /// Why not, when `auto` would have.
    pub gro_note: Option<String>,
    /// How messages are laid out.
    pub layout: Layout,
    /// Whether the sender is kept on the same CPU.
    pub shared_cpu: bool,
    /// Datagrams that may pile up unread.
    pub room: u64,
    /// Datagrams to grant ahead; `None` unless lossless.
    pub window: Option<u64>,
}

impl ReceiverSocket {
    /// For one stream of `plan`, on a socket that may be bound already or later. `shared_cpu` says that
    /// the sender is kept on the same CPU.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(socket: UdpSocket, plan: &Plan, shared_cpu: bool) -> Result<Self, SetupError> {
        let refuse = SetupError::Options;
        let force = plan.receive_buffer.is_some();
        let receive = Some(plan.receive_buffer.unwrap_or(DEFAULT_BUFFER));
        let buffers = socket::set_buffers(&socket, None, receive, force).map_err(refuse)?;
        // Without the option the losses at the socket are still read at the end.
        let _ = socket::set_overflow_count(socket.as_fd());
        let coalesce = match plan.offload {
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
                datagram: plan.datagram(),
                fragments: false,
            }
        } else {
            let bytes = plan.datagram().next_multiple_of(64);
            let messages = plan.batch.unwrap_or(DEFAULT_BATCH);
            Layout {
                messages: messages.min(MOST_RECEIVE_BYTES / bytes).max(1),
                bytes,
                datagram: plan.datagram(),
                fragments: false,
            }
        };
        let zerocopy = plan.engine.zerocopy;
        let room = Grantor::window_for(buffers.receive, plan.datagram(), zerocopy, shared_cpu);
        let window = (plan.mode == Mode::Lossless).then_some(room);
        Ok(Self {
            socket,
            buffers,
            gro,
            gro_note,
            layout,
            shared_cpu,
            room,
            window,
        })
    }
}

/// A sender's socket, ready, with what it was granted.
#[derive(Debug)]
pub struct SenderSocket {
    /// Connected to the receiver's.
    pub socket: UdpSocket,
    /// As read back.
    pub buffers: Buffers,
    /// Why GSO is off, when `auto` would have had it.
    pub gso_note: Option<String>,
    /// What was found out about full-size datagrams, where they do not simply arrive.
    pub path_note: Option<String>,
    /// How messages are laid out.
    pub layout: Layout,
    /// Datagrams a message and a submit.
    pub manner: Manner,
}

impl SenderSocket {
    /// For one stream of `plan`, on a socket that is connected to the receiver's, which grants `window` datagrams ahead. Sends two datagrams
    /// there to try GSO. `path_note` is what was found out about full-size datagrams,
    /// where they do not simply arrive.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(
        socket: UdpSocket,
        plan: &Plan,
        send_buffer: Option<usize>,
        token: u64,
        window: Option<u64>,
        path_note: Option<String>,
    ) -> Result<Self, SetupError> {
        let send = Some(send_buffer.unwrap_or(DEFAULT_BUFFER));
        let buffers = socket::set_buffers(&socket, send, None, send_buffer.is_some())
            .map_err(SetupError::Options)?;
        if (plan.engine.kind, plan.engine.zerocopy) == (EngineKind::Mio, ZeroCopy::Msg) {
            zerocopy::enable(socket.as_fd()).map_err(Unavailable::Message)?;
        }
        if plan.df == Df::On
            && let Some(too_long) = TooLong::of(plan.datagram(), Path::of(&socket))
        {
            return Err(PathError::NoFragments(too_long).into());
        }
        let (segments, gso_note) = segments(&socket, plan, token)?;
        // A path that swallows long datagrams has had DF taken off.
        let fragments = plan.df == Df::Auto && path_note.is_none();
        if segments > 1 && fragments {
            // With WANT the kernel leaves DF out of segmented sends, since each is longer than the MTU as a whole.
            socket::set_path_mtu_discovery(&socket, Df::On.policy())
                .map_err(SetupError::Options)?;
        }
        let manner = Manner {
            window,
            must_segment: plan.offload == Offload::On,
            spin_choice: plan.spin,
            streams: plan.streams,
            ..manner(segments, plan.batch)
        };
        let messages = manner.batch.div_ceil(manner.segments) as usize;
        let bytes = manner.segments as usize * plan.datagram();
        let held = match plan.engine.zerocopy {
            // One batch is filled while the kernel's thread has the other.
            ZeroCopy::Off if plan.engine.uring.sqpoll => messages,
            ZeroCopy::Off => 0,
            // All that may be unread. No more: the fewer there are, the sooner they are in the cache again.
            ZeroCopy::Splice => {
                let unread = window.unwrap_or(MOST_WINDOW).min(MOST_WINDOW);
                unread.div_ceil(manner.segments) as usize
            }
            ZeroCopy::Msg => PINNED,
        };
        let layout = Layout {
            messages: messages + held,
            bytes,
            datagram: plan.datagram(),
            fragments,
        };
        Ok(Self {
            socket,
            buffers,
            gso_note,
            path_note,
            layout,
            manner,
        })
    }

    /// What is in force, as the other side is told.
    pub fn effective(&self) -> SenderEffective {
        SenderEffective {
            gso: self.gso(),
            segments: self.manner.segments as usize,
            batch: self.manner.batch as usize,
            send_buffer: self.buffers.send,
            gso_note: self.gso_note.clone(),
            path_note: self.path_note.clone(),
            spin: self.manner.spin,
        }
    }

    /// Whether sends are segmented.
    pub fn gso(&self) -> bool {
        self.manner.segments > 1
    }
}

/// Datagrams a message, and why it is only one when `auto` would have more.
fn segments(
    socket: &UdpSocket,
    plan: &Plan,
    token: u64,
) -> Result<(usize, Option<String>), SetupError> {
    let datagram = plan.datagram();
    if plan.offload == Offload::Off || (plan.offload == Offload::Auto && plan.batch == Some(1)) {
        return Ok((1, None));
    }
    let knock = Header::bare(Kind::Probe, token, 0).encode();
    let reason = match offload::max_segments() {
        Err(error) => format!("this kernel has no UDP_SEGMENT: {error}"),
        Ok(most) => match offload::segments_for(datagram, most) {
            1 => format!("two datagrams of {datagram} B do not fit one send"),
            segments => match offload::enable_segments(socket, datagram, [&knock, &knock]) {
                Ok(()) => return Ok((segments, None)),
                Err(error) => error.to_string(),
            },
        },
    };
    if plan.offload == Offload::On {
        let fits = TooLong::of(datagram, Path::of(socket))
            .and_then(TooLong::chunk_that_fits)
            .map(|chunk| format!(", or --chunk {chunk} or less"))
            .unwrap_or_default();
        return Err(SetupError::NoGso(reason, fits));
    }
    Ok((1, Some(reason)))
}

/// How many datagrams go in a message and in a call, when up to `segments` fit a message and `batch` are asked for a call.
/// A batch of more than one message is cut to whole messages, since a rest would cost as much as a full one.
fn manner(segments: usize, batch: Option<usize>) -> Manner {
    let (segments, batch) = match batch {
        Some(batch) if batch < segments => (batch, batch),
        Some(batch) => (segments, batch - batch % segments),
        None if segments > 1 => (segments, MESSAGES * segments),
        None => (1, DEFAULT_BATCH),
    };
    Manner {
        segments: segments as u64,
        batch: batch as u64,
        window: None,
        must_segment: false,
        spin: false,
        spin_choice: SpinChoice::default(),
        streams: 1,
        shared_cpu: false,
        credit_timeout_ns: u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::plan::tests::small_plan;

    #[test]
    fn a_batch_is_cut_to_whole_messages() {
        let of = |segments, batch| {
            let manner = manner(segments, batch);
            (manner.segments, manner.batch)
        };
        assert_eq!(of(63, None), (63, 126));
        assert_eq!(of(63, Some(64)), (63, 63));
        assert_eq!(of(63, Some(130)), (63, 126));
        assert_eq!(of(63, Some(16)), (16, 16));
        assert_eq!(of(1, None), (1, 64));
        assert_eq!(of(1, Some(7)), (1, 7));
    }

    #[test]
    fn segments_asked_for_and_impossible_are_an_error_and_auto_says_why() {
        let (receiver, sender) = pair();
        let plan = Plan {
            chunk: 40_000,
            offload: Offload::On,
            ..small_plan()
        };
        let set_up = |plan: &Plan| {
            let socket = sender.try_clone().unwrap();
            SenderSocket::new(socket, plan, None, 1, None, None)
        };
        let error = set_up(&plan).unwrap_err().to_string();
        assert!(error.contains("do not fit one send"), "{error}");
        let sender = set_up(&Plan {
            offload: Offload::Auto,
            ..plan
        })
        .unwrap();
        assert!(!sender.gso());
        assert!(sender.gso_note.is_some());
        drop(receiver);
    }

    fn pair() -> (UdpSocket, UdpSocket) {
        let local = "127.0.0.1:0".parse().unwrap();
        let receiver = socket::bind_udp(local).unwrap();
        let sender = socket::bind_udp(local).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        (receiver, sender)
    }

    #[test]
    fn off_is_off_at_both_ends() {
        let plan = Plan {
            offload: Offload::Off,
            ..small_plan()
        };
        let (receiver, sender) = pair();
        let receiver = ReceiverSocket::new(receiver, &plan, false).unwrap();
        let sender = SenderSocket::new(sender, &plan, None, 1, None, None).unwrap();
        assert_eq!(
            (receiver.gro, sender.gso(), sender.gso_note),
            (false, false, None)
        );
        assert_eq!(
            sender.layout,
            Layout {
                messages: 64,
                bytes: 1_032,
                datagram: 1_032,
                fragments: true,
            }
        );
    }
}
