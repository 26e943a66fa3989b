//! A name server for tests: replies over UDP as a function of name and type.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The reply for a name.
pub(crate) enum DnsReply {
    /// No reply.
    Nothing,
    /// The name does not exist.
    NoSuchName,
    /// A chain of aliases in order, and the addresses of the last. Without addresses the resolver must query the last
    /// alias.
    Records(Vec<&'static str>, Vec<IpAddr>),
}

/// A name server. Its thread ends with the test process.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    /// Replies on `address` with `answer`, which gets the name in lower case.
    pub(crate) fn start(
        address: SocketAddr,
        answer: impl Fn(&str) -> DnsReply + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        thread::spawn(move || {
            let mut question = [0; 2_000];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                counter.fetch_add(1, Ordering::Relaxed);
                let (name, end) = name(&question[..length]);
                let kind = u16::from_be_bytes([question[end], question[end + 1]]);
                if let Some(reply) = reply(&question[..end + 4], kind, answer(&name)) {
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Self { address, asked }
    }

    /// Queries so far, one per address family.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The queried name, and its end.
fn name(question: &[u8]) -> (String, usize) {
    let mut labels = Vec::new();
    let mut at = 12;
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), at + 1)
}

/// RFC 1035, section 4.1: the question, and a record for each alias and address.
fn reply(question: &[u8], kind: u16, reply: DnsReply) -> Option<Vec<u8>> {
    let (code, aliases, addresses) = match reply {
        DnsReply::Nothing => return None,
        DnsReply::NoSuchName => (3, Vec::new(), Vec::new()),
        DnsReply::Records(aliases, addresses) => (0, aliases, addresses),
    };
    let mut records = Vec::new();
    // Refers to the queried name by a pointer.
    let mut owner = vec![0xc0, 12];
    for alias in aliases {
        let target = encoded(alias);
        records.push(record(&owner, 5, &target));
        owner = target;
    }
    for address in addresses {
        match address {
            IpAddr::V4(address) if kind == 1 => records.push(record(&owner, 1, &address.octets())),
            IpAddr::V6(address) if kind == 28 => {
                records.push(record(&owner, 28, &address.octets()));
            }
            _ => {}
        }
    }
    let mut reply = question[..2].to_vec();
    reply.extend([0x85, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    reply.extend_from_slice(&question[12..]);
    reply.extend(records.concat());
    Some(reply)
}

fn record(owner: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend([0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
    record.extend_from_slice(data);
    record
}

fn encoded(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
