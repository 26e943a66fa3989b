//! How a sender waits.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::{SOCKET, TIMER, WAKE, poll};
use crate::sys::eventfd::EventFd;
use crate::sys::timerfd::TimerFd;
use crate::udp::engine::Until;

/// The event loop of a sender.
pub(super) struct Waits {
    poll: Poll,
    events: Events,
    timer: TimerFd,
}

impl Waits {
    pub(super) fn new(socket: &UdpSocket, wake: &EventFd) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = TimerFd::new()?;
        let register = |fd, token| {
            poll.registry()
                .register(&mut SourceFd(&fd), token, Interest::READABLE)
        };
        register(socket.as_raw_fd(), SOCKET)?;
        register(timer.as_fd().as_raw_fd(), TIMER)?;
        register(wake.as_fd().as_raw_fd(), WAKE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(4),
            timer,
        })
    }

    pub(super) fn wait(&mut self, fd: RawFd, until: Until) -> io::Result<()> {
        match until {
            Until::About(deadline) => poll(&mut self.poll, &mut self.events, Some(deadline)),
            Until::Exactly(deadline) => {
                self.timer.arm(deadline)?;
                poll(&mut self.poll, &mut self.events, None)
            }
            Until::WritableOr(deadline) => {
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll
                    .registry()
                    .reregister(&mut SourceFd(&fd), SOCKET, both)?;
                let waited = poll(&mut self.poll, &mut self.events, Some(deadline));
                self.poll
                    .registry()
                    .reregister(&mut SourceFd(&fd), SOCKET, Interest::READABLE)?;
                waited
            }
        }
    }
}
