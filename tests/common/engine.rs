//! One test body for every engine.

use std::io;
use std::thread;

use io_uring::IoUring;

/// The engine, as options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Engine(pub(crate) &'static str);

impl Engine {
    pub(crate) fn options<'a>(self) -> impl Iterator<Item = &'a str> {
        self.0.split_whitespace()
    }

    pub(crate) fn is_uring(self) -> bool {
        self.0.contains("uring")
    }
}

#[allow(dead_code, reason = "not every test program runs a proxy")]
/// Forwarding methods of a proxy.
pub(crate) const FORWARDINGS: [&str; 3] = ["auto", "copy", "splice"];

/// The engine, unless this kernel lacks it.
pub(crate) fn available(options: &'static str) -> Option<Engine> {
    let engine = Engine(options);
    // On a thread of its own: when the kernel tears down a ring it interrupts the creating thread, which would fail the next
    // read of a test.
    if engine.is_uring()
        && let Err(reason) = thread::spawn(uring).join().unwrap()
    {
        println!("skipped: {reason}");
        return None;
    }
    Some(engine)
}

/// Why io_uring is unavailable, if it is.
fn uring() -> Result<(), String> {
    let ring = || -> io::Result<IoUring> {
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(1)
    };
    // On a thread of its own: deferred work of a closed ring interrupts its thread, and a read with a timeout is not restarted
    // (signal(7)).
    std::thread::spawn(move || ring().map(drop))
        .join()
        .unwrap()
        .map_err(|error| format!("no io_uring as this program needs it: {error}"))
}

#[allow(unused_macros, reason = "not every test program runs on both")]
/// Generates a test of each body on every engine of a proxy.
macro_rules! on_both_engines {
    ($($body:ident),* $(,)?) => {
        on_every_engine!(mio "--engine mio", $($body),*);
        on_every_engine!(uring "--engine uring", $($body),*);
    };
}

#[allow(unused_macros, reason = "not every test program runs on all")]
/// Generates a test of each body on every engine.
macro_rules! on_every_engine {
    ($($body:ident),* $(,)?) => {
        on_every_engine!(mio "", $($body),*);
        on_every_engine!(mio_msg "--zerocopy msg", $($body),*);
        on_every_engine!(uring "--engine uring", $($body),*);
        on_every_engine!(uring_single "--engine uring --uring-recv single", $($body),*);
        on_every_engine!(uring_msg "--engine uring --zerocopy msg", $($body),*);
        on_every_engine!(uring_sqpoll "--engine uring --uring-sqpoll --uring-ring-size 2", $($body),*);
    };
    ($engine:ident $options:literal, $($body:ident),*) => {
        mod $engine {
            $(#[test]
            fn $body() {
                if let Some(engine) = crate::common::engine::available($options) {
                    super::$body(engine);
                }
            })*
        }
    };
}

#[allow(unused_imports, reason = "not every test program runs on all")]
pub(crate) use {on_both_engines, on_every_engine};
