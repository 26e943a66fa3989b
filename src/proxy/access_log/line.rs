//! The line of a connection or flow: one JSON object on one line, whatever its client sent.
//!
//! The line of a flow has protocol `udp`, the keys of a connection, and behind them the datagrams in both directions and the
//! `drops`, datagrams by cause.
//!
//! The line of an association, instead of its connection's, has protocol `socks5_udp`; the key of a flow and `destinations`, the
//! number of addresses that were asked. `asked`, `server`, `decision` and `entry` are of the first destination, or else of the
//! first that the lists block or would block. Bytes are without SOCKS5 headers.
//!
//! Every line has all keys in this order, with `null` for missing values. A line has no control character but the newline
//! at its end, so it is safe to show on a terminal.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use crate::dates::rfc3339;
use crate::proxy::associations::record::AssociationRecord;
use crate::proxy::datagrams::record::{DropCause, Drops, FlowRecord};
use crate::proxy::record::{ConnectionRecord, Decision};

/// The keys of a line.
#[derive(Serialize)]
struct Line<'a> {
    /// When it was accepted.
    time: String,
    client: String,
    peer: String,
    user: Option<&'a str>,
    protocol: Option<&'static str>,
    asked: Option<String>,
    server: Option<String>,
    decision: Option<&'static str>,
    entry: Option<&'a str>,
    /// Bytes sent to the server and to the client. If the proxy reset the connection, only those that were acknowledged.
    to_server: u64,
    to_client: u64,
    /// From accept(2) to a connected server, including the request, the lookup and the decision.
    connect_seconds: Option<f64>,
    /// From accept(2) to the close.
    seconds: f64,
    ended: &'static str,
    detail: Option<&'a str>,
}

/// The keys of a flow's line.
#[derive(Serialize)]
struct FlowLine<'a, D> {
    #[serde(flatten)]
    line: Line<'a>,
    datagrams_to_server: u64,
    datagrams_to_client: u64,
    drops: D,
}

/// The keys of an association's line.
#[derive(Serialize)]
struct AssociationLine<'a, D> {
    #[serde(flatten)]
    line: Line<'a>,
    datagrams_to_server: u64,
    datagrams_to_client: u64,
    destinations: u64,
    drops: D,
}

/// Dropped datagrams as an object whose keys are the names of these causes.
struct ByCause<'a, I>(&'a Drops, fn() -> I);

impl<I: Iterator<Item = DropCause>> Serialize for ByCause<'_, I> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self(drops, causes) = self;
        serializer.collect_map(causes().map(|cause| (cause.name(), drops.of(cause))))
    }
}

#[derive(Serialize)]
struct Dropped {
    time: String,
    dropped: u64,
}

/// Appends the line of a connection.
pub fn write(record: &ConnectionRecord, lines: &mut Vec<u8>) {
    let since = |then: u64| then.saturating_sub(record.accepted) as f64 / 1e9;
    let info = &record.info;
    let line = Line {
        time: rfc3339(record.accepted_at),
        client: info.client.to_string(),
        peer: info.peer.to_string(),
        user: info.user.as_deref(),
        protocol: info.protocol.map(|protocol| protocol.name()),
        asked: info.asked.as_ref().map(ToString::to_string),
        server: info.server.map(|server| server.to_string()),
        decision: name(&info.decision),
        entry: info.decision.entry(),
        to_server: record.to_server.drained,
        to_client: record.to_client.drained,
        connect_seconds: record.connected.map(since),
        seconds: since(record.closed),
        ended: record.reason.name(),
        detail: info.detail.as_deref(),
    };
    add(&line, lines);
}

/// Appends the line of a flow.
pub fn write_flow(record: &FlowRecord, lines: &mut Vec<u8>) {
    let client = record.client.to_string();
    let line = FlowLine {
        line: Line {
            time: rfc3339(record.opened_at),
            peer: client.clone(),
            client,
            user: None,
            protocol: Some("udp"),
            asked: Some(record.asked.to_string()),
            server: Some(record.server.to_string()),
            decision: name(&record.decision),
            entry: record.decision.entry(),
            to_server: record.to_server.bytes,
            to_client: record.to_client.bytes,
            connect_seconds: None,
            seconds: record.closed.saturating_sub(record.opened) as f64 / 1e9,
            ended: record.reason.name(),
            detail: None,
        },
        datagrams_to_server: record.to_server.datagrams,
        datagrams_to_client: record.to_client.datagrams,
        drops: ByCause(&record.drops, DropCause::of_open_flows),
    };
    add(&line, lines);
}

