//! `--metrics`: what a proxy shows to whoever looks after it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mio::Waker;

use super::cannot_listen;
use crate::cli::failure::Failure;
use crate::proxy::access_log::Handle;
use crate::proxy::admin::AdminServer;
use crate::proxy::admin::http::Page;
use crate::proxy::metrics::{CONTENT_TYPE, Snapshot};
use crate::proxy::rules::Rules;
use crate::proxy::server::{Server, StatsHandle};
use crate::sys::clock::realtime_ns;

/// A monitor that listens.
pub(super) struct Monitor(AdminServer);

impl Monitor {
    pub(super) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let status = AdminServer::bind(address)
            .map_err(|error| cannot_listen(&address.into(), "--metrics", &error))?;
        Ok(Self(status))
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.0.local()
    }

    /// Shows a proxy, and says where, until what this gives is dropped.
    pub(super) fn begin(
        self,
        server: &Server,
        log: Option<Handle>,
        out: &mut impl Write,
    ) -> Result<Shown, Failure> {
        let sight = Sight {
            stats: server.stats(),
            rules: server.rules(),
            log,
            started_at: realtime_ns(),
        };
        let (local, waker) = (self.0.local(), self.0.waker());
        let thread = thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || self.0.run(|path| sight.page(path)))
            .map_err(Failure::undone)?;
        writeln!(out, "metrics on http://{local}/metrics")?;
        out.flush()?;
        Ok(Shown {
            waker,
            thread: Some(thread),
        })
    }
}

/// A monitor at work.
pub(super) struct Shown {
    waker: Arc<Waker>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // The proxy is over: nobody needs to know how this went.
            let _ = thread.join();
        }
    }
}

struct Sight {
    stats: StatsHandle,
    rules: Arc<Rules>,
    log: Option<Handle>,
    started_at: u64,
}

impl Sight {
    fn page(&self, path: &str) -> Option<Page> {
        let Self {
            stats,
            rules,
            log,
            started_at,
        } = self;
        let page = |is_ok, content_type, body| Page {
            is_ok,
            content_type,
            body,
        };
        match path {
            "/metrics" => {
                let snapshot = Snapshot::take(stats, rules, log.as_ref(), *started_at);
                Some(page(true, CONTENT_TYPE, snapshot.page()))
            }
            "/healthz" => {
                let draining = stats.is_draining();
                let word = if draining { "draining\n" } else { "ok\n" };
                Some(page(
                    !draining,
                    "text/plain; charset=utf-8",
                    word.to_owned(),
                ))
            }
            _ => None,
        }
    }
}
