//! `bench blocklist check`: its output, its exit codes and its errors about invalid lists.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use crate::common::filter::Forbidden;
use crate::common::{Finished, PATIENCE, Running, bench};
use tempfile::TempDir;

/// A folder of lists, passed by path.
struct Lists(TempDir);

impl Lists {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        Self(folder)
    }

    /// The output with names instead of paths.
    fn check(&self, words: &[&str]) -> Finished {
        let at = format!("{}/", self.0.path().display());
        let word = |word: &&str| word.replace('@', &at);
        let fixed = ["blocklist", "check"].map(str::to_owned);
        let mut finished = bench(fixed.into_iter().chain(words.iter().map(word)));
        finished.stdout = finished.stdout.replace(&at, "");
        finished.stderr = finished.stderr.replace(&at, "");
        finished
    }
}

#[test]
fn destinations_are_printed_with_the_deciding_entry() {
    let lists = Lists::new(&[
        (
            "net",
            "# mine\n203.0.113.0/24\n198.51.100.7:25\n*.ads.example\n",
        ),
        ("hosts", "127.0.0.1 localhost\n0.0.0.0 bad.example\n"),
    ]);
    let destinations = [
        "203.0.113.9",
        "203.0.113.9:443",
        "[::ffff:203.0.113.9]:443",
        "64:ff9b::203.0.113.9",
        "fe80::5efe:203.0.113.9%eth0",
        "198.51.100.7:26",
        "198.51.100.7",
        "a.ads.example:80",
        "ads.example",
        "xads.example",
        "BAD.example.",
        "localhost",
        "1.1.1.1",
    ];
    let words = [&["@net", "@hosts", "--"][..], &destinations].concat();
    let finished = lists.check(&words).failed(1, &["9 of 13 destinations"]);
    let expected = [
        "203.0.113.9 blocked by net:2 (203.0.113.0/24)",
        "203.0.113.9:443 blocked by net:2 (203.0.113.0/24)",
        "[::ffff:203.0.113.9]:443 blocked by net:2 (203.0.113.0/24)",
        "64:ff9b::203.0.113.9 blocked by net:2 (203.0.113.0/24)",
        "fe80::5efe:203.0.113.9%eth0 blocked by net:2 (203.0.113.0/24)",
        "198.51.100.7:26 allowed",
        "198.51.100.7 blocked by net:3 (198.51.100.7:25)",
        "a.ads.example:80 blocked by net:4 (*.ads.example)",
        "ads.example blocked by net:4 (*.ads.example)",
        "xads.example allowed",
        "BAD.example. blocked by hosts:2 (bad.example)",
        "localhost allowed",
        "1.1.1.1 allowed",
    ];
    assert_eq!(finished.stdout, expected.join("\n") + "\n");
}

#[test]
fn without_blocked_destinations_the_exit_code_is_0() {
    let lists = Lists::new(&[("list", "203.0.113.0/24\n")]);
    let finished = lists.check(&["@list", "--", "1.1.1.1", "example.com:443"]);
    let finished = finished.done();
    assert_eq!(
        finished.stdout,
        "1.1.1.1 allowed\nexample.com:443 allowed\n"
    );
}

#[test]
fn allow_lists_and_private_networks_block_too() {
    let lists = Lists::new(&[("allow", "192.0.2.0/24\n1.1.1.1\n")]);
    let words = ["--allow", "@allow", "--", "1.1.1.1", "8.8.8.8"];
    let finished = lists.check(&words).failed(1, &["1 of 2"]);
    let expected = "1.1.1.1 allowed\n8.8.8.8 blocked by --allow (not on the list)\n";
    assert_eq!(finished.stdout, expected);
    let finished = lists.check(&["--deny-private", "--", "2002:a00:1::"]);
    let finished = finished.failed(1, &["the destination is blocked"]);
    let expected = "2002:a00:1:: blocked by --deny-private (10.0.0.0/8, private)\n";
    assert_eq!(finished.stdout, expected);
}

#[test]
fn an_empty_list_is_reported() {
    let lists = Lists::new(&[("empty", ""), ("comments", "# nothing\n")]);
    let finished = lists.check(&["@empty", "@comments", "--", "1.1.1.1"]);
    assert_eq!(
        (finished.code, finished.stdout.as_str()),
        (Some(0), "1.1.1.1 allowed\n")
    );
    let expected = "bench: empty: an empty list, it has no entries\n\
                    bench: comments: an empty list, it has no entries\n";
    assert_eq!(finished.stderr, expected);
}

