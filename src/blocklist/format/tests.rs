//! Every format, with valid and invalid lines.

use super::*;
use detect::Unsupported;

mod tools;

/// The format, the entries as `line text`, and the errors as `line: error`.
fn read_all(content: &str) -> (Option<Format>, Vec<String>, Vec<String>) {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    let format = read(content.as_bytes(), |line, item| match item {
        Item::Entry(text, entry) => {
            assert!(
                Entry::parse(&text.replace(" - ", "-"))
                    .is_ok_and(|same| { same == entry || same.with_subdomains() == entry })
                    || text.contains("00")
                    || text.starts_with("||")
            );
            entries.push(format!("{line} {text}"));
        }
        Item::Exception(text, _) => entries.push(format!("{line} not {text}")),
        Item::Bad(error) => errors.push(format!("{line}: {error}")),
    });
    (format.unwrap(), entries, errors)
}

#[track_caller]
fn good(content: &str, format: Format, expected: &[&str]) {
    let (found, entries, errors) = read_all(content);
    assert_eq!((found, errors), (Some(format), vec![]));
    assert_eq!(entries, expected);
}

/// The last line is invalid, for this reason.
#[track_caller]
fn bad(content: &str, format: Format, piece: &str) {
    let (found, _, errors) = read_all(content);
    let last = format!("{}: ", content.lines().count());
    assert_eq!(found, Some(format), "{content}: {errors:?}");
    assert_eq!(errors.len(), 1, "{content}: {errors:?}");
    assert!(
        errors[0].starts_with(&last) && errors[0].contains(piece),
        "{errors:?}"
    );
}

#[test]
fn lines_have_one_entry_each_and_comments() {
    let firehol = "#\n# firehol_level1\n#\n\n0.0.0.0/8\n5.9.253.173\n";
    good(firehol, Format::Lines, &["5 0.0.0.0/8", "6 5.9.253.173"]);
    let spamhaus = "; Spamhaus DROP List\r\n1.10.16.0/20 ; SBL256894\r\n2a12:2640::/29 \r\n";
    good(
        spamhaus,
        Format::Lines,
        &["2 1.10.16.0/20", "3 2a12:2640::/29"],
    );
    let ipsum = "# IPsum\n77.90.185.20\t10\n2.57.122.53\t9 # seen\n";
    good(ipsum, Format::Lines, &["2 77.90.185.20", "3 2.57.122.53"]);
    let own = "\u{feff}ads.example\n*.ads.example:443#all\n  [2001:db8::/32]:25-30\n192.0.2.1-192.0.2.9:80";
    let entries = [
        "1 ads.example",
        "2 *.ads.example:443",
        "3 [2001:db8::/32]:25-30",
        "4 192.0.2.1-192.0.2.9:80",
    ];
    good(own, Format::Lines, &entries);
}

#[test]
fn invalid_lines_are_rejected() {
    for (line, piece) in [
        ("192.0.2.1\tten", "not a number"),
        ("192.0.2.1\t1\t2", "not a number"),
        ("192.0.2.1 10", "' ' in it"),
        ("192.0.2.1, 192.0.2.2", "',' in it"),
        ("192.0.2", "number"),
        ("192.0.2.1/16", "write 192.0.0.0/16"),
        ("{\"cidr\":\"192.0.2.0/24\"}", "'{' in it"),
        ("0.0.0.0 ads.example", "' ' in it"),
        ("title:192.0.2.1-192.0.2.9", "not a port"),
        ("ads.example##.banner", "a rule for browsers"),
        ("ads.example#@#.banner", "a rule for browsers"),
        ("https://evil.example/x", "a URL"),
        ("AS64496", "autonomous system"),
        ("!192.0.2.9", "'!' in it"),
        ("!192.0.2.0/30", "'!' in it"),
        ("<html>", "'<' in it"),
        ("\0", "'\\0' in it"),
        ("b\u{fffd}d.example", "international"),
    ] {
        bad(&format!("192.0.2.7\n{line}"), Format::Lines, piece);
    }
}

