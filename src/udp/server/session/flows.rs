//! The first datagrams of a session's flows, which open them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use mio::Registry;

use super::{Receiving, Session};
use crate::sys::clock::monotonic_ns;
use crate::sys::device::Device;
use crate::sys::{ip_options, shared_port};
use crate::udp::result::Ended;
use crate::udp::server::ports::{FlowKind, PortDatagram};
use crate::udp::server::probe::answer_probe;
use crate::udp::server::senders::SendingStreams;

impl Session {
    /// Processes a datagram of a flow that has no socket connected to the sender.
    pub(in crate::udp::server) fn on_datagram(
        &mut self,
        datagram: &PortDatagram,
        registry: &Registry,
    ) {
        let arrived = monotonic_ns();
        self.last_datagram = Instant::now();
        // The drops of the trial's datagrams are none of the run, whose counters start when the last stream opens. The client repeats
        // its probes.
        let is_trial = self
            .trial
            .as_ref()
            .is_some_and(|trial| !trial.is_finished());
        let outcome = match datagram.flow.kind {
            FlowKind::Forward(_) | FlowKind::Reverse(_) if is_trial => Ok(()),
            FlowKind::Clock => self.open_clock(datagram, arrived, registry),
            FlowKind::Forward(stream) => self.open_forward(stream, datagram),
            FlowKind::Reverse(stream) => self.open_reverse(stream, datagram),
        };
        if let Err(error) = outcome {
            self.end(Ended::Failed(format!(
                "the server cannot open a stream on {}: {error}",
                datagram.local
            )));
        }
    }

    fn open_clock(
        &mut self,
        datagram: &PortDatagram,
        arrived: u64,
        registry: &Registry,
    ) -> io::Result<()> {
        self.clock
            .open(datagram.local, datagram.peer, registry, self.token)?;
        self.clock.reply(&datagram.header, arrived);
        Ok(())
    }

    fn open_forward(&mut self, stream: usize, datagram: &PortDatagram) -> io::Result<()> {
        if let Receiving::Responding(responder) = &mut self.receiving {
            return responder.open(&datagram.header, datagram.local, datagram.peer);
        }
        let Receiving::Running(receivers) = &mut self.receiving else {
            return Ok(());
        };
        let window = receivers.effective().window;
        let last = receivers.unlaunched() == 1;
        let group = self.plan.traffic.group;
        let Some(socket) = receivers.socket(stream) else {
            if group.is_some() {
                answer_from(datagram)?;
            }
            return receivers.reconnect(stream, datagram.peer);
        };
        let local = match group {
            None => datagram.local,
            Some(group) => join_group(socket, group, datagram)?,
        };
        shared_port::join(socket, local, datagram.peer)?;
        if let Some(explainer) = &mut self.explainer
            && last
        {
            // No data are sent until all streams are open: drops so far are none of the run.
            explainer.begin(self.client, None);
        }
        // The client may send as soon as it has the answer, so the socket is a member of the group by then.
        match group {
            None => answer_probe(socket, &datagram.header, window),
            Some(_) => answer_from(datagram)?,
        }
        receivers.launch(stream, datagram.header.token)
    }

    fn open_reverse(&mut self, stream: usize, datagram: &PortDatagram) -> io::Result<()> {
        let Some((socket, is_open)) = self
            .sending
            .as_mut()
            .and_then(|sending| sending.sockets.get_mut(stream))
        else {
            return Ok(());
        };
        if *is_open {
            // A NAT on the path changed the client's address. The client's receiver expects no response.
            return socket.connect(datagram.peer);
        }
        shared_port::join(socket, datagram.local, datagram.peer)?;
        *is_open = true;
        answer_probe(socket, &datagram.header, None);
        let are_open =
            |sending: &SendingStreams| sending.sockets.iter().all(|(_, is_open)| *is_open);
        if matches!(self.receiving, Receiving::Nothing)
            && self.sending.as_ref().is_some_and(are_open)
            && let Some(explainer) = &mut self.explainer
        {
            explainer.begin(self.client, None);
        }
        Ok(())
    }
}

/// Joins a multicast group on the interface of the route to the client. Returns the address of the group's port.
fn join_group(
    socket: &UdpSocket,
    group: IpAddr,
    datagram: &PortDatagram,
) -> io::Result<SocketAddr> {
    let interface = Device::towards(datagram.peer)?.index();
    ip_options::join_group(socket, group, interface)?;
    let port = datagram.local.port();
    Ok(ip_options::group_address(group, port, interface))
}

/// Responds to a probe from the address that it was sent to, which the socket of a group does not have.
fn answer_from(datagram: &PortDatagram) -> io::Result<()> {
    let socket = shared_port::unbound(datagram.local)?;
    shared_port::join(&socket, datagram.local, datagram.peer)?;
    answer_probe(&socket, &datagram.header, None);
    Ok(())
}
