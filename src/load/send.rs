//! One message through a proxy, and the server's answer: the exercise's client, over the JSON envelope.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::protocol::Destination;
use crate::protocol::json::{self, ErrorLine, client::Client};
use crate::sys::endpoint::Endpoint;
use crate::sys::{tcp, unix};

/// Bytes of an answer read at once.
const READ: usize = 64 << 10;

/// Why there is no whole answer. What came of it was given on.
#[derive(Debug, Error)]
pub enum SendError {
    /// The proxy cannot be connected to.
    #[error("cannot connect to a proxy at {0}: {1}")]
    Connect(Endpoint, #[source] io::Error),
    /// The proxy said no.
    #[error("the proxy at {proxy} refused {server}: {} ({})", .line.detail, .line.error.name())]
    Refused {
        /// Who said it.
        proxy: Endpoint,
        /// Where the message was to go.
        server: Destination,
        /// What it said.
        line: ErrorLine,
    },
    /// The connection ended, and nothing had come.
    #[error(
        "the proxy at {0} closed the connection without an answer; neither it nor the server said anything"
    )]
    Silent(Endpoint),
    /// The connection broke after so many bytes of the answer.
    #[error("the connection to the proxy at {0} broke after {1} bytes of an answer: {2}")]
    Broken(Endpoint, u64, #[source] io::Error),
    /// The answer was not whole in time; so many bytes of it came.
    #[error("the answer through the proxy at {0} did not end within {2:?}; {1} bytes of it came")]
    TimedOut(Endpoint, u64, Duration),
    /// What came could not be given on.
    #[error(transparent)]
    Output(io::Error),
}

/// Sends `message` to `server` through the proxy, and gives the answer's bytes to `take` as they come, up to their end. All of it
/// takes `limit` at most.
///
/// A refusal is told apart from an answer as far as [`json::client`] can.
///
/// # Errors
/// [`SendError`], where there is no whole answer.
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
        // A refusal may come before all is sent. A request that cannot be sent shows in what comes back.
        thread::Builder::new()
            .spawn_scoped(scope, move || writer.write_all(&request))
            .map_err(|error| SendError::Broken(proxy.clone(), 0, error))?;
        let mut answer = Answer {
            proxy: proxy.clone(),
            client: Client::default(),
            came: 0,
            take,
        };
        let outcome = answer.hear(&stream, deadline, limit);
        // Also the end of a writer to whom nobody listens.
        let _ = stream.shutdown(Shutdown::Both);
        answer.over(outcome, server)
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
    /// Bytes.
    came: u64,
    take: T,
}

impl<T: FnMut(&[u8]) -> io::Result<()>> Answer<T> {
    /// Takes what comes, to its end.
    fn hear(
        &mut self,
        mut stream: &TcpStream,
        deadline: Instant,
        limit: Duration,
    ) -> Result<(), SendError> {
        let mut buffer = vec![0; READ];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SendError::TimedOut(self.proxy.clone(), self.came, limit));
            }
            let read = stream
                .set_read_timeout(Some(left))
                .and_then(|()| stream.read(&mut buffer));
            match read {
                Ok(0) => return Ok(()),
                Ok(bytes) => {
                    self.came += bytes as u64;
                    let served = self.client.push(buffer.get(..bytes).unwrap_or_default());
                    (self.take)(&served).map_err(SendError::Output)?;
                }
                Err(error) => match error.kind() {
                    // The deadline, or a signal: looked at above.
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(SendError::Broken(self.proxy.clone(), self.came, error)),
                },
            }
        }
    }

    /// Gives on what was held back, unless it is a refusal.
    fn over(
        mut self,
        outcome: Result<(), SendError>,
        server: &Destination,
    ) -> Result<(), SendError> {
        let proxy = self.proxy.clone();
        if let Err(SendError::Output(_)) = outcome {
            return outcome;
        }
        match self.client.end() {
            // Whole, and so it counts also where the proxy then broke the connection or did not hang up.
            Err(line) => Err(SendError::Refused {
                proxy,
                server: server.clone(),
                line,
            }),
            Ok(rest) => {
                (self.take)(&rest).map_err(SendError::Output)?;
                match outcome {
                    Ok(()) if self.came == 0 => Err(SendError::Silent(proxy)),
                    outcome => outcome,
                }
            }
        }
    }
}
