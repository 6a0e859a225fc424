use super::*;
use proptest::prelude::*;

fn is_met(name: &str, text: &str) -> bool {
    Format::named(name).unwrap().unmet(text, &mut Library::new(60_000)).is_none()
}

fn each(name: &str, good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(is_met(name, text), "{name} {text}");
    }
    for text in bad {
        assert!(!is_met(name, text), "{name} {text}");
    }
}

#[test]
fn times_are_those_of_rfc_3339() {
    each(
        "date",
        &["2024-02-29", "0000-01-01", "9999-12-31"],
        &[
            "2023-02-29",
            "2024-2-09",
            "2024-+2-09",
            "2024-13-01",
            "2024-00-01",
            "20240229",
            "2024-02-30",
            "２024-02-09",
            "2024-02-09 ",
        ],
    );
    each(
        "time",
        &["08:30:06Z", "08:30:06.283185z", "23:59:60Z", "01:29:60+01:30", "15:59:60-08:00", "00:00:00-00:00"],
        &[
            "08:30:06",
            "8:30:06Z",
            "+8:30:06Z",
            "24:00:00Z",
            "00:60:00Z",
            "22:59:60Z",
            "23:59:61Z",
            "08:30:06.Z",
            "08:30:06+24:00",
            "08:30:06+1:00",
            "08:30:06Zé",
            "08:30é06Z",
            "08:30:06 PST",
        ],
    );
    each(
        "date-time",
        &["1963-06-19T08:30:06.283185Z", "1998-12-31t15:59:60.123-08:00"],
        &[
            "1963-06-19 08:30:06Z",
            "1963-06-19T08:30:06",
            "1963-06-31T08:30:06Z",
            "2013-350T01:01:01",
            "1963-06-1৪T00:00:00Z",
            "",
        ],
    );
    each(
        "duration",
        &["P4DT12H30M5S", "P1M", "PT1M", "P0D", "P1Y", "P2W", "PT36H", "P1Y2D"],
        &["PT1D", "P", "P1YT", "PT", "P2D1Y", "4DT12H", "P1", "P1Y2W", "PT1.5S", "P1D2H", "P২Y", "P1W2W"],
    );
}

#[test]
fn names_and_addresses() {
    each(
        "email",
        &["joe.bloggs@example.com", "te~st@example.com", "\"joe b\\\"\"@example.com", "a@[127.0.0.1]", "a@[IPv6:::1]"],
        &[
            "2962",
            "@example.com",
            "a@",
            ".a@example.com",
            "a..b@example.com",
            "a@-b.com",
            "a b@example.com",
            "a@[1.2.3]",
            "ü@example.com",
            "a@b@c.d e",
        ],
    );
    each("idn-email", &["실례@실례.테스트", "joe@example.com"], &["2962", "실례@", "a@실례 .de"]);
    each(
        "hostname",
        &["www.example.com", "a", "xn--4gbwdl.xn--wgbh1c", "1host"],
        &["-a.com", "a-.com", "a_b.com", "a..b", "a.", ".", "", &"a".repeat(64), "ü.de"],
    );
    each(
        "idn-hostname",
        &["실례.테스트", "bücher.example", "www.example.com"],
        &["〮실례.테스트", "-a", "a..b", "", &"ü".repeat(600)],
    );
    each(
        "ipv4",
        &["192.168.0.1"],
        &["127.0.0.0.1", "256.1.1.1", "127.0", "0x7f.0.0.1", "087.10.0.1", "1.2.3.4/8", "1২7.0.0.1"],
    );
    each(
        "ipv6",
        &["::1", "::ffff:192.168.0.1", "2001:db8::"],
        &["12345::", "1::2::3", "fe80::1%eth0", "::1/64", "[::1]", ""],
    );
    each(
        "uuid",
        &["2EB8AA08-aa98-11ea-b4aa-73b441d16380"],
        &[
            "2eb8aa08-aa98-11ea-b4aa-73b441d1638",
            "2eb8aa08aa9811eab4aa73b441d16380",
            "2eb8aa08-aa98-11ea-b4ga-73b441d16380",
            "2eb8-aa08-aa98-11ea-b4aa73b44-1d16380",
            "{2eb8aa08-aa98-11ea-b4aa-73b441d1638}",
        ],
    );
}

#[test]
fn references_and_pointers() {
    each(
        "uri",
        &["http://foo.bar/?baz=qux#quux", "urn:isbn:1", "mailto:a@b.c"],
        &["//foo.bar/", "/abc", "abc", "http:// a", "http://a.de/\\b", "http://ü.de", ":// a", ""],
    );
    each("uri-reference", &["/abc", "//a/b", "", "#a"], &["\\\\a", "#a\\b", "a b", "ü"]);
    each("iri", &["http://ƒøø.ßår/?∂éœ=πîx#πîüx"], &["/abc", "âππ", "http://a b", "\\\\a"]);
    each("iri-reference", &["/âππ", "#ƒrägmênt"], &["#ƒräg\\mênt", "a b"]);
    each(
        "uri-template",
        &["http://example.com/{term:1}/{term}{?a,b*}{#c}", "a", ""],
        &["http://example.com/{term", "}", "{}", "{a,}", "{a:0}", "{a b}", "{{a}}", "%zz"],
    );
    each("json-pointer", &["", "/a~0b/~1c", "/", "/é\""], &["a", "/~", "/a~2", "#/a"]);
    each("relative-json-pointer", &["1", "0/a/b", "2#", "0+1/a", "10"], &["/a", "-1", "01/a", "1a", "1##", "0+01"]);
    each("regex", &["([abc])+\\s+$", "^(?=a)", "\\p{L}"], &["^(abc]", "a{2,1}", "[z-a]", "\\a("]);
}

#[test]
fn unknown_formats_are_not_checked() {
    for name in ["int64", "binary", "Date", ""] {
        assert!(Format::named(name).is_none(), "{name}");
    }
    let fault = Format::Date.unmet("x", &mut Library::new(0)).unwrap();
    assert_eq!(fault, "must be a date (RFC 3339), such as 2026-12-01");
    let many = Format::Regex.unmet("\\p{L}", &mut Library::new(10)).unwrap();
    assert_eq!(many, "has more classes than can be checked");
}

proptest! {
    #[test]
    fn any_text_may_be_tried(text in any::<String>(), like in "[-+0-9a-zTZP:.@~/\\[\\]{}%#\"\\\\ü ]{0,40}") {
        for (name, ..) in ALL {
            is_met(name, &text);
            is_met(name, &like);
        }
    }
}