/// Appends the line of an association.
pub fn write_association(record: &AssociationRecord, lines: &mut Vec<u8>) {
    let first = record.first.as_ref();
    let decision = first.map(|first| &first.decision);
    let line = AssociationLine {
        line: Line {
            time: rfc3339(record.opened_at),
            client: record.client.to_string(),
            peer: record.peer.to_string(),
            user: record.user.as_deref(),
            protocol: Some("socks5_udp"),
            asked: first.map(|first| first.asked.clone()),
            server: first.and_then(|first| Some(first.server?.to_string())),
            decision: decision.and_then(name),
            entry: decision.and_then(Decision::entry),
            to_server: record.to_server.bytes,
            to_client: record.to_client.bytes,
            connect_seconds: None,
            seconds: record.closed.saturating_sub(record.opened) as f64 / 1e9,
            ended: record.reason.name(),
            detail: None,
        },
        datagrams_to_server: record.to_server.datagrams,
        datagrams_to_client: record.to_client.datagrams,
        destinations: record.destinations,
        drops: ByCause(&record.drops, DropCause::of_associations),
    };
    add(&line, lines);
}

fn name(decision: &Decision) -> Option<&'static str> {
    match decision {
        Decision::Undecided => None,
        decision => Decision::NAMES.get(decision.index()).copied(),
    }
}

/// Appends a line that counts missing lines.
pub fn write_dropped(now: u64, dropped: u64, lines: &mut Vec<u8>) {
    let time = rfc3339(now);
    add(&Dropped { time, dropped }, lines);
}

fn add(line: &impl Serialize, lines: &mut Vec<u8>) {
    let before = lines.len();
    match line.serialize(&mut Serializer::with_formatter(&mut *lines, Plain)) {
        Ok(()) => lines.push(b'\n'),
        // Neither these types nor a Vec can fail.
        Err(_) => lines.truncate(before),
    }
}

/// JSON without spaces, and with every control character escaped. JSON requires that only below 0x20 (RFC 8259, section 7);
/// a terminal may also obey DEL and 0x80 to 0x9f, and some readers end a line at U+2028 and U+2029.
struct Plain;

impl Formatter for Plain {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let odd = |character: char| {
            character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
        };
        if !fragment.contains(odd) {
            return out.write_all(fragment.as_bytes());
        }
        let mut plain = String::with_capacity(fragment.len() + 16);
        for character in fragment.chars() {
            if odd(character) {
                // Writing to a String cannot fail.
                let _ = write!(plain, "\\u{:04x}", u32::from(character));
            } else {
                plain.push(character);
            }
        }
        out.write_all(plain.as_bytes())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::Kind;
    use crate::proxy::datagrams::record::{Drops, Traffic};
    use crate::proxy::record::{CloseReason, ConnectionInfo};
    use crate::proxy::relay::Counts;
    use crate::sys::endpoint::Peer;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn address(text: &str) -> Peer {
        Peer::Ip(text.parse().unwrap())
    }

    /// The record of a client that was refused before its request.
    pub(in crate::proxy) fn least() -> ConnectionRecord {
        ConnectionRecord {
            info: ConnectionInfo::of(address("127.0.0.1:40000")),
            accepted_at: 1_795_356_301_123_456_789,
            accepted: 5_000_000_000,
            connected: None,
            closed: 5_000_000_000,
            to_server: Counts::default(),
            to_client: Counts::default(),
            reason: CloseReason::Refused,
        }
    }

    fn most() -> ConnectionRecord {
        let drained = |drained| Counts {
            drained,
            filled: drained + 1,
            ..Counts::default()
        };
        ConnectionRecord {
            info: ConnectionInfo {
                client: address("[2001:db8::1]:5"),
                user: Some("ann".to_owned()),
                protocol: Some(Kind::Socks5),
                asked: Some("example.com:443".parse().unwrap()),
                server: Some("192.0.2.1:443".parse().unwrap()),
                decision: Decision::WouldBlock("list.txt:3 (*.com)".to_owned()),
                detail: Some("broken".to_owned()),
                ..least().info
            },
            connected: Some(5_001_500_000),
            closed: 6_000_000_001,
            to_server: drained(10),
            to_client: drained(u64::MAX - 1),
            reason: CloseReason::ServerReset,
            ..least()
        }
    }

