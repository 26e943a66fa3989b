//! Every format, with lines that are right and lines that are not.

use super::*;

/// The format, the entries as `line text`, and the errors as `line: what is wrong`.
fn read_all(content: &str) -> (Option<Format>, Vec<String>, Vec<String>) {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    let format = read(content.as_bytes(), |line, item| match item {
        Item::Entry(text, entry) => {
            assert!(
                Entry::parse(&text.replace(" - ", "-")).is_ok_and(|same| same == entry)
                    || text.contains("00")
            );
            entries.push(format!("{line} {text}"));
        }
        Item::Bad(error) => errors.push(format!("{line}: {error}")),
    });
    (format, entries, errors)
}

#[track_caller]
fn good(content: &str, format: Format, expected: &[&str]) {
    let (found, entries, errors) = read_all(content);
    assert_eq!((found, errors), (Some(format), vec![]));
    assert_eq!(entries, expected);
}

/// The last line is wrong, for this reason.
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
fn lines_have_an_entry_each_and_comments() {
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
fn a_line_that_is_no_entry_is_refused() {
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
        ("<html>", "'<' in it"),
        ("\0", "'\\0' in it"),
        ("b\u{fffd}d.example", "international"),
    ] {
        bad(&format!("192.0.2.7\n{line}"), Format::Lines, piece);
    }
}

#[test]
fn json_lines_have_a_network_each() {
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
        ("{\"asn\":64496}", "\"cidr\""),
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
fn hosts_files_block_the_names_they_send_nowhere() {
    let hosts = concat!(
        "# hosts\n127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\nfe80::1%lo0 localhost\n",
        "255.255.255.255 broadcasthost\nff02::1 ip6-allnodes\n0.0.0.0 0.0.0.0\n",
        "0.0.0.0 ads.example Tracker.example. # both\n127.0.0.1\tmore.example\n:: six.example\n",
    );
    let entries = [
        "8 ads.example",
        "8 Tracker.example.",
        "9 more.example",
        "10 six.example",
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
        ("0.0.0.0 192.0.2.1", "number"),
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
fn titles_may_be_in_any_encoding() {
    let mut entries = 0;
    let latin1 = b"Universit\xe4t:192.0.2.1-192.0.2.9\nCaf\xe9:192.0.2.10-192.0.2.11";
    let format = read(latin1, |_, item| {
        entries += usize::from(matches!(item, Item::Entry(..)));
    });
    assert_eq!((format, entries), (Some(Format::P2p), 2));
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
    read(dat.as_bytes(), |line, item| {
        let Item::Entry(_, entry) = item else {
            panic!("{item:?}")
        };
        let octal = "192.0.2.8".parse().unwrap();
        assert_eq!(entry.subject.has(octal), line == 1);
    });
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
fn a_bad_first_line_does_not_hide_the_format() {
    let (format, entries, errors) = read_all("192.0.2.1 nas!\n0.0.0.0 ads.example");
    assert_eq!((format, entries.len()), (Some(Format::Hosts), 1));
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn nothing_is_an_empty_list_and_rubbish_is_not() {
    for empty in ["", "\n", "\r\n\r\n", "# nothing\n ; here\n", "\u{feff}"] {
        assert_eq!(read_all(empty), (None, vec![], vec![]), "{empty:?}");
    }
    let (format, entries, errors) = read_all("<html>\n<body>");
    assert_eq!((format, entries.len(), errors.len()), (None, 0, 2));
}
