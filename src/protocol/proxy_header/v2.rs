//! Version 2: a signature, four fixed bytes, addresses, and fields of type, length and value.
//!
//! ```text
//!  0              12        13       14       16
//!  +--------------+---------+--------+--------+-----------+------------------------------
//!  | signature    | 2 | cmd | family | length | addresses | type, length (16 bit), value …
//!  +--------------+---------+--------+--------+-----------+------------------------------
//! ```

use std::net::{IpAddr, SocketAddr};

use super::{Addresses, Carried, Decoded, Header};

/// Largest header in bytes: 16 fixed bytes and a 16-bit length.
pub const MAX_V2: usize = FIXED + u16::MAX as usize;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;

// Version and command: the sender connects for itself, or for a client.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

// Families and transports.
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UDP4: u8 = 0x12;
const UDP6: u8 = 0x22;
const UNIX: u8 = 0x31;

/// Bytes of two socket paths.
pub(super) const PATHS: usize = 2 * 108;

/// Type of a checksum field.
const CRC32C: u8 = 3;

/// Type of a padding field.
const NOOP: u8 = 4;

// Bytes of a field without its value, and of a checksum field.
const FIELD: usize = 3;
const CHECKSUM: usize = FIELD + 4;

/// Most bytes of passed-on fields: what fits after the longest addresses, with a checksum.
pub const MAX_FIELDS: usize = u16::MAX as usize - PATHS - CHECKSUM;

/// Decodes a header that does not begin with `P`.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    if !bytes.iter().zip(&SIGNATURE).all(|(byte, due)| byte == due) {
        return Decoded::Bad("the connection does not begin with a PROXY header".to_owned());
    }
    let Some((&fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Decoded::More;
    };
    let [.., command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let read = match command {
        LOCAL | PROXY => match (rest.get(..length), bytes.get(..FIXED + length)) {
            (Some(body), Some(header)) => read(header, body, command, family),
            _ => return Decoded::More,
        },
        other => Err(format!(
            "the PROXY header has version and command 0x{other:02x}"
        )),
    };
    match read {
        Ok((addresses, carried)) => Decoded::Header(Header {
            version: 2,
            addresses,
            carried,
            consumed: FIXED + length,
        }),
        Err(detail) => Decoded::Bad(detail),
    }
}

type Read = (Option<Addresses>, Carried);

/// Decodes what follows the fixed bytes.
fn read(header: &[u8], body: &[u8], command: u8, family: u8) -> Result<Read, String> {
    let short = || "the PROXY header is too short for its addresses".to_owned();
    let mut carried = Carried::default();
    // LOCAL and UNSPEC: the body is ignored, and for LOCAL the family too.
    if command == LOCAL || family == UNSPEC {
        return Ok((None, carried));
    }
    let (addresses, fields) = match family {
        TCP4 => ends::<4>(body).ok_or_else(short)?,
        TCP6 => ends::<16>(body).ok_or_else(short)?,
        UNIX => {
            let (paths, fields) = body.split_first_chunk().ok_or_else(short)?;
            carried.paths = Some(Box::new(*paths));
            (None, fields)
        }
        other => {
            let detail = format!("the PROXY header is of family 0x{other:02x}, not a stream's");
            return Err(detail);
        }
    };
    take_fields(header, fields, &mut carried)?;
    Ok((addresses, carried))
}

/// Two addresses and two ports, and the bytes after them.
fn ends<const N: usize>(body: &[u8]) -> Option<(Option<Addresses>, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (&[a, b, c, d], fields) = rest.split_first_chunk()?;
    let addresses = Addresses {
        source: SocketAddr::new((*source).into(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new((*destination).into(), u16::from_be_bytes([c, d])),
    };
    Some((Some(addresses), fields))
}

/// Takes the fields, which must fill the header exactly. Only the value of a checksum is examined.
fn take_fields(header: &[u8], mut fields: &[u8], carried: &mut Carried) -> Result<(), String> {
    while !fields.is_empty() {
        let place = header.len() - fields.len() + FIELD;
        let overrun = || "a field of the PROXY header exceeds it".to_owned();
        let (&[kind, high, low], rest) = fields.split_first_chunk().ok_or_else(overrun)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (field, rest) = fields
            .split_at_checked(FIELD + length)
            .filter(|_| length <= rest.len())
            .ok_or_else(overrun)?;
        match kind {
            CRC32C => {
                // Only one: thousands would each sum up the whole header.
                let value = field.get(FIELD..).unwrap_or_default();
                if carried.checked || value != crc32c(header, place).to_be_bytes() {
                    return Err("the PROXY header's checksum is wrong, or there are two".to_owned());
                }
                carried.checked = true;
            }
            NOOP => {}
            _ => carried.fields.extend_from_slice(field),
        }
        fields = rest;
    }
    match carried.fields.len() <= MAX_FIELDS {
        true => Ok(()),
        false => Err(format!(
            "the PROXY header has more than {MAX_FIELDS} bytes of fields"
        )),
    }
}

/// CRC-32C (RFC 3720, B.4) of the header, with zeros for the four bytes of the checksum at `place`.
pub(super) fn crc32c(header: &[u8], place: usize) -> u32 {
    let mut crc = u32::MAX;
    for (at, &byte) in header.iter().enumerate() {
        let hidden = (place..place + 4).contains(&at);
        crc ^= u32::from(if hidden { 0 } else { byte });
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 };
        }
    }
    !crc
}

/// A header for a connection from one address to the other.
pub fn encode_v2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ends = Addresses {
        source,
        destination,
    };
    encode(Some(ends), &Carried::default())
}

/// A header for datagrams from one address to the other.
pub fn encode_v2_datagram(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ends = Addresses::alike(source, destination);
    let mut body = Vec::with_capacity(36);
    let family = match put_ends(&mut body, &ends) {
        TCP4 => UDP4,
        _ => UDP6,
    };
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = SIGNATURE.to_vec();
    header.extend([PROXY, family]);
    header.extend(length);
    header.extend(body);
    header
}

/// A header with passed-on parts: paths instead of addresses, fields, and a checksum.
pub(super) fn encode(ends: Option<Addresses>, carried: &Carried) -> Vec<u8> {
    let mut body = Vec::with_capacity(36);
    let (command, family) = match (&carried.paths, ends) {
        (Some(paths), _) => {
            body.extend_from_slice(&paths[..]);
            (PROXY, UNIX)
        }
        (None, Some(ends)) => {
            let ends = Addresses::alike(ends.source, ends.destination);
            (PROXY, put_ends(&mut body, &ends))
        }
        (None, None) => (LOCAL, UNSPEC),
    };
    body.extend_from_slice(&carried.fields);
    if carried.checked {
        body.extend([CRC32C, 0, 4, 0, 0, 0, 0]);
    }
    // It fits: fields take at most MAX_FIELDS bytes.
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(length);
    header.extend(body);
    if carried.checked {
        let place = header.len() - 4;
        let sum = crc32c(&header, place).to_be_bytes();
        header.truncate(place);
        header.extend(sum);
    }
    header
}

/// Appends addresses and ports and returns their family.
fn put_ends(body: &mut Vec<u8>, ends: &Addresses) -> u8 {
    for end in [ends.source, ends.destination] {
        match end.ip() {
            IpAddr::V4(address) => body.extend(address.octets()),
            IpAddr::V6(address) => body.extend(address.octets()),
        }
    }
    for end in [ends.source, ends.destination] {
        body.extend(end.port().to_be_bytes());
    }
    match ends.source {
        SocketAddr::V4(_) => TCP4,
        SocketAddr::V6(_) => TCP6,
    }
}
