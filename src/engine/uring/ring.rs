//! An io_uring and the one rule about it: what the kernel was given stays where it is until its completion.
//!
//! Memory that requests point to is [`Kept`] with its ring, which is closed before that memory goes: what is under way
//! is cancelled, and completions are taken until none is missing.

use std::io;
use std::mem::{self, ManuallyDrop};
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{Builder, IoUring, cqueue, opcode, squeue};

use crate::engine::choice::UringSettings;
use crate::engine::probe::uring::{builder, explained};
use crate::engine::stats::RingStats;
use crate::sys::clock::monotonic_ns;
use crate::sys::usage;

/// The socket's place in the table of registered files.
pub(crate) const SOCKET: io_uring::types::Fixed = io_uring::types::Fixed(0);

/// The place of the eventfd that wakes the thread.
const WAKE: io_uring::types::Fixed = io_uring::types::Fixed(1);

/// How long to wait for the completions of what was cancelled, in ns. Only a zero-copy send can take any time at all,
/// until the device is done with it.
const CLOSE_NS: u64 = 5_000_000_000;

/// Marks the completion of a cancellation, and of having been woken. Neither is anybody else's business.
const CANCEL: u64 = u64::MAX;
const AWAKE: u64 = u64::MAX - 1;

/// A completion: whose, what came of it, and flags.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    flags: u32,
}

impl Completion {
    /// The errno, when the request failed.
    pub(crate) fn errno(self) -> Option<i32> {
        (self.result < 0).then_some(-self.result)
    }

    /// The request goes on, and there will be more completions of it.
    pub(crate) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// It says that a zero-copy send's memory is free, and not what came of the send.
    pub(crate) fn is_notification(self) -> bool {
        cqueue::notif(self.flags)
    }

    /// The socket that was received from has more.
    pub(crate) fn leaves_some(self) -> bool {
        cqueue::sock_nonempty(self.flags)
    }

    /// Which of the provided buffers was filled.
    pub(crate) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }
}

/// A ring of this thread's own, with what it has cost.
pub(crate) struct Ring {
    ring: IoUring,
    stats: RingStats,
    /// Requests that will have another completion.
    pending: usize,
    /// The request that ends a sleep when the thread is woken goes on.
    wake_armed: bool,
    woken: bool,
    /// Completions had to wait for room when it was last looked at.
    overflows: bool,
    /// The kernel's submission thread, by its id.
    thread: Option<u32>,
}

impl Ring {
    /// A ring for up to `requests` at once and `completions` not yet taken, with `files` registered.
    ///
    /// # Errors
    /// As io_uring_setup(2) and io_uring_register(2): not allowed, or a kernel before 6.1.
    pub(crate) fn new(
        settings: &UringSettings,
        requests: u32,
        completions: u32,
        files: &[RawFd],
    ) -> io::Result<Self> {
        let ring = Self::built(builder(settings), settings, requests, completions, files)?;
        ring.register_itself();
        Ok(ring)
    }

