//! The part of HTTP/1 that monitoring needs: one GET or HEAD request a connection, pure (RFC 9110, RFC 9112).

use crate::protocol::connect::head::{Head, Progress};

/// The page of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Whether the response is 200; otherwise it is 503.
    pub is_ok: bool,
    /// The media type.
    pub content_type: &'static str,
    /// The content.
    pub body: String,
}

/// Parses a request and makes the response.
#[derive(Debug, Default)]
pub(super) struct Request {
    head: Head,
}

impl Request {
    /// Takes the next bytes. Returns the response when the request is complete. `page` returns the page of a path.
    pub(super) fn push(
        &mut self,
        bytes: &[u8],
        page: impl FnOnce(&str) -> Option<Page>,
    ) -> Option<Vec<u8>> {
        match self.head.push(bytes) {
            Progress::More => None,
            Progress::TooLong => Some(plain("431 Request Header Fields Too Large", "")),
            Progress::Wrong(detail) => Some(plain("400 Bad Request", detail)),
            Progress::Whole(_) => Some(answer(self.head.lines().0, page)),
        }
    }
}

/// The response to `METHOD TARGET HTTP/1.x`. A request body is ignored.
fn answer(line: &[u8], page: impl FnOnce(&str) -> Option<Page>) -> Vec<u8> {
    let words = str::from_utf8(line).unwrap_or_default().split(' ');
    let [method, target, version] = words.collect::<Vec<_>>()[..] else {
        return plain(
            "400 Bad Request",
            "the first line is not METHOD PATH HTTP/1.1",
        );
    };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return plain("505 HTTP Version Not Supported", "only HTTP/1 is supported");
    }
    if !target.starts_with('/') {
        return plain("400 Bad Request", "the target is not a path");
    }
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => {
            let detail = "only GET and HEAD are supported";
            return write(
                "405 Method Not Allowed",
                "Allow: GET, HEAD\r\n",
                &text_page(detail),
                true,
            );
        }
    };
    let path = target.split('?').next().unwrap_or_default();
    let (status, page) = match page(path) {
        Some(page) if page.is_ok => ("200 OK", page),
        Some(page) => ("503 Service Unavailable", page),
        None => (
            "404 Not Found",
            text_page("the paths are /metrics and /healthz"),
        ),
    };
    write(status, "", &page, with_body)
}

fn plain(status: &str, detail: &str) -> Vec<u8> {
    write(status, "", &text_page(detail), true)
}

fn text_page(detail: &str) -> Page {
    Page {
        is_ok: true,
        content_type: "text/plain; charset=utf-8",
        body: format!("{detail}\n"),
    }
}

fn write(status: &str, more: &str, page: &Page, with_body: bool) -> Vec<u8> {
    let Page {
        content_type, body, ..
    } = page;
    let length = body.len();
    let body = if with_body { body } else { "" };
    format!(
        "HTTP/1.1 {status}\r\n{more}Content-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::connect::MAX_HEAD;
    use proptest::prelude::*;

    fn page(path: &str) -> Option<Page> {
        let page = |is_ok, body: &str| Page {
            is_ok,
            content_type: "text/plain",
            body: body.to_owned(),
        };
        match path {
            "/well" => Some(page(true, "fine\n")),
            "/ill" => Some(page(false, "not so fine\n")),
            _ => None,
        }
    }

    fn asked(request: &[u8]) -> Option<String> {
        let answer = Request::default().push(request, page)?;
        Some(String::from_utf8(answer).unwrap())
    }

    #[test]
    fn a_page_is_sent_with_its_status() {
        assert_eq!(
            asked(b"GET /well HTTP/1.1\r\nHost: x\r\n\r\n").unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfine\n"
        );
        assert_eq!(
            asked(b"HEAD /well?x=y HTTP/1.0\r\n\r\n").unwrap(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
        );
        let ill = asked(b"GET /ill HTTP/1.1\r\n\r\n").unwrap();
        assert!(ill.starts_with("HTTP/1.1 503 "), "{ill}");
        assert!(ill.ends_with("\r\n\r\nnot so fine\n"), "{ill}");
    }

    #[test]
    fn other_requests_get_an_error_response() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MAX_HEAD));
        for (request, status) in [
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("GET /well/ HTTP/1.1\r\n\r\n", "404"),
            ("GET //well HTTP/1.1\r\n\r\n", "404"),
            (
                "POST /well HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
                "405",
            ),
            ("get /well HTTP/1.1\r\n\r\n", "405"),
            ("CONNECT x:1 HTTP/1.1\r\n\r\n", "400"),
            ("GET http://x/well HTTP/1.1\r\n\r\n", "400"),
            ("GET /well HTTP/1.1 \r\n\r\n", "400"),
            ("GET  /well HTTP/1.1\r\n\r\n", "400"),
            ("GET /well\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
            ("GET /well HTTP/1.1\n\n", "400"),
            ("\x16\x03\x01", "400"),
            ("GET /well HTTP/2.0\r\n\r\n", "505"),
            (&long, "431"),
        ] {
            let answer = asked(request.as_bytes()).unwrap();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}: {answer}"
            );
        }
        let answer = asked(b"PUT /well HTTP/1.1\r\n\r\n").unwrap();
        assert!(answer.contains("\r\nAllow: GET, HEAD\r\n"), "{answer}");
        assert_eq!(asked(b"GET /well HTTP/1.1\r\nHost: x\r\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_get_at_most_one_response_with_its_length(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..20) {
            let mut request = Request::default();
            let answer = bytes.chunks(piece).find_map(|bytes| request.push(bytes, page));
            if let Some(answer) = answer {
                let text = String::from_utf8(answer).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let length = format!("Content-Length: {}", body.len());
                prop_assert!(head.contains(&length) || body.is_empty());
            }
        }
    }
}
