//! A UDP association with a SOCKS5 proxy (RFC 1928, section 7). Each flow has one, since the relay may
//! send all flows of an association from one port, and the server distinguishes flows by their source.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{RunError, Setup};
use crate::protocol::socks5::client::Client;
use crate::protocol::{ClientStep, User};
use crate::sys::small_tcp;

/// Longest wait for a reply of the proxy.
const LIMIT: Duration = Duration::from_secs(5);

/// The connection to which an association is bound: the relay ends with it.
#[derive(Debug)]
pub(crate) struct Association {
    /// Non-blocking.
    pub(super) connection: TcpStream,
    /// The proxy's TCP address.
    pub(super) proxy: SocketAddr,
    /// The relay's UDP address.
    pub(crate) relay: SocketAddr,
}

impl Association {
    /// Requests an association. Waits for the proxy.
    pub(crate) fn open(
        proxy: SocketAddr,
        user: Option<&User>,
        setup: &Setup,
    ) -> Result<Self, RunError> {
        let refused = |reason: String| RunError::NoAssociation(proxy, reason);
        let connection = small_tcp::connect(proxy, setup.bind, setup.bind_device.as_deref())
            .map_err(|error| refused(error.to_string()))?;
        let relay = associate(&connection, user).map_err(|error| {
            refused(match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    format!("no reply for {} s", LIMIT.as_secs())
                }
                _ => error.to_string(),
            })
        })?;
        let ip = match relay.ip().to_canonical() {
            // The address that the client knows the proxy by.
            ip if ip.is_unspecified() => proxy.ip(),
            ip => ip,
        };
        let mut at = proxy;
        if ip != proxy.ip() {
            at = SocketAddr::new(ip, 0);
        }
        at.set_port(relay.port());
        Ok(Self {
            connection,
            proxy,
            relay: at,
        })
    }

    /// Whether the proxy has closed the connection.
    pub(super) fn is_closed(mut connection: impl Read) -> bool {
        let mut bytes = [0; 64];
        loop {
            match connection.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }
}

/// Runs the handshake. Returns the address of the reply.
fn associate(mut connection: &TcpStream, user: Option<&User>) -> io::Result<SocketAddr> {
    let bad = |reason: String| io::Error::new(ErrorKind::InvalidData, reason);
    // A blocking send waits until the connection is established.
    connection.set_nonblocking(false)?;
    connection.set_write_timeout(Some(LIMIT))?;
    let deadline = Instant::now() + LIMIT;
    // The source of the datagrams is not known yet.
    let any: IpAddr = match connection.peer_addr() {
        Ok(SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let mut client = Client::associate(SocketAddr::new(any, 0), user.map(User::pair));
    connection.write_all(&client.greeting())?;
    let mut bytes = [0; 512];
    let mut step = ClientStep::More;
    loop {
        step = match step {
            ClientStep::More => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(ErrorKind::TimedOut.into());
                }
                connection.set_read_timeout(Some(left))?;
                match connection.read(&mut bytes) {
                    Ok(0) => return Err(bad("it closed the connection".to_owned())),
                    Ok(length) => client.push(bytes.get(..length).unwrap_or_default()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => ClientStep::More,
                    Err(error) => return Err(error),
                }
            }
            ClientStep::Send(more) => {
                connection.write_all(&more)?;
                client.push(&[])
            }
            ClientStep::Open { .. } => break,
            ClientStep::Refused { code, detail } => {
                return Err(bad(format!("it refuses with {code} ({detail})")));
            }
            ClientStep::Bad(detail) => return Err(bad(detail)),
        };
    }
    connection.set_nonblocking(true)?;
    let relay = client.bound().filter(|relay| relay.port() != 0);
    relay.ok_or_else(|| bad("its reply has no address of a relay".to_owned()))
}
