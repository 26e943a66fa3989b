//! The streams that the server sends: opened by the client, started at its request, reported when all of them have ended.

use std::collections::{BTreeMap, VecDeque};
use std::net::UdpSocket;

use super::probe::answer_probe;
use crate::stats::latency::Latency;
use crate::sys::clock::{WallClock, monotonic_ns};
use crate::udp::explain::Explainer;
use crate::udp::receive::result_upload::{histogram_messages, stamp_messages};
use crate::udp::send::outcome;
use crate::udp::send::senders::{self, Event, Senders};
use crate::udp::wire::control::{Finish, Reply};
use crate::udp::wire::header::{HEADER, Header};
use crate::udp::wire::results::Histogram;
use crate::udp::wire::stages::StampedEnd;

/// The streams that the server sends.
pub(super) struct SendingStreams {
    /// The socket of each stream, and whether the stream is open; otherwise the socket is not connected.
    pub(super) sockets: Vec<(UdpSocket, bool)>,
    pub(super) state: SendingState,
    /// Why sending ended early.
    pub(super) reason: Option<String>,
    /// Datagrams that the kernel refused for good, by errno.
    pub(super) refused: BTreeMap<i32, u64>,
}

/// The state of all streams.
pub(super) enum SendingState {
    /// The client opens the streams.
    Opening,
    /// Some senders are not ready yet: their number.
    Starting(Senders, usize),
    /// Some senders have not ended yet: their number.
    Running(Senders, usize, WallClock),
    /// All senders have ended.
    Over,
}

impl SendingStreams {
    /// Stops all senders.
    pub(super) fn stop(&mut self) {
        match &self.state {
            SendingState::Starting(senders, _) | SendingState::Running(senders, ..) => {
                senders.stop();
            }
            // Nothing was sent.
            SendingState::Opening => self.state = SendingState::Over,
            SendingState::Over => {}
        }
    }

    /// Responds to probes of a client that did not receive the first response. Later, the senders read the sockets.
    pub(super) fn answer_probes(&self) {
        if !matches!(self.state, SendingState::Opening) {
            return;
        }
        let mut bytes = [0; 2 * HEADER];
        for (socket, is_open) in &self.sockets {
            if *is_open
                && let Ok(length) = socket.recv(&mut bytes)
                && let Ok(header) = Header::decode(bytes.get(..length).unwrap_or_default())
            {
                answer_probe(socket, &header, None);
            }
        }
    }

    /// Processes the senders' events, and adds messages for the client, with the drops on this host if they are to be explained.
    ///
    /// # Errors
    /// A sentence about a sender that failed. All senders are stopped then.
    pub(super) fn poll(
        &mut self,
        replies: &mut VecDeque<Reply>,
        explainer: Option<&Explainer>,
    ) -> Result<(), String> {
        let mut failure = None;
        loop {
            self.state = match std::mem::replace(&mut self.state, SendingState::Over) {
                SendingState::Starting(senders, 0) => {
                    let running = senders.streams();
                    senders.start(monotonic_ns());
                    SendingState::Running(senders, running, WallClock::now())
                }
                SendingState::Running(senders, 0, wall) => {
                    self.refused = queue_results(senders, &wall, replies);
                    replies.extend(explained(explainer, &self.refused));
                    replies.push_back(Reply::SendersDone {
                        reason: self.reason.clone(),
                    });
                    SendingState::Over
                }
                SendingState::Starting(senders, missing) => match senders.event() {
                    None => {
                        self.state = SendingState::Starting(senders, missing);
                        break;
                    }
                    Some(Event::Ready(_)) => SendingState::Starting(senders, missing - 1),
                    Some(Event::Failed(error)) => {
                        failure = Some(format!("the server {error}"));
                        senders.stop();
                        SendingState::Running(senders, 0, WallClock::now())
                    }
                    Some(Event::Ended(_)) => SendingState::Starting(senders, missing),
                },
                SendingState::Running(senders, missing, wall) => match senders.event() {
                    None => {
                        self.state = SendingState::Running(senders, missing, wall);
                        break;
                    }
                    Some(Event::Ended(ended)) => {
                        if let Err(error) = ended {
                            failure
                                .get_or_insert(format!("a sender failed at the server: {error}"));
                            senders.stop();
                        }
                        SendingState::Running(senders, missing - 1, wall)
                    }
                    Some(Event::Ready(_) | Event::Failed(_)) => {
                        SendingState::Running(senders, missing, wall)
                    }
                },
                other => {
                    self.state = other;
                    break;
                }
            };
            if let Some(reason) = &failure {
                self.reason.get_or_insert(reason.clone());
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// The drops on this host so far.
pub(super) fn explained(
    explainer: Option<&Explainer>,
    refused: &BTreeMap<i32, u64>,
) -> Option<Reply> {
    let report = explainer?.report(refused);
    Some(Reply::Explained(Box::new(report)))
}

/// Queues the senders' results for the client, and returns the refused datagrams by errno.
fn queue_results(
    mut senders: Senders,
    wall: &WallClock,
    replies: &mut VecDeque<Reply>,
) -> BTreeMap<i32, u64> {
    let outcomes = senders.join();
    let refused = outcome::refused(&outcomes);
    replies.push_back(Reply::Finish(Finish {
        streams: senders::counts(&outcomes),
        quiet_ns: 0,
    }));
    let (mut lateness, mut gap_error) = (Latency::small(), Latency::small());
    let (mut sender, mut qdisc) = (Latency::small(), Latency::small());
    for (stream, outcome) in outcomes.into_iter().enumerate() {
        if let Some(stamps) = &outcome.stamps {
            sender.merge(&stamps.sender);
            qdisc.merge(&stamps.qdisc);
            replies.extend(stamp_messages(stream, StampedEnd::Sent, &stamps.rows));
        }
        lateness.merge(&outcome.times.lateness);
        gap_error.merge(&outcome.times.gap_error);
        let result = outcome.into_message(stream, wall);
        replies.push_back(Reply::Sender(Box::new(result)));
    }
    for (of, latency) in [
        (Histogram::Lateness, lateness),
        (Histogram::GapError, gap_error),
        (Histogram::SenderStage, sender),
        (Histogram::QdiscStage, qdisc),
    ] {
        replies.extend(histogram_messages(of, &latency));
    }
    refused
}
