//! What to do about errors of requests.

use super::error::ErrorKind;

/// Advice on the first error of a kind, as a record has it: `kind: detail`. `None` without any.
pub fn advice(first_error: &str) -> Option<&'static str> {
    let (kind, detail) = first_error.split_once(": ").unwrap_or((first_error, ""));
    let is = |of: ErrorKind| kind == of.name();
    if is(ErrorKind::ConnectRefused) {
        return Some("start the server, or check its address");
    }
    if is(ErrorKind::Timeout) && detail == NOT_ESTABLISHED {
        return Some(
            "check the address, firewalls, and whether a connection table on the way is full (net.netfilter.nf_conntrack_max)",
        );
    }
    if is(ErrorKind::Local) {
        return local(os_error(detail)?);
    }
    None
}

/// The detail of a timeout before the server accepted.
pub(super) const NOT_ESTABLISHED: &str = "the connection was not established";

/// Advice on an error of this host.
pub(super) fn local(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EMFILE => Some(
            "raise the limit of open files (ulimit -n), or choose fewer --connections or --streams",
        ),
        libc::ENFILE => Some("raise the open files of the whole system (sysctl fs.file-max)"),
        libc::EADDRNOTAVAIL => Some(
            "no local port is free: widen sysctl net.ipv4.ip_local_port_range, or choose fewer --connections or a lower --rate",
        ),
        libc::EPERM | libc::EACCES => {
            Some("allow the connection in the firewall, cgroup or security module of this host")
        }
        libc::ENOMEM => Some("free memory, or choose fewer --connections or --streams"),
        _ => None,
    }
}

/// The number of an error, which the standard library prints last.
pub(super) fn os_error(detail: &str) -> Option<i32> {
    let (_, number) = detail.strip_suffix(')')?.rsplit_once("(os error ")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::error::RequestError;
    use proptest::prelude::*;
    use std::io;

    #[test]
    fn errors_of_this_host_have_advice() {
        for (errno, words) in [
            (libc::EMFILE, "ulimit -n"),
            (libc::ENFILE, "fs.file-max"),
            (libc::EADDRNOTAVAIL, "ip_local_port_range"),
            (libc::EPERM, "firewall"),
            (libc::EACCES, "firewall"),
            (libc::ENOMEM, "memory"),
        ] {
            let error = RequestError::from_io(&io::Error::from_raw_os_error(errno), false);
            assert_eq!(error.kind, ErrorKind::Local);
            let advice = advice(&format!("{}: {}", error.kind.name(), error.detail));
            assert!(advice.unwrap().contains(words), "{advice:?}");
        }
        let refused = advice("connect_refused: Connection refused (os error 111)");
        assert!(refused.unwrap().contains("start the server"));
        let silent = advice("timeout: the connection was not established");
        assert!(silent.unwrap().contains("nf_conntrack_max"));
        for error in [
            "timeout",
            "timeout: no answer",
            "corrupt",
            "local",
            "local: (os error x)",
        ] {
            assert_eq!(advice(error), None, "{error}");
        }
    }

    proptest! {
        /// Records of other programs may have any text.
        #[test]
        fn any_text_is_read(text in ".*", number in any::<u64>()) {
            advice(&text);
            advice(&format!("local: {text} (os error {number})"));
        }
    }
}
