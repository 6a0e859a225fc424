//! Documents and requests for tests.

use serde_json::{Value, json};

use super::{DAY, at, encrypted, signing};
use crate::base::principal_id::PrincipalId;
use crate::lane::observed::{HealthStatus, ObservedStatus};
use crate::registry::messages::{NewKey, WriteRules};
use crate::registry::{NewSecrets, ServiceInputs};
use crate::services::credentials;

/// A service that is called at an address.
pub(super) fn called(url: &str) -> Value {
    json!({"name": "Words", "type": "tool", "transport": {"kind": "http", "url": url},
        "capabilities": [{"name": "count", "version": "1.0.0"}]})
}

/// A service whose lane has work by itself.
pub(super) fn probed() -> Value {
    with(called("https://words.example/a"), json!({"health": {"path": "/up"}}))
}

/// A service that connects to the gateway.
pub(super) fn connecting() -> Value {
    with(called(""), json!({"transport": {"kind": "socket"}}))
}

/// The document with these members in place of its own.
pub(super) fn with(mut document: Value, members: Value) -> Value {
    let Value::Object(members) = members else { panic!("not an object") };
    document.as_object_mut().unwrap().extend(members);
    document
}

pub(super) fn role(permissions: &[&str]) -> Value {
    json!({"description": "", "permissions": permissions})
}

pub(super) fn limit() -> Value {
    json!({"rate": 1})
}

pub(super) fn client() -> Value {
    json!({"name": "App", "secret_hash": "a hash"})
}

pub(super) fn webhook(secret: Option<&str>) -> Value {
    json!({"url": "https://hooks.example/a", "filter": {}, "secret": secret, "enabled": true})
}

/// An issuer whose tokens have this role, in the tenant that they name or in this one.
pub(super) fn issuer(role: &str, tenant_claim: Option<&str>, tenant: Option<&str>) -> Value {
    json!({"name": "corp", "issuer": "https://id.example", "audience": "us",
        "keys": {"url": "https://id.example/keys"}, "algorithms": ["ES256"], "typ": "JWT",
        "claims": {"tenant": tenant_claim}, "roles": {}, "role": role, "tenant": tenant})
}

pub(super) fn new_key(id: &str, role: &str) -> NewKey {
    NewKey {
        id: id.into(),
        name: format!("The key {id}"),
        role: role.into(),
        permissions: Vec::new(),
        hash: format!("hash of {id}"),
        last_four: "abcd".into(),
        created_by: PrincipalId::of_key("admin"),
        expires_at: at(100 * DAY),
    }
}

pub(super) fn online(version: u64) -> ObservedStatus {
    ObservedStatus { status: HealthStatus::Online, version, ..ObservedStatus::default() }
}

/// As the shell encrypts the secrets in a document, but without a key.
pub(super) fn fresh(document: &str) -> NewSecrets {
    let values = credentials::values(document).into_iter();
    let credentials = values.map(|value| (value.clone(), encrypted(&value))).collect();
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let plain = document["signing_secret"].as_str().map_or_else(|| signing(0), Into::into);
    NewSecrets { signing: (plain.clone(), encrypted(&plain)), credentials }
}

pub(super) fn inputs(document: &str) -> ServiceInputs<'static> {
    ServiceInputs { fresh: fresh(document), bindings: None }
}

pub(super) fn rules() -> WriteRules {
    WriteRules {
        allow_loopback: false,
        allowed_origins: Vec::new(),
        own_host: "gateway.example".into(),
        public_host: None,
        demo: true,
    }
}
