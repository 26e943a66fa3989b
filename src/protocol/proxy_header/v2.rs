//! Version 2: a signature, four bytes, addresses, and then fields of type, length and value.
//!
//! ```text
//!  0              12        13       14       16
//!  +--------------+---------+--------+--------+-----------+------------------------------
//!  | signature    | 2 | cmd | family | length | addresses | type, length (16 bit), value …
//!  +--------------+---------+--------+--------+-----------+------------------------------
//! ```

use std::net::{IpAddr, SocketAddr};

use super::{Addresses, Decoded, Header};

/// Most bytes of a header: its fixed 16, and what 16 bits of length can say.
pub const MOST_V2: usize = FIXED + u16::MAX as usize;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;

/// Version 2, and who speaks: the sender for itself, or for a client.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Families and transports.
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;

/// Bytes of two paths of sockets.
const PATHS: usize = 2 * 108;

/// The type of a field with a checksum of the header.
const CRC32C: u8 = 3;

/// Reads a header that does not begin with `P`.
pub(super) fn decode(bytes: &[u8]) -> Decoded {
    if !bytes.iter().zip(&SIGNATURE).all(|(byte, due)| byte == due) {
        return Decoded::Bad("no PROXY header comes first".to_owned());
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
        Ok(addresses) => Decoded::Header(Header {
            version: 2,
            addresses,
            consumed: FIXED + length,
        }),
        Err(detail) => Decoded::Bad(detail),
    }
}

/// Reads what follows the fixed bytes.
fn read(header: &[u8], body: &[u8], command: u8, family: u8) -> Result<Option<Addresses>, String> {
    let short = || "the PROXY header is too short for its addresses".to_owned();
    // The sender speaks for itself, or cannot say: then nothing of the body counts, nor for LOCAL the family.
    if command == LOCAL || family == UNSPEC {
        return Ok(None);
    }
    let (addresses, fields) = match family {
        TCP4 => ends::<4>(body).ok_or_else(short)?,
        TCP6 => ends::<16>(body).ok_or_else(short)?,
        UNIX => (None, body.get(PATHS..).ok_or_else(short)?),
        other => {
            let detail = format!("the PROXY header is of family 0x{other:02x}, not a stream's");
            return Err(detail);
        }
    };
    check(header, fields)?;
    Ok(addresses)
}

/// Two addresses and two ports, and what is behind them.
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

/// Whether the fields fill their room exactly, and a checksum among them is right. Other values are not used.
fn check(header: &[u8], mut fields: &[u8]) -> Result<(), String> {
    let mut checked = false;
    while !fields.is_empty() {
        let place = header.len() - fields.len() + 3;
        let overrun = || "a field of the PROXY header ends past it".to_owned();
        let (&[kind, high, low], rest) = fields.split_first_chunk().ok_or_else(overrun)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or_else(overrun)?;
        if kind == CRC32C {
            // One alone: thousands would have the whole header summed up for each.
            if checked || value != crc32c(header, place).to_be_bytes() {
                return Err("the PROXY header's checksum is wrong, or there are two".to_owned());
            }
            checked = true;
        }
        fields = rest;
    }
    Ok(())
}

/// CRC-32C (RFC 3720, B.4) of the header with zeros for the four bytes of the checksum at `place`.
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

/// The header for a connection.
pub fn encode_v2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ends = Addresses::alike(source, destination);
    let mut body = Vec::with_capacity(36);
    for end in [ends.source, ends.destination] {
        match end.ip() {
            IpAddr::V4(address) => body.extend(address.octets()),
            IpAddr::V6(address) => body.extend(address.octets()),
        }
    }
    for end in [ends.source, ends.destination] {
        body.extend(end.port().to_be_bytes());
    }
    let family = if ends.source.is_ipv4() { TCP4 } else { TCP6 };
    let length = if ends.source.is_ipv4() { 12 } else { 36 };
    let mut header = SIGNATURE.to_vec();
    header.extend([PROXY, family, 0, length]);
    header.extend(body);
    header
}
