//! The JSON layout of `iperf3 -u -J`, for parsers and dashboards made for it.
//!
//! Bytes are UDP payload, header included, as iperf3 counts its own header. Intervals are those of the receiver, in both directions.
//! A value that is unknown, or that iperf3 alone has (ports of streams, its cookie), is left out and never 0.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Document, Exporter, json};
use crate::dates;
use crate::report::model::UdpRecord;
use crate::udp::result::{Interval, Lost, Received, Run, Traffic};

/// One test of one or both directions. Of further runs nothing is written.
#[derive(Debug, Clone, Copy)]
pub struct Iperf3;

impl Exporter for Iperf3 {
    fn write(&self, document: &Document<'_>, out: &mut dyn Write) -> io::Result<()> {
        match document {
            Document::UdpRuns { record, .. } => json::write(&test(record), out),
            // The option is one of `bench udp`.
            _ => Ok(()),
        }
    }
}

/// A test, in the order of iperf3's output.
#[derive(Default, Serialize)]
struct Test<'a> {
    start: Value,
    intervals: Vec<Value>,
    end: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

fn test(record: &UdpRecord) -> Test<'_> {
    let of = |direction: &str| record.runs.iter().find(|run| run.direction == direction);
    let (forward, reverse) = (of("forward"), of("reverse"));
    let Some(main) = forward.or(reverse) else {
        return Test::default();
    };
    let other = forward.and(reverse);
    Test {
        start: start(record, main, other.is_some()),
        intervals: intervals(main, other),
        end: end(main, other),
        error: main.reason.as_deref().filter(|_| !main.complete),
    }
}

