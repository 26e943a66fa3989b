//! Network namespaces for tests with thousands of addresses.

use std::process::Command;
use std::thread;

/// Runs `body` in a new network namespace with loopback up, or in the present one where the system permits none.
///
/// A host that tracks connections (nf_conntrack) has a table of fixed size for all of them. Once the table is full, sends fail with
/// EPERM. A new namespace tracks no connections.
pub(crate) fn with_own_network(body: impl FnOnce() + Send) {
    let in_namespace = || {
        if enter_new_network() {
            let status = Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status();
            assert!(status.is_ok_and(|status| status.success()), "ip link");
        } else {
            println!("no network namespace is permitted here: the test runs in that of the host");
        }
        body();
    };
    // The namespace belongs to the thread and to the processes that the thread starts.
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(in_namespace).join() {
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
