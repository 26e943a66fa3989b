//! The streams that the server sends: opened by the client, started when it says so, reported when all are done.

use std::collections::VecDeque;
use std::net::UdpSocket;

use super::session::greet;
use crate::stats::latency::Latency;
use crate::sys::clock::{WallClock, monotonic_ns};
use crate::udp::receive::result_upload::counts;
use crate::udp::send::senders::{self, Event, Senders};
use crate::udp::wire::control::{Finish, Histogram, Reply, SenderFacts};
use crate::udp::wire::header::{HEADER, Header};

/// The streams that the server sends.
pub(super) struct Sending {
    /// Sockets of streams, which the senders use too; a stream that is not open is not connected.
    pub(super) sockets: Vec<(UdpSocket, bool)>,
    pub(super) state: SendingState,
    /// Why it ended early.
    pub(super) reason: Option<String>,
}

pub(super) enum SendingState {
    Opening,
    /// How many have not reported that they are ready.
    Starting(Senders, usize),
    /// How many have not sent everything.
    Running(Senders, usize, WallClock),
    Over,
}

impl Sending {
    pub(super) fn stop(&mut self) {
        match &self.state {
            SendingState::Starting(senders, _) | SendingState::Running(senders, ..) => {
                senders.stop();
            }
            // Nothing was sent, and nothing will be.
            SendingState::Opening => self.state = SendingState::Over,
            SendingState::Over => {}
        }
    }

    /// Answers clients whose first answer was lost. Once senders have the sockets, they read what comes.
    pub(super) fn answer_knocks(&self) {
        if !matches!(self.state, SendingState::Opening) {
            return;
        }
        let mut bytes = [0; 2 * HEADER];
        for (socket, is_open) in &self.sockets {
            if *is_open
                && let Ok(length) = socket.recv(&mut bytes)
                && let Ok(header) = Header::decode(bytes.get(..length).unwrap_or_default())
            {
                greet(socket, &header, None);
            }
        }
    }

    /// Takes in what the senders report; adds what the client has to know.
    ///
    /// # Errors
    /// A sentence on a sender that failed. The others are stopped.
    pub(super) fn attend(&mut self, replies: &mut VecDeque<Reply>) -> Result<(), String> {
        let mut failed = None;
        loop {
            self.state = match std::mem::replace(&mut self.state, SendingState::Over) {
                SendingState::Starting(senders, 0) => {
                    let running = senders.streams();
                    senders.start(monotonic_ns());
                    SendingState::Running(senders, running, WallClock::now())
                }
                SendingState::Running(senders, 0, wall) => {
                    report(senders, &wall, self.reason.clone(), replies);
                    SendingState::Over
                }
                SendingState::Starting(senders, missing) => match senders.event() {
                    None => {
                        self.state = SendingState::Starting(senders, missing);
                        break;
                    }
                    Some(Event::Ready(_)) => SendingState::Starting(senders, missing - 1),
                    Some(Event::Unable(error)) => {
                        failed = Some(format!("the server {error}"));
                        senders.stop();
                        SendingState::Running(senders, 0, WallClock::now())
                    }
                    Some(Event::Sent(_)) => SendingState::Starting(senders, missing),
                },
                SendingState::Running(senders, missing, wall) => match senders.event() {
                    None => {
                        self.state = SendingState::Running(senders, missing, wall);
                        break;
                    }
                    Some(Event::Sent(outcome)) => {
                        if let Err(error) = outcome {
                            failed.get_or_insert(format!("a sender failed at the server: {error}"));
                            senders.stop();
                        }
                        SendingState::Running(senders, missing - 1, wall)
                    }
                    Some(Event::Ready(_) | Event::Unable(_)) => {
                        SendingState::Running(senders, missing, wall)
                    }
                },
                other => {
                    self.state = other;
                    break;
                }
            };
            if let Some(reason) = &failed {
                self.reason.get_or_insert(reason.clone());
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Tells the client what the senders did.
fn report(
    mut senders: Senders,
    wall: &WallClock,
    reason: Option<String>,
    replies: &mut VecDeque<Reply>,
) {
    let sent = senders.join();
    replies.push_back(Reply::Finish(Finish {
        streams: senders::counts(&sent),
        quiet_ns: 0,
    }));
    let (mut lateness, mut gap_error) = (Latency::new(), Latency::new());
    for (stream, sent) in sent.into_iter().enumerate() {
        lateness.merge(&sent.written.lateness);
        gap_error.merge(&sent.written.gap_error);
        replies.push_back(Reply::Sender(Box::new(SenderFacts {
            stream,
            sent: senders::counts(std::slice::from_ref(&sent))
                .into_iter()
                .next()
                .unwrap_or_default(),
            span: sent.written.first.map(|first| (first, sent.written.last)),
            first_sent_wall: sent.written.first.map(|first| wall.at(first)),
            probes: sent.probes,
            cpu_s: (sent.cpu.user, sent.cpu.system),
            stats: sent.stats,
            too_long: sent.too_long,
            segments: sent.segments,
            path: sent.path.map(|path| (path.mtu, path.headers)),
            spin: sent.spin,
            why_no_spin: sent.why_no_spin,
            preemptions: sent.preemptions,
            throttled: sent
                .throttled
                .map(|throttled| (throttled.periods, throttled.ns)),
            effective: sent.effective,
        })));
    }
    replies.extend(counts(Histogram::Lateness, &lateness));
    replies.extend(counts(Histogram::GapError, &gap_error));
    replies.push_back(Reply::SendersDone { reason });
}
