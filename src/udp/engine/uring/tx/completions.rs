//! Completions of a sender: outcome of sends, and received control datagrams.

use std::io;

use super::{SERIAL_SENDS, Slot, UringTx};
use crate::udp::engine::errors::{Refusal, is_segmentation_errno};
use crate::udp::engine::uring::tag;
use crate::uring::ring::{COPIED, Completion};

impl<const STAMPED: bool> UringTx<STAMPED> {
    /// Reaps all completions.
    pub(super) fn reap(&mut self) -> io::Result<()> {
        while let Some(completion) = self.uring.ring.next() {
            match tag::split(completion.user_data) {
                (tag::SLOT, number) => self.slot_done(number, completion)?,
                (tag::RECEIVE, _) => {
                    if !completion.more() {
                        self.control_armed = false;
                        self.uring.ring.count_rearm();
                    }
                    match (completion.errno(), completion.buffer()) {
                        (None, Some(buffer)) => {
                            self.control.push_back((buffer, completion.result as usize));
                        }
                        // No free buffer.
                        (None, None) | (Some(libc::ENOBUFS | libc::ECANCELED), _) => {}
                        (Some(_), _) => self.port.collect_errors(),
                    }
                }
                (tag::CONTROL, number) => {
                    let sends = &mut self.uring.memory.control_sends;
                    sends.sent(
                        &mut self.uring.ring,
                        number,
                        completion.errno(),
                        &mut self.port,
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn slot_done(&mut self, number: usize, completion: Completion) -> io::Result<()> {
        if completion.is_notification() {
            let copied = completion.result as u32 & COPIED != 0;
            if let Some(zerocopy) = &mut self.stats.zerocopy {
                zerocopy.messages += 1;
                zerocopy.copied += u64::from(copied);
            }
        } else {
            self.sending -= 1;
            self.charged -= self.slots[number].charge;
            self.slots[number].retry = self.outcome(number, completion.errno())?;
            // The memory of a zero-copy send is in use until the notification.
            if completion.more() {
                return Ok(());
            }
        }
        let Slot {
            retry, sequence, ..
        } = self.slots[number];
        if retry {
            // Keeps the order among slots that failed together.
            let slots = &self.slots;
            let place = self
                .queued
                .partition_point(|&other| slots[other].sequence < sequence);
            self.queued.insert(place, number);
        } else {
            self.free.push(number);
        }
        Ok(())
    }

    /// Records the outcome of a send. Returns whether to retry it.
    fn outcome(&mut self, number: usize, errno: Option<i32>) -> io::Result<bool> {
        let Slot { datagrams, .. } = self.slots[number];
        let Some(errno) = errno else {
            self.in_flight -= datagrams;
            self.stats.messages += 1;
            self.serial = self.serial.saturating_sub(1);
            self.port.errors.resolved();
            return Ok(false);
        };
        if STAMPED && let Some(stamps) = &mut self.stamps {
            stamps.stamping.failed();
        }
        // A cancelled send was never sent and stays in flight.
        if errno == libc::ECANCELED {
            return Ok(false);
        }
        match Refusal::of(errno) {
            Refusal::NoMemory => {
                self.stats.enobufs += 1;
                self.serial = SERIAL_SENDS;
                self.no_memory = true;
                Ok(true)
            }
            Refusal::WouldBlock | Refusal::Interrupted => Ok(true),
            Refusal::SocketUnusable => Err(io::Error::from_raw_os_error(errno)),
            Refusal::Message if self.port.is_explained(errno) => {
                self.serial = SERIAL_SENDS;
                self.retry = true;
                Ok(true)
            }
            Refusal::Message if self.segments > 1 && is_segmentation_errno(errno) => {
                self.refused_segments = Some(errno);
                self.retry = true;
                Ok(true)
            }
            Refusal::Message => {
                self.port.errors.resolved();
                self.in_flight -= datagrams;
                self.stats.errors += 1;
                self.stats.last_error = Some(errno);
                self.refusals.push((datagrams, errno));
                Ok(false)
            }
        }
    }
}
