//! The server's side: reads one request head.

use super::super::request::{Kind, Refusal, Request, Settings, Step};
use super::head::{Head, MAX_HEAD, Progress, field};
use super::{METHODS, Status, basic};
use crate::destination::Destination;

/// Reads one request.
#[derive(Debug)]
pub(in super::super) struct Reader {
    head: Head,
    user: Option<Vec<u8>>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            head: Head::of_request(),
            user: None,
        }
    }
}

impl Reader {
    /// The user that the client named, valid or not, if users are required.
    pub(in super::super) fn user(&self) -> Option<&[u8]> {
        self.user.as_deref()
    }

    /// Takes the next bytes.
    pub(in super::super) fn push(&mut self, bytes: &[u8], settings: &Settings) -> Step {
        match self.head.push(bytes) {
            Progress::More => Step::More,
            Progress::TooLong => {
                let detail = format!("the head has more than {MAX_HEAD} bytes");
                Step::Refuse {
                    reply: Status::HeaderFieldsTooLarge.response(&detail),
                    reason: Refusal::TooLarge(detail),
                }
            }
            Progress::Wrong(detail) => bad(detail),
            Progress::Whole(behind) => match asked(&self.head, settings, &mut self.user) {
                Ok(destination) => Step::Ready(Request {
                    kind: Kind::Connect,
                    destination,
                    upstream: behind.to_vec(),
                    whole: false,
                }),
                Err((status, detail)) => Step::Refuse {
                    reply: self.response(status, &detail, settings),
                    reason: match status {
                        Status::ProxyAuthenticationRequired => Refusal::Unauthenticated(detail),
                        _ => Refusal::BadRequest(detail),
                    },
                },
            },
        }
    }

    /// The response to a complete head that requests no tunnel. A client with another method expects a web server or a forwarding
    /// HTTP proxy, so the response explains how to request a tunnel.
    fn response(&self, status: Status, detail: &str, settings: &Settings) -> Vec<u8> {
        if status != Status::MethodNotAllowed {
            return status.response(detail);
        }
        let taken = settings.accept;
        let socks = match taken.socks5 {
            true => ", or use SOCKS5 (curl: --proxy socks5h://HOST:PORT)",
            false => "",
        };
        let page = format!(
            "This is a proxy for {taken}; it forwards no plain HTTP requests. Have the client ask for a tunnel, for http:// \
             addresses too (curl: --proxytunnel --proxy http://HOST:PORT){socks}."
        );
        match self.head.lines().0.starts_with(b"HEAD ") {
            true => status.head(&page).into_bytes(),
            false => status.response(&page),
        }
    }
}

/// Refuses an invalid request.
pub(in super::super) fn bad(detail: &str) -> Step {
    Step::Refuse {
        reply: Status::BadRequest.response(detail),
        reason: Refusal::BadRequest(detail.to_owned()),
    }
}

type Asked<T> = Result<T, (Status, String)>;

fn wrong<T>(detail: impl Into<String>) -> Asked<T> {
    Err((Status::BadRequest, detail.into()))
}

/// The destination that a complete head requests.
fn asked(head: &Head, settings: &Settings, named: &mut Option<Vec<u8>>) -> Asked<Destination> {
    let (line, lines) = head.lines();
    let (destination, minor) = request_line(line)?;
    let (mut hosts, mut authorization) = (0, None);
    for line in lines {
        let Some((name, value)) = field(line) else {
            return wrong("a header line is not NAME: VALUE");
        };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // RFC 9110, 9.3.6: the content of a CONNECT request is undefined, and readers may disagree on its end.
        if is("Transfer-Encoding") || is("Content-Length") && !is_zero(value) {
            return wrong("a CONNECT request has no body; a Content-Length can only be 0");
        }
        if is("Host") {
            hosts += 1;
            if !is_host(value) {
                return wrong("the Host field is not HOST or HOST:PORT");
            }
        }
        if is("Proxy-Authorization") && authorization.replace(value).is_some() {
            return wrong("there are two Proxy-Authorization fields");
        }
    }
    // RFC 9112, 3.2. If Host and the request line differ, the line takes precedence.
    if hosts > 1 || (hosts == 0 && minor >= b'1') {
        return wrong("the request needs exactly one Host field");
    }
    if let Some(credentials) = &settings.credentials {
        let given = authorization.and_then(basic::decode);
        let allowed = given
            .as_ref()
            .is_some_and(|(user, password)| credentials.allow(user, password));
        *named = given.map(|(user, _)| user);
        if !allowed {
            let detail = match authorization {
                None => "this proxy requires a user and a password",
                Some(_) => "unknown user or wrong password",
            };
            return Err((Status::ProxyAuthenticationRequired, detail.to_owned()));
        }
    }
    Ok(destination)
}

/// The destination and the minor version in `CONNECT HOST:PORT HTTP/1.x` (RFC 9112, section 3).
fn request_line(line: &[u8]) -> Asked<(Destination, u8)> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return match line {
            [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => {
                wrong("received a PROXY header, which needs --accept-proxy")
            }
            _ => wrong("the request line is not CONNECT HOST:PORT HTTP/1.1"),
        };
    };
    let minor = match version {
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ b'0'..=b'9',
        ] => *minor,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            let detail = "only HTTP/1.1 and HTTP/1.0 are supported";
            return Err((Status::VersionNotSupported, detail.to_owned()));
        }
        _ => return wrong("the request line is not CONNECT HOST:PORT HTTP/1.1"),
    };
    if method != b"CONNECT" {
        return Err(other_method(method));
    }
    let Ok(target) = str::from_utf8(target) else {
        return wrong("the destination is not UTF-8");
    };
    match target.parse() {
        Ok(destination) => Ok((destination, minor)),
        Err(error) => wrong(format!("{error}")),
    }
}

/// Refuses a method other than CONNECT: 405 if it is known, 501 if not (RFC 9110, 9.1).
fn other_method(method: &[u8]) -> (Status, String) {
    let known = |known: &&str| known.as_bytes().eq_ignore_ascii_case(method);
    match METHODS.into_iter().find(known) {
        Some(known) if known.as_bytes() == method => {
            let detail = format!("{known} is not allowed, only CONNECT");
            (Status::MethodNotAllowed, detail)
        }
        Some(known) => {
            let detail = format!("methods are case-sensitive; send {known} in capitals");
            (Status::BadRequest, detail)
        }
        None => {
            let detail = "unknown method; only CONNECT is supported";
            (Status::NotImplemented, detail.to_owned())
        }
    }
}

/// Whether a Content-Length is 0, in any number of digits (RFC 9110, 8.6).
fn is_zero(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|digit| *digit == b'0')
}

/// Whether a Host field is empty, a host, or a host and a port (RFC 9110, 7.2).
fn is_host(value: &[u8]) -> bool {
    str::from_utf8(value).is_ok_and(|text| {
        let with_port = format!("{text}:1");
        text.is_empty()
            || [text, &with_port]
                .iter()
                .any(|text| text.parse::<Destination>().is_ok())
    })
}
