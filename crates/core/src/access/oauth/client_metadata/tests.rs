use super::super::client::AuthMethod;
use super::*;
use proptest::prelude::*;
use serde_json::json;

const POLICY: Policy<'static> = Policy::STRICT;

fn register(document: &Value) -> Result<Client, OAuthError> {
    read_registration("dyn-1", &document.to_string(), POLICY)
}

fn error(document: Value) -> Option<OAuthErrorCode> {
    register(&document).err().map(|refused| refused.error)
}

#[test]
fn what_editors_send_is_registered_as_far_as_it_is_served() {
    let code = json!({"client_name": "Visual Studio Code", "client_uri": "https://code.visualstudio.com",
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "response_types": ["code"], "redirect_uris": ["https://vscode.dev/redirect", "http://127.0.0.1:33418/"],
        "token_endpoint_auth_method": "none", "application_type": "native", "scope": null, "logo_uri": null});
    let client = register(&code).unwrap();
    assert_eq!(client.grant_types, [GrantType::AuthorizationCode, GrantType::RefreshToken]);
    assert_eq!((client.name.as_str(), client.auth_method), ("Visual Studio Code", AuthMethod::None));
    assert_eq!(client.redirect_uris.len(), 2);
    assert_eq!(client.scope.join(" "), USUAL_SCOPE);
    let cursor = json!({"redirect_uris": ["cursor://anysphere.cursor-mcp/oauth/callback"],
        "token_endpoint_auth_method": "none", "response_types": ["code", "token", 5], "grant_types": ["authorization_code"], "contacts": null});
    assert_eq!(register(&cursor).unwrap().redirect_uris, ["cursor://anysphere.cursor-mcp/oauth/callback"]);
    let claude = json!({"client_name": "Claude", "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_post",
        "scope": "openid profile services:read email services:read"});
    assert_eq!(register(&claude).unwrap().scope, ["services:read"]);
}

#[test]
fn an_odd_address_among_good_ones_is_passed_over() {
    let odd = json!({"redirect_uris": [
        "https://a.example/cb", "javascript:alert(1)", null, 5, "http://a.example/", "https://a.example/cb",
        "x".repeat(5_000)
    ]});
    assert_eq!(register(&odd).unwrap().redirect_uris, ["https://a.example/cb"]);
    for none in [json!([]), json!(null), json!(["data:x"]), json!("https://a.example/cb"), json!([{}])] {
        assert_eq!(error(json!({"redirect_uris": none})), Some(OAuthErrorCode::InvalidRedirectUri), "{none}");
    }
}

#[test]
fn every_member_is_bounded_and_has_its_type() {
    let with = |name: &str, value: Value| {
        let mut document = json!({"redirect_uris": ["https://a.example/cb"]});
        document[name] = value;
        error(document)
    };
    for (name, value) in [
        ("scope", json!("contexts:read ".repeat(300))),
        ("scope", json!(5)),
        ("scope", json!(["contexts:read"])),
        ("scope", json!("a? b?")),
        ("client_name", json!({})),
        ("jwks_uri", json!({})),
        ("jwks_uri", json!("x".repeat(5_000))),
        ("token_endpoint_auth_method", json!(true)),
        ("token_endpoint_auth_method", json!("tls_client_auth")),
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("grant_types", json!(["client_credentials"])),
        ("grant_types", json!("authorization_code")),
        ("grant_types", json!(vec!["authorization_code"; 101])),
        ("response_types", json!("code")),
    ] {
        assert_eq!(with(name, value.clone()), Some(OAuthErrorCode::InvalidClientMetadata), "{name} {value}");
    }
    let addresses = |count: usize, length: usize| -> Vec<String> {
        (0..count).map(|at| format!("https://a.example/{at:02}{}", "x".repeat(length))).collect()
    };
    assert_eq!(with("redirect_uris", json!(addresses(20, 10))), None);
    assert_eq!(with("redirect_uris", json!(addresses(21, 10))), Some(OAuthErrorCode::InvalidRedirectUri));
    assert_eq!(with("redirect_uris", json!(addresses(20, 1_000))), Some(OAuthErrorCode::InvalidRedirectUri));
    assert_eq!(with("client_name", json!("n".repeat(500_000))), None);
    assert_eq!(with("client_name", json!(null)), None);
    assert_eq!(error(json!([])), Some(OAuthErrorCode::InvalidClientMetadata));
}

proptest! {
    /// Whatever a program sends, the stored client is small.
    #[test]
    fn what_is_kept_is_bounded(
        name in prop::option::of("\\PC{0,300}"),
        scope in prop::option::of("[a-z:*. ]{0,5000}"),
        redirects in prop::collection::vec("(https://a\\.example/|cursor://|javascript:|x)[a-z]{0,3000}", 0..30),
        grants in prop::collection::vec("[a-z_]{0,20}", 0..4),
    ) {
        let document = json!({"client_name": name, "scope": scope, "redirect_uris": redirects, "grant_types": grants});
        if let Ok(client) = register(&document) {
            prop_assert!(serde_json::to_string(&client).unwrap().len() < 32 * 1024);
            prop_assert!(client.redirect_uris.iter().all(|uri| acceptable_redirect(uri)));
            prop_assert!(client.scope.iter().all(|word| permission::valid(word)));
        }
    }
}

#[test]
fn a_metadata_document_names_its_own_address() {
    let address = "https://app.example.com/oauth/client.json";
    let document = |change: fn(&mut Value)| {
        let mut document = json!({"client_id": address, "client_name": "An app\n",
            "redirect_uris": ["http://127.0.0.1/cb"], "logo_uri": "https://app.example.com/logo"});
        change(&mut document);
        read_metadata(address, &document.to_string(), POLICY)
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