/// An object of the known values.
fn object<const N: usize>(values: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let known = values.into_iter();
    known
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

fn start(record: &UdpRecord, run: &Run, bidir: bool) -> Value {
    let meta = &record.meta;
    let host = server(run);
    let connected = (0..run.effective.streams).map(|stream| {
        object([
            ("socket", Some(socket(stream))),
            ("local_host", run.client_ip.as_ref().map(|ip| json!(ip))),
            ("remote_host", Some(json!(host.0))),
            ("remote_port", host.1.map(|port| json!(port))),
        ])
    });
    let started = dates::parse_rfc3339(&meta.started_at);
    let asked = &run.requested;
    let streams = run.effective.streams.max(1) as f64;
    // iperf3's rate is that of a stream, payload included; 0 is unlimited.
    let rate = run.pacing.as_ref().map_or(0.0, |pacing| {
        let set = &run.effective;
        let chunk = set.mean_chunk.unwrap_or(set.chunk as f64);
        pacing.target_pps * (chunk + set.header as f64) * 8.0 / streams
    });
    json!({
        "connected": connected.collect::<Vec<_>>(),
        "version": format!("wirebench {}", meta.wirebench),
        "system_info": format!("Linux {} {}", meta.host.kernel, meta.host.cpu),
        "timestamp": object([
            ("time", started.map(|ns| json!(dates::rfc1123(ns)))),
            ("timesecs", started.map(|ns| json!(ns / 1_000_000_000))),
        ]),
        "connecting_to": object([
            ("host", Some(json!(host.0))),
            ("port", host.1.map(|port| json!(port))),
        ]),
        "target_bitrate": rate.round() as u64,
        "sock_bufsize": asked.sndbuf.or(asked.rcvbuf).unwrap_or(0),
        "sndbuf_actual": positive(run.effective.sndbuf),
        "rcvbuf_actual": positive(run.effective.rcvbuf),
        "test_start": {
            "protocol": "UDP",
            "num_streams": run.effective.streams,
            "blksize": run.effective.datagram,
            "omit": 0,
            "duration": whole(asked.duration_s.unwrap_or(0.0)),
            "bytes": asked.bytes.unwrap_or(0),
            "blocks": asked.packets.unwrap_or(0),
            "reverse": u8::from(run.direction == "reverse"),
            "tos": tos(run),
            "target_bitrate": rate.round() as u64,
            "bidir": u8::from(bidir),
            "fqrate": 0,
        },
    })
}

/// The TOS byte of sent datagrams.
fn tos(run: &Run) -> u8 {
    let ecn = match run.requested.traffic.ecn.as_deref() {
        Some("ect1") => 1,
        Some("ect0") => 2,
        Some("ce") => 3,
        _ => 0,
    };
    (run.requested.traffic.dscp.unwrap_or(0) << 2) | ecn
}

/// Host and port of the server; of the server in this process, whose port is not recorded, the loopback address.
fn server(run: &Run) -> (String, Option<u16>) {
    const DEFAULT_PORT: u16 = 5_210;
    let Some(to) = &run.requested.to else {
        let is_v6 = run.client_ip.as_ref().is_some_and(|ip| ip.contains(':'));
        let loopback = if is_v6 { "::1" } else { "127.0.0.1" };
        return (loopback.to_owned(), None);
    };
    let (host, port) = match to.rsplit_once(':') {
        // The colons of an IPv6 address without brackets separate no port.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse().ok())
        }
        _ => (&to[..], None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.or(Some(DEFAULT_PORT)))
}

/// The number of a stream as iperf3 numbers sockets: not from 0.
fn socket(stream: usize) -> Value {
    json!(stream + 1)
}

/// 0 stands for a setting of the other side that was not reported.
fn positive(value: usize) -> Option<usize> {
    (value > 0).then_some(value)
}

/// A whole number as an integer.
fn whole(number: f64) -> Value {
    match number.fract() == 0.0 && number.abs() < 1e15 {
        true => json!(number as i64),
        false => json!(number),
    }
}

fn intervals(main: &Run, other: Option<&Run>) -> Vec<Value> {
    let rows = |run: &Run| merged(&run.intervals);
    let (main_rows, other_rows) = (rows(main), other.map(rows).unwrap_or_default());
    let count = main_rows.len().max(other_rows.len());
    (0..count)
        .map(|number| {
            // A direction may end an interval before the other.
            let sum = |run: &Run, rows: &[Interval], opposite: &[Interval]| {
                let row = rows.get(number).cloned();
                let row = row.or_else(|| opposite.get(number).map(without_datagrams))?;
                Some(interval(run, &row))
            };
            let of_main = sum(main, &main_rows, &other_rows);
            let of_other = other.and_then(|run| sum(run, &other_rows, &main_rows));
            // Rows are those of all streams together, so only a single stream has its own.
            let single = |run: &Run, sum: &Option<Map<String, Value>>, socket: usize| {
                let mut stream = sum.clone().filter(|_| run.effective.streams == 1)?;
                stream.insert("socket".to_owned(), json!(socket));
                Some(stream)
            };
            let streams = [
                single(main, &of_main, 1),
                other.and_then(|run| single(run, &of_other, 2)),
            ];
            Value::Object(object([
                (
                    "streams",
                    Some(json!(streams.into_iter().flatten().collect::<Vec<_>>())),
                ),
                ("sum", of_main.map(Value::Object)),
                ("sum_bidir_reverse", of_other.map(Value::Object)),
            ]))
        })
        .collect()
}

/// The time of `row`, with nothing received in it.
fn without_datagrams(row: &Interval) -> Interval {
    Interval {
        packets: 0,
        bytes: 0,
        missing: 0,
        duplicates: 0,
        ..row.clone()
    }
}

/// The rows, those without length added to the row before: datagrams that were lost at the end.
fn merged(rows: &[Interval]) -> Vec<Interval> {
    let mut merged: Vec<Interval> = Vec::new();
    for row in rows {
        match merged.last_mut() {
            Some(last) if row.seconds <= 0.0 => {
                last.packets = last.packets.saturating_add(row.packets);
                last.bytes = last.bytes.saturating_add(row.bytes);
                last.missing = last.missing.saturating_add(row.missing);
                last.duplicates = last.duplicates.saturating_add(row.duplicates);
            }
            _ => merged.push(row.clone()),
        }
    }
    merged
}

fn interval(run: &Run, row: &Interval) -> Map<String, Value> {
    let unique = row.packets.saturating_sub(row.duplicates);
    let bytes = payload(run, row.bytes, unique);
    let expected = i64::try_from(unique)
        .unwrap_or(i64::MAX)
        .saturating_add(row.missing)
        .max(0);
    object([
        ("start", Some(json!(row.start_s))),
        ("end", Some(json!(row.start_s + row.seconds))),
        ("seconds", Some(json!(row.seconds))),
        ("bytes", Some(json!(bytes))),
        ("bits_per_second", per_second(bytes, Some(row.seconds))),
        ("lost_packets", Some(json!(row.missing))),
        ("packets", Some(json!(expected))),
        ("lost_percent", percent(row.missing as f64, expected as f64)),
        ("omitted", Some(json!(false))),
        ("sender", Some(json!(false))),
    ])
}

/// UDP payload of datagrams with `bytes` of message.
fn payload(run: &Run, bytes: u64, datagrams: u64) -> u64 {
    let header = datagrams.saturating_mul(run.effective.header as u64);
    bytes.saturating_add(header)
}

fn per_second(bytes: u64, seconds: Option<f64>) -> Option<Value> {
    let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
    Some(json!(bytes as f64 * 8.0 / seconds))
}

fn percent(part: f64, all: f64) -> Option<Value> {
    (all > 0.0).then(|| json!(100.0 * part / all))
}

fn end(main: &Run, other: Option<&Run>) -> Value {
    let mut streams = Vec::new();
    for run in [Some(main), other].into_iter().flatten() {
        for stream in &run.streams {
            let number = streams.len();
            let mut udp = summary(
                run,
                &stream.sent,
                &stream.received,
                &stream.lost,
                stream.jitter_ns,
                Side::Both,
            );
            udp.insert("socket".to_owned(), socket(number));
            let reordered = known(&stream.received, stream.received.reordered);
            udp.extend(object([("out_of_order", reordered)]));
            streams.push(json!({ "udp": udp }));
        }
    }
    let total = |run: &Run, side: Side| {
        Value::Object(summary(
            run,
            &run.sent,
            &run.received,
            &run.lost,
            run.jitter_ns,
            side,
        ))
    };
    let mut end = object([
        ("streams", Some(json!(streams))),
        ("sum", Some(total(main, Side::Both))),
        ("sum_sent", Some(total(main, Side::Sender))),
        ("sum_received", Some(total(main, Side::Receiver))),
        ("cpu_utilization_percent", Some(cpu(main, other))),
    ]);
    if let Some(run) = other {
        for (key, side) in [
            ("sum_bidir_reverse", Side::Both),
            ("sum_sent_bidir_reverse", Side::Sender),
            ("sum_received_bidir_reverse", Side::Receiver),
        ] {
            end.insert(key.to_owned(), total(run, side));
        }
    }
    Value::Object(end)
}

/// Whose bytes a sum has.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// The sender's, and the receiver's losses.
    Both,
    Sender,
    Receiver,
}

