//! Batched datagrams: sendmmsg(2) and recvmmsg(2).
//!
//! A batch keeps its header arrays between calls and sets their pointers for each call, so no pointer outlives its
//! call.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::cmsg::{CONTROL_BYTES, Message, NAME_BYTES};
use super::mmap::Pages;
use super::tx_control::TxControl;

/// Header arrays for sends of up to a fixed number of messages.
pub struct SendBatch {
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    /// Empty unless messages are stamped.
    controls: Vec<Option<TxControl>>,
}

// SAFETY: the pointers in the header arrays are set before each call and not used after it.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// Room for `capacity` messages per call.
    pub fn new(capacity: usize) -> Self {
        Self {
            vectors: Vec::with_capacity(capacity),
            headers: Vec::with_capacity(capacity),
            controls: Vec::new(),
        }
    }

    /// Sends messages in order on a connected socket. Returns the number accepted, which is lower if the kernel had no
    /// room or refused a message. Messages beyond the capacity are left for the next call.
    ///
    /// # Errors
    /// As sendmmsg(2), only if the first message was refused.
    #[inline]
    pub fn send<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<usize> {
        self.send_with(socket, messages, 0)
    }

    /// Like [`Self::send`] with `MSG_ZEROCOPY`: the kernel may read the pages until it reports the completion on the
    /// error queue.
    ///
    /// # Errors
    /// As [`Self::send`]; `ENOBUFS` if the locked pages would exceed `RLIMIT_MEMLOCK`.
    #[inline]
    pub fn send_zerocopy<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = Pages<'a>>,
    ) -> io::Result<usize> {
        self.send_with(socket, messages.map(Pages::bytes), libc::MSG_ZEROCOPY)
    }

    /// Like [`Self::send`], with timestamps of the messages that have control data.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn send_stamped<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = (&'a [u8], Option<TxControl>)>,
    ) -> io::Result<usize> {
        self.controls.clear();
        let controls = &mut self.controls;
        self.vectors.clear();
        let room = self.vectors.capacity();
        for (bytes, control) in messages.take(room) {
            self.vectors.push(vector(bytes));
            controls.push(control);
        }
        self.fill_headers();
        for (header, control) in self.headers.iter_mut().zip(&mut self.controls) {
            if let Some(control) = control {
                header.msg_hdr.msg_control = control.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = control.len() as _;
            }
        }
        self.submit(socket, 0)
    }

    /// Increases the room to `capacity` messages per call.
    pub fn grow(&mut self, capacity: usize) {
        // `reserve` counts from the length, so the arrays are cleared first.
        self.vectors.clear();
        self.headers.clear();
        self.vectors.reserve(capacity);
        self.headers.reserve(capacity);
    }

    fn send_with<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        messages: impl Iterator<Item = &'a [u8]>,
        flags: libc::c_int,
    ) -> io::Result<usize> {
        self.vectors.clear();
        let room = self.vectors.capacity();
        for bytes in messages.take(room) {
            self.vectors.push(vector(bytes));
        }
        self.fill_headers();
        self.submit(socket, flags)
    }

    /// Points a header at each vector.
    #[inline]
    fn fill_headers(&mut self) {
        self.headers.clear();
        for vector in &mut self.vectors {
            let mut header = empty_header();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            self.headers.push(header);
        }
    }

    /// Passes the messages to the kernel. Called while the slices behind the vectors are borrowed.
    #[inline]
    fn submit(&mut self, socket: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<usize> {
        // SAFETY: each header points to one vector of `self.vectors`, which no longer grows, and each vector to a slice
        // that both callers borrow for 'a, so all are readable during the call. sendmmsg writes only `msg_len`. The
        // address is null, and control data are null or in `self.controls`, with their length.
        let taken = unsafe {
            syscall!(sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                // The types of flags and control lengths differ between glibc and musl.
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | flags) as _
            ))?
        };
        Ok(taken as usize)
    }
}

/// Buffers and header arrays for receives of up to a fixed number of messages.
pub struct ReceiveBatch {
    memory: Box<[u8]>,
    /// Bytes of `memory` per message.
    stride: usize,
    /// Most bytes of a message, at most `stride`.
    length: usize,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    names: Vec<[u8; NAME_BYTES]>,
    controls: Vec<[u8; CONTROL_BYTES]>,
}