#[test]
fn negated_entries_are_rejected_and_other_text_after_an_exclamation_mark_is_not() {
    for line in [
        "!bad.example",
        "! 192.168.0.0/16",
        "!10.0.0.0-10.255.255.255",
        "!127.0.0.1:80",
        "!*.bad.example",
        "!2001:db8::/32",
        "!localhost",
    ] {
        bad(&format!("192.0.2.7\n{line}"), Format::Lines, "--except");
        bad(
            &format!("0.0.0.0 ads.example\n{line}"),
            Format::Hosts,
            "--except",
        );
    }
    let hosts = "0.0.0.0 ads.example\n!0.0.0.0 bad.example";
    bad(hosts, Format::Hosts, "--except");
    bad(
        "a:192.0.2.1-192.0.2.9\n!b:192.0.2.20-192.0.2.29",
        Format::P2p,
        "--except",
    );
    let comments =
        "! Title: a list\n!\n! Homepage\n! https://lists.example/a\n!!! 1 entry\n192.0.2.7\n";
    good(comments, Format::Lines, &["6 192.0.2.7"]);
    good(
        "! ads.example\n||b.example^\n",
        Format::Adblock,
        &["2 ||b.example^"],
    );
}

#[test]
fn a_carriage_return_ends_a_line() {
    good(
        "#x\r127.0.0.1\n192.0.2.1\n",
        Format::Lines,
        &["2 127.0.0.1", "3 192.0.2.1"],
    );
    good(
        "\u{feff}# old\r192.0.2.1\r192.0.2.2",
        Format::Lines,
        &["2 192.0.2.1", "3 192.0.2.2"],
    );
    good(
        "# x\r\n192.0.2.1\r\n\r\n192.0.2.2\r\n",
        Format::Lines,
        &["2 192.0.2.1", "4 192.0.2.2"],
    );
}

#[test]
fn names_at_any_loopback_address_are_blocked() {
    let hosts = "127.0.0.1 a.example\n127.0.0.2 b.example\n127.0.1.1 evil.example\n127.0.1.1 me.example me\n";
    good(
        hosts,
        Format::Hosts,
        &["1 a.example", "2 b.example", "3 evil.example"],
    );
}

#[test]
fn json_lines_have_one_network_each() {
    let spamhaus = concat!(
        "{\"cidr\":\"1.10.16.0/20\",\"sblid\":\"SBL256894\",\"rir\":\"apnic\"}\n",
        "{\"cidr\":\"2a12:2640::/29\"}\n",
        "{\"type\":\"metadata\",\"timestamp\":1732300000,\"size\":2,\"records\":2,\"terms\":\"https://example\"}\n",
    );
    good(
        spamhaus,
        Format::Json,
        &["1 1.10.16.0/20", "2 2a12:2640::/29"],
    );
    for (line, piece) in [
        ("{\"cidr\":\"1.10.16.1/20\"}", "write 1.10.16.0/20"),
        ("{\"cidr\":\"example.com\"}", "not an IPv6"),
        ("{\"cidr\":7}", "column 9"),
        ("{\"cidr\":\"1.2.3.4\"", "column 17"),
        ("{\"domain\":\"ads.example\"}", "\"cidr\""),
        (
            "{\"asn\":64496}",
            "AS64496 is the number of an autonomous system",
        ),
        ("[\"1.2.3.4\"]", "column 1"),
        ("1.2.3.4", "column 1"),
    ] {
        bad(
            &format!("{{\"cidr\":\"192.0.2.7\"}}\n{line}"),
            Format::Json,
            piece,
        );
    }
}

