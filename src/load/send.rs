//! Sends one message through a proxy in the JSON envelope and returns the server's answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::protocol::Destination;
use crate::protocol::json::{self, ErrorLine, client::Client};
use crate::sys::endpoint::Endpoint;
use crate::sys::{tcp, unix};

/// Bytes of one read.
const READ: usize = 64 << 10;

/// Why there is no complete answer. Bytes received before the error were passed on.
#[derive(Debug, Error)]
pub enum SendError {
    /// The proxy is unreachable.
    #[error("cannot connect to a proxy at {0}: {1}")]
    Connect(Endpoint, #[source] io::Error),
    /// The proxy refused the request.
    #[error("the proxy at {proxy} refused {server}: {} ({})", .line.detail, .line.error.name())]
    Refused {
        /// The proxy.
        proxy: Endpoint,
        /// The destination of the message.
        server: Destination,
        /// The error line of the proxy.
        line: ErrorLine,
    },
    /// The connection closed before any byte.
    #[error("the proxy at {0} closed the connection without an answer or a refusal")]
    NoAnswer(Endpoint),
    /// The connection broke after this many bytes of the answer.
    #[error("the connection to the proxy at {0} broke after {1} bytes of an answer: {2}")]
    Broken(Endpoint, u64, #[source] io::Error),
    /// The answer was incomplete at the timeout; this many bytes had arrived.
    #[error(
        "the answer through the proxy at {0} was not complete within {2:?}; {1} bytes had arrived"
    )]
    TimedOut(Endpoint, u64, Duration),
    /// The answer could not be passed on.
    #[error(transparent)]
    Output(io::Error),
}

/// Sends `message` to `server` through the proxy and passes the bytes of the answer to `take` as they arrive. `limit` bounds the
/// whole exchange.
///
/// A refusal is distinguished from an answer as [`json::client`] describes.
///
/// # Errors
/// [`SendError`], where there is no complete answer.
pub fn send(
    proxy: &Endpoint,
    server: &Destination,
    message: &str,
    limit: Duration,
    take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), SendError> {
    let deadline = Instant::now() + limit;
    let stream = connect(proxy, limit).map_err(|error| SendError::Connect(proxy.clone(), error))?;
    let request = json::request(server, message);
    thread::scope(|scope| {
        let mut writer = &stream;
        // A refusal may arrive before everything is sent. A failed write shows in the answer.
        thread::Builder::new()
            .spawn_scoped(scope, move || writer.write_all(&request))
            .map_err(|error| SendError::Broken(proxy.clone(), 0, error))?;
        let mut answer = Answer {
            proxy: proxy.clone(),
            client: Client::default(),
            received: 0,
            take,
        };
        let outcome = answer.read(&stream, deadline, limit);
        // This also ends a blocked writer.
        let _ = stream.shutdown(Shutdown::Both);
        answer.finish(outcome, server)
    })
}

fn connect(proxy: &Endpoint, limit: Duration) -> io::Result<TcpStream> {
    match proxy {
        Endpoint::Ip(address) => {
            let stream = TcpStream::connect_timeout(address, limit)?;
            tcp::connected_from(&stream, *address)?;
            Ok(stream)
        }
        Endpoint::Unix(path) => unix::connect(path, Some(limit)),
    }
}

struct Answer<T> {
    proxy: Endpoint,
    client: Client,
    /// Bytes received.
    received: u64,
    take: T,
}

impl<T: FnMut(&[u8]) -> io::Result<()>> Answer<T> {
    /// Reads the answer to its end.
    fn read(
        &mut self,
        mut stream: &TcpStream,
        deadline: Instant,
        limit: Duration,
    ) -> Result<(), SendError> {
        let mut buffer = vec![0; READ];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SendError::TimedOut(
                    self.proxy.clone(),
                    self.received,
                    limit,
                ));
            }
            let read = stream
                .set_read_timeout(Some(left))
                .and_then(|()| stream.read(&mut buffer));
            match read {
                Ok(0) => return Ok(()),
                Ok(bytes) => {
                    self.received += bytes as u64;
                    let answer = self.client.push(buffer.get(..bytes).unwrap_or_default());
                    (self.take)(&answer).map_err(SendError::Output)?;
                }
                Err(error) => match error.kind() {
                    // A timeout or a signal: the loop checks the deadline.
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(SendError::Broken(self.proxy.clone(), self.received, error)),
                },
            }
        }
    }

    /// Passes on buffered bytes, unless they are a refusal.
    fn finish(
        mut self,
        outcome: Result<(), SendError>,
        server: &Destination,
    ) -> Result<(), SendError> {
        let proxy = self.proxy.clone();
        if let Err(SendError::Output(_)) = outcome {
            return outcome;
        }
        match self.client.end() {
            // A complete refusal counts even if the proxy then broke the connection or kept it open.
            Err(line) => Err(SendError::Refused {
                proxy,
                server: server.clone(),
                line,
            }),
            Ok(rest) => {
                (self.take)(&rest).map_err(SendError::Output)?;
                match outcome {
                    Ok(()) if self.received == 0 => Err(SendError::NoAnswer(proxy)),
                    outcome => outcome,
                }
            }
        }
    }
}