// SAFETY: the pointers in the header arrays lead to the memory of the batch, which it owns, and are set before each call.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    /// Room for `capacity` messages per call, of up to `stride` bytes each.
    pub fn new(capacity: usize, stride: usize) -> Self {
        // SAFETY: a plain integer and a pointer, for which all-zero is valid.
        let vector = unsafe { mem::zeroed() };
        Self {
            memory: vec![0; capacity * stride].into_boxed_slice(),
            stride,
            length: stride,
            vectors: vec![vector; capacity],
            headers: vec![empty_header(); capacity],
            names: vec![[0; NAME_BYTES]; capacity],
            controls: vec![[0; CONTROL_BYTES]; capacity],
        }
    }

    /// Most messages of one call.
    pub fn capacity(&self) -> usize {
        self.headers.len()
    }

    /// Truncates messages longer than `length` bytes, as a batch with room for so many would.
    pub fn set_length(&mut self, length: usize) {
        self.length = length.min(self.stride);
    }

    /// Receives queued messages without waiting, and returns their number. Fewer than the capacity means that the queue
    /// was empty.
    ///
    /// # Errors
    /// As recvmmsg(2); `WouldBlock` if no message is queued.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let rows = self
            .memory
            .chunks_exact_mut(self.stride)
            .zip(&mut self.vectors);
        let rows = rows
            .zip(&mut self.headers)
            .zip(&mut self.names)
            .zip(&mut self.controls);
        for ((((bytes, vector), header), name), control) in rows {
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = self.length;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = name.len() as libc::socklen_t;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = control.len() as _;
            header.msg_hdr.msg_flags = 0;
        }
        // SAFETY: every header points to a vector, an address and a control buffer in this struct, each of the given
        // length, distinct and writable. `&mut self` keeps them so during the call. A null timeout is allowed, and
        // MSG_DONTWAIT makes the call return at once.
        let count = unsafe {
            syscall!(recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut()
            ))?
        };
        Ok(count as usize)
    }

    /// The first `count` messages of the last [`Self::receive`].
    pub fn messages(&self, count: usize) -> impl Iterator<Item = Message<'_>> {
        let rows = self
            .memory
            .chunks_exact(self.stride)
            .zip(&self.headers)
            .zip(&self.names)
            .zip(&self.controls);
        rows.take(count).map(|(((memory, header), name), control)| {
            let length = (header.msg_len as usize).min(memory.len());
            let received = &header.msg_hdr;
            // The lengths written by the kernel never exceed the room.
            let name = name.get(..received.msg_namelen as usize).unwrap_or(name);
            let control = control.get(..received.msg_controllen as _);
            Message::new(
                &memory[..length],
                name,
                control.unwrap_or_default(),
                received.msg_flags,
            )
        })
    }
}

fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: plain integers and pointers, for which all-zero is valid.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn pair(local: &str) -> (UdpSocket, UdpSocket) {
        let receiver = socket::bind_udp(local.parse().unwrap()).unwrap();
        let sender = socket::bind_udp(local.parse().unwrap()).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        (sender, receiver)
    }

    #[test]
    fn batch_arrives_in_order_with_its_source() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let (sender, receiver) = pair(local);
            let sent: Vec<Vec<u8>> = (0..5u8).map(|n| vec![n; 10 + usize::from(n)]).collect();
            let taken = SendBatch::new(8)
                .send(sender.as_fd(), sent.iter().map(Vec::as_slice))
                .unwrap();
            assert_eq!(taken, 5);
            let mut batch = ReceiveBatch::new(8, 100);
            assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 5);
            for (message, sent) in batch.messages(5).zip(&sent) {
                assert_eq!(message.bytes, sent);
                assert_eq!(message.source(), Some(sender.local_addr().unwrap()));
                assert_eq!(message.segment, sent.len());
                assert!(!message.truncated);
            }
            let empty = batch.receive(receiver.as_fd()).unwrap_err();
            assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn message_longer_than_its_buffer_is_marked() {
        let (sender, receiver) = pair("127.0.0.1:0");
        sender.send(&[7; 300]).unwrap();
        let mut batch = ReceiveBatch::new(1, 100);
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 1);
        let message = batch.messages(1).next().unwrap();
        assert!(message.truncated);
        assert_eq!(message.bytes, [7; 100]);
    }

    #[test]
    fn segmented_send_arrives_as_one_message() {
        let (sender, receiver) = pair("127.0.0.1:0");
        if socket::set_segment_size(sender.as_fd(), 100).is_err()
            || socket::set_gro(receiver.as_fd(), true).is_err()
        {
            println!("skipped: this kernel has no UDP_SEGMENT or UDP_GRO");
            return;
        }
        let bytes: Vec<u8> = (0..=249).collect();
        assert_eq!(
            SendBatch::new(1)
                .send(sender.as_fd(), [bytes.as_slice()].into_iter())
                .unwrap(),
            1
        );
        let mut batch = ReceiveBatch::new(4, 65_536);
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 1);
        let message = batch.messages(1).next().unwrap();
        assert_eq!(message.segment, 100);
        let lengths: Vec<usize> = message.datagrams().map(<[u8]>::len).collect();
        assert_eq!(lengths, [100, 100, 50]);
        assert_eq!(message.bytes, bytes);
    }

    #[test]
    fn drops_are_reported_with_the_next_message() {
        let (sender, receiver) = pair("127.0.0.1:0");
        socket::set_overflow_count(receiver.as_fd()).unwrap();
        socket::set_buffers(&receiver, None, Some(4_096), false).unwrap();
        for _ in 0..50 {
            sender.send(&[0; 1_000]).unwrap();
        }
        let mut batch = ReceiveBatch::new(64, 2_000);
        let kept = batch.receive(receiver.as_fd()).unwrap();
        sender.send(b"next").unwrap();
        assert_eq!(batch.receive(receiver.as_fd()).unwrap(), 1);
        let message = batch.messages(1).next().unwrap();
        assert_eq!(message.drops, Some(50 - kept as u32));
    }
}