#[test]
fn hosts_files_block_names_of_sinkhole_addresses() {
    let hosts = concat!(
        "# hosts\n127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\nfe80::1%lo0 localhost\n",
        "255.255.255.255 broadcasthost\nff02::1 ip6-allnodes\n0.0.0.0 0.0.0.0\n",
        "0.0.0.0 ads.example Tracker.example. # both\n127.0.0.1\tmore.example\n:: six.example\n",
        // In widely used lists.
        "0.0.0.0 198.51.100.53\n127.0.0.1 203.0.113.7 2001:db8::7\n127.0.1.1 myhost myhost.example\n::1 LOCALHOST\n",
        "127.0.0.53 resolver\n127.0.0.2 ads.example\n",
    );
    let entries = [
        "7 0.0.0.0",
        "8 ads.example",
        "8 Tracker.example.",
        "9 more.example",
        "10 six.example",
        "11 198.51.100.53",
        "12 203.0.113.7",
        "12 2001:db8::7",
        "16 ads.example",
    ];
    good(hosts, Format::Hosts, &entries);
    for (line, piece) in [
        (
            "192.0.2.1 nas.example",
            "\"nas.example\" is mapped to 192.0.2.1",
        ),
        ("fe80::1%lo0 nas.example", "is mapped to"),
        ("0.0.0.0", "no name follows"),
        ("ads.example", "not an address"),
        ("0.0.0 ads.example", "not an address"),
        ("000.0.0.0 ads.example", "not an address"),
        ("0.0.0.0 ads_!.example", "'!' in it"),
        ("0.0.0.0 192.0.2.0/24", "'/' in it"),
        ("0.0.0.0 192.0.2", "number"),
        ("0.0.0.0 good.example bad_!.example", "'!' in it"),
    ] {
        bad(
            &format!("0.0.0.0 first.example\n{line}"),
            Format::Hosts,
            piece,
        );
    }
}

#[test]
fn p2p_lists_have_a_title_and_a_range() {
    let p2p = "# list\nBad: guys, Inc:192.0.2.1-192.0.2.9\n:198.51.100.7-198.51.100.7\n";
    good(
        p2p,
        Format::P2p,
        &["2 192.0.2.1-192.0.2.9", "3 198.51.100.7-198.51.100.7"],
    );
    for (line, piece) in [
        ("title:192.0.2.9-192.0.2.1", "before it begins"),
        ("title:192.0.2.1", "not a range"),
        ("title:192.0.2.1-192.0.2", "not a range"),
        ("title:192.0.2.001-192.0.2.9", "not a range"),
        ("192.0.2.1-192.0.2.9", "not a range"),
    ] {
        bad(
            &format!("a:192.0.2.1-192.0.2.9\n{line}"),
            Format::P2p,
            piece,
        );
    }
}

#[test]
fn p2p_titles_may_have_any_encoding() {
    let mut entries = 0;
    let latin1 = b"Universit\xe4t:192.0.2.1-192.0.2.9\nCaf\xe9:192.0.2.10-192.0.2.11";
    let format = read(latin1, |_, item| {
        entries += usize::from(matches!(item, Item::Entry(..)));
    });
    assert_eq!((format, entries), (Ok(Some(Format::P2p)), 2));
}

#[test]
fn dat_lists_have_padded_ranges_and_levels() {
    let dat = concat!(
        "192.000.002.008 - 192.000.002.010 , 000 , Bad guys, Inc\n",
        "198.051.100.007 - 198.051.100.007 , 127 , still\n",
        "203.000.113.000 - 203.000.113.255 , 128 , let through\n",
        "203.0.113.1 - 203.0.113.9\n",
    );
    let entries = [
        "1 192.000.002.008 - 192.000.002.010",
        "2 198.051.100.007 - 198.051.100.007",
        "4 203.0.113.1 - 203.0.113.9",
    ];
    good(dat, Format::Dat, &entries);
    let read = read(dat.as_bytes(), |line, item| {
        let Item::Entry(_, entry) = item else {
            panic!("{item:?}")
        };
        let octal = "192.0.2.8".parse().unwrap();
        assert_eq!(entry.subject.has(octal), line == 1);
    });
    assert_eq!(read, Ok(Some(Format::Dat)));
    for (line, piece) in [
        ("192.0.2.1 - 192.0.2.9 , high , title", "\"high\""),
        ("192.0.2.1 - 192.0.2.9 , 256 , title", "\"256\""),
        ("192.0.2.1 - 192.0.2.9 , +1 , title", "\"+1\""),
        ("192.0.2.1 , 100 , title", "not a range"),
        ("192.0.2.1 - 192.0.2.0001 , 100 , title", "not a range"),
        ("192.0.2.1 - 192.0.2.256 , 100 , title", "not a range"),
        ("192.0.2.1 - 192.0.2.9.1 , 100 , title", "not a range"),
        ("192.0.2.9 - 192.0.2.1 , 100 , title", "before it begins"),
    ] {
        let content = format!("192.000.002.001 - 192.000.002.009 , 100 , a\n{line}");
        bad(&content, Format::Dat, piece);
    }
}

