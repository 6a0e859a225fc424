//! Outgoing webhooks: URLs that receive events.
//!
//! Webhooks are read here; the [`delivery_queue`] decides what is delivered when. Signatures are in
//! `access::webhook_signature`; a Worker sends (`src/transport/webhook.rs`).

pub mod delivery;
pub mod delivery_queue;

use serde::{Deserialize, Serialize};

use crate::access::encrypted_secret::EncryptedSecret;
use crate::access::webhook_signature::Secret;
use crate::base::json::{Fault, Object};
use crate::base::principal_id::PrincipalId;
use crate::events::filter::Filter;
use crate::http::egress_address::{self, Policy};
use crate::services::RetiringSecret;

/// A webhook as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    pub url: String,
    #[serde(default)]
    pub description: String,
    /// The events it receives.
    pub filter: Filter,
    /// `None` on the way to the registry: it stays as it is.
    #[serde(default)]
    pub secret: Option<EncryptedSecret>,
    /// The previous secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retiring: Option<RetiringSecret>,
    pub enabled: bool,
}

/// A webhook as submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDocument {
    pub url: String,
    pub description: String,
    pub filter: Filter,
    pub secret: Option<String>,
    pub enabled: bool,
}

/// The caller, and what the deployment allows.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'r> {
    pub addresses: Policy<'r>,
    pub own_hosts: &'r [&'r str],
    pub me: &'r PrincipalId,
    pub sees_all: bool,
}

/// Reads a document that has passed `json::check`, with all its faults. The webhook of a caller that may not see all
/// contexts is restricted to the caller's own.
pub fn read(text: &str, rules: Rules<'_>) -> Result<WebhookDocument, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let url = body.string("url", 1..=2048);
    let url = body.require("url", url).unwrap_or_default();
    let url = match egress_address::check(&url, rules.addresses, rules.own_hosts) {
        Ok(url) => url.into(),
        Err(refusal) if !url.is_empty() => {
            body.fault("url", refusal.to_string());
            url
        }
        Err(_) => url,
    };
    let description = body.string("description", 0..=1000).unwrap_or_default();
    let filter = Filter::from_members(&mut body, rules.me, rules.sees_all);
    let secret = read_secret(&mut body);
    let enabled = body.boolean("enabled").unwrap_or(true);
    let faults = body.finish();
    if faults.is_empty() { Ok(WebhookDocument { url, description, filter, secret, enabled }) } else { Err(faults) }
}

/// Reads the secret of a document, if it has one.
pub fn read_secret(body: &mut Object<'_>) -> Option<String> {
    let expected = "whsec_ and base64 of 24 to 64 bytes";
    body.parsed("secret", expected, |text| Secret::parse(text).map(|secret| secret.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> PrincipalId {
        PrincipalId::of_key("me")
    }

    fn rules(me: &PrincipalId) -> Rules<'_> {
        Rules { addresses: Policy::STRICT, own_hosts: &[], me, sees_all: true }
    }

    #[test]
    fn a_webhook_is_read_with_all_its_faults() {
        let read_all = |text| read(text, rules(&me()));
        let least = read_all(r#"{"url":"https://example.com/in"}"#).unwrap();
        assert_eq!((least.url.as_str(), least.enabled, least.secret), ("https://example.com/in", true, None));
        assert_eq!(least.filter, Filter::default());
        let more = read_all(r#"{"url":"https://example.com","types":["context.*"],"owner":"me","enabled":false}"#);
        let more = more.unwrap();
        assert_eq!((more.filter.owner, more.enabled), (Some(me()), false));
        let pointers = |text| read_all(text).unwrap_err().into_iter().map(|fault| fault.pointer).collect::<Vec<_>>();
        assert_eq!(pointers("{}"), ["#/url"]);
        assert_eq!(
            pointers(r#"{"url":"http://10.0.0.1","types":["A"],"secret":"x","more":1}"#),
            ["#/url", "#/types", "#/secret", "#/more"]
        );
    }

    #[test]
    fn without_sees_all_a_webhook_gets_only_its_owners_contexts() {
        let me = me();
        let rules = Rules { sees_all: false, ..rules(&me) };
        let own = read(r#"{"url":"https://example.com/","owner":"key:other"}"#, rules).unwrap();
        assert_eq!(own.filter.owner, Some(me));
    }
}
