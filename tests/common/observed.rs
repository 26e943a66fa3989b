//! What a proxy shows to others: its metrics and its log.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use serde_json::Value;

use super::until;

/// The value of a series of the metrics server at this address.
pub(crate) fn metric(server: SocketAddr, series: &str) -> u64 {
    let mut stream = TcpStream::connect(server).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let prefix = format!("wirebench_proxy_{series} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
    value
        .unwrap_or_else(|| panic!("no {series} in:\n{page}"))
        .parse()
        .unwrap()
}

/// The lines of a log, once there are so many.
#[track_caller]
pub(crate) fn log_lines(log: &Path, count: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    until(&format!("{count} lines are logged"), || {
        let text = fs::read_to_string(log).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let each = whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        lines = each.collect();
        lines.len() >= count
    });
    lines
}