#[test]
fn an_invalid_first_line_does_not_hide_the_format() {
    let (format, entries, errors) = read_all("192.0.2.1 nas!\n0.0.0.0 ads.example");
    assert_eq!((format, entries.len()), (Some(Format::Hosts), 1));
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn a_format_is_detected_by_line_prefixes_if_all_lines_are_invalid() {
    for (content, format, piece) in [
        (
            "server=/ok.example/8.8.8.8\n",
            Format::Dnsmasq,
            "mapped to 8.8.8.8",
        ),
        ("server=/ads.example/#\n", Format::Dnsmasq, "mapped to #"),
        (
            "local-data: \"ads.example. A 192.0.2.1\"\n",
            Format::Unbound,
            "mapped to 192.0.2.1",
        ),
        (
            "local-zone: \"ok.example\" transparent\n",
            Format::Unbound,
            "the zone type",
        ),
        (
            "@@||ads.example^$doc\n",
            Format::Adblock,
            "rule for browsers",
        ),
    ] {
        bad(content, format, piece);
    }
}

#[test]
fn an_empty_file_is_an_empty_list_and_invalid_text_is_not() {
    for empty in ["", "\n", "\r\n\r\n", "# nothing\n ; here\n", "\u{feff}"] {
        assert_eq!(read_all(empty), (None, vec![], vec![]), "{empty:?}");
    }
    let (format, entries, errors) = read_all("%%\n}");
    assert_eq!((format, entries.len(), errors.len()), (None, 0, 2));
}

#[test]
fn lists_of_domains_may_include_subdomains() {
    let wildcard = "# dnscrypt-proxy, Squid's dstdomain\r\n*.ads.example\r\n.tracker.example\r\nplain.example # one\r\n\t*.zip\r\n";
    let entries = [
        "2 *.ads.example",
        "3 .tracker.example",
        "4 plain.example",
        "5 *.zip",
    ];
    good(wildcard, Format::Lines, &entries);
    let below = |text: &str| matches!(Entry::parse(text).unwrap().subject, Subject::Domain(_));
    assert_eq!(["*.a.b", ".a.b", "a.b"].map(below), [true, true, false]);
}

#[test]
fn words_that_are_not_hosts_are_rejected_by_line() {
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (content, piece) in [
        (
            "AS64496\nAS64497 # Example\n",
            "1: \"AS64496\" is the number",
        ),
        ("ip\n192.0.2.1\n192.0.2.2\n", "1: \"ip\" is the title"),
        (
            "domain\nads.example\nbad.example\n",
            "1: \"domain\" is the title",
        ),
        (&format!("{digest}\n{digest}\n"), "is a hash of 64 digits"),
        (
            "d41d8cd98f00b204e9800998ecf8427e\n",
            "is a hash of 32 digits",
        ),
    ] {
        let (_, _, errors) = read_all(content);
        assert!(errors[0].contains(piece), "{errors:?}");
    }
    let (format, entries, errors) = read_all("{\"asn\":64496,\"rir\":\"arin\"}\n{\"asn\":64497}\n");
    assert_eq!(
        (format, entries.len(), errors.len()),
        (Some(Format::Json), 0, 2)
    );
    assert!(errors[0].contains("autonomous system"), "{errors:?}");
}

#[test]
fn adblock_lists_have_host_rules_and_exceptions() {
    let adblock = concat!(
        "[Adblock Plus 2.0]\n! Title: hosts only\n! Expires: 1 day\n||ads.example^\n||*.Tracker.example.^\n||192.0.2.1^\n",
        "@@||good.ads.example^\n@@||fine.example^|\n||[2001:db8::1]^\n||a.example:8080^\n",
    );
    let entries = [
        "4 ||ads.example^",
        "5 ||*.Tracker.example.^",
        "6 ||192.0.2.1^",
        "7 not @@||good.ads.example^",
        "8 not @@||fine.example^|",
        "9 ||[2001:db8::1]^",
        "10 ||a.example:8080^",
    ];
    good(adblock, Format::Adblock, &entries);
    let untitled = "! only comments before\n||ads.example^\n||b.example^\n";
    good(
        untitled,
        Format::Adblock,
        &["2 ||ads.example^", "3 ||b.example^"],
    );
    for (line, piece) in [
        ("||ads.example", "a rule for browsers"),
        ("||ads.example^$third-party", "a rule for browsers"),
        ("||ads.example/banner^", "a rule for browsers"),
        ("||192.0.2.0/24^", "a rule for browsers"),
        ("|https://ads.example^", "a rule for browsers"),
        ("/banner[0-9]/", "a rule for browsers"),
        ("ads.example", "a rule for browsers"),
        ("example.com##.banner", "a rule for browsers"),
        ("||ad*.example^", "'*' in it"),
        ("||127.1^", "number"),
    ] {
        bad(&format!("||first.example^\n{line}"), Format::Adblock, piece);
    }
}

#[test]
fn unsupported_formats_are_named() {
    for (content, foreign) in [
        (&b"\x1f\x8b\x08\0\0\0\0\0"[..], Unsupported::Compressed("gzip")),
        (b"PK\x03\x04x", Unsupported::Compressed("zip")),
        (b"\xff\xfea\0.\0b\0", Unsupported::Utf16),
        (b"a\0.\0b\0\n\0", Unsupported::Binary),
        (b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title>\nSorry\n", Unsupported::Html),
        (b"\n  <html>\n<body>", Unsupported::Html),
        (
            b"{\n  \"syncToken\": \"1\",\n  \"prefixes\": [\n    {\n      \"ip_prefix\": \"192.0.2.0/24\"\n",
            Unsupported::Json,
        ),
        (b"{\"prefixes\":[{\"ip_prefix\":\"192.0.2.0/24\"}]}", Unsupported::Json),
        (b"[\"192.0.2.1\",\"192.0.2.2\"]", Unsupported::Json),
        (
            b"# feed\n\"first_seen_utc\",\"dst_ip\",\"dst_port\"\n\"2024-01-01\",\"192.0.2.1\",\"443\"\n",
            Unsupported::Csv,
        ),
        (
            b"\"id\",\"url\"\n\"1\",\"http://evil.example/a\"\n\"2\",\"http://evil.example/b\"\n",
            Unsupported::Csv,
        ),
        (b"ip,count\n192.0.2.1,7\n192.0.2.2,9\n", Unsupported::Csv),
        (
            b"$TTL 300\n@ SOA localhost. root.localhost. 1 2 3 4 5\n  NS localhost.\nads.example CNAME .\n*.ads.example CNAME .\n",
            Unsupported::Rpz,
        ),
        (b"ads.example 60 IN CNAME .\n", Unsupported::Rpz),
        (
            b"# Generated by iptables-save\n*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 192.0.2.1/32 -j DROP\nCOMMIT\n",
            Unsupported::Iptables,
        ),
        (b"table inet x {\n  set s {\n    elements = { 192.0.2.1 }\n  }\n}\n", Unsupported::Nftables),
        (b"http://evil.example/a.exe\nhttps://192.0.2.1/b\n", Unsupported::Urls),
    ] {
        let read = read(content, |_, item| panic!("{item:?}"));
        assert_eq!(read, Err(foreign), "{}", String::from_utf8_lossy(content));
        assert!(!foreign.to_string().contains('\n'));
    }
    let sentence = Unsupported::Rpz.to_string();
    for words in ["response policy zone", "not supported", "hosts, adblock"] {
        assert!(sentence.contains(words), "{sentence}");
    }
}

#[test]
fn case_and_space_are_ignored() {
    let odd = "\u{feff}\r\n \t Ads.Example. \r\nb\u{fc}cher.example\r\n\r\nXN--BCHER-KVA.example\t7\r\n! comment\r\n";
    good(
        odd,
        Format::Lines,
        &[
            "2 Ads.Example.",
            "3 b\u{fc}cher.example",
            "5 XN--BCHER-KVA.example",
        ],
    );
    let long = format!("ads.example\n{}\n", "x".repeat(3_000_000));
    let (_, _, errors) = read_all(&long);
    assert!(errors.len() == 1 && errors[0].len() < 300, "{errors:?}");
}
