//! The socket of a sender: the options that are requested from the kernel, and the values that it grants.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use crate::engine::{EngineKind, ZeroCopy};
use crate::sys::socket::{self, Buffers};
use crate::sys::{tx_timestamp, zerocopy};
use crate::udp::credit::MAX_WINDOW;
use crate::udp::engine::stamps::StampPolicy;
use crate::udp::engine::zerocopy::Unavailable;
use crate::udp::engine::{Layout, Path, offload};
use crate::udp::path_mtu::{PathError, TooLong};
use crate::udp::plan::{Df, Offload, Plan, SpinChoice};
use crate::udp::relay_header::RelayHeader;
use crate::udp::send::sender::BatchPolicy;
use crate::udp::setup::{DEFAULT_BATCH, DEFAULT_BUFFER, SetupError};
use crate::udp::stages::NO_OFFLOAD;
use crate::udp::wire::header::{Header, Kind};
use crate::udp::wire::results::SenderEffective;

/// Default batch with GSO, in messages of up to 64 KiB per send call: two are 3 % faster than one, four no faster than two.
const MESSAGES: usize = 2;

/// Most datagrams per send call of a sender in a shared loop, unless they fit one message.
const SHARED_BATCH: u64 = 16;

/// Messages that zero-copy sends may keep in flight besides those of a call.
const PINNED: usize = 64;

/// A sender's socket with its options set, and the values granted.
#[derive(Debug)]
pub struct SenderSocket {
    /// The socket, connected to the receiver's.
    pub socket: UdpSocket,
    /// Buffer sizes as read back.
    pub buffers: Buffers,
    /// Why GSO is off although `auto` would use it.
    pub gso_note: Option<String>,
    /// The outcome of the path probe, if full-size datagrams do not simply arrive.
    pub path_note: Option<String>,
    /// Layout of messages.
    pub layout: Layout,
    /// Datagrams per message and per submit.
    pub policy: BatchPolicy,
    /// Which messages the kernel stamps.
    pub stamps: Option<StampPolicy>,
    /// Why it stamps none although the plan requests stages.
    pub stamp_note: Option<String>,
}

impl SenderSocket {
    /// Sets a socket up for one stream of `plan`. The socket is connected to the receiver's, whose credit window is `window`. Sends
    /// two datagrams with the `token` and the header of the relay to try GSO. `path_note` is the outcome of the path probe, if full-size
    /// datagrams do not simply arrive.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(
        socket: UdpSocket,
        plan: &Plan,
        send_buffer: Option<usize>,
        (token, relay): (u64, &RelayHeader),
        window: Option<u64>,
        path_note: Option<String>,
    ) -> Result<Self, SetupError> {
        let datagram = plan.datagram() + relay.len();
        let send = Some(send_buffer.unwrap_or(DEFAULT_BUFFER));
        let buffers = socket::set_buffers(&socket, send, None, send_buffer.is_some())
            .map_err(SetupError::Options)?;
        if (plan.engine.kind, plan.engine.zerocopy) == (EngineKind::Mio, ZeroCopy::Msg) {
            zerocopy::enable(socket.as_fd()).map_err(Unavailable::Message)?;
        }
        if plan.df == Df::On
            && let Some(too_long) = TooLong::of(datagram, Path::of(&socket))
        {
            return Err(PathError::NoFragments(too_long.behind(relay.len())).into());
        }
        let (segments, gso_note) = segments(&socket, plan, token, relay)?;
        // DF is off already on a path that drops long datagrams.
        let fragments = plan.df == Df::Auto && path_note.is_none();
        if segments > 1 && fragments {
            // With WANT the kernel omits DF in segmented sends, since each message is longer than the MTU.
            socket::set_path_mtu_discovery(&socket, Df::On.policy())
                .map_err(SetupError::Options)?;
        }
        let policy = BatchPolicy {
            window,
            must_segment: plan.offload == Offload::On,
            spin_choice: plan.spin,
            streams: plan.streams,
            ..batch_policy(segments, plan.batch)
        };
        let messages = policy.batch.div_ceil(policy.segments) as usize;
        let bytes = policy.segments as usize * datagram;
        let in_flight = match plan.engine.zerocopy {
            // One batch is filled while the kernel's thread sends the other.
            ZeroCopy::Off if plan.engine.uring.sqpoll => messages,
            ZeroCopy::Off => 0,
            // All datagrams that may be unread. With more slots, fewer would be in the cache.
            ZeroCopy::Splice => {
                let unread = window.unwrap_or(MAX_WINDOW).min(MAX_WINDOW);
                unread.div_ceil(policy.segments) as usize
            }
            ZeroCopy::Msg => PINNED,
        };
        let layout = Layout {
            messages: messages + in_flight,
            bytes,
            datagram,
            fragments,
        };
        let (stamps, stamp_note) = stamps(&socket, plan);
        Ok(Self {
            socket,
            buffers,
            gso_note,
            path_note,
            layout,
            policy,
            stamps,
            stamp_note,
        })
    }

    /// Limits the slots to those that a sender in a shared loop needs: one message, or a few short ones.
    pub fn limit_slots(&mut self) {
        let policy = &mut self.policy;
        policy.batch = policy.batch.min(policy.segments.max(SHARED_BATCH));
        policy.spin = false;
        self.layout.messages = policy.batch.div_ceil(policy.segments) as usize;
    }

    /// The settings in force.
    pub fn effective(&self) -> SenderEffective {
        SenderEffective {
            gso: self.gso(),
            segments: self.policy.segments as usize,
            batch: self.policy.batch as usize,
            send_buffer: self.buffers.send,
            gso_note: self.gso_note.clone(),
            path_note: self.path_note.clone(),
            spin: self.policy.spin,
            shares_loops: false,
            stamp_note: self.stamp_note.clone(),
        }
    }

    /// Whether sends are segmented.
    pub fn gso(&self) -> bool {
        self.policy.segments > 1
    }
}

