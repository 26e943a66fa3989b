//! A ring, and its invariant: memory of a request stays in place until the last completion of the request.
//!
//! [`RingWithMemory`] owns the memory that requests point to. Dropping it closes the ring first: all requests are
//! cancelled and their completions reaped, then the memory is freed.

use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{Builder, IoUring, cqueue, opcode, squeue};

use super::RingStats;
use super::setup::{builder, explain_build_error};
use crate::engine::{MAX_RING_SIZE, UringSettings};
use crate::sys::clock::monotonic_ns;
use crate::sys::usage;

/// Index of the socket in the table of registered files.
pub(crate) const SOCKET: io_uring::types::Fixed = io_uring::types::Fixed(0);

/// Index of the eventfd that wakes the thread.
const WAKE: io_uring::types::Fixed = io_uring::types::Fixed(1);

/// Requests a report whether a zero-copy send was copied (`IORING_SEND_ZC_REPORT_USAGE`).
pub(crate) const REPORT_USAGE: u16 = 1 << 3;

/// Set in the notification of a send that the kernel copied (`IORING_NOTIF_USAGE_ZC_COPIED`).
pub(crate) const COPIED: u32 = 1 << 31;

/// Longest wait for the completions of cancelled requests, in ns. Only zero-copy sends take time: the device must
/// finish with their memory.
const CLOSE_NS: u64 = 5_000_000_000;

/// `user_data` of cancellations and of the wake-up poll. [`Ring::next`] consumes their completions.
const CANCEL: u64 = u64::MAX;
const AWAKE: u64 = u64::MAX - 1;

/// A completion queue entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    /// The errno of a failed request.
    pub(crate) fn errno(self) -> Option<i32> {
        (self.result < 0).then_some(-self.result)
    }

    /// The request stays armed and will complete again (`IORING_CQE_F_MORE`).
    pub(crate) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// A zero-copy notification: the memory of a send is free. The outcome of the send arrived earlier.
    pub(crate) fn is_notification(self) -> bool {
        cqueue::notif(self.flags)
    }

    /// The socket holds more data after this receive (`IORING_CQE_F_SOCK_NONEMPTY`).
    pub(crate) fn has_more_data(self) -> bool {
        cqueue::sock_nonempty(self.flags)
    }

    /// The provided buffer that was filled.
    pub(crate) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// A ring of one thread, with its counters.
pub(crate) struct Ring {
    ring: IoUring,
    stats: RingStats,
    /// Requests whose last completion has not been reaped.
    pending: usize,
    /// The poll of the eventfd is armed.
    wake_armed: bool,
    woken: bool,
    /// The completion queue had overflowed at the last call.
    overflows: bool,
    /// Thread id of the kernel's submission thread.
    thread: Option<u32>,
}

impl Ring {
    /// Creates a ring for `requests` concurrent requests and `completions` unreaped completions, with `files`
    /// registered.
    ///
    /// # Errors
    /// As io_uring_setup(2) and io_uring_register(2): not permitted, or a kernel before 6.1.
    pub(crate) fn new(
        settings: &UringSettings,
        requests: u32,
        completions: u32,
        files: &[RawFd],
    ) -> io::Result<Self> {
        let ring = Self::build(builder(settings), settings, requests, completions, files)?;
        ring.register_itself();
        Ok(ring)
    }

