//! The head of a message: where it ends, and its lines. Each byte is looked at once as it comes.

/// Most bytes of a head, its empty line included. Clients that sign in by tickets (Kerberos) send tens of thousands; squid
/// takes as many.
pub const MAX_HEAD: usize = 64 * 1024;

const NO_METHOD: &str =
    "the request does not start with a method; requests come in the clear, without TLS";

/// Collects a head.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    /// How much of an ending's CR LF CR LF the last bytes are.
    ending: u8,
    /// A method comes first, perhaps behind empty lines.
    is_request: bool,
    /// Bytes of empty lines that came.
    skipped: usize,
}

/// What follows from the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress<'a> {
    /// The head goes on.
    More,
    /// It is whole; this came behind it.
    Whole(&'a [u8]),
    /// It is longer than [`MAX_HEAD`].
    TooLong,
    /// A byte that has no place in a head; reason.
    Wrong(&'static str),
}

impl Head {
    /// The head of a request, before which empty lines are skipped: some clients send one behind the body of the request
    /// before (RFC 9112, section 2.2). Of a client that speaks something else an end may never come, so the first byte is to be a
    /// method's.
    pub(crate) fn of_request() -> Self {
        Self {
            is_request: true,
            ..Self::default()
        }
    }

    /// Takes the next bytes, up to the empty line that ends the head.
    ///
    /// A line feed without a carriage return is refused, though RFC 9112, 2.2, lets a recipient take it: what reads the
    /// head next might not.
    pub(crate) fn push<'a>(&mut self, bytes: &'a [u8]) -> Progress<'a> {
        // Of these bytes, the first that belongs to the head.
        let mut start = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let length = self.bytes.len() + at - start;
            if self.skipped + length >= MAX_HEAD {
                return Progress::TooLong;
            }
            if self.is_request && length == 0 && byte != b'\r' && !is_token(byte) {
                return Progress::Wrong(NO_METHOD);
            }
            self.ending = match (self.ending, byte) {
                (1 | 3, b'\n') => self.ending + 1,
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
            if self.is_request && (self.ending, length) == (2, 1) {
                self.bytes.clear();
                self.ending = 0;
                self.skipped += 2;
                start = at + 1;
            }
            if self.ending == 4 {
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

    /// The first line, and then the others, of a head that is whole.
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
