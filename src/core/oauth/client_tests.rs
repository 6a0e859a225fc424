use super::*;
use serde_json::{Value, json};

const RULES: Rules<'static> =
    Rules { addresses: Policy { allow_loopback: false }, own_hosts: &["gateway.example.com"] };

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
                "redirect_uris": ["http://app.example.com/", "https://app.example.com/#x", "app:/x", "javascript:alert(1)"]}),
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
fn a_metadata_document_names_its_own_address() {
    let address = "https://app.example.com/oauth/client.json";
    let document = |change: fn(&mut Value)| {
        let mut document = json!({"client_id": address, "client_name": "An app\n",
            "redirect_uris": ["http://127.0.0.1/cb"], "logo_uri": "https://app.example.com/logo"});
        change(&mut document);
        read_metadata(address, &document.to_string(), RULES.addresses)
    };
    let client = document(|_| ()).unwrap();
    assert_eq!((client.name.as_str(), client.auth_method, client.id.as_str()), ("An app", AuthMethod::None, address));
    assert!(!client.may(GrantType::ClientCredentials) && client.may(GrantType::AuthorizationCode));
    let bad: [fn(&mut Value); 6] = [
        |d| d["client_id"] = json!("https://app.example.com/other"),
        |d| d["client_secret"] = json!("x"),
        |d| d["redirect_uris"] = json!([]),
        |d| d["redirect_uris"] = json!(["http://app.example.com/"]),
        |d| d["token_endpoint_auth_method"] = json!("client_secret_basic"),
        |d| d["token_endpoint_auth_method"] = json!("private_key_jwt"),
    ];
    for change in bad {
        assert_eq!(document(change), None);
    }
}