    /// Like [`Self::new`], but disabled. The ring belongs to the thread that calls [`Self::enable`], so setup errors
    /// are reported before that thread starts.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn new_disabled(
        settings: &UringSettings,
        requests: u32,
        completions: u32,
        files: &[RawFd],
    ) -> io::Result<Self> {
        let mut builder = builder(settings);
        builder.setup_r_disabled();
        Self::build(builder, settings, requests, completions, files)
    }

    /// Enables a ring made by [`Self::new_disabled`]. The calling thread becomes its owner.
    ///
    /// # Errors
    /// As io_uring_register(2).
    pub(crate) fn enable(&mut self) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()?;
        self.register_itself();
        Ok(())
    }

    /// Avoids a lookup of the ring's descriptor on each call. Kernels before 5.18 refuse, which only costs time.
    fn register_itself(&self) {
        let _ = self.ring.submitter().register_ring_fd();
    }

    fn build(
        mut builder: Builder,
        settings: &UringSettings,
        requests: u32,
        completions: u32,
        files: &[RawFd],
    ) -> io::Result<Self> {
        let size = settings
            .ring_size
            .unwrap_or(requests)
            .clamp(1, MAX_RING_SIZE);
        if settings.ring_size.is_none() {
            builder.setup_cqsize(completions.max(2 * size).next_power_of_two());
        }
        let (ring, thread) = if settings.sqpoll {
            build_with_thread(|| builder.build(size).map_err(explain_build_error))?
        } else {
            (builder.build(size).map_err(explain_build_error)?, None)
        };
        ring.submitter().register_files(files)?;
        let stats = RingStats {
            size: ring.params().sq_entries(),
            ..RingStats::default()
        };
        Ok(Self {
            ring,
            stats,
            pending: 0,
            wake_armed: false,
            woken: false,
            overflows: false,
            thread,
        })
    }

    /// Handle to register buffers with.
    pub(crate) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Queues a request. The next [`Self::enter`] submits it.
    ///
    /// # Errors
    /// The queue is full and the kernel accepts nothing from it.
    ///
    /// # Safety
    /// All memory that `entry` points to stays valid until the last completion, and memory that the kernel writes is
    /// not accessed until then.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        for _ in 0..2 {
            // SAFETY: the caller's obligation.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                self.pending += 1;
                self.stats.sqes += 1;
                return Ok(());
            }
            self.enter()?;
            if self.ring.params().is_setup_sqpoll() {
                self.ring.submitter().squeue_wait()?;
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// Requests that can be queued before the queue is full.
    pub(crate) fn room(&mut self) -> usize {
        let queue = self.ring.submission();
        queue.capacity() - queue.len()
    }

    /// Whether [`Self::enter`] would have an effect: requests are queued, or task work or overflowed completions are
    /// pending.
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow() || !queue.is_empty()
    }

    /// Submits queued requests and runs pending task work, without waiting.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    #[inline]
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        self.count(false);
        ignore_early_return(self.ring.submit())
    }

    /// Polls the eventfd, so that it ends the following waits.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn arm_wake(&mut self) -> io::Result<()> {
        if self.wake_armed {
            return Ok(());
        }
        let request = opcode::PollAdd::new(WAKE, libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(AWAKE);
        // SAFETY: the request contains no pointer.
        unsafe { self.push(&request)? };
        self.wake_armed = true;
        Ok(())
    }

    /// Like [`Self::enter`], and waits for a completion, at most until `deadline` in ns.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    pub(crate) fn wait(&mut self, deadline: u64) -> io::Result<()> {
        if !self.ring.completion().is_empty() {
            return Ok(());
        }
        self.submit_and_wait(
            1,
            match deadline {
                u64::MAX => u64::MAX,
                _ => deadline.saturating_sub(monotonic_ns()),
            },
        )
    }

    /// Submits queued requests, and waits until this many completions can be reaped, at most a time in ns; with `u64::MAX` without a
    /// timer.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    pub(crate) fn submit_and_wait(&mut self, completions: usize, ns: u64) -> io::Result<()> {
        self.count(true);
        if ns == u64::MAX {
            return ignore_early_return(self.ring.submit_and_wait(completions));
        }
        let time = Timespec::new()
            .sec(ns / 1_000_000_000)
            .nsec((ns % 1_000_000_000) as u32);
        let until = SubmitArgs::new().timespec(&time);
        ignore_early_return(self.ring.submitter().submit_with_args(completions, &until))
    }

    /// Reaps the next completion.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            self.stats.cqes += 1;
            let completion = Completion {
                user_data: entry.user_data(),
                result: entry.result(),
                flags: entry.flags(),
            };
            if !completion.more() {
                self.pending -= 1;
            }
            match completion.user_data {
                CANCEL => {}
                AWAKE => {
                    self.wake_armed = completion.more();
                    self.woken = true;
                }
                _ => return Some(completion),
            }
        }
    }

    /// Whether [`Self::was_woken`] will return true: a wake-up that has completed ends no wait.
    pub(crate) fn is_woken(&self) -> bool {
        self.woken
    }

    /// Whether the eventfd ended a wait since the last call.
    pub(crate) fn was_woken(&mut self) -> bool {
        mem::take(&mut self.woken)
    }

    /// Counts the re-arming of a multishot request.
    pub(crate) fn count_rearm(&mut self) {
        self.stats.rearms += 1;
    }

    /// Counts the next io_uring_enter(2). With a submission thread the library may skip the call.
    fn count(&mut self, waits: bool) {
        let sqpoll = self.ring.params().is_setup_sqpoll();
        let queue = self.ring.submission();
        let overflows = queue.cq_overflow();
        let enters = !sqpoll || waits || overflows || queue.taskrun() || queue.need_wakeup();
        self.stats.enters += u64::from(enters);
        self.stats.cq_overflows += u64::from(overflows && !self.overflows);
        self.overflows = overflows;
    }

    /// The counters so far.
    pub(crate) fn stats(&self) -> RingStats {
        RingStats {
            thread_cpu_ns: self.thread.and_then(usage::of_task),
            ..self.stats
        }
    }

    /// Queues the cancellation of the request with this `user_data`.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn cancel_one(&mut self, user_data: u64) -> io::Result<()> {
        let cancel = opcode::AsyncCancel::new(user_data)
            .build()
            .user_data(CANCEL);
        // SAFETY: the request contains no pointer.
        unsafe { self.push(&cancel) }
    }

    /// Queues the cancellation of all requests.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn cancel(&mut self) -> io::Result<()> {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any())
            .build()
            .user_data(CANCEL);
        // SAFETY: the request contains no pointer.
        unsafe { self.push(&cancel) }
    }

    /// Cancels all requests and reaps their completions. Afterwards memory of the requests may be freed. `false` means
    /// that completions are missing and the memory must be leaked.
    pub(crate) fn close(&mut self) -> bool {
        let deadline = monotonic_ns() + CLOSE_NS;
        while self.pending > 0 {
            if self.cancel().is_err() {
                return false;
            }
            // A request that could not be cancelled yet is cancelled again after 100 ms.
            let patience = (monotonic_ns() + 100_000_000).min(deadline);
            while self.pending > 0 && monotonic_ns() < patience {
                if self.wait(patience).is_err() {
                    return false;
                }
                while self.next().is_some() {}
            }
            if monotonic_ns() >= deadline {
                return self.pending == 0;
            }
        }
        true
    }
}

