//! One test body for every engine.

use std::io;
use std::thread;

use io_uring::IoUring;

/// What does the I/O, as options.
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
/// The ways that a proxy can be told to forward.
pub(crate) const FORWARDINGS: [&str; 3] = ["auto", "copy", "splice"];

/// The engine, unless this kernel lacks it.
pub(crate) fn available(options: &'static str) -> Option<Engine> {
    let engine = Engine(options);
    // On a thread that ends with its ring: the kernel takes a ring down by interrupting whoever made it, and a test would have
    // its next read fail by that.
    if engine.is_uring()
        && let Err(reason) = thread::spawn(uring).join().unwrap()
    {
        println!("skipped: {reason}");
        return None;
    }
    Some(engine)
}

/// Why there is no io_uring here, if there is none.
fn uring() -> Result<(), String> {
    let ring = || -> io::Result<IoUring> {
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(1)
    };
    // In a thread that ends: what the kernel still has to do for a ring that is gone interrupts the thread that had it, and a
    // read with a timeout is not begun again (signal(7)).
    std::thread::spawn(move || ring().map(drop))
        .join()
        .unwrap()
        .map_err(|error| format!("no io_uring as this program needs it: {error}"))
}

#[allow(unused_macros, reason = "not every test program runs on both")]
/// Makes a test of each body on every engine that a proxy has.
macro_rules! on_both_engines {
    ($($body:ident),* $(,)?) => {
        on_every_engine!(mio "--engine mio", $($body),*);
        on_every_engine!(uring "--engine uring", $($body),*);
    };
}

#[allow(unused_macros, reason = "not every test program runs on all")]
/// Makes a test of each body on every engine.
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
