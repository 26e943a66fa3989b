//! Listeners and connections of AF_UNIX stream sockets: unix(7).
//!
//! The sockets are those of [`std::net`] in type alone: what is read from, written to, shut and closed does not depend on the
//! family. What does, like `TCP_NODELAY` and the address of a peer, is not asked of them.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::tcp::BACKLOG;

/// The file of a listener. Dropped, it is removed, unless another has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number.
    inode: (u64, u64),
}

impl SocketFile {
    /// Removes it now, for a program that ends without dropping anything.
    pub fn remove(&self) {
        // What cannot be removed is found stale by the next listener.
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

/// A non-blocking listener on `path`, and its file, which gets the permission bits of `mode` or else those that umask(2)
/// leaves. A socket that is there already and that nobody listens on is replaced.
///
/// # Errors
/// As bind(2), listen(2) and chmod(2). `EADDRINUSE` where somebody listens, or what is there is not a socket.
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
    // Nobody can connect before it listens, so nobody does with other permissions than these.
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

/// Whether `path` is a socket that nobody listens on. Its owner may be about to: what bound it and does not listen yet is taken
/// for gone.
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

/// A connection to the listener at `path`. With `limit` it waits that long for room among those who wait to be accepted;
/// without, it does not wait at all and is non-blocking.
///
/// # Errors
/// As connect(2): `ECONNREFUSED` where nobody listens, `EAGAIN` where there is no room.
pub fn connect(path: &Path, limit: Option<Duration>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // connect(2) to such a socket waits as long as a send may (SO_SNDTIMEO, socket(7)).
    match limit {
        Some(limit) => socket.set_write_timeout(Some(limit))?,
        None => socket.set_nonblocking(true)?,
    }
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_write_timeout(None)?;
    Ok(socket.into())
}

/// Accepts a connection, which is non-blocking.
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
    fn a_listener_takes_connections_and_its_file_goes_with_it() {
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
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let first = UnixListener::bind(&path).unwrap();
        assert_eq!(
            listen(&path, None).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
        assert!(path.exists());
        // The file of one that was killed.
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
    fn a_file_that_another_has_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (_listener, file) = listen(&path, None).unwrap();
        fs::remove_file(&path).unwrap();
        let (_other, _its) = listen(&path, None).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn who_finds_no_room_does_not_wait_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _first = connect(&path, None).unwrap();
        let full = |limit| connect(&path, limit).unwrap_err().kind();
        assert_eq!(full(None), ErrorKind::WouldBlock);
        assert_eq!(full(Some(Duration::from_millis(20))), ErrorKind::WouldBlock);
        // Nor is its socket taken for stale.
        assert_eq!(
            listen(&path, None).unwrap_err().kind(),
            ErrorKind::AddrInUse
        );
    }
}
