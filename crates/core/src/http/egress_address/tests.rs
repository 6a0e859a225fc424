use super::*;
use proptest::prelude::*;

const STRICT: Policy<'static> = Policy::STRICT;
const DEVELOPMENT: Policy<'static> = Policy { allow_loopback: true, ..STRICT };
const OWN: [&str; 2] = ["gateway.acme.dev", "127.0.0.1:8787"];

fn strict(text: &str) -> Result<Address, AddressError> {
    check(text, STRICT, &OWN)
}

const GOOD: [(&str, &str); 20] = [
    ("https://api.acme.com", "https://api.acme.com/"),
    ("https://api.acme.com/", "https://api.acme.com/"),
    ("https://api.acme.com/v1/ocr?tier=a&x=%20", "https://api.acme.com/v1/ocr?tier=a&x=%20"),
    ("https://api.acme.com:443/v1", "https://api.acme.com/v1"),
    ("HTTPS://API.Acme.COM/V1", "https://api.acme.com/V1"),
    ("https://acme.co.uk/a@b", "https://acme.co.uk/a@b"),
    ("https://acme.com/?next=http://127.0.0.1/", "https://acme.com/?next=http://127.0.0.1/"),
    ("https://xn--mnchen-3ya.de/hook", "https://xn--mnchen-3ya.de/hook"),
    ("https://münchen.de/hook", "https://xn--mnchen-3ya.de/hook"),
    ("https://xn--pple-43d.com/", "https://xn--pple-43d.com/"),
    ("https://a.b.c.d.e.f.acme.com/", "https://a.b.c.d.e.f.acme.com/"),
    ("https://1.acme.com/", "https://1.acme.com/"),
    ("https://127.0.0.1.acme.com/", "https://127.0.0.1.acme.com/"),
    ("https://0x7f.acme.com/", "https://0x7f.acme.com/"),
    ("https://notlocalhost.com/", "https://notlocalhost.com/"),
    ("https://mynip.io/", "https://mynip.io/"),
    ("https://local.acme.com/", "https://local.acme.com/"),
    ("https://internal.acme.com/", "https://internal.acme.com/"),
    ("https://acme.workers.dev/a/../b", "https://acme.workers.dev/b"),
    ("https://x.gateway.acme.dev/", "https://x.gateway.acme.dev/"),
];

