use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const RULES: AddressRules<'static> = AddressRules { addresses: Policy::STRICT, own_hosts: &["gateway.example.com"] };

fn good() -> Value {
    json!({
        "issuer": "https://issuer.example.com/", "audience": "narthex", "jwks_url": "https://issuer.example.com/jwks",
        "algorithms": ["ES256", "RS256", "ES256"],
        "claims": {"role": "/realm/roles", "tenant": "org"}, "roles": {"admins": "operator", "users": "caller"},
    })
}

fn read(change: impl FnOnce(&mut Value)) -> Result<Issuer, Vec<String>> {
    let mut document = good();
    change(&mut document);
    super::read("corp", &document.to_string(), RULES)
        .map_err(|faults| faults.into_iter().map(|fault| fault.pointer).collect())
}

fn mapped(issuer: &Issuer, claims: Value) -> Result<MappedIdentity, TokenError> {
    use base64::Engine;
    let part = |text: String| jwk_base64(text.as_bytes());
    fn jwk_base64(bytes: &[u8]) -> String {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }
    let text = format!("{}.{}.c2ln", part(r#"{"alg":"ES256"}"#.into()), part(claims.to_string()));
    issuer.map(&super::super::jose::jwt::parse(&text).unwrap(), &TenantId::first())
}

#[test]
fn a_document_is_read() {
    let issuer = read(|_| ()).unwrap();
    assert_eq!(issuer.algorithms, [Algorithm::Es256, Algorithm::Rs256]);
    assert_eq!((issuer.typ.as_str(), issuer.keys), ("at+jwt", Keys::Url("https://issuer.example.com/jwks".into())));
}

#[test]
fn every_fault_is_named() {
    type Change = fn(&mut Value);
    let cases: [(Change, &[&str]); 15] = [
        (|d| *d = json!({}), &["#/issuer", "#/audience", "#/jwks_url", "#/algorithms", "#/role"]),
        (|d| d["issuer"] = json!("http://issuer.example.com"), &["#/issuer"]),
        (|d| d["issuer"] = json!("https://gateway.example.com"), &["#/issuer"]),
        (|d| d["jwks_url"] = json!("https://10.0.0.1/jwks"), &["#/jwks_url"]),
        (|d| d["jwks_url"] = json!("https://gateway.example.com/oauth/jwks"), &["#/jwks_url"]),
        (|d| d["keys"] = json!([{"kty": "EC"}]), &["#/keys"]),
        (|d| d["algorithms"] = json!([]), &["#/algorithms"]),
        (|d| d["algorithms"] = json!(["none", "HS256"]), &["#/algorithms/0", "#/algorithms/1"]),
        (|d| d["claims"]["name"] = json!("x"), &["#/claims/name"]),
        (|d| d["tenant"] = json!("default"), &["#/tenant"]),
        (|d| d["roles"] = json!({}), &["#/roles"]),
        (|d| d["roles"] = json!({"a": "No Role"}), &["#/roles", "#/roles"]),
        (|d| d["claims"] = json!({"tenant": "org"}), &["#/roles"]),
        (|d| d["role"] = json!("no role"), &["#/role"]),
        (|d| d["more"] = json!(1), &["#/more"]),
    ];
    for (change, pointers) in cases {
        assert_eq!(read(change).unwrap_err(), pointers);
    }
}

#[test]
fn fixed_keys_are_checked_one_by_one() {
    let with = |keys: Value| {
        read(|document| {
            document["jwks_url"] = Value::Null;
            document["keys"] = keys;
        })
    };
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let mut private = key.clone();
    private["d"] = json!("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
    assert!(matches!(with(json!([key])).unwrap().keys, Keys::Fixed(keys) if keys.len() == 1));
    assert_eq!(with(json!([key, private, {"kty": "EC"}])).unwrap_err(), ["#/keys/1", "#/keys/2/kty"]);
    assert_eq!(with(json!([])).unwrap_err(), ["#/keys", "#/jwks_url"]);
}

#[test]
fn claims_become_roles_and_a_tenant() {
    let issuer = read(|_| ()).unwrap();
    let of = |roles: Value, org: &str| mapped(&issuer, json!({"sub": "ada", "org": org, "realm": {"roles": roles}}));
    let mapped = of(json!(["users", "others", "admins", "users"]), "acme").unwrap();
    assert_eq!((mapped.tenant.as_str(), mapped.roles), ("acme", vec!["caller".into(), "operator".into()]));
    assert_eq!(of(json!("admins others"), "acme").unwrap().roles, ["operator"]);
    assert_eq!(of(json!(["others"]), "acme"), Err(TokenError::Unmapped));
    assert_eq!(of(json!(["admins"]), "Not A Tenant"), Err(TokenError::Unmapped));
    assert_eq!(self::mapped(&issuer, json!({"sub": "ada", "realm": {"roles": ["admins"]}})), Err(TokenError::Unmapped));
}

#[test]
fn without_claims_the_issuers_own_role_and_tenant_are_given() {
    let issuer = read(|document| {
        document["claims"] = json!({"scope": "scope"});
        document["roles"] = Value::Null;
        document["role"] = json!("caller");
    })
    .unwrap();
    let all = mapped(&issuer, json!({"sub": "ada", "scope": "contexts:read openid"})).unwrap();
    assert_eq!((all.tenant.as_str(), all.roles), ("default", vec!["caller".to_string()]));
    assert_eq!(all.scope, Some(vec!["contexts:read".into()]), "a word that is not a permission is ignored");
    assert_eq!(mapped(&issuer, json!({"sub": "ada"})).unwrap().scope, Some(vec![]), "no scope permits nothing");
}

#[test]
fn words_of_a_scope_stand_for_permissions() {
    let issuer = read(|document| {
        document["claims"] = json!({"scope": "scp"});
        document["scopes"] = json!({"mcp:tools": ["contexts:create:*", "services:read"], "none": []});
        document["roles"] = Value::Null;
        document["role"] = json!("admin");
    })
    .unwrap();
    let of = |scp: Value| mapped(&issuer, json!({"sub": "ada", "scp": scp})).unwrap().scope.unwrap();
    assert_eq!(of(json!("openid mcp:tools profile")), ["contexts:create:*", "services:read"]);
    assert_eq!(
        of(json!(["mcp:tools", "contexts:read", "services:read"])),
        ["contexts:create:*", "services:read", "contexts:read"]
    );
    assert_eq!(of(json!("none offline_access")), [] as [&str; 0]);
    let wrong = |scopes: Value, scope: bool| {
        read(|document| {
            document["scopes"] = scopes;
            if scope {
                document["claims"]["scope"] = json!("scope");
            }
        })
        .unwrap_err()
    };
    assert_eq!(wrong(json!({"a/b": ["ok:read", "a b"]}), true), ["#/scopes/a~1b/1"]);
    assert_eq!(wrong(json!({"a": "contexts:read"}), true), ["#/scopes"]);
    assert_eq!(wrong(json!({"a b": []}), true), ["#/scopes"]);
    assert_eq!(wrong(json!({"a": []}), false), ["#/scopes"], "it says which claim has the words");
}

#[test]
fn an_issuer_has_one_audience_or_several() {
    let several = read(|document| document["audience"] = json!(["b", "a", "b"])).unwrap();
    assert_eq!(several.audiences().collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(read(|document| document["audience"] = json!([])).unwrap_err(), ["#/audience"]);
    assert_eq!(read(|document| document["audience"] = json!(["a", 1])).unwrap_err(), ["#/audience/1"]);
    assert_eq!(read(|document| document["audience"] = json!({})).unwrap_err(), ["#/audience"]);
    let other = |audience: &str, claim: Option<&str>| {
        read(|document| {
            document["audience"] = json!(audience);
            document["audience_claim"] = json!(claim);
        })
        .unwrap()
    };
    assert!(several.overlaps(&other("a", None)) && several.overlaps(&other("b", Some("aud"))));
    assert!(!several.overlaps(&other("c", None)) && !several.overlaps(&other("a", Some("client_id"))));
}

/// Documents of the previous version can be read, and new documents are compatible with it.
#[test]
fn the_stored_form_only_grows() {
    let before = json!({
        "name": "corp", "issuer": "https://issuer.example.com/", "audience": "narthex",
        "keys": {"url": "https://issuer.example.com/jwks"}, "algorithms": ["ES256"], "typ": "at+jwt",
        "claims": {"role": "roles"}, "roles": {"admins": "operator"}, "role": null, "tenant": null,
    });
    let issuer: Issuer = serde_json::from_value(before.clone()).unwrap();
    let mut now = serde_json::to_value(&issuer).unwrap();
    assert_eq!(now.as_object_mut().unwrap().remove("sign_in"), Some(Value::Null));
    assert_eq!(now, before);
    let several = read(|document| document["audience"] = json!(["a", "b"])).unwrap();
    assert_eq!(serde_json::to_value(&several).unwrap()["audience"], "a");
}

#[test]
fn an_issuer_whose_keys_are_given_is_only_a_name() {
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let named = |issuer: &str| {
        read(|document| {
            document["issuer"] = json!(issuer);
            document["jwks_url"] = Value::Null;
            document["keys"] = json!([key]);
        })
        .map(|issuer| issuer.issuer)
    };
    for good in [
        "https://sso.example.com:8443/realms/x",
        "http://keycloak:8080/realms/x",
        "http://localhost:9000",
        "http://10.1.2.3:8080/realms/x",
        "https://kubernetes.default.svc.cluster.local",
    ] {
        assert_eq!(named(good).as_deref(), Ok(good));
        let called = read(|document| document["issuer"] = json!(good));
        assert_eq!(called.unwrap_err(), ["#/issuer"], "with jwks_url: {good}");
    }
    for bad in
        ["ftp://keycloak/x", "keycloak", "http://", "https://a@keycloak/x", "https://keycloak/x#y", "http://a b/"]
    {
        assert_eq!(named(bad).unwrap_err(), ["#/issuer"], "{bad}");
    }
    assert_eq!(named("https://gateway.example.com/x").unwrap_err(), ["#/issuer"], "that is the gateway itself");
}

#[test]
fn where_an_issuer_gives_permissions_decides_what_writing_it_takes() {
    let reach = |change: fn(&mut Value)| {
        let issuer = read(change).unwrap();
        let own = TenantId::first();
        let reach = issuer.reach(&own);
        (reach.takes().to_vec(), matches!(reach, Reach::Tenant(tenant) if tenant.as_str() == "acme"))
    };
    assert_eq!(reach(|_| ()), (vec!["tenants:write", "*"], false));
    let own = |document: &mut Value| document["claims"]["tenant"] = Value::Null;
    assert_eq!(reach(own), (vec![], false));
    let explicit = |document: &mut Value| {
        document["claims"]["tenant"] = Value::Null;
        document["tenant"] = json!("default");
    };
    assert_eq!(reach(explicit), (vec![], false));
    let other = |document: &mut Value| {
        document["claims"]["tenant"] = Value::Null;
        document["tenant"] = json!("acme");
    };
    assert_eq!(reach(other), (vec!["tenants:write"], true));
}

#[test]
fn roles_permit_as_far_as_the_scope_goes() {
    let grants = |role: &str| match role {
        "boss" => Some(vec!["*"]),
        "reader" => Some(vec!["contexts:read", "services:read"]),
        _ => None,
    };
    let of = |roles: &[&str], scope: Option<&[&str]>| {
        let list = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        permitted(&list(roles), scope.map(list).as_deref(), grants)
    };
    assert_eq!(of(&["boss"], None), ["*"]);
    assert_eq!(of(&["boss"], Some(&["contexts:read"])), ["contexts:read"]);
    assert_eq!(of(&["reader", "none", "reader"], None), ["contexts:read", "services:read"]);
    assert_eq!(of(&["reader"], Some(&["keys:*", "*:read"])), ["contexts:read", "services:read"]);
    assert_eq!(of(&["boss"], Some(&[])), [] as [&str; 0]);
}

proptest! {
    /// Different subjects are different principals, and never a key or a client.
    #[test]
    fn principals_are_distinct(a in "\\PC{1,40}", b in "\\PC{1,40}", name in "[a-z0-9][a-z0-9_-]{0,8}") {
        let one = read(|_| ()).map(|issuer| Issuer { name: name.clone(), ..issuer }).unwrap();
        let other = Issuer { name: format!("{name}-x"), ..one.clone() };
        prop_assert_eq!(one.principal(&a) == one.principal(&b), a == b);
        prop_assert!(one.principal(&a) != other.principal(&b));
        prop_assert!(one.principal(&a).as_str().starts_with("issuer:"));
        prop_assert_eq!(one.principal(&a).as_str().split(':').nth(1).map(ToString::to_string), Some(name));
    }
}
