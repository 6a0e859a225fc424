//! Redirect URIs. They are compared byte for byte (RFC 9700 §2.1).
//!
//! They are never parsed and serialized for that: a URI that a parser would repair is a different URI.

/// Whether `uri` equals the registered URI. The port of a loopback address may differ (RFC 8252 §7.3).
pub fn matches(registered: &str, uri: &str) -> bool {
    registered == uri
        || match (loopback(registered), loopback(uri)) {
            (Some((host, rest)), Some((asked_host, asked_rest))) => host == asked_host && rest == asked_rest,
            _ => false,
        }
}

/// The host and the part after the port of a loopback URI, as written.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let after = uri.strip_prefix("http://")?;
    let end = after.find(['/', '?']).unwrap_or(after.len());
    let (authority, rest) = after.split_at_checked(end)?;
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon may be part of an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let known = host == "localhost" || host == "[::1]" || is_loopback_v4(host);
    (known && port.is_none_or(is_port)).then_some((host, rest))
}

fn is_loopback_v4(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// Whether the text is a valid port in plain digits.
fn is_port(text: &str) -> bool {
    text.len() <= 5
        && text.bytes().all(|b| b.is_ascii_digit())
        && !text.starts_with('0')
        && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Where a redirect URI leads, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A host on the network, with its port if it is not the default.
    Host(String),
    /// A program on the person's own machine.
    Loopback(String),
    /// An app with this scheme (RFC 8252 §7.1).
    Scheme(String),
}

/// Where a redirect URI leads. `None` if it is not a URL.
pub fn place(uri: &str) -> Option<Destination> {
    let url = url::Url::parse(uri).ok()?;
    let host = url.host_str().map(|host| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{host}{port}")
    });
    Some(match (url.scheme(), host) {
        ("http", Some(host)) if loopback(uri).is_some() => Destination::Loopback(host),
        ("https" | "http", Some(host)) => Destination::Host(host),
        (scheme, _) => Destination::Scheme(scheme.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_port_of_a_loopback_address_may_differ() {
        let registered = "http://127.0.0.1/done";
        for good in [registered, "http://127.0.0.1:1/done", "http://127.0.0.1:65535/done"] {
            assert!(matches(registered, good), "{good}");
        }
        for bad in [
            "http://127.0.0.1:99/do\nne",
            "http://127.0.0.1:99/do\tne",
            "http://127.0.0.1:99/done\n",
            " http://127.0.0.1:99/done",
            "http://127.0.0.1:99\\done",
            "http:\\\\127.0.0.1:99/done",
            "http:/127.0.0.1:99/done",
            "HTTP://127.0.0.1:99/done",
            "http://127.0.0.1:99/./done",
            "http://127.0.0.1:99/x/../done",
            "http://127.0.0.1:99/d%6Fne",
            "http://127.0.0.1:99/done?",
            "http://127.0.0.1:99/done#",
            "http://127.0.0.1:/done",
            "http://127.0.0.1:0/done",
            "http://127.0.0.1:099/done",
            "http://127.0.0.1:+99/done",
            "http://127.0.0.1:99999/done",
            "http://127.0.0.1:9 9/done",
            "http://user@127.0.0.1:99/done",
            "http://127.0.0.1:99@evil.example/done",
            "http://127.1:99/done",
            "http://0x7f.0.0.1:99/done",
            "http://2130706433:99/done",
            "http://127.0.0.2:99/done",
            "http://localhost:99/done",
            "https://127.0.0.1:99/done",
            "http://127.0.0.1:99",
        ] {
            assert!(!matches(registered, bad), "{bad:?}");
        }
        assert!(matches("http://[::1]:9/cb?x=1", "http://[::1]/cb?x=1"));
        assert!(matches("http://[::1]/cb", "http://[::1]:7/cb"));
        assert!(matches("http://localhost", "http://localhost:7"));
        assert!(matches("http://localhost?x", "http://localhost:7?x"));
        assert!(!matches("http://[::1]/cb", "http://[0:0:0:0:0:0:0:1]:7/cb"));
        assert!(!matches("http://evil.example/cb", "http://evil.example:7/cb"));
    }

    #[test]
    fn people_are_shown_where_an_address_leads() {
        assert_eq!(place("https://app.example.com:8443/x"), Some(Destination::Host("app.example.com:8443".into())));
        assert_eq!(place("http://127.0.0.1:5/x"), Some(Destination::Loopback("127.0.0.1:5".into())));
        assert_eq!(place("com.example.app:/done"), Some(Destination::Scheme("com.example.app".into())));
        assert_eq!(place("cursor://anysphere.cursor-mcp/cb"), Some(Destination::Scheme("cursor".into())));
        assert_eq!(place("nothing"), None);
    }

    proptest! {
        /// An inserted character always makes a different URI.
        #[test]
        fn a_changed_address_is_another(at in 0usize..40, with in "[ -~\\PC\n\r\t]") {
            let all = ["http://127.0.0.1:5/done?a=b", "https://app.example.com/done?a=b", "com.example.app:/done"];
            for registered in all {
                let mut changed = registered.to_string();
                let at = at % (registered.len() + 1);
                changed.insert_str(at, &with);
                let digit = with.bytes().all(|b| b.is_ascii_digit());
                let port = registered.starts_with("http:") && digit && (17..=18).contains(&at);
                prop_assume!(!port);
                prop_assert!(!matches(registered, &changed), "{:?}", changed);
            }
        }
    }
}
