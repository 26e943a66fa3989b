//! The sending side of a session, at whichever host: a thread a stream, and the events that they report.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::sys::eventfd::EventFd;
use crate::sys::{affinity, sched_policy, socket, timer_slack};
use crate::udp::engine::Tx;
use crate::udp::engine::open::{TxEndpoint, WithTx, open_tx};
use crate::udp::placement::{self, Cpus};
use crate::udp::plan::{Df, Mode, Plan};
use crate::udp::receive::receivers::Notify;
use crate::udp::send::path::PathError;
use crate::udp::send::path_probe::{Probe, Reach};
use crate::udp::send::sender::{self, Manner, Remote, Sent};
use crate::udp::send::stream::Stream;
use crate::udp::setup::{SenderSocket, SetupError};
use crate::udp::wire::control::{SenderEffective, StreamSent};

/// What the message is made of: not all zero, and of no length that a chunk would be.
const FILL: &[u8; 61] = b"wirebench measures what a datagram costs, sends and arrives. ";

/// Bytes of an IP packet that every IPv6 link carries (RFC 8200, section 5), and practically every IPv4 link too: datagrams this
/// short are not tried out beforehand.
const SMALL_PACKET: usize = 1_280;

/// What the senders of a session share.
#[derive(Clone)]
pub struct Settings {
    /// What is to be done.
    pub plan: Plan,
    /// Send buffer to ask for, in bytes.
    pub send_buffer: Option<usize>,
    /// Where the sender threads are kept.
    pub cpus: Cpus,
    /// Whether a paced sender may spin.
    pub spin: bool,
    /// Datagrams that the receiver grants ahead; `None` unless lossless.
    pub window: Option<u64>,
    /// How long the other side took to answer before.
    pub round_trip: Duration,
    /// How long a sender waits for credit before it gives up.
    pub credit_timeout: Duration,
    /// Added to this host's clock, it is the server's: in ns.
    pub offset: Arc<AtomicI64>,
    /// Wakes the loop that calls [`Senders::event`].
    pub notify: Notify,
}

/// From a sender to the loop that attends to it.
#[derive(Debug)]
pub enum Event {
    /// It can start, and has this in force.
    Ready(SenderEffective),
    /// It cannot start.
    Unable(SetupError),
    /// Nothing more will be sent.
    Sent(io::Result<()>),
}

/// The sender threads.
pub struct Senders {
    settings: Settings,
    threads: Vec<Thread>,
    /// What the threads that have ended did.
    joined: Vec<Sent>,
    sender: Sender<Event>,
    events: Receiver<Event>,
}

struct Thread {
    handle: JoinHandle<Sent>,
    /// The time that the schedule starts at, in ns.
    start: Sender<u64>,
    remote: Arc<Remote>,
    wake: EventFd,
}

impl Senders {
    /// None of them is launched yet.
    pub fn new(settings: Settings) -> Self {
        let (sender, events) = mpsc::channel();
        Self {
            settings,
            threads: Vec::new(),
            joined: Vec::new(),
            sender,
            events,
        }
    }

    /// What the next of them reports, if any does.
    pub fn event(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// How many were launched.
    pub fn streams(&self) -> usize {
        self.threads.len() + self.joined.len()
    }

    /// Starts the thread of the next stream on a connected socket. It explores the path, sets the socket up and reports [`Event::Ready`].
    /// `shared_cpu` says that the receiver is kept on the same CPU.
    ///
    /// # Errors
    /// Out of threads or files.
    pub fn launch(&mut self, socket: UdpSocket, token: u64, shared_cpu: bool) -> io::Result<()> {
        let number = self.threads.len();
        let (start, inbox) = mpsc::channel();
        let remote = Arc::new(Remote::new(self.settings.offset.clone()));
        let wake = EventFd::new()?;
        let task = Task {
            settings: self.settings.clone(),
            token,
            number,
            shared_cpu,
            remote: remote.clone(),
            wake: wake.clone(),
            start: inbox,
            events: self.sender.clone(),
        };
        let cpu = placement::of(&self.settings.cpus, number);
        let handle = thread::Builder::new()
            .name(format!("send-{number}"))
            .spawn(move || {
                if let Some(cpu) = cpu {
                    // Checked when the option was read; a CPU that went away since leaves the thread where it is.
                    let _ = affinity::pin(cpu);
                }
                task.run(socket)
            })?;
        self.threads.push(Thread {
            handle,
            start,
            remote,
            wake,
        });
        Ok(())
    }

    /// Starts sending, on schedules that begin at `start` in ns of this host's clock.
    pub fn start(&self, start: u64) {
        for thread in &self.threads {
            // One that has ended sends nothing any more.
            let _ = thread.start.send(start);
        }
    }

    /// Stops all of them.
    pub fn stop(&self) {
        for thread in &self.threads {
            thread.remote.stop.store(true, Ordering::Relaxed);
            thread.wake.wake();
        }
    }

    /// Ends them, and gives what each did, in order.
    pub fn join(&mut self) -> Vec<Sent> {
        self.stop();
        for thread in self.threads.drain(..) {
            drop(thread.start);
            self.joined.push(thread.handle.join().unwrap_or_default());
        }
        self.joined.clone()
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        self.join();
    }
}

/// What each sender counted.
pub fn counts(senders: &[Sent]) -> Vec<StreamSent> {
    let each = senders.iter().map(|sent| StreamSent {
        packets: sent.packets,
        bytes: sent.bytes,
        not_sent: sent.not_sent,
    });
    each.collect()
}

/// One sender's work, whatever the engine.
struct Task {
    settings: Settings,
    token: u64,
    number: usize,
    shared_cpu: bool,
    remote: Arc<Remote>,
    wake: EventFd,
    start: Receiver<u64>,
    events: Sender<Event>,
}

impl Task {
    fn run(self, socket: UdpSocket) -> Sent {
        let mut sent = Sent::default();
        match self.set_up(socket) {
            Err(error) => self.report(Event::Unable(error)),
            Ok(end) => {
                if let Err(error) = self.choose(end, &mut sent) {
                    self.report(Event::Sent(Err(error)));
                }
            }
        }
        sent
    }