/// Datagrams per message, and why GSO is off although `auto` would use it.
fn segments(
    socket: &UdpSocket,
    plan: &Plan,
    token: u64,
    relay: &RelayHeader,
) -> Result<(usize, Option<String>), SetupError> {
    let datagram = plan.datagram() + relay.len();
    if plan.offload_in_force() != plan.offload {
        return Ok((1, Some(NO_OFFLOAD.to_owned())));
    }
    if plan.offload == Offload::Off || (plan.offload == Offload::Auto && plan.batch == Some(1)) {
        return Ok((1, None));
    }
    if plan.traffic.sizes.is_some() {
        return Ok((
            1,
            Some("datagrams of several sizes are sent one by one".to_owned()),
        ));
    }
    let probe = relay.wrap(&Header::bare(Kind::Probe, token, 0).encode());
    // The receiver would respond to a probe, and a sender to a group cannot receive the response.
    let trial = plan.traffic.group.is_none().then_some([&*probe; 2]);
    let reason = match offload::max_segments() {
        Err(error) => format!("this kernel has no UDP_SEGMENT: {error}"),
        Ok(most) => match offload::segments_for(datagram, most) {
            1 => format!("two datagrams of {datagram} B do not fit one send"),
            segments => match offload::enable_segments(socket, datagram, trial) {
                Ok(()) => return Ok((segments, None)),
                Err(error) => error.to_string(),
            },
        },
    };
    if plan.offload == Offload::On {
        let fits = TooLong::of(datagram, Path::of(socket))
            .and_then(|too_long| too_long.behind(relay.len()).chunk_that_fits())
            .map(|chunk| format!(", or --chunk {chunk} or less"))
            .unwrap_or_default();
        return Err(SetupError::NoGso(reason, fits));
    }
    Ok((1, Some(reason)))
}

/// Which messages the kernel stamps, if the plan requests stages, or why it stamps none.
fn stamps(socket: &UdpSocket, plan: &Plan) -> (Option<StampPolicy>, Option<String>) {
    if !plan.stages {
        return (None, None);
    }
    if plan.engine.zerocopy != ZeroCopy::Off {
        let note = "zero-copy sends (--zerocopy) are not stamped";
        return (None, Some(note.to_owned()));
    }
    let keys = tx_timestamp::keys().and_then(|keys| {
        tx_timestamp::enable(socket.as_fd())?;
        Ok(keys)
    });
    match keys {
        Ok(keys) => {
            let every = plan.stamped_every();
            (Some(StampPolicy { every, keys }), None)
        }
        Err(error) => {
            let note = format!("the sender's kernel stamps no datagrams: {error}");
            (None, Some(note))
        }
    }
}

/// Datagrams per message and per call, when up to `segments` fit a message and `batch` are requested per call. A batch of more than
/// one message is truncated to whole messages, since a short message costs as much as a full one.
fn batch_policy(segments: usize, batch: Option<usize>) -> BatchPolicy {
    let (segments, batch) = match batch {
        Some(batch) if batch < segments => (batch, batch),
        Some(batch) => (segments, batch - batch % segments),
        None if segments > 1 => (segments, MESSAGES * segments),
        None => (1, DEFAULT_BATCH),
    };
    BatchPolicy {
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
mod tests;