    /// As [`Self::new`], of whichever thread calls [`Self::begin`]: what stands in its way is known before there is one.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn unowned(
        settings: &UringSettings,
        requests: u32,
        completions: u32,
        files: &[RawFd],
    ) -> io::Result<Self> {
        let mut builder = builder(settings);
        builder.setup_r_disabled();
        Self::built(builder, settings, requests, completions, files)
    }

    /// Makes a ring that is [`Self::unowned`] this thread's.
    ///
    /// # Errors
    /// As io_uring_register(2).
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()?;
        self.register_itself();
        Ok(())
    }

    /// Saves looking the ring up at each call; a kernel before 5.18 does without.
    fn register_itself(&self) {
        let _ = self.ring.submitter().register_ring_fd();
    }

    fn built(
        mut builder: Builder,
        settings: &UringSettings,
        requests: u32,
        completions: u32,
        files: &[RawFd],
    ) -> io::Result<Self> {
        let size = settings
            .ring_size
            .unwrap_or(requests)
            .clamp(1, crate::engine::choice::MOST_RING);
        if settings.ring_size.is_none() {
            builder.setup_cqsize(completions.max(2 * size).next_power_of_two());
        }
        let (ring, thread) = if settings.sqpoll {
            with_its_thread(|| builder.build(size).map_err(explained))?
        } else {
            (builder.build(size).map_err(explained)?, None)
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

    /// The crate's own handle, to register buffers with.
    pub(crate) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Queues a request, to be submitted by the next [`Self::enter`] at the latest.
    ///
    /// # Errors
    /// When the queue is full and the kernel takes nothing from it.
    ///
    /// # Safety
    /// Everything `entry` points to stays valid, and untouched where it is written, until its last completion.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        for _ in 0..2 {
            // SAFETY: passed on to the caller.
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

    /// Whether a call would bring anything: something is queued, or the kernel has completions to make.
    #[inline]
    pub(crate) fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow() || !queue.is_empty()
    }

    /// Submits what is queued and has the kernel make what completions it can, without waiting.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    #[inline]
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        self.count(false);
        passed_over(self.ring.submit())
    }

    /// Has the eventfd end a sleep, from the next call on.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn watch_wake(&mut self) -> io::Result<()> {
        if self.wake_armed {
            return Ok(());
        }
        let request = opcode::PollAdd::new(WAKE, libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(AWAKE);
        // SAFETY: it points to nothing.
        unsafe { self.push(&request)? };
        self.wake_armed = true;
        Ok(())
    }

    /// As [`Self::enter`], and sleeps until there is a completion or it is `deadline` in ns.
    ///
    /// # Errors
    /// As io_uring_enter(2).
    pub(crate) fn wait(&mut self, deadline: u64) -> io::Result<()> {
        if !self.ring.completion().is_empty() {
            return Ok(());
        }
        self.count(true);
        if deadline == u64::MAX {
            return passed_over(self.ring.submit_and_wait(1));
        }
        let ns = deadline.saturating_sub(monotonic_ns());
        let time = Timespec::new()
            .sec(ns / 1_000_000_000)
            .nsec((ns % 1_000_000_000) as u32);
        let until = SubmitArgs::new().timespec(&time);
        passed_over(self.ring.submitter().submit_with_args(1, &until))
    }

    /// Takes the next completion, if there is one.
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

    /// Whether the thread was woken since this was last asked.
    pub(crate) fn was_woken(&mut self) -> bool {
        mem::take(&mut self.woken)
    }

    /// Takes note that a request that goes on by itself had to be made anew.
    pub(crate) fn rearmed(&mut self) {
        self.stats.rearms += 1;
    }

    /// Counts the call that is about to be made. Where a thread takes submissions, it may not be needed.
    fn count(&mut self, waits: bool) {
        let sqpoll = self.ring.params().is_setup_sqpoll();
        let queue = self.ring.submission();
        let overflows = queue.cq_overflow();
        let enters = !sqpoll || waits || overflows || queue.taskrun() || queue.need_wakeup();
        self.stats.enters += u64::from(enters);
        self.stats.cq_overflows += u64::from(overflows && !self.overflows);
        self.overflows = overflows;
    }

    /// What it has cost.
    pub(crate) fn stats(&self) -> RingStats {
        RingStats {
            thread_cpu_ns: self.thread.and_then(usage::of_task),
            ..self.stats
        }
    }

    /// Asks for the one request with this `user_data` to be cancelled.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn cancel_one(&mut self, user_data: u64) -> io::Result<()> {
        let cancel = opcode::AsyncCancel::new(user_data)
            .build()
            .user_data(CANCEL);
        // SAFETY: it points to nothing.
        unsafe { self.push(&cancel) }
    }

    /// Asks for everything under way to be cancelled.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn cancel(&mut self) -> io::Result<()> {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any())
            .build()
            .user_data(CANCEL);
        // SAFETY: it points to nothing.
        unsafe { self.push(&cancel) }
    }

    /// Cancels everything and takes completions until none is missing; then memory that was given to the kernel may
    /// be freed. `false` means that this could not be brought about, and the memory must be left where it is.
    pub(crate) fn close(&mut self) -> bool {
        let deadline = monotonic_ns() + CLOSE_NS;
        while self.pending > 0 {
            if self.cancel().is_err() {
                return false;
            }
            // What could not be cancelled yet is asked again after a while.
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
pub(crate) trait Abandon {
    /// Never frees it: the kernel may still be using it.
    fn abandon(self);
}

/// A ring with the memory that its requests point to, which goes when the kernel is done with it and not before.
pub(crate) struct Kept<M: Abandon> {
    pub(crate) ring: Ring,
    pub(crate) memory: ManuallyDrop<M>,
}

impl<M: Abandon> Kept<M> {
    pub(crate) fn new(ring: Ring, memory: M) -> Self {
        Self {
            ring,
            memory: ManuallyDrop::new(memory),
        }
    }
}

impl<M: Abandon> Drop for Kept<M> {
    fn drop(&mut self) {
        let closed = self.ring.close();
        // SAFETY: taken once, here, and not used again.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        if !closed {
            memory.abandon();
        }
    }
}

/// Builds a ring and tells the submission thread that came with it. The ring itself knows it only by its number outside of
/// all containers.
fn with_its_thread<T>(build: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Option<u32>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = submission_threads();
    let ring = build()?;
    let mut new = submission_threads();
    new.retain(|thread| !before.contains(thread));
    Ok((ring, new.first().copied()))
}

/// The submission threads of this process, as the kernel names them.
fn submission_threads() -> Vec<u32> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let is_one = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm"))
            .is_ok_and(|name| name.starts_with("iou-sqp-"))
    };
    let ours = tasks.flatten().filter(is_one);
    ours.filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

/// What a call answers when it only ended early: every caller looks again.
fn passed_over(outcome: io::Result<usize>) -> io::Result<()> {
    match outcome {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            // EBUSY: completions have to be taken first.
            Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
            _ => Err(error),
        },
    }
}
