//! The header of a datagram, as the key of its route.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use super::stored::heap;
use crate::protocol::socks5::datagram::V6_HEADER;

/// A header with an address, or with a name that is not longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    bytes: [u8; V6_HEADER],
    length: u8,
}

impl Header {
    fn new(header: &[u8]) -> Option<Self> {
        let mut bytes = [0; V6_HEADER];
        bytes.get_mut(..header.len())?.copy_from_slice(header);
        let length = header.len() as u8;
        Some(Self { bytes, length })
    }

    fn bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// A header of any length. A long one is on the heap.
#[derive(Debug)]
pub(super) enum HeaderKey {
    Short(Header),
    Long(Box<[u8]>),
}

impl HeaderKey {
    pub(super) fn new(header: &[u8]) -> Self {
        match Header::new(header) {
            Some(short) => Self::Short(short),
            None => Self::Long(header.into()),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(header) => header.bytes(),
            Self::Long(header) => header,
        }
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        match self {
            Self::Short(_) => 0,
            Self::Long(header) => heap(header.len()),
        }
    }
}

impl Borrow<[u8]> for HeaderKey {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

impl Hash for HeaderKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As the bytes that it is found by.
        self.bytes().hash(state);
    }
}

impl PartialEq for HeaderKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for HeaderKey {}
