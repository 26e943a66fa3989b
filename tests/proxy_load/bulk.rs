//! Bulk data: amounts and faults.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::{assert_both, count, load_before, only, origin, proxy, without_half_closes};

#[test]
fn streams_share_an_amount() {
    let (_origin, origin) = origin();
    let via = without_half_closes(origin);
    let options = "--protocol forward --scenario bulk --streams 64 --mb 6.4 --load-threads 2";
    let (record, finished) = load_before(origin, via, options);
    finished.done();
    assert_both(&record, "bytes", 6_400_000);
    assert_both(&record, "requests", 64);
}

#[test]
fn a_proxy_that_changes_one_byte_of_a_million_is_counted() {
    let (_origin, origin) = origin();
    let via = proxy(move |mut client| {
        let mut server = TcpStream::connect(origin).unwrap();
        let (mut back, mut from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let answers = thread::spawn(move || std::io::copy(&mut from, &mut back));
        let (mut chunk, mut passed) = (vec![0; 65_536], 0);
        while let Ok(bytes @ 1..) = client.read(&mut chunk) {
            if (passed..passed + bytes).contains(&1_000_000) {
                chunk[1_000_000 - passed] ^= 1;
            }
            passed += bytes;
            server.write_all(&chunk[..bytes]).unwrap();
        }
        let _ = server.shutdown(Shutdown::Write);
        let _ = answers.join();
    });
    let options = "--protocol forward --scenario bulk --mb 4";
    let (record, finished) = load_before(origin, via, options);
    let run = only(&record, "proxied");
    assert_eq!(count(&run, "corrupt"), 1, "{run:#}");
    assert_eq!(run["bytes"], 0);
    let direct = only(&record, "direct");
    assert_eq!(direct["bytes"], 4_000_000, "{direct:#}");
    finished.failed(3, &["of them correct"]);
}

#[test]
fn bulk_through_a_proxy_without_half_closes_is_measured() {
    let (_origin, origin) = origin();
    let via = without_half_closes(origin);
    let options = "--protocol forward --scenario bulk --mb 4";
    let (record, finished) = load_before(origin, via, options);
    finished.done();
    assert_both(&record, "bytes", 4_000_000);
}
