//! Runs a test body on every engine.

use std::io;

use io_uring::IoUring;

/// Command line options that select an engine.
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
/// The values of the proxy's `--forwarding`.
pub(crate) const FORWARDINGS: [&str; 3] = ["auto", "copy", "splice"];

/// The engine; `None` if this kernel lacks it.
pub(crate) fn available(options: &'static str) -> Option<Engine> {
    let engine = Engine(options);
    if engine.is_uring()
        && let Err(reason) = try_uring()
    {
        println!("skipped: {reason}");
        return None;
    }
    Some(engine)
}

/// Why io_uring is unavailable, if it is.
fn try_uring() -> Result<(), String> {
    let ring = || -> io::Result<IoUring> {
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(1)
    };
    // The kernel tears a ring down by interrupting the thread that created it, which would end a read with a timeout of
    // a test (signal(7)). So the ring is created in a thread that ends.
    std::thread::spawn(move || ring().map(drop))
        .join()
        .unwrap()
        .map_err(|error| format!("io_uring is unavailable: {error}"))
}

#[allow(unused_macros, reason = "not every test program runs on both")]
/// Runs each body as a test on every engine of the proxy.
macro_rules! on_both_engines {
    ($($body:ident),* $(,)?) => {
        on_every_engine!(mio "--engine mio", $($body),*);
        on_every_engine!(uring "--engine uring", $($body),*);
    };
}

#[allow(unused_macros, reason = "not every test program runs on all")]
/// Runs each body as a test on every engine.
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
