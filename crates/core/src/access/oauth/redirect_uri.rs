//! Where answers may go: redirect addresses are compared as they are written, byte for byte (RFC 9700 §2.1).
//!
//! Nothing is parsed and put together again on the way: what a URL parser would repair is another address.

/// Whether `uri` is the registered address. The port of a loopback address may be another one (RFC 8252 §7.3).
pub fn matches(registered: &str, uri: &str) -> bool {
    registered == uri
        || match (loopback(registered), loopback(uri)) {
            (Some((host, rest)), Some((asked_host, asked_rest))) => host == asked_host && rest == asked_rest,
            _ => false,
        }
}

/// Host and everything behind the port of an address on this machine, as they are written.
fn loopback(uri: &str) -> Option<(&str, &str)> {
    let after = uri.strip_prefix("http://")?;
    let end = after.find(['/', '?']).unwrap_or(after.len());
    let (authority, rest) = after.split_at_checked(end)?;
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon may be the address's own.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let known = host == "localhost" || host == "[::1]" || is_loopback_v4(host);
    (known && port.is_none_or(is_port)).then_some((host, rest))
}

fn is_loopback_v4(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// In digits alone, and none that no program can listen on.
fn is_port(text: &str) -> bool {
    text.len() <= 5
        && text.bytes().all(|b| b.is_ascii_digit())
        && !text.starts_with('0')
        && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Where an address leads, as people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A host on the network, with its port if that is not the usual one.
    Host(String),
    /// A program on the person's own machine.
    Loopback(String),
    /// An app that has taken this scheme for itself (RFC 8252 §7.1).
    Scheme(String),
}

pub fn place(uri: &str) -> Option<Place> {
    let url = url::Url::parse(uri).ok()?;
    let host = url.host_str().map(|host| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{host}{port}")
    });
    Some(match (url.scheme(), host) {
        ("http", Some(host)) if loopback(uri).is_some() => Place::Loopback(host),
        ("https" | "http", Some(host)) => Place::Host(host),
        (scheme, _) => Place::Scheme(scheme.into()),
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
        assert_eq!(place("https://app.example.com:8443/x"), Some(Place::Host("app.example.com:8443".into())));
        assert_eq!(place("http://127.0.0.1:5/x"), Some(Place::Loopback("127.0.0.1:5".into())));
        assert_eq!(place("com.example.app:/done"), Some(Place::Scheme("com.example.app".into())));
        assert_eq!(place("cursor://anysphere.cursor-mcp/cb"), Some(Place::Scheme("cursor".into())));
        assert_eq!(place("nothing"), None);
    }

    proptest! {
        /// Whatever is put in anywhere, another address is another address.
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
