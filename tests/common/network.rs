//! Network namespaces for tests with thousands of addresses, and for tests with rules of a firewall.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::process::Command;
use std::thread;

/// Runs `body` in a new network namespace with loopback up, or in the present one where the system permits none.
///
/// A host that tracks connections (nf_conntrack) has a table of fixed size for all of them. Once the table is full, sends fail with
/// EPERM. A new namespace tracks no connections.
pub(crate) fn with_own_network(body: impl FnOnce() + Send) {
    on_a_thread(|| {
        if enter_new_network() {
            assert!(is_done("ip link set lo up"));
        } else {
            println!("no network namespace is permitted here: the test runs in that of the host");
        }
        body();
    });
}

/// Runs `body` in a new network namespace with loopback up and an nftables chain `t out` of its
/// output. Skips it where the system permits no namespace or has no nft(8).
pub(crate) fn with_firewall(body: impl FnOnce() + Send) {
    const CHAIN: &str = "add chain inet t out { type filter hook output priority 0 ; }";
    on_a_thread(|| {
        let has_all = enter_new_network()
            && is_done("ip link set lo up")
            && is_done("nft add table inet t")
            && is_done(&format!("nft {CHAIN}"));
        match has_all {
            true => body(),
            false => println!("skipped: no network namespace with nftables can be had here"),
        }
    });
}

/// Runs a command in the network namespace of the thread. Whether it succeeded.
pub(crate) fn is_done(command: &str) -> bool {
    let mut words = command.split(' ');
    let status = words
        .next()
        .map(|name| Command::new(name).args(words).status());
    status.is_some_and(|status| status.is_ok_and(|status| status.success()))
}

fn on_a_thread(body: impl FnOnce() + Send) {
    // The namespace belongs to the thread and to the processes that the thread starts.
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Whether the calling thread has a new network namespace (unshare(2)).
#[allow(unsafe_code, reason = "the standard library has no unshare(2)")]
fn enter_new_network() -> bool {
    // SAFETY: unshare(2) has no pointer arguments, and CLONE_NEWNET changes nothing but the thread's network namespace.
    unsafe { libc::unshare(libc::CLONE_NEWNET) == 0 }
}