    fn line(record: &ConnectionRecord) -> String {
        let mut bytes = Vec::new();
        write(record, &mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_connection_is_a_line_with_all_keys() {
        assert_eq!(
            line(&most()),
            "{\"time\":\"2026-11-22T14:05:01.123456789Z\",\"client\":\"[2001:db8::1]:5\",\"peer\":\"127.0.0.1:40000\",\
             \"user\":\"ann\",\"protocol\":\"socks5\",\"asked\":\"example.com:443\",\"server\":\"192.0.2.1:443\",\"decision\":\"would_block\",\
             \"entry\":\"list.txt:3 (*.com)\",\"to_server\":10,\"to_client\":18446744073709551614,\"connect_seconds\":0.0015,\
             \"seconds\":1.000000001,\"ended\":\"server_reset\",\"detail\":\"broken\"}\n"
        );
        assert_eq!(
            line(&least()),
            "{\"time\":\"2026-11-22T14:05:01.123456789Z\",\"client\":\"127.0.0.1:40000\",\"peer\":\"127.0.0.1:40000\",\
             \"user\":null,\"protocol\":null,\"asked\":null,\"server\":null,\"decision\":null,\"entry\":null,\"to_server\":0,\"to_client\":0,\
             \"connect_seconds\":null,\"seconds\":0.0,\"ended\":\"refused\",\"detail\":null}\n"
        );
    }

    #[test]
    fn a_flow_is_a_line_with_its_datagrams() {
        let traffic = |datagrams| Traffic {
            datagrams,
            bytes: 1_000 * datagrams,
            sends: 1,
        };
        let mut drops = Drops::default();
        drops.add(DropCause::TooBig, 4);
        let record = FlowRecord {
            client: "127.0.0.1:40000".parse().unwrap(),
            asked: "dns.example:53".into(),
            server: "192.0.2.1:53".parse().unwrap(),
            decision: Decision::Allowed,
            opened_at: 1_795_356_301_123_456_789,
            opened: 5_000_000_000,
            closed: 7_500_000_000,
            to_server: traffic(2),
            to_client: traffic(3),
            drops,
            reason: CloseReason::IdleTimeout,
        };
        let mut bytes = Vec::new();
        write_flow(&record, &mut bytes);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "{\"time\":\"2026-11-22T14:05:01.123456789Z\",\"client\":\"127.0.0.1:40000\",\"peer\":\"127.0.0.1:40000\",\
             \"user\":null,\"protocol\":\"udp\",\"asked\":\"dns.example:53\",\"server\":\"192.0.2.1:53\",\"decision\":\"allowed\",\
             \"entry\":null,\"to_server\":2000,\"to_client\":3000,\"connect_seconds\":null,\"seconds\":2.5,\
             \"ended\":\"idle_timeout\",\"detail\":null,\"datagrams_to_server\":2,\"datagrams_to_client\":3,\
             \"drops\":{\"unreachable\":0,\"denied\":0,\"too_big\":4,\"refused\":0,\"no_buffer\":0,\"queue_full\":0,\"closed\":0,\"unasked\":0}}\n"
        );
    }

    #[test]
    fn every_decision_has_its_name() {
        for (decision, name) in [
            (Decision::Undecided, json!(null)),
            (Decision::Allowed, json!("allowed")),
            (Decision::Blocked("x".to_owned()), json!("blocked")),
            (Decision::WouldBlock("x".to_owned()), json!("would_block")),
        ] {
            let entry = decision.entry().map_or(json!(null), |entry| json!(entry));
            let mut record = least();
            record.info.decision = decision;
            let read: Value = serde_json::from_str(&line(&record)).unwrap();
            assert_eq!((&read["decision"], &read["entry"]), (&name, &entry));
        }
    }

    #[test]
    fn missing_lines_are_counted_by_a_line() {
        let mut bytes = Vec::new();
        write_dropped(0, 7, &mut bytes);
        assert_eq!(
            bytes,
            b"{\"time\":\"1970-01-01T00:00:00.000000000Z\",\"dropped\":7}\n"
        );
    }

    #[test]
    fn a_clock_that_is_behind_makes_no_negative_time() {
        let record = ConnectionRecord {
            connected: Some(1),
            closed: 0,
            ..most()
        };
        let read: Value = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!(
            (&read["connect_seconds"], &read["seconds"]),
            (&json!(0.0), &json!(0.0))
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut record = least();
        record.info.user = Some("eve\n\u{9b}".to_owned());
        record.info.decision =
            Decision::Blocked("a\nb\r\u{7f}\u{85}\u{9b}31m\u{2028}\u{2029}\"\\ü".to_owned());
        let shown = "a\\nb\\r\\u007f\\u0085\\u009b31m\\u2028\\u2029\\\"\\\\ü";
        assert!(line(&record).contains(shown), "{}", line(&record));
        assert!(line(&record).contains("\"user\":\"eve\\n\\u009b\""));
    }

    proptest! {
        #[test]
        fn any_text_makes_one_line_that_reads_back(entry in any::<String>(), detail in any::<String>()) {
            let mut record = least();
            record.info.decision = Decision::Blocked(entry.clone());
            record.info.detail = Some(detail.clone());
            let line = line(&record);
            prop_assert!(!line.trim_end_matches('\n').contains(|character: char| character.is_control()));
            prop_assert!(line.ends_with('\n'));
            let read: Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&read["entry"], &json!(entry));
            prop_assert_eq!(&read["detail"], &json!(detail));
        }
    }
}
