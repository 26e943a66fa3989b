//! Formats of tools: dnsmasq, unbound, ipset and DShield.

use super::*;

#[test]
fn dnsmasq_options_block_domains() {
    let dnsmasq = concat!(
        "# dnsmasq\naddress=/ads.example/\naddress=/b.example/0.0.0.0\naddress=/c.example/#\naddress=/d.example/::\n",
        "server=/e.example/\nlocal=/f.example/g.example/ # two\naddress=/.h.example/127.0.0.1\n",
    );
    let entries = [
        "2 ads.example",
        "3 b.example",
        "4 c.example",
        "5 d.example",
        "6 e.example",
        "7 f.example",
        "7 g.example",
        "8 .h.example",
    ];
    good(dnsmasq, Format::Dnsmasq, &entries);
    for (line, piece) in [
        (
            "address=/nas.example/192.0.2.1",
            "\"nas.example\" is mapped to 192.0.2.1",
        ),
        ("server=/corp.example/192.0.2.53", "is mapped to"),
        ("server=/good.example/#", "is mapped to"),
        ("address=/#/0.0.0.0", "'#' in it"),
        ("address=//", "is empty"),
        ("address=/a.example", "not an option that blocks"),
        ("address=a.example", "not an option that blocks"),
        ("cname=/a.example/", "not an option that blocks"),
        ("log-queries", "not an option that blocks"),
        ("address=/a.example/ b.example", "not an option that blocks"),
        ("local=/a.example/127.1/", "number"),
    ] {
        bad(
            &format!("address=/first.example/\n{line}"),
            Format::Dnsmasq,
            piece,
        );
    }
}

#[test]
fn unbound_zones_block_domains() {
    let unbound = concat!(
        "server:\n  local-zone: \"ads.example\" refuse\n  local-zone: 'b.example.' always_nxdomain # comment\n",
        "local-zone: c.example static\nlocal-zone: \"d.example\" redirect\nlocal-data: \"d.example A 0.0.0.0\"\n",
        "local-data: \"e.example 60 IN AAAA ::\"\n",
    );
    let entries = [
        "2 ads.example",
        "3 b.example.",
        "4 c.example",
        "5 d.example",
        "6 d.example",
        "7 e.example",
    ];
    good(unbound, Format::Unbound, &entries);
    for (line, piece) in [
        (
            "local-zone: \"a.example\" transparent",
            "\"transparent\" does not block",
        ),
        ("local-zone: \"a.example\" nodefault", "does not block"),
        (
            "local-data: \"nas.example A 192.0.2.1\"",
            "is mapped to 192.0.2.1",
        ),
        (
            "local-data: \"a.example TXT x\"",
            "not an option that blocks",
        ),
        ("local-zone: \"a.example\"", "not an option that blocks"),
        ("local-zone: \"a b.example\" refuse", "not block"),
        ("local-zone: \".\" refuse", "is empty"),
        ("include: x.conf", "not an option that blocks"),
    ] {
        bad(
            &format!("local-zone: \"first.example\" deny\n{line}"),
            Format::Unbound,
            piece,
        );
    }
}

#[test]
fn ipset_save_lists_members() {
    let ipset = concat!(
        "create drop hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x1\n",
        "add drop 192.0.2.0/24\nadd drop 198.51.100.7 timeout 0\n",
        "create drop6 hash:net family inet6 hashsize 1024 maxelem 65536\nadd drop6 2001:db8::/32 comment \"the nomatch # one\"\n",
        "add drop 203.0.113.1-203.0.113.9 packets 0 bytes 0\n",
    );
    let entries = [
        "2 192.0.2.0/24",
        "3 198.51.100.7",
        "5 2001:db8::/32",
        "6 203.0.113.1-203.0.113.9",
    ];
    good(ipset, Format::Ipset, &entries);
    for (line, piece) in [
        ("add drop 192.0.2.7 nomatch", "is an exception (nomatch)"),
        (
            "add drop 192.0.2.7 comment \"x\" nomatch",
            "is an exception (nomatch)",
        ),
        (
            "add drop 192.0.2.7,tcp:80",
            "not an address, a network or a range",
        ),
        ("add drop ads.example", "not an address"),
        ("add drop 192.0.2.9-192.0.2.1", "not an address"),
        ("add drop", "not a line of ipset save"),
        ("del drop 192.0.2.1", "not a line of ipset save"),
    ] {
        bad(
            &format!("create drop hash:ip\n{line}"),
            Format::Ipset,
            piece,
        );
    }
}

#[test]
fn dshield_lists_have_a_network_in_three_columns() {
    let dshield = concat!(
        "#   DShield.org Recommended Block List\n#    Columns (tab delimited):\n",
        "Start\tEnd\tNetblock\tAttacks\tName\tCountry\temail\n",
        "192.0.2.0\t192.0.2.255\t24\t6286\tEXAMPLE No.31,Some-road Street\tCN\tabuse@example.net\n",
        "198.51.100.0\t198.51.100.255\t24\t7\t\t\t\n",
    );
    good(
        dshield,
        Format::Dshield,
        &["4 192.0.2.0/24", "5 198.51.100.0/24"],
    );
    for line in [
        "192.0.2.0\t192.0.2.255\t25\t1\tx",
        "192.0.2.0\t192.0.2.254\t24\t1\tx",
        "192.0.2.1\t192.0.2.255\t24\t1\tx",
        "192.0.2.0\t192.0.2.255\t33\t1\tx",
        "192.0.2.0\t192.0.2.255",
    ] {
        let content = format!("203.0.113.0\t203.0.113.255\t24\n{line}");
        bad(
            &content,
            Format::Dshield,
            "first and last address of a network",
        );
    }
}
