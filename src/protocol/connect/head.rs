//! The head of an HTTP message: its end and its lines. Each byte is examined once.

/// Largest head in bytes, with its empty line. Kerberos clients send tens of thousands of bytes; squid has the same limit.
pub const MAX_HEAD: usize = 64 * 1024;

const NO_METHOD: &str =
    "the request does not start with a method; this port accepts plain-text requests, not TLS";

/// Reads a head.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    /// How many of the final CR LF CR LF the last bytes match.
    end_state: u8,
    /// Whether it is a request, which begins with a method, possibly after empty lines.
    is_request: bool,
    /// Bytes of skipped empty lines.
    skipped: usize,
}

/// Result of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress<'a> {
    /// The head is incomplete.
    More,
    /// The head is complete; these bytes followed it.
    Whole(&'a [u8]),
    /// The head is longer than [`MAX_HEAD`].
    TooLong,
    /// Invalid, for this reason.
    Wrong(&'static str),
}

impl Head {
    /// Reads the head of a request. Empty lines before it are skipped: some clients send one after a previous request body (RFC
    /// 9112, section 2.2). The first byte must belong to a method, because other protocols may never send an end.
    pub(crate) fn of_request() -> Self {
        Self {
            is_request: true,
            ..Self::default()
        }
    }

    /// Takes the next bytes, up to the empty line that ends the head.
    ///
    /// A line feed without a carriage return is rejected, although RFC 9112, 2.2, allows it: the next reader of the head might
    /// not accept it.
    pub(crate) fn push<'a>(&mut self, bytes: &'a [u8]) -> Progress<'a> {
        // Index of the first byte that belongs to the head.
        let mut start = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let length = self.bytes.len() + at - start;
            if self.skipped + length >= MAX_HEAD {
                return Progress::TooLong;
            }
            if self.is_request && length == 0 && byte != b'\r' && !is_token(byte) {
                return Progress::Wrong(NO_METHOD);
            }
            self.end_state = match (self.end_state, byte) {
                (1 | 3, b'\n') => self.end_state + 1,
                (1 | 3, _) => return Progress::Wrong("a carriage return ends no line"),
                (_, b'\n') => return Progress::Wrong("a line ends in a bare line feed"),
                (0, b'\r') => 1,
                (2, b'\r') => 3,
                (_, b'\t') => 0,
                (_, byte) if byte.is_ascii_control() => {
                    return Progress::Wrong("a control character is in the head");
                }
                _ => 0,
            };
            if self.is_request && (self.end_state, length) == (2, 1) {
                self.bytes.clear();
                self.end_state = 0;
                self.skipped += 2;
                start = at + 1;
            }
            if self.end_state == 4 {
                let (head, behind) = bytes.split_at(at + 1);
                self.bytes
                    .extend_from_slice(head.get(start..).unwrap_or_default());
                return Progress::Whole(behind);
            }
        }
        self.bytes
            .extend_from_slice(bytes.get(start..).unwrap_or_default());
        Progress::More
    }

    /// The first line and the other lines of a complete head.
    pub(crate) fn lines(&self) -> (&[u8], impl Iterator<Item = &[u8]>) {
        let mut lines = self
            .bytes
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let first = lines.next().unwrap_or_default();
        (first, lines.take_while(|line| !line.is_empty()))
    }
}

/// A header line's name and value (RFC 9112, section 5): no space before the colon, no folding.
pub(super) fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    let token = !name.is_empty() && name.iter().copied().all(is_token);
    token.then(|| (name, value.get(1..).unwrap_or_default().trim_ascii()))
}

/// RFC 9110, 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