#[test]
fn an_invalid_line_is_reported_by_file_and_line() {
    let lists = Lists::new(&[("list", "192.0.2.1\n# two\n192.0.2\n")]);
    let finished = lists.check(&["@list", "--", "1.1.1.1"]);
    let finished = finished.failed(
        3,
        &["list:3: \"192.0.2\" ends in a number", "like 127.0.0.1"],
    );
    assert_eq!(finished.stdout, "");
    lists
        .check(&["@gone", "--", "1.1.1.1"])
        .failed(3, &["cannot read gone", "No such file"]);
    lists
        .check(&["@.", "--", "1.1.1.1"])
        .failed(3, &["cannot read", "directory"]);
}

#[test]
fn up_to_ten_invalid_lines_are_reported() {
    let lists = Lists::new(&[("list", &"127.1\n".repeat(25))]);
    let finished = lists.check(&["@list", "--", "1.1.1.1"]);
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!((finished.code, lines.len()), (Some(3), 11), "{lines:?}");
    assert!(lines[9].starts_with("bench: list:10: "), "{lines:?}");
    assert_eq!(lines[10], "bench: and 15 more bad lines");
}

#[test]
fn a_nonstandard_address_is_bad_usage() {
    let lists = Lists::new(&[("list", "")]);
    for (destination, named) in [
        ("127.1", "127.1"),
        ("0x7f000001", "0x7f000001"),
        ("2130706433:80", "2130706433"),
        ("0177.0.0.1", "0177.0.0.1"),
        ("１２７.0.0.1", "１２７.0.0.1"),
        (" 127.0.0.1", "' '"),
        ("127.0.0.1 ", "' '"),
        ("", "is empty"),
        ("example.com:0", "\"0\" is not a port"),
        ("[::1", "[::1"),
        ("::ffff:127.1", "::ffff:127.1"),
    ] {
        let finished = lists.check(&["@list", "--", "1.1.1.1", destination]);
        let finished = finished.failed(2, &[named]);
        assert_eq!(finished.stdout, "", "{destination}");
    }
    lists.check(&["@list"]).failed(2, &["DEST"]);
    lists.check(&["--", "1.1.1.1"]).failed(2, &["FILE"]);
    bench(["blocklist"]).failed(2, &[]);
}

#[test]
fn a_long_list_is_read_quickly() {
    let mut content = String::new();
    for number in 0..120_000u32 {
        let address = std::net::Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761));
        writeln!(content, "{address}").unwrap();
    }
    let lists = Lists::new(&[("long", &content)]);
    let last = content.lines().last().unwrap();
    let finished = lists.check(&["@long", "--", last]).failed(1, &["blocked"]);
    assert_eq!(
        finished.stdout,
        format!("{last} blocked by long:120000 ({last})\n")
    );
    // Within 1 s if optimised; this may be a debug build on a busy machine.
    assert!(
        finished.took < Duration::from_secs(10),
        "{:?}",
        finished.took
    );
}

