//! Sends the runs of a batch by one call, in both directions.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::{MOST_SENDS, Memory, Operation, Uring};
use crate::proxy::datagrams::record::Outcome;
use crate::proxy::datagrams::runs::Run;
use crate::proxy::datagrams::sends::{Contents, Headers, Sends, departure};
use crate::proxy::datagrams::sockets::Sockets;
use crate::sys::datagrams::{Queued, QueuedDepartures};
use crate::uring::ring::RingWithMemory;

/// The messages that are being sent in one direction.
pub(super) struct Queue {
    departures: QueuedDepartures,
    /// Those of the [`Sends`], which the messages refer to.
    headers: Headers,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            departures: QueuedDepartures::new(),
            headers: Headers::default(),
        }
    }
}

/// The results of the sends of a batch.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// By the place of a run: bytes, or a negative errno.
    of_runs: Vec<i32>,
    in_flight: usize,
}

impl Results {
    fn start(&mut self, runs: usize) {
        self.of_runs.clear();
        self.of_runs.resize(runs, -libc::ECANCELED);
        self.in_flight = runs;
    }

    /// A send has completed.
    pub(super) fn set(&mut self, place: usize, result: i32) {
        if let Some(place) = self.of_runs.get_mut(place) {
            *place = result;
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }
}

/// Whether runs are of one chain: the order of their datagrams stays.
fn are_chained(one: &Run, next: &Run) -> bool {
    one.path.socket == next.path.socket && one.path.to == next.path.to
}

impl Uring {
    /// # Errors
    /// As io_uring_enter(2).
    pub(super) fn send_all(
        &mut self,
        sockets: &impl Sockets,
        batch: &mut [Sends; 2],
    ) -> io::Result<()> {
        let count = batch.iter().map(|sends| sends.runs.len()).sum();
        if count == 0 {
            return Ok(());
        }
        self.results.start(count);
        // More are long datagrams on a path that refuses runs of them, or many destinations.
        if count <= MOST_SENDS {
            // A chain must not be submitted in two parts.
            if self.ring.ring.room() < count {
                self.ring.ring.enter()?;
            }
            self.swap_headers(batch);
            self.queue(sockets, batch)?;
            while self.results.in_flight > 0 {
                let sends = self.results.in_flight;
                self.ring.ring.submit_and_wait(sends, u64::MAX)?;
                self.reap();
            }
            self.swap_headers(batch);
        }
        self.finish(sockets, batch);
        Ok(())
    }

    /// The headers of datagrams are memory of the ring while they are sent.
    fn swap_headers(&mut self, batch: &mut [Sends; 2]) {
        for (queue, sends) in self.ring.memory.queues.iter_mut().zip(batch) {
            mem::swap(&mut queue.headers, &mut sends.headers);
        }
    }

    fn queue(&mut self, sockets: &impl Sockets, batch: &[Sends; 2]) -> io::Result<()> {
        const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let RingWithMemory { ring, memory } = &mut self.ring;
        let Memory {
            messages, queues, ..
        } = &mut **memory;
        let messages = &*messages;
        let mut places = 0..;
        for (queue, Sends { pieces, runs, .. }) in queues.iter_mut().zip(batch) {
            let Queue {
                departures,
                headers,
            } = queue;
            let contents = Contents { pieces, headers };
            let is_v6 = |place: usize| runs.get(place).is_some_and(|run| run.path.is_v6);
            let queued = runs.iter().map(|run| departure(run, contents, messages));
            let queued = departures.set(is_v6, queued);
            let mut rows = queued.zip(runs).zip(&mut places).peekable();
            while let Some(((message, run), place)) = rows.next() {
                let next = rows.peek().map(|((_, next), _)| next);
                let flags = match next.is_some_and(|next| are_chained(run, next)) {
                    true => squeue::Flags::IO_LINK,
                    false => squeue::Flags::empty(),
                };
                let socket = sockets.get(run.path.socket);
                let socket = Fd(socket.map_or(-1, AsRawFd::as_raw_fd));
                let request = match message {
                    // A message is shorter than 4 GiB.
                    Queued::Plain(payload, length) => {
                        let send = opcode::Send::new(socket, payload, length as u32);
                        send.flags(FLAGS).build()
                    }
                    Queued::Message(header) => {
                        let send = opcode::SendMsg::new(socket, header);
                        send.flags(FLAGS as u32).build()
                    }
                };
                let user_data = Operation::Send(place).user_data();
                let request = request.flags(flags).user_data(user_data);
                // SAFETY: a message points to arrays and headers of the queue, which do not change, and to received messages, which
                // are released after the sends have completed. All of them outlive the ring.
                unsafe { ring.push(&request)? };
            }
        }
        Ok(())
    }

    /// Sets outcomes. Sends the runs of a chain again from the first one on that failed.
    fn finish(&mut self, sockets: &impl Sockets, batch: &mut [Sends; 2]) {
        let messages = &self.ring.memory.messages;
        let mut results = &*self.results.of_runs;
        for sends in batch {
            let (contents, runs, mut add) = sends.split();
            for chain in runs.chunk_by(are_chained) {
                let of_chain;
                (of_chain, results) = results.split_at_checked(chain.len()).unwrap_or_default();
                let failed = of_chain.iter().position(|result| *result < 0);
                let (sent, rest) = chain.split_at(failed.unwrap_or(chain.len()));
                for run in sent {
                    add(run, Outcome::sent(run.datagrams, run.bytes));
                }
                let errno = failed.and_then(|at| of_chain.get(at));
                let (Some(run), Some(errno)) = (rest.first(), errno) else {
                    continue;
                };
                // A cancelled send was not attempted.
                let error =
                    (*errno != -libc::ECANCELED).then(|| io::Error::from_raw_os_error(-errno));
                if let Some(socket) = sockets.get(run.path.socket) {
                    let (socket, rest) = (socket.as_fd(), (contents, rest));
                    self.transmitter
                        .send(error, socket, messages, rest, &mut add);
                }
            }
        }
    }
}
