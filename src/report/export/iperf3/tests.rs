use proptest::prelude::*;

use super::*;
use crate::report::sample::udp as sample;

fn written(runs: Vec<Run>) -> Value {
    let record = sample::record(runs);
    let mut text = Vec::new();
    let document = Document::UdpRuns {
        id: "",
        record: &record,
    };
    Iperf3.write(&document, &mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn figures_have_the_units_of_iperf3() {
    let run = sample::measured().run;
    let test = written(vec![run.clone()]);
    let sum = &test["end"]["sum"];
    assert_eq!(sum["bytes"], 100_010 * 1_032);
    let received = &test["end"]["sum_received"];
    let bytes = 100_000_000 + 100_000 * 32;
    assert_eq!(received["bytes"], bytes);
    let rate = received["bits_per_second"].as_f64().unwrap();
    assert!((rate - bytes as f64 * 8.0 / 0.047).abs() < 1.0);
    assert_eq!(sum["jitter_ms"], 850.4 / 1e6);
    assert_eq!(
        (&sum["lost_packets"], &sum["packets"]),
        (&json!(10), &json!(100_010))
    );
    assert_eq!(test["end"]["streams"][0]["udp"]["out_of_order"], 7);
    assert_eq!(
        test["start"]["timestamp"]["time"],
        "Sun, 22 Nov 2026 14:05:01 GMT"
    );
    assert_eq!(
        test["start"]["connecting_to"],
        json!({"host": "10.0.0.2", "port": 5_201})
    );
    let cpu = &test["end"]["cpu_utilization_percent"];
    assert!((cpu["host_total"].as_f64().unwrap() - 100.0 * 0.012 / 0.047).abs() < 1e-9);
    let row = &test["intervals"][0]["sum"];
    assert_eq!(
        (&row["lost_packets"], &row["packets"]),
        (&json!(-3), &json!(699_997))
    );
    // Rows of two streams are known together only.
    assert_eq!(test["intervals"][0]["streams"], json!([]));
}

#[test]
fn a_direction_that_ends_first_has_intervals_without_datagrams() {
    let forward = sample::measured().run;
    let mut reverse = forward.clone();
    reverse.direction = "reverse".into();
    reverse.intervals.push(forward.intervals[0].clone());
    for runs in [
        [forward.clone(), reverse.clone()],
        [reverse.clone(), forward.clone()],
    ] {
        let intervals = written(runs.into())["intervals"].clone();
        let rows = intervals.as_array().unwrap();
        assert_eq!(rows.len(), reverse.intervals.len());
        let last = rows.last().unwrap();
        let bytes = ["sum", "sum_bidir_reverse"].map(|key| last[key]["bytes"].as_u64().unwrap());
        assert!(bytes.contains(&0) && bytes != [0, 0], "{last:#}");
    }
}

#[test]
fn unknown_values_are_left_out() {
    let run = Run {
        direction: "forward".into(),
        received: Received {
            is_unknown: true,
            ..Received::default()
        },
        lost: Lost {
            is_unknown: true,
            ..Lost::default()
        },
        reason: Some("the server was lost".into()),
        ..Run::default()
    };
    let test = written(vec![run]);
    assert_eq!(test["error"], "the server was lost");
    let end = &test["end"];
    for key in [
        "lost_packets",
        "lost_percent",
        "jitter_ms",
        "seconds",
        "bits_per_second",
    ] {
        assert!(end["sum"].get(key).is_none(), "{key}");
    }
    assert!(end["sum_received"].get("bytes").is_none());
    assert_eq!(end["cpu_utilization_percent"], json!({}));
}

#[test]
fn both_directions_are_one_test() {
    let forward = sample::measured().run;
    let mut reverse = forward.clone();
    reverse.direction = "reverse".into();
    let test = written(vec![forward, reverse.clone()]);
    assert_eq!(test["start"]["test_start"]["bidir"], 1);
    assert_eq!(test["end"]["sum"]["sender"], true);
    assert_eq!(test["end"]["sum_bidir_reverse"]["sender"], false);
    assert!(test["intervals"][0]["sum_bidir_reverse"].is_object());
    let sockets = test["end"]["streams"].as_array().unwrap();
    assert_eq!(sockets[1]["udp"]["socket"], 2);
    let test = written(vec![reverse]);
    assert_eq!(test["start"]["test_start"]["reverse"], 1);
    assert_eq!(test["start"]["test_start"]["bidir"], 0);
}

#[test]
fn server_is_named_without_its_port_and_brackets() {
    let named = |to: &str| {
        let mut run = sample::measured().run;
        run.requested.to = Some(to.to_owned());
        server(&run)
    };
    assert_eq!(named("a.example"), ("a.example".into(), Some(5_210)));
    assert_eq!(named("a.example:7"), ("a.example".into(), Some(7)));
    assert_eq!(named("2001:db8::1"), ("2001:db8::1".into(), Some(5_210)));
    assert_eq!(named("[2001:db8::1]:7"), ("2001:db8::1".into(), Some(7)));
}

proptest! {
    /// Any counts give a document whose numbers are finite.
    #[test]
    fn any_run_is_a_document(
        sent: u64, unique: u64, lost: u64, missing: i64, packets: u64, duplicates: u64,
        seconds in prop::option::of(any::<f64>()), row_seconds: f64,
    ) {
        let mut run = sample::measured().run;
        run.sent.packets = sent;
        run.received.unique = unique;
        run.lost.packets = lost;
        run.seconds = seconds;
        let row = Interval { packets, duplicates, missing, seconds: row_seconds, ..sample::interval() };
        run.intervals = vec![sample::interval(), row];
        let test = written(vec![run]);
        prop_assert_eq!(&test["end"]["sum"]["packets"], &json!(sent));
        prop_assert!(!test["intervals"].as_array().unwrap().is_empty());
    }
}
