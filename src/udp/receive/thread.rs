//! The thread of a receiver that does not share one.

use std::io;
use std::sync::mpsc::Sender;
use std::thread;

use crate::engine::EngineChoice;
use crate::sys::eventfd::EventFd;
use crate::sys::{affinity, sched_policy, timer_slack};
use crate::udp::Notify;
use crate::udp::engine::Rx;
use crate::udp::engine::endpoint::RxEndpoint;
use crate::udp::engine::open::{WithRx, open_rx};
use crate::udp::receive::receiver::{self, Event, Received, ReceiverConfig};
use crate::udp::receive::socket::ReceiverSocket;

/// Starts the thread of a receiver.
pub(super) fn start_thread(
    choice: EngineChoice,
    cpu: Option<usize>,
    end: ReceiverSocket,
    wake: EventFd,
    config: ReceiverConfig,
    sink: EventSink,
) -> io::Result<()> {
    let thread = thread::Builder::new().name(format!("receive-{}", config.stream));
    thread.spawn(move || {
        if let Some(cpu) = cpu {
            // The option was checked; if the CPU is gone since, the thread stays where it is.
            let _ = affinity::pin(cpu);
        }
        if end.shared_cpu && config.window.is_some() {
            // The sender should fill its window in one time slice; credit bounds the queue meanwhile.
            let _ = sched_policy::set_batch();
        }
        // Sleeps must end on time.
        let _ = timer_slack::tighten();
        let ReceiverSocket { socket, layout, .. } = end;
        let endpoint = RxEndpoint {
            socket,
            layout,
            wake: &wake,
        };
        sink.receive(&choice, endpoint, config);
    })?;
    Ok(())
}

/// Where a receiver sends its events.
pub(super) struct EventSink {
    pub(super) events: Sender<Event>,
    pub(super) notify: Notify,
}

impl EventSink {
    /// Sends an event, and wakes the loop that takes it.
    pub(super) fn emit(&self, event: Event) {
        // Without a reader the session is being torn down, and the stop flag is set.
        let _ = self.events.send(event);
        (self.notify)();
    }

    /// Opens the engine and runs the receiver on it, or reports that the engine cannot be opened.
    fn receive(&self, choice: &EngineChoice, endpoint: RxEndpoint<'_>, config: ReceiverConfig) {
        let stream = config.stream;
        let receiver = ConfiguredReceiver { sink: self, config };
        if let Err(error) = open_rx(choice, endpoint, receiver) {
            let failed = Received {
                error: Some(error),
                ..Received::none(stream)
            };
            self.emit(Event::Done(Box::new(failed)));
        }
    }
}

/// A receiver without its engine.
struct ConfiguredReceiver<'a> {
    sink: &'a EventSink,
    config: ReceiverConfig,
}

impl WithRx for ConfiguredReceiver<'_> {
    fn run(self, rx: impl Rx) {
        let EventSink { events, notify } = self.sink;
        receiver::run(rx, self.config, events, || notify());
    }
}
