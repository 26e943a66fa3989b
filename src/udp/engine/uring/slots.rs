//! Memory of a sender's slots: payloads, and a message header for each send.

use std::io;

use crate::sys::mmap::Mmap;
use crate::sys::tx_control::TxControl;
use crate::udp::engine::repeat;

/// Payloads of all slots, and a header per datagram, so that slots can be split.
pub(super) struct SlotMemory {
    payloads: Mmap,
    headers: Mmap,
    /// Control data for each header; `None` unless sends are stamped.
    controls: Option<Mmap>,
}

/// A `msghdr` and its iovec.
#[repr(C)]
struct Header {
    message: libc::msghdr,
    vector: libc::iovec,
}

impl SlotMemory {
    /// Memory of `slots` slots of `bytes` bytes and up to `segments` datagrams, filled with repetitions of `fill`. Sends may be
    /// `stamped`.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn new(
        slots: usize,
        bytes: usize,
        segments: usize,
        fill: &[u8],
        stamped: bool,
    ) -> io::Result<Self> {
        let mut payloads = Mmap::new(slots * bytes)?;
        repeat(
            fill,
            payloads.part_mut(0, slots * bytes).unwrap_or_default(),
        );
        Ok(Self {
            payloads,
            headers: Mmap::new(slots * segments * size_of::<Header>())?,
            controls: match stamped {
                true => Some(Mmap::new(slots * segments * size_of::<TxControl>())?),
                false => None,
            },
        })
    }

    /// `length` payload bytes from `start` on.
    #[inline]
    pub(super) fn payload_mut(&mut self, start: usize, length: usize) -> Option<&mut [u8]> {
        self.payloads.part_mut(start, length)
    }

    /// Writes header `number` for the `length` payload bytes from `start` on.
    ///
    /// # Safety
    /// `number` is less than slots times segments, the payload range lies in the slots, and the kernel does not use this
    /// header.
    #[inline]
    pub(super) unsafe fn header(
        &mut self,
        number: usize,
        start: usize,
        length: usize,
    ) -> *const libc::msghdr {
        // SAFETY: the mapping holds this header, is aligned, and all-zero is valid. No other reference exists.
        let header = unsafe { &mut *self.headers.as_ptr().cast::<Header>().add(number) };
        // SAFETY: inside the mapping.
        let payload = unsafe { self.payloads.as_ptr().add(start) };
        header.vector.iov_base = payload.cast();
        header.vector.iov_len = length;
        header.message.msg_iov = &raw mut header.vector;
        header.message.msg_iovlen = 1;
        &raw const header.message
    }

    /// Sets or removes the control data of header `number`.
    ///
    /// # Safety
    /// As for [`Self::header`].
    pub(super) unsafe fn stamp(&mut self, number: usize, control: Option<TxControl>) {
        let Some(controls) = &self.controls else {
            return;
        };
        // SAFETY: the mapping holds this header and is aligned. No other reference exists.
        let header = unsafe { &mut *self.headers.as_ptr().cast::<Header>().add(number) };
        let Some(control) = control else {
            header.message.msg_control = std::ptr::null_mut();
            header.message.msg_controllen = 0;
            return;
        };
        // SAFETY: the mapping has control data for each header and is aligned, and the kernel does not use it, as it does not use
        // the header.
        let place = unsafe { controls.as_ptr().cast::<TxControl>().add(number) };
        // SAFETY: as above. The control data are the first field.
        unsafe { place.write(control) };
        header.message.msg_control = place.cast();
        header.message.msg_controllen = control.len() as _;
    }

    /// Leaks the memory, since the kernel may still use it.
    pub(super) fn leak(self) {
        self.payloads.leak();
        self.headers.leak();
        if let Some(controls) = self.controls {
            controls.leak();
        }
    }
}
