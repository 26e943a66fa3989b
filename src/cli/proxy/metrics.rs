//! `--metrics`: the HTTP server for metrics and health of a proxy.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mio::Waker;

use super::cannot_listen;
use crate::cli::error::CliError;
use crate::exposition::CONTENT_TYPE;
use crate::proxy::access_log::Handle;
use crate::proxy::admin::AdminServer;
use crate::proxy::admin::http::Page;
use crate::proxy::metrics::Snapshot;
use crate::proxy::rules::Rules;
use crate::proxy::server::{Server, StatsHandle};
use crate::sys::clock::realtime_ns;

/// A bound metrics server.
pub(super) struct MetricsServer(AdminServer);

impl MetricsServer {
    pub(super) fn bind(address: SocketAddr) -> Result<Self, CliError> {
        let server = AdminServer::bind(address)
            .map_err(|error| cannot_listen(&address.into(), "--metrics", &error))?;
        Ok(Self(server))
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.0.local()
    }

    /// Serves the metrics of a proxy until the returned handle is dropped.
    pub(super) fn begin(
        self,
        server: &Server,
        log: Option<Handle>,
        out: &mut impl Write,
    ) -> Result<RunningMetricsServer, CliError> {
        let source = MetricsSource {
            stats: server.stats(),
            rules: server.rules(),
            log,
            started_at: realtime_ns(),
        };
        let (local, waker) = (self.0.local(), self.0.waker());
        let thread = thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || self.0.run(|path| source.page(path)))
            .map_err(CliError::runtime)?;
        writeln!(out, "metrics on http://{local}/metrics")?;
        out.flush()?;
        Ok(RunningMetricsServer {
            waker,
            thread: Some(thread),
        })
    }
}

/// A running metrics server. Drop stops it.
pub(super) struct RunningMetricsServer {
    waker: Arc<Waker>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Drop for RunningMetricsServer {
    fn drop(&mut self) {
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // The proxy has stopped; errors no longer matter.
            let _ = thread.join();
        }
    }
}

struct MetricsSource {
    stats: StatsHandle,
    rules: Arc<Rules>,
    log: Option<Handle>,
    started_at: u64,
}

impl MetricsSource {
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