#[test]
fn published_lists_are_accepted() {
    let lists = Lists::new(&[
        ("wildcard", "*.ads.example\n"),
        ("squid", ".ads.example\n"),
        (
            "hosts",
            "0.0.0.0 0.0.0.0\n127.0.1.1 myhost\n0.0.0.0 130.211.230.53\n0.0.0.0 ads.example\n",
        ),
        (
            "adblock",
            "! Title: x\n||ads.example^\n@@||fine.ads.example^\n",
        ),
        ("dnsmasq", "address=/ads.example/\nserver=/b.example/\n"),
        ("unbound", "server:\nlocal-zone: \"ads.example\" refuse\n"),
        ("ipset", "create x hash:net\nadd x 192.0.2.0/24\n"),
        (
            "dshield",
            "Start\tEnd\tNetblock\n192.0.2.0\t192.0.2.255\t24\t1\tX\n",
        ),
    ]);
    for (list, destination, blocked_by) in [
        ("@wildcard", "ads.example", "wildcard:1 (*.ads.example)"),
        ("@wildcard", "a.b.ads.example", "wildcard:1 (*.ads.example)"),
        ("@wildcard", "example", ""),
        ("@squid", "ads.example:80", "squid:1 (.ads.example)"),
        ("@squid", "www.ads.example", "squid:1 (.ads.example)"),
        ("@hosts", "130.211.230.53", "hosts:3 (130.211.230.53)"),
        ("@hosts", "ads.example", "hosts:4 (ads.example)"),
        ("@hosts", "www.ads.example", ""),
        ("@hosts", "myhost", ""),
        ("@hosts", "127.0.1.1", ""),
        ("@adblock", "www.ads.example", "adblock:2 (||ads.example^)"),
        ("@adblock", "fine.ads.example", ""),
        ("@dnsmasq", "www.ads.example", "dnsmasq:1 (ads.example)"),
        ("@dnsmasq", "b.example", "dnsmasq:2 (b.example)"),
        ("@unbound", "www.ads.example", "unbound:2 (ads.example)"),
        ("@ipset", "192.0.2.9", "ipset:2 (192.0.2.0/24)"),
        ("@dshield", "192.0.2.9", "dshield:2 (192.0.2.0/24)"),
    ] {
        let finished = lists.check(&[list, "--", destination]);
        let expected = match blocked_by {
            "" => format!("{destination} allowed\n"),
            by => format!("{destination} blocked by {by}\n"),
        };
        assert_eq!(finished.stdout, expected, "{}", finished.stderr);
    }
    let finished = lists.check(&["--blocklist-subdomains", "@hosts", "--", "www.ads.example"]);
    finished.failed(1, &["the destination is blocked"]);
}

#[test]
fn an_unsupported_format_is_named() {
    let lists = Lists::new(&[
        (
            "rpz",
            "$TTL 60\n@ SOA a. b. 1 2 3 4 5\nads.example CNAME .\n",
        ),
        (
            "iptables",
            "*filter\n-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT\n",
        ),
        ("csv", "\"seen\",\"ip\"\n\"2024\",\"192.0.2.1\"\n"),
        (
            "json",
            "{\n \"prefixes\": [\n {\"ip_prefix\": \"192.0.2.0/24\"}\n ]\n}\n",
        ),
        ("html", "<!DOCTYPE html>\n<title>Not Found</title>\n"),
        ("words", "password\n123456a\n"),
    ]);
    for (list, words) in [
        (
            "@rpz",
            "rpz: it looks like a DNS zone file, perhaps a response policy zone (RPZ), which is not supported; supported are",
        ),
        (
            "@iptables",
            "iptables: it looks like the output of iptables-save",
        ),
        (
            "@csv",
            "csv: it looks like a table of comma-separated values (CSV)",
        ),
        ("@json", "json: it looks like a JSON document"),
        ("@html", "html: it looks like a web page"),
        ("@words", "words: none of its 2 names has a dot"),
    ] {
        let finished = lists.check(&[list, "--", "1.1.1.1"]).failed(3, &[words]);
        assert_eq!(finished.stdout, "");
    }
    let numbers = Lists::new(&[("asn", "ads.example\nAS64496 # Example\n")]);
    let finished = numbers.check(&["@asn", "--", "as64496"]);
    finished.failed(
        3,
        &["asn:2: \"AS64496\" is the number of an autonomous system"],
    );
}

#[test]
fn without_local_addresses_nothing_is_decided() {
    let netlink = Forbidden {
        call: libc::SYS_socket,
        argument: Some((0, libc::AF_NETLINK as u32)),
        errno: libc::EAFNOSUPPORT,
    };
    if !netlink.is_supported() {
        return;
    }
    let under = |args: &[&str]| Running::new(netlink.bench(args)).wait(PATIENCE);
    let finished = under(&["blocklist", "check", "--deny-private", "--", "1.1.1.1"]);
    finished.failed(
        3,
        &["addresses of this host", "--deny-private", "AF_NETLINK"],
    );
    let lists = Lists::new(&[("list", "192.0.2.1\n")]);
    let list = lists.0.path().join("list");
    under(&[
        "blocklist",
        "check",
        list.to_str().unwrap(),
        "--",
        "1.1.1.1",
    ])
    .done();
}
