//! Listeners and connections of AF_UNIX stream sockets: unix(7).
//!
//! The sockets have the TCP types of [`std::net`]: reading, writing, shutdown and close do not depend on the family.
//! Family-specific operations, such as `TCP_NODELAY` and peer addresses, are not used on them.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::tcp::BACKLOG;

/// The file of a listener. Dropping removes it, unless another file has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number.
    inode: (u64, u64),
}

impl SocketFile {
    /// Removes the file now, for a program that ends without dropping.
    pub fn remove(&self) {
        // The next listener recognises a leftover file as stale.
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A non-blocking listener on `path`, and its file, with the permission bits `mode` or by default those of umask(2). A
/// socket at `path` without a listener is replaced.
///
/// # Errors
/// As bind(2), listen(2) and chmod(2). `EADDRINUSE` if the socket has a listener, or `path` is not a socket.
pub fn listen(path: &Path, mode: Option<u32>) -> io::Result<(TcpListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile {
        path: path.to_owned(),
        inode: inode(path)?,
    };
    // Connections are possible only after listen, so no client connects with other permissions.
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

/// Whether `path` is a socket without a listener. A process that has bound it but does not listen yet is not
/// recognised.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    is_socket
        && connect(path, Some(Duration::from_secs(1)))
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Connects to the listener at `path`. With `limit` waits that long for room in its backlog; without, does not wait and
/// is non-blocking.
///
/// # Errors
/// As connect(2): `ECONNREFUSED` without a listener, `EAGAIN` without room in the backlog.
pub fn connect(path: &Path, limit: Option<Duration>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // connect(2) to an AF_UNIX socket waits as long as a send may (SO_SNDTIMEO, socket(7)).
    match limit {
        Some(limit) => socket.set_write_timeout(Some(limit))?,
        None => socket.set_nonblocking(true)?,
    }
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_write_timeout(None)?;
    Ok(socket.into())
}

/// Accepts a connection, non-blocking.
///
/// # Errors
/// As accept(2).
pub fn accept(listener: &impl AsFd) -> io::Result<TcpStream> {
    let (socket, _) = SockRef::from(listener).accept()?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn listener_accepts_and_its_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (listener, file) = listen(&path, Some(0o620)).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o620);
        connect(&path, None).unwrap();
        drop((listener, file));
        assert!(!path.exists());
        assert_eq!(
            connect(&path, None).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn only_a_socket_without_a_listener_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = UnixListener::bind(&path).unwrap();
        assert_eq!(
            listen(&path, None).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        assert!(path.exists());
        // A leftover of a killed process.
        drop(first);
        assert_eq!(
            connect(&path, None).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        let second = listen(&path, None).unwrap();
        assert_eq!(
            listen(&path, None).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        drop(second);
        fs::write(&path, "a file").unwrap();
        assert_eq!(
            listen(&path, None).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        assert_eq!(fs::read(&path).unwrap(), b"a file");
    }

    #[test]
    fn replaced_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (_listener, file) = listen(&path, None).unwrap();
        fs::remove_file(&path).unwrap();
        let (_other, _its) = listen(&path, None).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn connecting_to_a_full_backlog_times_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _first = connect(&path, None).unwrap();
        let full = |limit| connect(&path, limit).unwrap_err().kind();
        assert_eq!(full(None), ErrorKind::WouldBlock);
        assert_eq!(full(Some(Duration::from_millis(20))), ErrorKind::WouldBlock);
        // A full backlog does not make the socket stale.
        assert_eq!(
            listen(&path, None).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
    }
}