    fn report(&self, event: Event) {
        let _ = self.events.send(event);
        (self.settings.notify)();
    }

    /// Explores the path and sets the socket up for it.
    fn set_up(&self, socket: UdpSocket) -> Result<SenderSocket, SetupError> {
        let settings = &self.settings;
        let datagram = settings.plan.datagram();
        let policy = settings.plan.df.policy();
        socket::set_path_mtu_discovery(&socket, policy).map_err(SetupError::Options)?;
        let probe = Probe {
            socket: &socket,
            token: self.token,
            round_trip: settings.round_trip,
            stop: &self.remote.stop,
        };
        let fits_any_path = datagram + socket::headers(&socket) <= SMALL_PACKET;
        let reach = match fits_any_path {
            true => Reach::Fits,
            false => probe.explore(datagram).map_err(SetupError::Options)?,
        };
        let path_note = match reach {
            Reach::BlackHole => Some(avoid(&settings.plan, &probe)?),
            Reach::Fits | Reach::TooLong | Reach::Unknown => None,
        };
        let mut end = SenderSocket::new(
            socket,
            &settings.plan,
            settings.send_buffer,
            self.token,
            settings.window,
            path_note,
        )?;
        end.manner.spin = settings.spin;
        end.manner.shared_cpu = self.shared_cpu;
        end.manner.credit_timeout_ns =
            u64::try_from(settings.credit_timeout.as_nanos()).unwrap_or(u64::MAX);
        Ok(end)
    }

    fn choose(&self, end: SenderSocket, sent: &mut Sent) -> io::Result<()> {
        let effective = end.effective();
        let SenderSocket {
            socket,
            layout,
            manner,
            ..
        } = end;
        let endpoint = TxEndpoint {
            socket,
            layout,
            batch: manner.batch as usize,
            fill: FILL,
            wake: &self.wake,
        };
        let sending = Sending {
            task: self,
            manner,
            effective,
            sent,
        };
        open_tx(&self.settings.plan.engine, endpoint, sending)
    }

    fn send<T: Tx>(
        &self,
        mut tx: T,
        manner: Manner,
        effective: SenderEffective,
        sent: &mut Sent,
    ) -> io::Result<()> {
        // Sleeps that end late are counted as lateness; the default slack would add 50 us to each.
        let _ = timer_slack::tighten();
        let plan = &self.settings.plan;
        let lossless = plan.mode == Mode::Lossless;
        if lossless && manner.shared_cpu {
            // The receiver shall finish what it is at when it grants credit.
            let _ = sched_policy::set_batch();
        }
        self.report(Event::Ready(effective.clone()));
        // A session that ends before drops its end of the channel, which ends this thread too.
        let Ok(start) = self.start.recv() else {
            return Ok(());
        };
        let quota = plan.quota(self.number);
        let pace = plan.stream_pace(self.number);
        let mut stream = Stream::new(self.token, plan.chunk, quota, pace, lossless, start);
        stream.grant(self.settings.window.unwrap_or(0));
        let ended;
        (*sent, ended) = sender::run(&mut tx, self.token, stream, manner, &self.remote);
        sent.effective = effective;
        self.report(Event::Sent(ended));
        Ok(())
    }
}

/// A task with what it needs once its engine is open.
struct Sending<'a> {
    task: &'a Task,
    manner: Manner,
    effective: SenderEffective,
    sent: &'a mut Sent,
}

impl WithTx for Sending<'_> {
    fn run(self, tx: impl Tx) -> io::Result<()> {
        self.task.send(tx, self.manner, self.effective, self.sent)
    }
}

/// Has datagrams fragmented on a path that swallows long ones, and gives a sentence on it.
fn avoid(plan: &Plan, probe: &Probe<'_>) -> Result<String, SetupError> {
    let datagram = plan.datagram();
    let longest = probe.longest(datagram).map_err(SetupError::Options)?;
    if plan.df == Df::On {
        return Err(PathError::BlackHole { datagram, longest }.into());
    }
    socket::fragment_at(probe.socket, longest).map_err(SetupError::Options)?;
    // Fragments may be dropped too, and Linux cuts no IPv6 datagram that fits the MTU of its route (ip6_finish_output).
    if !probe.arrives(datagram).map_err(SetupError::Options)? {
        return Err(PathError::NoWay { datagram, longest }.into());
    }
    Ok(format!(
        "datagrams of {datagram} B did not arrive while short ones did: a router on the path drops them and its ICMP report is lost (black hole); the longest that arrived has {longest} B, and longer ones are sent so that they may be fragmented (DF off)"
    ))
}
