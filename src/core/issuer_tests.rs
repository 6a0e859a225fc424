use super::*;
use serde_json::{Value, json};

const RULES: Rules<'static> =
    Rules { addresses: Policy { allow_loopback: false }, own_hosts: &["gateway.example.com"] };

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

fn mapped(issuer: &Issuer, claims: Value) -> Result<Mapped, Refused> {
    use base64::Engine;
    let part = |text: String| jwk_base64(text.as_bytes());
    fn jwk_base64(bytes: &[u8]) -> String {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }
    let text = format!("{}.{}.c2ln", part(r#"{"alg":"ES256"}"#.into()), part(claims.to_string()));
    issuer.map(&super::super::jwt::parse(&text).unwrap(), "default")
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
    assert_eq!(of(json!(["others"]), "acme"), Err(Refused::Unmapped));
    assert_eq!(of(json!(["admins"]), "Not A Tenant"), Err(Refused::Unmapped));
    assert_eq!(self::mapped(&issuer, json!({"sub": "ada", "realm": {"roles": ["admins"]}})), Err(Refused::Unmapped));
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
    assert_eq!(all.scope, Some(vec!["contexts:read".into(), "openid".into()]));
    assert_eq!(mapped(&issuer, json!({"sub": "ada"})).unwrap().scope, Some(vec![]), "no scope permits nothing");
}
