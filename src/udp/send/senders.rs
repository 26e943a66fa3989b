//! The senders of a session, at either host: a thread per stream or shared loops, and the events of the streams.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use crate::sys::affinity;
use crate::sys::eventfd::EventFd;
use crate::udp::placement;
use crate::udp::relay_header::RelayHeader;
use crate::udp::send::outcome::SenderOutcome;
use crate::udp::send::sender::SenderControl;
use crate::udp::send::task::Task;
pub use crate::udp::send::task::{Event, Settings};
use crate::udp::shared_loops::Wake;
use crate::udp::wire::results::StreamSent;

/// The senders.
pub struct Senders {
    settings: Settings,
    running: Vec<Running>,
    /// Outcomes of the senders that have ended.
    joined: Vec<SenderOutcome>,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

struct Running {
    outcome: OutcomeSource,
    /// Takes the start of the schedule, in ns.
    start: Sender<u64>,
    control: Arc<SenderControl>,
    wake: Wake,
}

/// Where the outcome of a sender comes from.
enum OutcomeSource {
    Thread(JoinHandle<SenderOutcome>),
    Shared(Receiver<SenderOutcome>),
}

impl Senders {
    /// None of the senders is launched yet.
    pub fn new(settings: Settings) -> Self {
        let (sender, events) = mpsc::channel();
        Self {
            settings,
            running: Vec::new(),
            joined: Vec::new(),
            sender,
            events,
        }
    }

    /// The next event, if there is one.
    pub fn event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Number of senders launched.
    pub fn streams(&self) -> usize {
        self.running.len() + self.joined.len()
    }

    /// Launches the next stream on a connected socket. A thread probes the path, sets the socket up and emits [`Event::Ready`]; then
    /// it sends, or ends if the senders share loops. `shared_cpu` is true if the receiver is pinned to the same CPU.
    ///
    /// # Errors
    /// Out of threads or files.
    pub fn launch(&mut self, socket: UdpSocket, token: u64, shared_cpu: bool) -> io::Result<()> {
        self.launch_behind(socket, token, shared_cpu, RelayHeader::default())
    }

    /// As [`Self::launch`], with the header of a relay in front of each datagram.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub fn launch_behind(
        &mut self,
        socket: UdpSocket,
        token: u64,
        shared_cpu: bool,
        relay: RelayHeader,
    ) -> io::Result<()> {
        let number = self.running.len();
        let (start, started) = mpsc::channel();
        let control = Arc::new(SenderControl::new(self.settings.offset.clone()));
        let cpu = placement::of(&self.settings.cpus, number);
        let task = Task {
            settings: self.settings.clone(),
            token,
            relay,
            number,
            shared_cpu,
            control: control.clone(),
            events: self.sender.clone(),
        };
        let thread = thread::Builder::new().name(format!("send-{number}"));
        let (outcome, wake) = match &self.settings.loops {
            Some(loops) => {
                let place = loops.place(cpu)?;
                let (sender, receiver) = mpsc::channel();
                let wake = Wake::Shared(place.clone());
                thread.spawn(move || task.hand_over(socket, started, &place, sender))?;
                (OutcomeSource::Shared(receiver), wake)
            }
            None => {
                let wake = EventFd::new()?;
                let of_thread = wake.clone();
                let handle = thread.spawn(move || {
                    if let Some(cpu) = cpu {
                        // The option was checked; if the CPU is gone since, the thread stays where it is.
                        let _ = affinity::pin(cpu);
                    }
                    task.run(socket, &started, &of_thread)
                })?;
                (OutcomeSource::Thread(handle), Wake::Thread(wake))
            }
        };
        self.running.push(Running {
            outcome,
            start,
            control,
            wake,
        });
        Ok(())
    }

    /// Starts sending, on schedules that begin at `start` in ns of this host's clock.
    pub fn start(&self, start: u64) {
        for sender in &self.running {
            // Fails if the sender has ended.
            let _ = sender.start.send(start);
            sender.wake.wake();
        }
    }

    /// Stops all senders.
    pub fn stop(&self) {
        for sender in &self.running {
            sender.control.stop.store(true, Ordering::Relaxed);
            sender.wake.wake();
        }
    }

    /// Stops all senders, waits until they have ended, and returns their outcomes in order of streams.
    pub fn join(&mut self) -> Vec<SenderOutcome> {
        self.stop();
        for sender in self.running.drain(..) {
            drop(sender.start);
            self.joined.push(match sender.outcome {
                OutcomeSource::Thread(thread) => thread.join().unwrap_or_default(),
                // Without an outcome the sender was not set up.
                OutcomeSource::Shared(outcome) => outcome.recv().unwrap_or_default(),
            });
        }
        self.joined.clone()
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        self.join();
    }
}

/// The counts of each sender.
pub fn counts(senders: &[SenderOutcome]) -> Vec<StreamSent> {
    senders.iter().map(SenderOutcome::sent).collect()
}
