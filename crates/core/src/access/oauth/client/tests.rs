use super::*;
use crate::http::egress_address::Policy;
use proptest::prelude::*;
use serde_json::{Value, json};

const RULES: AddressRules<'static> = AddressRules { addresses: Policy::STRICT, own_hosts: &["gateway.example.com"] };

fn pointers(document: Value) -> Vec<String> {
    let read = read("app", &document.to_string(), RULES);
    read.err().unwrap_or_default().into_iter().map(|fault| fault.pointer).collect()
}

#[test]
fn a_client_of_each_kind_is_read() {
    for document in [
        json!({"name": "ci", "grant_types": ["client_credentials"], "scope": "contexts:read"}),
        json!({"name": "app", "grant_types": ["authorization_code", "refresh_token"], "auth_method": "none",
            "redirect_uris": ["https://app.example.com/done", "http://127.0.0.1/cb", "com.example.app:/done"],
            "scope": "contexts:read services:*"}),
        json!({"name": "signs", "grant_types": ["client_credentials"], "auth_method": "private_key_jwt",
            "jwks_url": "https://app.example.com/jwks", "scope": "*"}),
    ] {
        assert_eq!(pointers(document), Vec::<String>::new());
    }
}

#[test]
fn what_does_not_go_together_is_named() {
    for (document, expected) in [
        (json!({}), vec!["#/name", "#/grant_types", "#/scope"]),
        (json!({"name": "a", "grant_types": ["implicit"], "scope": "a"}), vec!["#/grant_types"]),
        (json!({"name": "a", "grant_types": ["authorization_code"], "scope": "a"}), vec!["#/redirect_uris"]),
        (
            json!({"name": "a", "grant_types": ["client_credentials"], "redirect_uris": ["https://a.example/"], "scope": "a"}),
            vec!["#/redirect_uris"],
        ),
        (
            json!({"name": "a", "grant_types": ["client_credentials"], "auth_method": "none", "scope": "a"}),
            vec!["#/auth_method"],
        ),
        (
            json!({"name": "a", "grant_types": ["client_credentials"], "auth_method": "private_key_jwt", "scope": "a"}),
            vec!["#/jwks_url"],
        ),
        (
            json!({"name": "a", "grant_types": ["client_credentials", "refresh_token"], "scope": "a b:c:d:e"}),
            vec!["#/scope", "#/grant_types"],
        ),
        (
            json!({"name": "a", "grant_types": ["authorization_code"], "scope": "a",
                "redirect_uris": ["http://app.example.com/", "https://app.example.com/#x", "ws://app.example.com/x",
                    "javascript:alert(1)"]}),
            vec!["#/redirect_uris/0", "#/redirect_uris/1", "#/redirect_uris/2", "#/redirect_uris/3"],
        ),
    ] {
        assert_eq!(pointers(document.clone()), expected, "{document}");
    }
}

#[test]
fn answers_go_exactly_where_they_may() {
    let document = json!({"name": "app", "grant_types": ["authorization_code"], "scope": "a", "redirect_uris":
        ["https://app.example.com/done", "http://127.0.0.1/cb?x=1", "http://[::1]:9/cb", "com.example.app:/done"]});
    let client = read("app", &document.to_string(), RULES).unwrap();
    for good in [
        "https://app.example.com/done",
        "http://127.0.0.1:51004/cb?x=1",
        "http://127.0.0.1/cb?x=1",
        "http://[::1]:7/cb",
        "com.example.app:/done",
    ] {
        assert!(client.redirects_to(good), "{good}");
    }
    for bad in [
        "https://app.example.com/done/",
        "https://app.example.com:8443/done",
        "https://app.example.com/done?x=1",
        "https://APP.example.com/done",
        "https://app.example.com.evil.example/done",
        "http://127.0.0.1:51004/cb",
        "http://127.0.0.2:51004/cb?x=1",
        "https://127.0.0.1:51004/cb?x=1",
        "http://user@127.0.0.1:51004/cb?x=1",
        "com.example.app:/other",
        "",
    ] {
        assert!(!client.redirects_to(bad), "{bad}");
    }
}

#[test]
fn a_secret_matches_its_own_hash_only() {
    assert!(secret_matches(Some(&digest("s")), "s"));
    assert!(!secret_matches(Some(&digest("s")), "t") && !secret_matches(None, "s") && !secret_matches(None, ""));
}

#[test]
fn an_apps_own_scheme_is_taken_and_what_runs_by_itself_is_not() {
    for good in [
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "vscode://vscode.github-authentication/did-authenticate",
        "vscode-insiders://callback",
        "com.example.app:/cb",
        "myapp:cb",
        "myapp://",
        "https://app.example.com/cb",
        "http://localhost:33418/",
        "http://[::1]/cb",
    ] {
        assert!(acceptable_redirect(good), "{good}");
    }
    for bad in [
        "javascript:alert(1)",
        "JavaScript://a/%0aalert(1)",
        "java\tscript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "file:///etc/passwd",
        "blob:https://a.example/1",
        "about:blank",
        "view-source:https://a.example/",
        "filesystem:https://a.example/x",
        "intent://x#Intent;end",
        "intent://x",
        "ms-msdt:/id",
        "search-ms:query=x",
        "mailto:a@b.example",
        "localhost:8080/cb",
        "c:/windows",
        "ws://a.example/",
        "wss://a.example/",
        "ftp://a.example/",
        "http://a.example/cb",
        "https://user@a.example/cb",
        "app://user:pw@host/cb",
        "app://host/cb#x",
        "app://host/ cb",
        "//a.example/cb",
        "",
    ] {
        assert!(!acceptable_redirect(bad), "{bad}");
    }
}

proptest! {
    /// URLs that a browser would execute are rejected in every spelling.
    #[test]
    fn no_spelling_of_a_dangerous_scheme_is_taken(
        scheme in prop::sample::select(vec!["javascript", "data", "vbscript", "file", "blob", "about"]),
        upper in prop::collection::vec(any::<bool>(), 10),
        rest in "[ -~]{0,40}",
        before in "[\\x00-\\x20]{0,3}",
    ) {
        let spelled: String = scheme.chars().zip(upper.iter().cycle())
            .map(|(c, upper)| if *upper { c.to_ascii_uppercase() } else { c }).collect();
        let text = format!("{before}{}:{}", spelled, rest);
        prop_assert!(!acceptable_redirect(&text));
    }
}
