//! The CONNECT method of HTTP/1.1 (RFC 9110, 9.3.6; RFC 9112), with Basic authentication (RFC 7617).
//!
//! ```text
//! CONNECT example.com:443 HTTP/1.1
//! Host: example.com:443
//!
//! HTTP/1.1 200 Connection established
//! ```
//!
//! Parsing is strict, because readers that disagree on the end of a head enable request smuggling. Lines end in CR LF, a head has
//! at most [`MAX_HEAD`] bytes, and there is no body. `Content-Length: 0`, which some clients send, is accepted.

mod basic;
pub mod client;
pub(crate) mod head;
pub(super) mod reader;

pub use head::MAX_HEAD;

use super::request::Outcome;

/// Known methods (RFC 9110, section 9.3; RFC 5789).
pub(super) const METHODS: [&str; 9] = [
    "CONNECT", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH",
];

/// Statuses of replies (RFC 9110, section 15; RFC 6585, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    BadRequest = 400,
    Forbidden = 403,
    MethodNotAllowed = 405,
    ProxyAuthenticationRequired = 407,
    RequestTimeout = 408,
    HeaderFieldsTooLarge = 431,
    NotImplemented = 501,
    BadGateway = 502,
    ServiceUnavailable = 503,
    GatewayTimeout = 504,
    VersionNotSupported = 505,
}

impl Status {
    const fn of(outcome: &Outcome) -> Option<Self> {
        Some(match outcome {
            Outcome::Connected(_) => return None,
            Outcome::Blocked(_) => Self::Forbidden,
            Outcome::Refused
            | Outcome::HostUnreachable
            | Outcome::NetworkUnreachable
            | Outcome::NameUnknown
            | Outcome::General(_) => Self::BadGateway,
            Outcome::TimedOut => Self::GatewayTimeout,
            Outcome::Busy => Self::ServiceUnavailable,
            Outcome::RequestTimeout => Self::RequestTimeout,
        })
    }

    const fn phrase(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Forbidden => "Forbidden",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::ProxyAuthenticationRequired => "Proxy Authentication Required",
            Self::RequestTimeout => "Request Timeout",
            Self::HeaderFieldsTooLarge => "Request Header Fields Too Large",
            Self::NotImplemented => "Not Implemented",
            Self::BadGateway => "Bad Gateway",
            Self::ServiceUnavailable => "Service Unavailable",
            Self::GatewayTimeout => "Gateway Timeout",
            Self::VersionNotSupported => "HTTP Version Not Supported",
        }
    }

    /// The header field of a status, if it has one.
    const fn field(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "Allow: CONNECT\r\n",
            Self::ProxyAuthenticationRequired => "Proxy-Authenticate: Basic realm=\"proxy\"\r\n",
            _ => "",
        }
    }

    /// A complete response with the reason as its body.
    fn response(self, detail: &str) -> Vec<u8> {
        [self.head(detail), format!("{detail}\n")]
            .concat()
            .into_bytes()
    }

    /// The head, which is the complete response to a HEAD request (RFC 9110, 9.3.2).
    fn head(self, detail: &str) -> String {
        let (code, phrase, field) = (self as u16, self.phrase(), self.field());
        let length = detail.len() + 1;
        format!(
            "HTTP/1.1 {code} {phrase}\r\n{field}Connection: close\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n"
        )
    }
}

/// The reply to the client. A 200 has no length: the server's bytes follow its head (RFC 9110, 9.3.6).
pub(super) fn outcome(outcome: &Outcome) -> Vec<u8> {
    match Status::of(outcome) {
        None => b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec(),
        Some(status) => status.response(&outcome.detail()),
    }
}

#[cfg(test)]
mod tests;
