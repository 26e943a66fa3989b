//! Opening of files that others may replace while the program runs: no open waits.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file to read it again. An open of a FIFO without `O_NONBLOCK` waits for a writer, perhaps for ever (fifo(7)).
///
/// # Errors
/// As open(2), and for anything that is neither a regular file nor a device.
pub fn for_reading(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if std::os::unix::fs::FileTypeExt::is_fifo(&kind) {
        return Err(io::Error::other(
            "it is a pipe, which cannot be read again; use a regular file",
        ));
    }
    Ok(file)
}

/// The text of a file that is read again.
///
/// # Errors
/// As [`for_reading`] and read(2), and for text that is not UTF-8.
pub fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    for_reading(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Opens a file to append to it, and creates it if it does not exist. Writes wait.
///
/// # Errors
/// As open(2), and for a FIFO that no program reads.
pub fn for_appending(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = file.map_err(|error| match error.raw_os_error() {
        Some(libc::ENXIO) => io::Error::other("it is a pipe that no program reads"),
        _ => error,
    })?;
    // SAFETY: F_GETFL and F_SETFL have no pointer arguments, and the file is open.
    unsafe {
        let flags = syscall!(fcntl(file.as_raw_fd(), libc::F_GETFL))?;
        syscall!(fcntl(
            file.as_raw_fd(),
            libc::F_SETFL,
            flags & !libc::O_NONBLOCK
        ))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;
    use std::io::Write;

    #[test]
    fn pipes_are_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let name = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: The name ends with a zero byte and outlives the call.
        unsafe { syscall!(mkfifo(name.as_ptr(), 0o600)) }.unwrap();
        let error = for_reading(&path).unwrap_err().to_string();
        assert!(error.contains("cannot be read again"), "{error}");
        let error = for_appending(&path).unwrap_err().to_string();
        assert!(error.contains("no program reads"), "{error}");
    }

    #[test]
    fn files_are_read_and_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for line in ["one\n", "two\n"] {
            for_appending(&path)
                .unwrap()
                .write_all(line.as_bytes())
                .unwrap();
        }
        assert_eq!(text(&path).unwrap(), "one\ntwo\n");
        fs::remove_file(&path).unwrap();
        assert_eq!(
            for_reading(&path).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