#[test]
fn good_addresses_are_given_parsed() {
    for (text, parsed) in GOOD {
        assert_eq!(strict(text).as_ref().map(|url| url.as_str()), Ok(parsed), "{text}");
        assert!(check(text, DEVELOPMENT, &OWN).is_ok(), "{text}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of addresses")]
fn hostile_addresses_are_refused_for_the_right_reason() {
    use AddressError::*;
    let table = [
        // Not an address, or not of this kind.
        ("", Form),
        ("acme.com", Form),
        ("//acme.com/", Form),
        ("/hook", Form),
        ("https", Form),
        ("https:", Form),
        ("https:/", Form),
        ("https://", Form),
        ("https:///", Form),
        ("https:///acme.com/", Form),
        ("https:////acme.com/", Form),
        ("https:acme.com", Form),
        ("https:/acme.com", Form),
        ("https://?acme.com", Form),
        ("https://:443/", Form),
        ("http://acme.com/", Scheme),
        ("ftp://acme.com/", Scheme),
        ("ws://acme.com/", Scheme),
        ("wss://acme.com/", Scheme),
        ("file:///etc/passwd", Scheme),
        ("gopher://acme.com:25/_HELO", Scheme),
        ("data:text/plain,x", Scheme),
        ("javascript:alert(1)", Scheme),
        ("blob:https://acme.com/", Scheme),
        ("view-source:https://acme.com/", Scheme),
        ("httpss://acme.com/", Scheme),
        // What the standard strips or repairs.
        (" https://acme.com/", Character),
        ("https://acme.com/ ", Character),
        ("https://acme.com/a b", Character),
        ("https://acme .com/", Character),
        ("ht\ttps://acme.com/", Character),
        ("https://127.0\t.0.1/", Character),
        ("https://acme.com/\r\nHost: evil", Character),
        ("https:/\n/acme.com/", Character),
        ("\u{0}https://acme.com/", Character),
        ("https://acme.com/\u{7f}", Character),
        ("https://acme.com\\@evil.com/", Character),
        ("https:\\\\acme.com\\", Character),
        ("https://acme.com/\\..\\", Character),
        ("https://ac\u{200b}me.com/", Character),
        ("https://ac\u{ad}me.com/", Character),
        ("https://\u{202e}moc.emca/", Character),
        ("https://acme.com/\u{a0}", Character),
        ("https://acme。com/", Character),
        ("https://127。0。0。1/", Character),
        ("\u{feff}https://acme.com/", Character),
        // Loopback and private addresses, and every other number.
        ("https://127.0.0.1/", IpAddress),
        ("https://127.0.0.1:443/", IpAddress),
        ("https://127.0.0.1./", IpAddress),
        ("https://127.1/", IpAddress),
        ("https://127.0.1/", IpAddress),
        ("https://2130706433/", IpAddress),
        ("https://0x7f000001/", IpAddress),
        ("https://0X7F.0.0.1/", IpAddress),
        ("https://0x7f.1/", IpAddress),
        ("https://0177.0.0.1/", IpAddress),
        ("https://017700000001/", IpAddress),
        ("https://0/", IpAddress),
        ("https://0x/", IpAddress),
        ("https://0.0.0.0/", IpAddress),
        ("https://10.0.0.1/", IpAddress),
        ("https://172.16.0.1/", IpAddress),
        ("https://192.168.1.1/", IpAddress),
        ("https://169.254.169.254/latest/meta-data/", IpAddress),
        ("https://0xa9fea9fe/", IpAddress),
        ("https://2852039166/", IpAddress),
        ("https://100.64.0.1/", IpAddress),
        ("https://255.255.255.255/", IpAddress),
        ("https://8.8.8.8/", IpAddress),
        ("https://256.0.0.1/", IpAddress),
        ("https://1.2.3.4.5/", IpAddress),
        ("https://99999999999/", IpAddress),
        ("https://acme.com.1/", IpAddress),
        ("https://acme.0x1f/", IpAddress),
        ("https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", IpAddress),
        ("https://①②⑦.0.0.1/", IpAddress),
        ("https://𝟏𝟐𝟕.0.0.1/", IpAddress),
        ("https://[::1]/", IpAddress),
        ("https://[::]/", IpAddress),
        ("https://[0:0:0:0:0:0:0:1]/", IpAddress),
        ("https://[::ffff:127.0.0.1]/", IpAddress),
        ("https://[::ffff:7f00:1]/", IpAddress),
        ("https://[::127.0.0.1]/", IpAddress),
        ("https://[64:ff9b::7f00:1]/", IpAddress),
        ("https://[2002:7f00:1::]/", IpAddress),
        ("https://[fe80::1]/", IpAddress),
        ("https://[fc00::1]/", IpAddress),
        ("https://[fd00:ec2::254]/", IpAddress),
        ("https://[2606:4700::1111]/", IpAddress),
        ("https://[::1]:8443/", IpAddress),
        ("https://[v1.x]/", IpAddress),
        ("https://[::1/", IpAddress),
        // Names that are not public.
        ("https://localhost/", Reserved("localhost")),
        ("https://LOCALHOST/", Reserved("localhost")),
        ("https://ⓛocalhost/", Reserved("localhost")),
        ("https://\u{ff4c}ocalhost/", Reserved("localhost")),
        ("https://localhost:8787/", Reserved("localhost")),
        ("https://api.localhost/", Reserved("localhost")),
        ("https://localhost.localdomain/", Reserved("localdomain")),
        ("https://printer.local/", Reserved("local")),
        ("https://kubernetes.default.svc.cluster.local/", Reserved("local")),
        ("https://metadata.google.internal/", Reserved("internal")),
        ("https://router.home.arpa/", Reserved("arpa")),
        ("https://1.0.0.127.in-addr.arpa/", Reserved("arpa")),
        ("https://expyuzz4wqqyqhjn.onion/", Reserved("onion")),
        ("https://service.test/", Reserved("test")),
        ("https://service.invalid/", Reserved("invalid")),
        ("https://nas.lan/", Reserved("lan")),
        ("https://wiki.corp/", Reserved("corp")),
        ("https://local/", Reserved("local")),
        ("https://redis/", SingleLabel),
        ("https://metadata/computeMetadata/v1/", SingleLabel),
        ("https://com/", SingleLabel),
        ("https://acme.com./", TrailingDot),
        ("https://localhost./", TrailingDot),
        ("https://127.0.0.1.nip.io./", TrailingDot),
        ("https://redis./", TrailingDot),
        // Names that resolve to the address written in them.
        ("https://127.0.0.1.nip.io/", Rebinding("nip.io")),
        ("https://7f000001.NIP.io/", Rebinding("nip.io")),
        ("https://nip.io/", Rebinding("nip.io")),
        ("https://169-254-169-254.sslip.io/", Rebinding("sslip.io")),
        ("https://app.localtest.me/", Rebinding("localtest.me")),
        ("https://app.lvh.me/", Rebinding("lvh.me")),
        ("https://make-127-0-0-1-rr.1u.ms/", Rebinding("1u.ms")),
        ("https://7f000001.c0a80001.rbndr.us/", Rebinding("rbndr.us")),
        // Broken names.
        ("https://.acme.com/", HostName),
        ("https://acme..com/", HostName),
        ("https://-acme.com/", HostName),
        ("https://acme-.com/", HostName),
        ("https://ac_me.com/", HostName),
        ("https://ac*me.com/", HostName),
        ("https://*.acme.com/", HostName),
        ("https://acme.com,evil.com/", HostName),
        ("https://acme.com;evil.com/", HostName),
        ("https://acme.com&evil.com/", HostName),
        ("https://${host}.acme.com/", HostName),
        ("https://acme!.com/", HostName),
        ("https://acme<.com/", HostName),
        ("https://acme^.com/", HostName),
        ("https://acme|.com/", HostName),
        ("https://127%2e0.0.1/", HostName),
        ("https://%6c%6f%63alhost/", HostName),
        ("https://acme%00.com/", HostName),
        ("https://acme.com%2f@evil.com/", UserInfo),
        ("https://xn--a/", HostName),
        ("https://xn--zzzzzzzzzz99.com/", HostName),
        // Ports, user info, fragments.
        ("https://acme.com:80/", Port),
        ("https://acme.com:8443/", Port),
        ("https://acme.com:22/", Port),
        ("https://acme.com:0/", Port),
        ("https://acme.com:/", Port),
        ("https://acme.com:0443/", Port),
        ("https://acme.com:65536/", Port),
        ("https://acme.com:443x/", Port),
        ("https://acme.com:4 43/", Character),
        ("https://user@acme.com/", UserInfo),
        ("https://user:pass@acme.com/", UserInfo),
        ("https://:@acme.com/", UserInfo),
        ("https://@acme.com/", UserInfo),
        ("https://acme.com@127.0.0.1/", UserInfo),
        ("https://acme.com:443@evil.com/", UserInfo),
        ("https://a@b@acme.com/", UserInfo),
        ("https://acme.com/#", Fragment),
        ("https://acme.com/#a", Fragment),
        ("https://acme.com#@evil.com/", Fragment),
        // The gateway itself.
        ("https://gateway.acme.dev/v1/contexts", Own),
        ("https://GATEWAY.acme.dev:443/", Own),
    ];
    assert!(table.len() >= 90);
    for (text, reason) in table {
        assert_eq!(strict(text), Err(reason), "{text:?}");
    }
}

#[test]
fn long_addresses_are_refused() {
    let of = |bytes: usize| format!("https://acme.com/{}", "a".repeat(bytes - 17));
    assert!(strict(&of(2048)).is_ok());
    assert_eq!(strict(&of(2049)), Err(AddressError::TooLong));
    let label = "a".repeat(64);
    assert_eq!(strict(&format!("https://{label}.com/")), Err(AddressError::HostName));
    let name = "a.".repeat(125);
    assert!(strict(&format!("https://{name}com/")).is_ok());
    assert_eq!(strict(&format!("https://{name}coma/")), Err(AddressError::HostName));
}

#[test]
fn development_relaxes_loopback_only() {
    for text in [
        "http://localhost:3000/hook",
        "http://LOCALHOST/",
        "https://localhost:8443/",
        "http://127.0.0.1:9000/",
        "http://127.9.9.9/",
        "http://127.1:9000/",
        "http://[::1]:9000/",
        "https://[::1]/",
    ] {
        assert!(check(text, DEVELOPMENT, &OWN).is_ok(), "{text}");
        assert!(check(text, STRICT, &OWN).is_err(), "{text}");
    }
    for (text, reason) in [
        ("http://acme.com/", AddressError::Scheme),
        ("https://acme.com:8443/", AddressError::Port),
        ("http://10.0.0.1/", AddressError::Scheme),
        ("https://10.0.0.1/", AddressError::IpAddress),
        ("https://0.0.0.0:3000/", AddressError::IpAddress),
        ("https://[::ffff:127.0.0.1]/", AddressError::IpAddress),
        ("https://app.localhost/", AddressError::Reserved("localhost")),
        ("https://localhost./", AddressError::TrailingDot),
        ("https://app.localtest.me/", AddressError::Rebinding("localtest.me")),
        ("http://user@localhost/", AddressError::UserInfo),
        ("http://localhost/#a", AddressError::Fragment),
        ("http://local\thost/", AddressError::Character),
        ("ftp://localhost/", AddressError::Scheme),
        ("http:localhost", AddressError::Form),
        ("http://localhost:99999/", AddressError::Port),
    ] {
        assert_eq!(check(text, DEVELOPMENT, &OWN), Err(reason), "{text}");
    }
}

#[test]
fn the_gateway_is_known_by_every_name_of_loopback() {
    for text in ["http://127.0.0.1:8787/", "http://localhost:8787/v1", "http://[::1]:8787/", "https://127.0.0.2:8787/"]
    {
        assert_eq!(check(text, DEVELOPMENT, &OWN), Err(AddressError::Own), "{text}");
    }
    assert!(check("http://127.0.0.1:8788/", DEVELOPMENT, &OWN).is_ok());
    assert!(check("http://localhost:3000/", DEVELOPMENT, &["localhost"]).is_ok());
    assert_eq!(check("http://localhost/", DEVELOPMENT, &["localhost"]), Err(AddressError::Own));
    let shouted = check("https://gw.acme.dev/", STRICT, &["GW.acme.dev:443"]);
    assert_eq!(shouted, Err(AddressError::Own));
}

#[test]
fn an_error_says_what_to_do() {
    let said = AddressError::Reserved("local").to_string();
    let allow = "add its origin to ALLOWED_ORIGINS (`narthex serve --allow-origin`)";
    let expected = format!("the host name of the address is not public (.local): use a public one, or {allow}");
    assert_eq!(said, expected);
    use AddressError::*;
    for error in [Scheme, Port, IpAddress, SingleLabel, Rebinding("nip.io")] {
        assert!(error.to_string().ends_with(allow), "{error}");
    }
    assert_eq!(AddressError::TooLong.to_string(), "the address is longer than 2048 bytes: use a shorter one");
}

proptest! {
    #[test]
    fn any_text_may_be_checked(text in ".*", own in ".*") {
        for policy in [STRICT, DEVELOPMENT] {
            let _ = check(&text, policy, &[&own]);
            let _ = check(&format!("https://{text}"), policy, &[&own]);
        }
    }

    #[test]
    fn no_number_is_a_host(address: u32, path in "[a-z]{0,5}") {
        for host in [
            format!("{address}"),
            format!("0x{address:x}"),
            format!("0{address:o}"),
            std::net::Ipv4Addr::from(address).to_string(),
            format!("[::ffff:{}]", std::net::Ipv4Addr::from(address)),
        ] {
            prop_assert_eq!(strict(&format!("https://{host}/{path}")), Err(AddressError::IpAddress));
        }
    }

    #[test]
    fn what_is_accepted_is_a_public_name_over_https(
        text in "https://[a-z0-9.:@%/?#é\\-\\[\\]]{1,30}",
    ) {
        if let Ok(url) = strict(&text) {
            prop_assert_eq!(url.scheme(), "https");
            prop_assert_eq!(url.port(), None);
            prop_assert!(matches!(url.host(), Some(Host::Domain(name)) if name.contains('.')));
            prop_assert!(url.username().is_empty() && url.password().is_none());
            prop_assert_eq!(url.fragment(), None);
            // A parsed address is the same after it was stored and read.
            prop_assert_eq!(strict(url.as_str()), Ok(url));
        }
    }
}

#[test]
fn behind_a_binding_no_path_leads_to_another_host() {
    let names = ["WORDS".to_string()];
    for (path, expected) in [
        ("/", "https://narthex.internal/"),
        ("//example.com/a?b=c", "https://narthex.internal//example.com/a?b=c"),
        ("/../../a", "https://narthex.internal/a"),
        ("https://example.com/", "https://narthex.internal/https://example.com/"),
        ("/a#b", "https://narthex.internal/a%23b"),
    ] {
        let address = Address::bound("WORDS", path, Some(&names)).unwrap();
        assert_eq!((address.as_str(), address.binding()), (expected, Some("WORDS")));
        assert_eq!(address.below("x").binding(), Some("WORDS"));
    }
    assert_eq!(Address::bound("ASSETS", "/", Some(&names)), Err(AddressError::Binding));
    assert_eq!(Address::bound("WORDS", "/", None), Err(AddressError::BindingTenant));
}
