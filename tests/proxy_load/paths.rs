//! Which paths are measured.

use std::net::SocketAddr;

use crate::common::{PATIENCE, start};
use crate::{count, load_before, origin, without_half_closes};

#[test]
fn a_server_that_only_the_proxy_reaches_needs_no_warmup() {
    let (_origin, origin) = origin();
    let via = without_half_closes(origin);
    let options = "--protocol forward --no-direct --warmup 0s --duration 100ms";
    let unroutable = SocketAddr::from(([192, 0, 2, 1], 9));
    let (record, finished) = load_before(unroutable, via, options);
    let finished = finished.done();
    assert!(!finished.stderr.contains("direct"), "{}", finished.stderr);
    let runs = record["runs"].as_array().unwrap();
    let named = |key: &str| {
        runs.iter()
            .map(|run| run[key].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(named("scenario"), ["connect", "request-response", "bulk"]);
    assert_eq!(named("path"), ["proxied"; 3]);
    for run in runs {
        assert_eq!(count(run, "total"), 0, "{run:#}");
        assert!(run["requests"].as_u64().unwrap() > 0, "{run:#}");
    }
    assert_eq!(record["overhead"].as_array().unwrap().len(), 0);
    let line = format!("proxy load --origin {origin} --no-direct");
    start(line.split(' '))
        .wait(PATIENCE)
        .failed(2, &["--no-direct", "--via"]);
}
