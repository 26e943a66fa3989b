//! Control data of a sent message that requests its timestamps: see [`super::tx_timestamp`].

/// `SCM_TS_OPT_ID` of asm-generic/socket.h, which the libc crate lacks.
const SCM_TS_OPT_ID: libc::c_int = match cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
    true => 0x5a,
    false => 81,
};

/// Words of a control message with 4 bytes of data, and of its header.
const WORDS: usize = 3;
const LENGTH: usize = 20;

/// The control data of a message that is to be stamped, aligned for a cmsghdr. The data are the first field.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct TxControl {
    words: [u64; 2 * WORDS],
    length: usize,
}

impl TxControl {
    /// Requests both stamps, with a chosen key if there is one.
    pub fn new(key: Option<u32>) -> Self {
        let flags = libc::SOF_TIMESTAMPING_TX_SCHED | libc::SOF_TIMESTAMPING_TX_SOFTWARE;
        let [a, b, c] = control(libc::SO_TIMESTAMPING, flags);
        let [d, e, f] = control(SCM_TS_OPT_ID, key.unwrap_or(0));
        let parts = if key.is_some() { 2 } else { 1 };
        Self {
            words: [a, b, c, d, e, f],
            length: parts * WORDS * size_of::<u64>(),
        }
    }

    /// Start of the control data.
    pub fn as_mut_ptr(&mut self) -> *mut u64 {
        self.words.as_mut_ptr()
    }

    /// Bytes of control data.
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.length
    }
}

/// A `struct cmsghdr` of level `SOL_SOCKET` with 4 bytes of data, as on all 64-bit systems.
fn control(kind: libc::c_int, data: u32) -> [u64; WORDS] {
    let halves = |first: u32, second: u32| {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&first.to_ne_bytes());
        bytes[4..].copy_from_slice(&second.to_ne_bytes());
        u64::from_ne_bytes(bytes)
    };
    let level = libc::SOL_SOCKET as u32;
    [LENGTH as u64, halves(level, kind as u32), halves(data, 0)]
}
