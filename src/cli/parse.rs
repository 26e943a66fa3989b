//! Parsers of option values. Each error names the bad value or the accepted ones.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::units::{parse_duration, parse_number, parse_whole};

/// Bytes of a socket buffer: what setsockopt(2) accepts, K, M and G allowed.
pub(super) fn buffer_size(text: &str) -> Result<usize, String> {
    let bytes = parse_number(text).map_err(|error| error.to_string())?;
    if !(1.0..=f64::from(i32::MAX)).contains(&bytes) {
        return Err(format!("expected 1 to {} bytes", i32::MAX));
    }
    Ok(bytes as usize)
}

/// A percentage below 100.
pub(super) fn percentage(text: &str) -> Result<f64, String> {
    let percent = text
        .strip_suffix('%')
        .and_then(|number| parse_number(number).ok());
    match percent {
        Some(percent) if percent < 100.0 => Ok(percent),
        _ => Err("expected a percentage from 0% to less than 100%, like 5%".to_owned()),
    }
}

/// Repetitions of `bench udp`: no more runs than a record has room for.
pub(super) fn repeats(text: &str) -> Result<u32, String> {
    match parse_whole(text) {
        Ok(runs @ 1..=10_000) => Ok(runs),
        Ok(_) => Err("expected 1 to 10000".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A range of UDP ports like `6000-6099`, or one port.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    const MAX_PORTS: u16 = 1_024;
    let port = |text: &str| text.parse().ok().filter(|port: &u16| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last && last - first < MAX_PORTS => Ok(first..=last),
        (Some(first), Some(last)) if first <= last => {
            Err(format!("expected at most {MAX_PORTS} ports"))
        }
        _ => Err("expected ports like 6000-6099".to_owned()),
    }
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match parse_whole(text) {
        Ok(0) => Err("expected 1 or more".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn nonzero_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("expected more than 0, like 30s".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// Bytes of a proxy request, which is buffered until it is complete.
pub(super) fn request_size(text: &str) -> Result<usize, String> {
    match parse_number(text) {
        Ok(bytes) if (64.0..=1e9).contains(&bytes) => Ok(bytes as usize),
        Ok(_) => Err("expected 64 to 1G bytes".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A number of threads. The limit catches mistakes: no host has more CPUs.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    match parse_whole(text) {
        Ok(threads @ 1..=1_024) => Ok(threads),
        _ => Err("expected 1 to 1024".to_owned()),
    }
}

/// Permission bits, as chmod(1) takes them.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o777) => Ok(mode),
        _ => Err("expected permissions in octal, like 660".to_owned()),
    }
}

pub(super) fn rounds(text: &str) -> Result<u32, String> {
    match parse_whole(text) {
        Ok(rounds @ 1..=1_000) => Ok(rounds),
        _ => Err("expected 1 to 1000".to_owned()),
    }
}

pub(super) fn connections(text: &str) -> Result<usize, String> {
    match parse_whole(text) {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err("expected 1 to 100000".to_owned()),
    }
}

/// Bytes of a message: what fits a JSON request of the proxy's default limit.
pub(super) fn message_size(text: &str) -> Result<usize, String> {
    match parse_whole(text) {
        Ok(bytes @ 1..=1_000_000) => Ok(bytes),
        _ => Err("expected 1 to 1000000 bytes".to_owned()),
    }
}

/// Requests a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    match parse_number(text) {
        Ok(rate) if (1.0..=1e8).contains(&rate) => Ok(rate),
        Ok(_) => Err("expected 1 to 100M a second".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Megabytes, in bytes.
pub(super) fn megabytes(text: &str) -> Result<u64, String> {
    match parse_number(text).map(|number| number * 1e6) {
        Ok(bytes) if (1.0..=1e15).contains(&bytes) => Ok(bytes as u64),
        Ok(_) => Err("expected 0.000001 to 1G".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
