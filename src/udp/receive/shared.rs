//! A receiver in a shared event loop.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use crate::sys::mmsg::ReceiveBatch;
use crate::udp::engine::Layout;
use crate::udp::engine::mio::SharedSocket;
use crate::udp::receive::receiver::{ReceiverConfig, StreamReceiver, Turn};
use crate::udp::receive::thread::EventSink;
use crate::udp::shared_loops::{Cost, Member, Next};

pub(super) struct SharedReceiver {
    receiver: StreamReceiver,
    socket: SharedSocket,
    sink: EventSink,
}

impl SharedReceiver {
    pub(super) fn new(
        socket: Arc<UdpSocket>,
        layout: Layout,
        config: ReceiverConfig,
        sink: EventSink,
    ) -> Self {
        Self {
            receiver: StreamReceiver::new(config),
            socket: SharedSocket::new(socket, layout),
            sink,
        }
    }
}

impl Member for SharedReceiver {
    fn socket(&self) -> Option<RawFd> {
        Some(self.socket.socket().as_raw_fd())
    }

    fn turn(&mut self, batch: &mut ReceiveBatch) -> io::Result<Next> {
        let mut rx = self.socket.with(batch);
        let sink = &self.sink;
        let turn = self.receiver.turn(&mut rx, |event| sink.emit(event))?;
        Ok(match turn {
            Turn::Received if !rx.is_drained() => Next::Soon,
            Turn::Received | Turn::Empty => Next::At(self.receiver.deadline()),
            Turn::Ended => Next::Ended,
        })
    }

    fn end(self: Box<Self>, batch: &mut ReceiveBatch, cost: Cost, error: Option<io::Error>) {
        let Self {
            receiver,
            mut socket,
            sink,
        } = *self;
        let rx = socket.with(batch);
        receiver.end(&rx, cost.cpu, error, |event| sink.emit(event));
    }
}
