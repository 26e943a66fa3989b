//! The sender threads of a run, one a stream, and what is said between them and the session.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use crate::engine::Tx;
use crate::engine::choice::{Kind, ZeroCopy};
use crate::engine::mio::{Copying, MioTx, Pages, Pinned};
use crate::engine::uring::UringTx;
use crate::sys::wake::Wake;
use crate::sys::{affinity, schedule, timer};
use crate::udp::clock::Exchange;
use crate::udp::plan::{Mode, Plan};
use crate::udp::sender::{self, Manner, Remote, Sent};
use crate::udp::setup::SenderSocket;
use crate::udp::stream::Stream;

/// What the message is made of: not all zero, and of no length that a chunk would be.
const FILL: &[u8; 61] = b"wirebench measures what a datagram costs, sends and arrives. ";

/// From the session to a sender.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// Send everything, with stamps `offset` ns ahead of our clock, on a schedule that starts at `start`.
    Send { offset: i64, start: u64 },
    /// Ask the clock once more.
    Ping,
}

/// From a sender to the session.
pub(super) enum Told {
    /// UDP gets through, and these are the answers to its pings, if it was to ask.
    Open { exchanges: Vec<Exchange> },
    /// It does not get through to here.
    Unanswered(SocketAddr),
    /// Nothing more will be sent.
    Sent(Result<(), io::Error>),
    /// It could not begin.
    Failed(io::Error),
}

/// The threads, each with the line to give it orders.
pub(super) struct Streams {
    threads: Vec<Thread>,
    /// What the threads that have ended did.
    joined: Vec<Sent>,
    sender: Sender<Told>,
    receiver: Receiver<Told>,
    wake: Wake,
}

struct Thread {
    handle: JoinHandle<Sent>,
    orders: Sender<Order>,
    remote: Arc<Remote>,
    wake: Wake,
}

impl Streams {
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        Ok(Self {
            threads: Vec::new(),
            joined: Vec::new(),
            sender,
            receiver,
            wake: Wake::new()?,
        })
    }

    /// Is woken when there is something in [`Self::told`].
    pub(super) fn wake(&self) -> &Wake {
        &self.wake
    }

    /// What the next of them has to say, if any has.
    pub(super) fn told(&self) -> Option<Told> {
        self.receiver.try_recv().ok()
    }

    /// Starts the next stream's sender: it knocks at the receiver, and asks its clock if it is to do the `pings`.
    pub(super) fn launch(
        &mut self,
        end: SenderSocket,
        cpu: Option<usize>,
        token: u64,
        plan: &Plan,
        pings: bool,
    ) -> io::Result<()> {
        let number = self.threads.len();
        let (orders, inbox) = mpsc::channel();
        let remote = Arc::new(Remote::default());
        let wake = Wake::new()?;
        let worker = Worker {
            end,
            errand: Errand {
                token,
                plan: plan.clone(),
                number,
                pings,
                remote: remote.clone(),
                wake: wake.clone(),
                inbox,
            },
            told: self.sender.clone(),
            session: self.wake.clone(),
        };
        let handle = thread::Builder::new()
            .name(format!("send-{number}"))
            .spawn(move || {
                if let Some(cpu) = cpu {
                    // Checked when the option was read; a CPU that went away since leaves the thread where it is.
                    let _ = affinity::pin(cpu);
                }
                worker.work()
            })?;
        self.threads.push(Thread {
            handle,
            orders,
            remote,
            wake,
        });
        Ok(())
    }

    /// Gives all of them an order. Only the one that does the pings heeds [`Order::Ping`].
    pub(super) fn order(&self, order: &Order) {
        for thread in &self.threads {
            // One that has ended heeds nothing any more.
            let _ = thread.orders.send(*order);
        }
    }

    /// Has all of them stop sending.
    pub(super) fn stop(&self) {
        for thread in &self.threads {
            thread.remote.stop.store(true, Ordering::Relaxed);
            thread.wake.wake();
        }
    }

    /// Ends them, and says what each did, in order.
    pub(super) fn join(&mut self) -> Vec<Sent> {
        self.stop();
        for thread in self.threads.drain(..) {
            drop(thread.orders);
            self.joined.push(thread.handle.join().unwrap_or_default());
        }
        self.joined.clone()
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.join();
    }
}

