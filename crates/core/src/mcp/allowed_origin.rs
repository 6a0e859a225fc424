//! Whether a browser request may come from its origin. A page whose host name resolves to a machine of the user (DNS
//! rebinding) is recognized by its `Origin` and, on loopback, by its `Host`.

use url::{Host, Url};

/// The gateway's own names.
#[derive(Debug, Clone, Copy)]
pub struct OwnOrigins<'o> {
    /// The request's target: scheme, host and port.
    pub asked: &'o str,
    /// The configured public name, if any.
    pub public: Option<&'o str>,
    /// Origins that may call from browsers.
    pub allowed: &'o [String],
    /// It runs on a developer's machine.
    pub on_loopback: bool,
}

fn host(url: &str) -> Option<Url> {
    Url::parse(url).ok().filter(Url::has_host)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn same(a: &str, b: &str) -> bool {
    match (host(a), host(b)) {
        (Some(a), Some(b)) => a.origin() == b.origin(),
        _ => false,
    }
}

/// Whether the request may be served; checked before anything else.
pub fn is_allowed(own: &OwnOrigins<'_>, origin: Option<&str>) -> bool {
    let is_own = |url: &str| own.public.is_some_and(|public| same(public, url));
    if own.on_loopback && !host(own.asked).is_some_and(|asked| is_loopback(&asked)) && !is_own(own.asked) {
        return false;
    }
    let Some(origin) = origin else { return true };
    is_own(origin)
        || same(own.asked, origin)
        || own.allowed.iter().any(|allowed| allowed == origin)
        || own.on_loopback && host(origin).is_some_and(|origin| is_loopback(&origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_origin_is_not_welcome() {
        let allowed = ["https://app.example".to_string()];
        let own = OwnOrigins { asked: "https://gate.example", public: None, allowed: &allowed, on_loopback: false };
        for (origin, welcome) in [
            (None, true),
            (Some("https://gate.example"), true),
            (Some("https://gate.example:443"), true),
            (Some("https://app.example"), true),
            (Some("http://gate.example"), false),
            (Some("https://gate.example:8443"), false),
            (Some("https://gate.example.evil.test"), false),
            (Some("https://evil.test"), false),
            (Some("http://localhost:3000"), false),
            (Some("null"), false),
            (Some(""), false),
        ] {
            assert_eq!(is_allowed(&own, origin), welcome, "{origin:?}");
        }
        let public = OwnOrigins { asked: "https://inner.example", public: Some("https://gate.example"), ..own };
        assert!(is_allowed(&public, Some("https://gate.example")));
    }

    #[test]
    fn on_loopback_a_foreign_host_is_not_welcome() {
        let own = |asked| OwnOrigins { asked, public: None, allowed: &[], on_loopback: true };
        for (asked, origin, welcome) in [
            ("http://127.0.0.1:8787", None, true),
            ("http://localhost:8787", None, true),
            ("http://[::1]:8787", None, true),
            ("http://localhost:8787", Some("http://localhost:6274"), true),
            ("http://evil.test:8787", None, false),
            ("http://localhost.evil.test:8787", None, false),
            ("http://127.0.0.1:8787", Some("http://evil.test"), false),
            ("http://evil.test", Some("http://evil.test"), false),
            ("http://127.0.0.1:8787", Some("null"), false),
        ] {
            assert_eq!(is_allowed(&own(asked), origin), welcome, "{asked} from {origin:?}");
        }
        let tunnelled = OwnOrigins { public: Some("https://dev.example"), ..own("https://dev.example") };
        assert!(is_allowed(&tunnelled, None));
    }
}
