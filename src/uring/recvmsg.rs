//! Multishot recvmsg into provided buffers (Linux 6.0): what the kernel writes in front of a payload.

use std::io;
use std::mem;

use super::ring::Leak;
use crate::sys::mmap::Mmap;

/// Bytes before the payload: `struct io_uring_recvmsg_out`, the source address and the control data. The latter two get
/// more room than needed, so that the payload starts on a cache line.
const OUT_BYTES: usize = 16;
const NAME_BYTES: usize = 32;
const CONTROL_BYTES: usize = 144;

/// Bytes of a buffer in front of the payload.
pub(crate) const BEFORE: usize = OUT_BYTES + NAME_BYTES + CONTROL_BYTES;

/// A `msghdr` with the room for the source address and the control data, for any number of requests.
pub(crate) struct Shape(Mmap);

impl Shape {
    /// # Errors
    /// As mmap(2): out of memory.
    pub(crate) fn new() -> io::Result<Self> {
        let memory = Mmap::new(size_of::<libc::msghdr>())?;
        // SAFETY: all-zero is valid for plain integers and pointers. The mapping has room and is aligned.
        unsafe {
            let mut header: libc::msghdr = mem::zeroed();
            header.msg_namelen = NAME_BYTES as u32;
            header.msg_controllen = CONTROL_BYTES as _;
            memory.as_ptr().cast::<libc::msghdr>().write(header);
        }
        Ok(Self(memory))
    }

    /// The header, which is never written again.
    pub(crate) fn header(&self) -> *mut libc::msghdr {
        self.0.as_ptr().cast()
    }
}

impl Leak for Shape {
    fn leak(self) {
        self.0.leak();
    }
}

/// The contents of a filled buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Output<'a> {
    /// The payload, truncated to the room in the buffer.
    pub(crate) payload: &'a [u8],
    /// `msg_name`.
    pub(crate) name: &'a [u8],
    /// `msg_control`.
    pub(crate) control: &'a [u8],
    /// `msg_flags`.
    pub(crate) flags: libc::c_int,
}

impl<'a> Output<'a> {
    /// Parses a buffer as far as the kernel filled it: `struct io_uring_recvmsg_out`, source address, control data, payload.
    #[inline]
    pub(crate) fn parse(filled: &'a [u8]) -> Option<Self> {
        let number = |at: usize| -> Option<usize> {
            let bytes = filled.get(at..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*bytes) as usize)
        };
        let (name, control, flags) = (number(0)?, number(4)?, number(12)?);
        let after_name = OUT_BYTES + NAME_BYTES;
        Some(Self {
            payload: filled.get(BEFORE..)?,
            name: filled.get(OUT_BYTES..OUT_BYTES + name.min(NAME_BYTES))?,
            control: filled.get(after_name..after_name + control.min(CONTROL_BYTES))?,
            flags: flags as libc::c_int,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn output_is_within_the_buffer(filled in prop::collection::vec(any::<u8>(), 0..300)) {
            match Output::parse(&filled) {
                Some(output) => {
                    prop_assert_eq!(output.payload, &filled[BEFORE..]);
                    prop_assert!(output.name.len() <= NAME_BYTES && output.control.len() <= CONTROL_BYTES);
                }
                None => prop_assert!(filled.len() < BEFORE),
            }
        }
    }

    #[test]
    fn parts_have_the_lengths_that_the_kernel_wrote() {
        let mut filled = vec![0; BEFORE];
        filled[..4].copy_from_slice(&3u32.to_ne_bytes());
        filled[4..8].copy_from_slice(&2u32.to_ne_bytes());
        filled[12..16].copy_from_slice(&libc::MSG_TRUNC.to_ne_bytes());
        filled[OUT_BYTES..OUT_BYTES + 3].copy_from_slice(b"who");
        filled[OUT_BYTES + NAME_BYTES..][..2].copy_from_slice(b"ip");
        filled.extend(b"payload");
        let output = Output::parse(&filled).unwrap();
        assert_eq!((output.name, output.control), (&b"who"[..], &b"ip"[..]));
        assert_eq!(
            (output.payload, output.flags),
            (&b"payload"[..], libc::MSG_TRUNC)
        );
    }
}