struct Worker {
    end: SenderSocket,
    errand: Errand,
    told: Sender<Told>,
    session: Wake,
}

/// What a sender has to do, whatever the engine.
struct Errand {
    token: u64,
    plan: Plan,
    number: usize,
    pings: bool,
    remote: Arc<Remote>,
    wake: Wake,
    inbox: Receiver<Order>,
}

impl Worker {
    fn work(self) -> Sent {
        let (told, session) = (self.told.clone(), self.session.clone());
        let tell = |news| {
            let _ = told.send(news);
            session.wake();
        };
        let mut sent = Sent::default();
        if let Err(error) = self.choose(&mut sent, &tell) {
            tell(Told::Failed(error));
        }
        sent
    }

    fn choose(self, sent: &mut Sent, tell: &impl Fn(Told)) -> io::Result<()> {
        let Self { end, errand, .. } = self;
        let SenderSocket {
            socket,
            layout,
            manner,
            ..
        } = end;
        let to = socket.peer_addr()?;
        let choice = errand.plan.engine;
        match (choice.kind, choice.zerocopy) {
            (Kind::Mio, ZeroCopy::Off) => {
                let by = Copying::new(layout.messages);
                let tx = MioTx::new(socket, layout, by, FILL, &errand.wake)?;
                errand.run(tx, to, manner, sent, tell)
            }
            (Kind::Mio, ZeroCopy::Splice) => {
                let by = Pages::new(layout.bytes, layout.messages)?;
                let tx = MioTx::new(socket, layout, by, FILL, &errand.wake)?;
                errand.run(tx, to, manner, sent, tell)
            }
            (Kind::Mio, ZeroCopy::Msg) => {
                let by = Pinned::new(manner.batch as usize, layout.messages);
                let tx = MioTx::new(socket, layout, by, FILL, &errand.wake)?;
                errand.run(tx, to, manner, sent, tell)
            }
            (Kind::Uring, _) => {
                let tx = UringTx::new(socket, layout, &choice, FILL, &errand.wake)?;
                errand.run(tx, to, manner, sent, tell)
            }
        }
    }
}

impl Errand {
    fn run<T: Tx>(
        self,
        mut tx: T,
        to: SocketAddr,
        manner: Manner,
        sent: &mut Sent,
        tell: &impl Fn(Told),
    ) -> io::Result<()> {
        // Sleeps that end late are counted as lateness; the default slack would add 50 us to each.
        let _ = timer::tighten_timer_slack();
        let lossless = self.plan.mode == Mode::Lossless;
        if lossless && manner.shared_cpu {
            // The receiver shall finish what it is at when it grants credit.
            let _ = schedule::do_not_preempt_others();
        }
        let quota = self.plan.quota(self.number);
        let pace = self.plan.stream_pace(self.number);
        let mut knock = Stream::new(self.token, self.plan.chunk, quota, pace, lossless, 0);
        if !sender::open(&mut tx, self.token, &mut knock, &self.remote)? {
            tell(Told::Unanswered(to));
            return Ok(());
        }
        let credit = knock.credit();
        let ask = |tx: &mut T| -> io::Result<()> {
            let exchanges = if self.pings {
                sender::ping(tx, self.token, &self.remote)?
            } else {
                Vec::new()
            };
            tell(Told::Open { exchanges });
            Ok(())
        };
        ask(&mut tx)?;
        // A session that is over drops its end, which ends this thread too.
        while let Ok(order) = self.inbox.recv() {
            match order {
                Order::Send { offset, start } => {
                    let mut stream =
                        Stream::new(self.token, self.plan.chunk, quota, pace, lossless, start);
                    stream.set_offset(offset);
                    stream.grant(credit);
                    let ended;
                    (*sent, ended) = sender::run(&mut tx, self.token, stream, manner, &self.remote);
                    tell(Told::Sent(ended));
                }
                Order::Ping if self.pings => ask(&mut tx)?,
                Order::Ping => {}
            }
        }
        Ok(())
    }
}
