//! Origins that a deployment allows beside public addresses.

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use super::{MAX_LABEL, MAX_NAME, authority, read};

/// The longest accepted origin, in bytes: a scheme, a host name of the maximum length, and a port.
const MAX_BYTES: usize = "https://".len() + MAX_NAME + ":65535".len();

/// An exact origin (RFC 6454 §4) of http or https, as the WHATWG URL standard writes it: in lower case, without the
/// default port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origin(String);

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`. The host may be an IP address, and a name need not be public; a
    /// path, a trailing slash or a wildcard is not accepted.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let url = read(text).ok()?;
        let authority = authority(text).ok()?;
        if !text.ends_with(authority) || authority.ends_with(':') {
            return None;
        }
        let is_host = match url.host()? {
            // A trailing dot makes an empty label.
            Host::Domain(name) => name.len() <= MAX_NAME && name.split('.').all(is_label),
            Host::Ipv4(_) | Host::Ipv6(_) => true,
        };
        is_host.then(|| Self(url.origin().ascii_serialization()))
    }

    /// Whether a URL without user name and password has this origin.
    pub(super) fn has(&self, url: &Url) -> bool {
        url.as_str().strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('/'))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Unlike in public names, an underscore is allowed: names of containers have it.
fn is_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Address, AddressError, Policy, check};
    use super::*;

    const LISTED: [&str; 6] = [
        "http://ollama:11434",
        "http://127.0.0.1:9000",
        "https://internal.corp",
        "http://[fd00::1]",
        "https://api.acme.com:8443",
        "http://my_service",
    ];

    fn listed() -> Vec<Origin> {
        LISTED.iter().map(|text| Origin::parse(text).unwrap()).collect()
    }

    fn with_origins(text: &str) -> Result<Address, AddressError> {
        check(text, Policy { origins: &listed(), ..Policy::STRICT }, &["gateway.acme.dev"])
    }

    fn strict(text: &str) -> Result<Address, AddressError> {
        check(text, Policy::STRICT, &["gateway.acme.dev"])
    }

    #[test]
    fn an_origin_is_kept_as_the_standard_writes_it() {
        for (text, kept) in [
            ("http://ollama:11434", "http://ollama:11434"),
            ("HTTP://Ollama:80", "http://ollama"),
            ("https://internal.corp:443", "https://internal.corp"),
            ("https://internal.corp:80", "https://internal.corp:80"),
            ("http://127.1:9000", "http://127.0.0.1:9000"),
            ("http://[FD00:0:0::1]:80", "http://[fd00::1]"),
            ("https://münchen.intranet", "https://xn--mnchen-3ya.intranet"),
            ("http://my_service:8000", "http://my_service:8000"),
        ] {
            assert_eq!(Origin::parse(text).as_ref().map(Origin::as_str), Some(kept), "{text}");
        }
    }

    #[test]
    fn what_is_not_exactly_an_origin_is_not_accepted() {
        for text in [
            "",
            "ollama",
            "ollama:11434",
            "//ollama",
            "http://",
            "http:ollama",
            "http:/ollama",
            "http://ollama/",
            "http://ollama/api",
            "http://ollama?a",
            "http://ollama#a",
            "http://user@ollama",
            "http://user:pass@ollama",
            "http://*",
            "http://*.corp",
            "http://ollama:",
            "http://ollama:*",
            "http://ollama:99999",
            "http://ollama.",
            "http://a..b",
            "http://.corp",
            "http://oll%61ma",
            "http://oll ama",
            "http://ollama\\",
            "http://256.0.0.1",
            "http://[::1",
            "ftp://ollama",
            "ws://ollama",
            "file:///etc",
            "*",
            "null",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
        let long = format!("http://{}", "a.".repeat(127));
        assert_eq!(Origin::parse(&format!("{long}a")), None);
        assert!(Origin::parse(long.trim_end_matches('.')).is_some());
    }

    #[test]
    fn an_allowed_origin_may_be_called_over_its_scheme_and_port() {
        for text in [
            "http://ollama:11434/v1/chat",
            "http://OLLAMA:11434",
            "http://127.0.0.1:9000/?a=b",
            "https://internal.corp:443/",
            "http://[fd00:0::1]:80/a/../b",
            "https://api.acme.com:8443/",
            "http://my_service/",
        ] {
            let address = with_origins(text).unwrap();
            assert_eq!(address.binding(), Some("PRIVATE"), "{text}");
            assert_eq!(address.below("x").binding(), Some("PRIVATE"));
            assert!(strict(text).is_err(), "{text}");
        }
        // Public addresses stay what they are.
        assert_eq!(with_origins("https://api.acme.com/").unwrap().binding(), None);
    }

    #[test]
    fn the_neighbours_of_an_allowed_origin_stay_refused() {
        use AddressError::*;
        for (text, reason) in [
            ("https://ollama:11434/", SingleLabel),
            ("http://ollama:11435/", Scheme),
            ("http://ollama:1143/", Scheme),
            ("http://ollama:114340/", Port),
            ("http://ollama/", Scheme),
            ("http://x.ollama:11434/", Scheme),
            ("http://127.0.0.2:9000/", Scheme),
            ("https://127.0.0.1:9000/", IpAddress),
            ("http://[::ffff:127.0.0.1]:9000/", Scheme),
            ("https://internal.corp:8443/", Reserved("corp")),
            ("https://www.internal.corp/", Reserved("corp")),
            ("https://internal.corp.nip.io/", Rebinding("nip.io")),
            ("http://[fd00::2]/", Scheme),
            // The rules of form stay for the allowed origins, too.
            ("http://ollama.:11434/", Scheme),
            ("https://internal.corp./", TrailingDot),
            ("http://user@ollama:11434/", UserInfo),
            ("http://ollama:11434@evil.com/", UserInfo),
            ("http://ollama:11434/#a", Fragment),
            ("http://ollama%3a11434/", HostName),
            ("http://ollama:11434/a b", Character),
            ("http://ollama:11434\\@evil.com/", Character),
            ("http:ollama:11434", Form),
        ] {
            assert_eq!(with_origins(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn an_allowed_origin_is_not_the_gateway_itself() {
        let own = check("http://ollama:11434/", Policy { origins: &listed(), ..Policy::STRICT }, &["ollama:11434"]);
        assert_eq!(own, Err(AddressError::Own));
    }

    #[test]
    fn strangers_cannot_name_an_allowed_origin() {
        let origins = listed();
        let policy = Policy { origins: &origins, ..Policy::STRICT }.for_strangers();
        assert_eq!(check("https://internal.corp/", policy, &[]), Err(AddressError::Reserved("corp")));
        let public = [Origin::parse("https://api.acme.com").unwrap()];
        let policy = Policy { origins: &public, ..Policy::STRICT };
        assert_eq!(check("https://api.acme.com/", policy, &[]).unwrap().binding(), Some("PRIVATE"));
        // A public name may lead to a private address, which only the private networks' binding reaches.
        assert_eq!(check("https://api.acme.com/", policy.for_strangers(), &[]).unwrap().binding(), None);
    }

    /// Addresses at the allowed origins, and others that are like them.
    fn similar() -> impl Strategy<Value = String> {
        let host =
            "ollama|127\\.0\\.0\\.[12]|internal\\.corp|\\[fd00::[12]\\]|api\\.acme\\.com|[a-z.\\[\\]:%@_-]{1,12}";
        (
            prop::sample::select(vec!["http", "https", "HTTP", "ftp"]),
            host,
            "(:[0-9]{0,5}|:9000|:11434|:8443)?",
            "(/[a-z?#@:.]{0,6})?",
        )
            .prop_map(|(scheme, host, port, path)| format!("{scheme}://{host}{port}{path}"))
    }

    proptest! {
        #[test]
        fn nothing_but_the_exact_origins_gets_through(text in similar()) {
            let url = Url::parse(&text);
            let origin = url.as_ref().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
            match with_origins(&text) {
                Ok(address) if LISTED.contains(&origin.as_str()) => {
                    prop_assert_eq!(address.binding(), Some("PRIVATE"));
                    prop_assert!(address.username().is_empty() && address.fragment().is_none());
                    // A parsed address is the same after it was stored and read.
                    prop_assert_eq!(with_origins(address.as_str()), Ok(address));
                }
                other => prop_assert!(other.is_err() || other == strict(&text)),
            }
            if !LISTED.contains(&origin.as_str()) {
                prop_assert_eq!(with_origins(&text), strict(&text));
            }
        }

        #[test]
        fn what_is_accepted_is_an_origin_that_allows_itself(text in "https?://[a-zA-Z0-9.:@%/?#é_*\\-\\[\\]]{1,20}|.*") {
            if let Some(origin) = Origin::parse(&text) {
                prop_assert_eq!(Origin::parse(origin.as_str()), Some(origin.clone()));
                let policy = Policy { origins: std::slice::from_ref(&origin), ..Policy::STRICT };
                for address in [format!("{}/a", origin.as_str()), text] {
                    prop_assert!(check(&address, policy, &[]).is_ok(), "{}", address);
                }
            }
        }
    }
}