/// Memory that requests point to.
pub(crate) trait Leak {
    /// Never frees the memory, since the kernel may still access it.
    fn leak(self);
}

/// A ring with the memory of its requests. The memory is freed after the ring is closed, or leaked if the kernel may
/// still use it.
pub(crate) struct RingWithMemory<M: Leak> {
    pub(crate) ring: Ring,
    pub(crate) memory: ManuallyDrop<M>,
}

impl<M: Leak> RingWithMemory<M> {
    pub(crate) fn new(ring: Ring, memory: M) -> Self {
        Self {
            ring,
            memory: ManuallyDrop::new(memory),
        }
    }
}

impl<M: Leak> Drop for RingWithMemory<M> {
    fn drop(&mut self) {
        let closed = self.ring.close();
        // SAFETY: taken once, here, and not used afterwards.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        if !closed {
            memory.leak();
        }
    }
}

/// Builds a ring and finds its submission thread. fdinfo of the ring reports the thread id in the initial PID
/// namespace, which is wrong inside a container.
fn build_with_thread<T>(build: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Option<u32>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = submission_threads();
    let ring = build()?;
    let mut new = submission_threads();
    new.retain(|thread| !before.contains(thread));
    Ok((ring, new.first().copied()))
}

/// The io_uring submission threads of this process, identified by their names.
fn submission_threads() -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let is_submission_thread = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm"))
            .is_ok_and(|name| name.starts_with("iou-sqp-"))
    };
    let ours = tasks.flatten().filter(is_submission_thread);
    ours.filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

/// Maps errors that only ended a call early to success. Every caller retries in its loop.
fn ignore_early_return(outcome: io::Result<usize>) -> io::Result<()> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            // EBUSY: completions must be reaped first.
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
            _ => Err(error),
        },
    }
}
