//! The thread of an end, with a channel of the chosen engine.

use std::io;
use std::net::UdpSocket;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::channel::{Channel, Settings};
use super::ring::RingChannel;
use super::socket::SocketChannel;
use crate::engine::EngineKind;
use crate::sys::{affinity, timer_slack};

/// Code that runs on any channel.
pub(super) trait WithChannel: Send + 'static {
    /// Its result.
    type Output: Send + 'static;

    /// Runs.
    fn run(self, channel: impl Channel) -> Self::Output;
}

/// Starts a thread with `code` on a connected socket, and returns once its channel is open. The thread has no result if that fails.
///
/// # Errors
/// As pthread_create(3), setsockopt(2) and io_uring_setup(2).
pub(super) fn spawn<C: WithChannel>(
    settings: Settings,
    socket: UdpSocket,
    code: C,
) -> io::Result<JoinHandle<Option<C::Output>>> {
    let (opened, is_open) = mpsc::channel();
    let thread = thread::Builder::new().name(settings.name.to_owned());
    let thread = thread.spawn(move || {
        if let Some(cpu) = settings.cpu {
            // The option was checked; if the CPU is gone since, the thread stays where it is.
            let _ = affinity::pin(cpu);
        }
        let _ = timer_slack::tighten();
        // A ring belongs to the thread that creates it.
        match settings.engine.kind {
            EngineKind::Mio => begin(SocketChannel::new(socket, &settings), code, &opened),
            EngineKind::Uring => begin(RingChannel::new(socket, &settings), code, &opened),
        }
    })?;
    match is_open.recv() {
        Ok(result) => result.map(|()| thread),
        Err(_) => Err(io::Error::other("its thread failed")),
    }
}

fn begin<C: WithChannel>(
    channel: io::Result<impl Channel>,
    code: C,
    opened: &mpsc::Sender<io::Result<()>>,
) -> Option<C::Output> {
    // The starting thread waits for this message.
    match channel {
        Ok(channel) => {
            let _ = opened.send(Ok(()));
            Some(code.run(channel))
        }
        Err(error) => {
            let _ = opened.send(Err(error));
            None
        }
    }
}