fn known(received: &Received, count: u64) -> Option<Value> {
    (!received.is_unknown).then(|| json!(count))
}

fn summary(
    run: &Run,
    sent: &Traffic,
    received: &Received,
    lost: &Lost,
    jitter_ns: Option<f64>,
    side: Side,
) -> Map<String, Value> {
    let bytes = match side {
        Side::Receiver if received.is_unknown => None,
        Side::Receiver => Some(payload(run, received.bytes, received.unique)),
        Side::Both | Side::Sender if sent.is_unknown => None,
        Side::Both | Side::Sender => Some(payload(run, sent.bytes, sent.packets)),
    };
    let of_receiver = side != Side::Sender;
    let lost = (of_receiver && !lost.is_unknown).then_some(lost.packets);
    object([
        ("start", Some(json!(0))),
        ("end", run.seconds.map(|seconds| json!(seconds))),
        ("seconds", run.seconds.map(|seconds| json!(seconds))),
        ("bytes", bytes.map(|bytes| json!(bytes))),
        (
            "bits_per_second",
            bytes.and_then(|bytes| per_second(bytes, run.seconds)),
        ),
        (
            "jitter_ms",
            jitter_ns.filter(|_| of_receiver).map(|ns| json!(ns / 1e6)),
        ),
        ("lost_packets", lost.map(|lost| json!(lost))),
        ("packets", (!sent.is_unknown).then(|| json!(sent.packets))),
        (
            "lost_percent",
            lost.and_then(|lost| percent(lost as f64, sent.packets as f64)),
        ),
        (
            "sender",
            Some(json!(match side {
                // As iperf3: whether the host that prints is the sender.
                Side::Both => run.direction == "forward",
                Side::Sender => true,
                Side::Receiver => false,
            })),
        ),
    ])
}

/// CPU time of this host and of the other as a share of the run's time.
fn cpu(main: &Run, other: Option<&Run>) -> Value {
    let [mut host_user, mut host_system] = [Some(0.0), Some(0.0)];
    let [mut remote_user, mut remote_system] = [Some(0.0), Some(0.0)];
    let seconds = main.seconds.filter(|seconds| *seconds > 0.0);
    for run in [Some(main), other].into_iter().flatten() {
        let cpu = &run.cpu;
        let sender = [cpu.sender_user_s, cpu.sender_system_s];
        let receiver = [cpu.receiver_user_s, cpu.receiver_system_s];
        let (host, remote) = match run.direction == "reverse" {
            true => (receiver, sender),
            false => (sender, receiver),
        };
        let add = |to: &mut Option<f64>, part: Option<f64>| *to = to.zip(part).map(|(a, b)| a + b);
        add(&mut host_user, host[0]);
        add(&mut host_system, host[1]);
        add(&mut remote_user, remote[0]);
        add(&mut remote_system, remote[1]);
    }
    let share = |cpu_s: Option<f64>| Some(json!(100.0 * cpu_s? / seconds?));
    let sum = |one: Option<f64>, other: Option<f64>| Some(one? + other?);
    Value::Object(object([
        ("host_total", share(sum(host_user, host_system))),
        ("host_user", share(host_user)),
        ("host_system", share(host_system)),
        ("remote_total", share(sum(remote_user, remote_system))),
        ("remote_user", share(remote_user)),
        ("remote_system", share(remote_system)),
    ]))
}

#[cfg(test)]
mod tests;
