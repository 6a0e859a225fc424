//! An address that may be called leads to a public host by https, whatever it looked like, and is read as itself. An
//! allowed origin allows itself and changes nothing for other addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::http::egress_address::{Origin, Policy, check, check_name, host_of};
use narthex_fuzz::text;
use url::{Host, Url};

const STRICT: Policy<'static> = Policy::STRICT;
const OWN: [&str; 2] = ["gateway.example.com", "other.example.com:8443"];

fuzz_target!(|input: &[u8]| {
    let Some(text) = text(input) else { return };
    if let Some(origin) = Origin::parse(text) {
        let policy = Policy { origins: std::slice::from_ref(&origin), ..STRICT };
        let address = check(&format!("{}/a", origin.as_str()), policy, &[]);
        assert_eq!(address.map(|address| address.origin().ascii_serialization()).as_deref(), Ok(origin.as_str()));
        if origin.as_str() != "https://example.com" {
            assert_eq!(check("https://example.com/", policy, &[]), check("https://example.com/", STRICT, &[]));
        }
    }
    let Ok(address) = check(text, STRICT, &OWN) else { return };
    let url: &Url = &address;
    assert_eq!((url.scheme(), url.port()), ("https", None));
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
    let Some(Host::Domain(name)) = url.host() else { panic!("{text:?} leads to {:?}", url.host()) };
    assert!(name.contains('.') && !name.starts_with('.') && !name.ends_with('.'), "{name}");
    assert!(
        name.len() <= 253 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    );
    for local in ["localhost", "local", "internal", "test", "example.invalid"] {
        assert!(name != local && !name.ends_with(&format!(".{local}")), "{name}");
    }
    assert!(name != "gateway.example.com");
    assert_eq!(host_of(&url.origin().ascii_serialization()), name);
    // What is called later is the text that the check gave.
    let again = check(url.as_str(), STRICT, &OWN).map(String::from);
    assert_eq!(again.as_deref(), Ok(url.as_str()));
    assert!(check(text, Policy { allow_loopback: true, ..STRICT }, &OWN).is_ok());
    assert!(check_name(text, &OWN).is_ok());
    // More behind the path does not change where it leads.
    assert_eq!(address.below("../../x?y#z").host_str(), Some(name));
});
