//! Whether a request may come from where a browser says it comes from. A page that has its own name resolve to a
//! machine of the user's (DNS rebinding) shows itself by its `Origin`, and on loopback by its `Host`.

use url::{Host, Url};

/// The gateway, as it may be named.
#[derive(Debug, Clone, Copy)]
pub struct Own<'o> {
    /// What the request says it was sent to: scheme, host and port.
    pub asked: &'o str,
    /// What the gateway is called, if that is configured.
    pub public: Option<&'o str>,
    /// Origins that may call from browsers.
    pub allowed: &'o [String],
    /// It is on a developer's machine.
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

/// Whether it may be served, before anything else of it is looked at.
pub fn is_welcome(own: &Own<'_>, origin: Option<&str>) -> bool {
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
        let own = Own { asked: "https://gate.example", public: None, allowed: &allowed, on_loopback: false };
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
            assert_eq!(is_welcome(&own, origin), welcome, "{origin:?}");
        }
        let public = Own { asked: "https://inner.example", public: Some("https://gate.example"), ..own };
        assert!(is_welcome(&public, Some("https://gate.example")));
    }

    #[test]
    fn on_loopback_a_foreign_host_is_not_welcome() {
        let own = |asked| Own { asked, public: None, allowed: &[], on_loopback: true };
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
            assert_eq!(is_welcome(&own(asked), origin), welcome, "{asked} from {origin:?}");
        }
        let tunnelled = Own { public: Some("https://dev.example"), ..own("https://dev.example") };
        assert!(is_welcome(&tunnelled, None));
    }
}
