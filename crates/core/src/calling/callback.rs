//! Callbacks: the URL at which a service ends its work later, and the messages it accepts.
//!
//! The URL contains the context and its lease number, authenticated by an HMAC-SHA256 (RFC 2104) cut to 16 bytes. It
//! authorizes one attempt of one context, and is void when that attempt is over.

use serde_json::value::RawValue;

use super::response::LEASE_SECONDS;
use crate::base::id::ContextId;
use crate::base::json::{Fault, Object};
use crate::base::opaque_token::Signer;
use crate::base::tenant_id::TenantId;
use crate::context::lease::LeaseNumber;
use crate::models::stated_usage::StatedUsage;

/// The largest progress report, in bytes.
pub const MAX_PROGRESS_BYTES: usize = 4096;

/// The key of the callbacks' HMAC. `Debug` does not show it.
#[derive(Clone)]
pub struct CallbackKey(Signer);

impl std::fmt::Debug for CallbackKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallbackKey(…)")
    }
}

impl CallbackKey {
    /// Derives the key from a secret of the tenant, with a label for this use.
    pub fn new(secret: &[u8]) -> Self {
        Self(Signer::new("narthex callback\0", secret))
    }

    /// The last segment of a callback's path: `{tenant}.{context id}.{lease}.{tag}`.
    pub fn token(&self, tenant: &TenantId, id: &ContextId, lease: LeaseNumber) -> String {
        // None of the parts contains a dot.
        self.0.sign_text(&format!("{tenant}.{id}.{lease}"))
    }

    /// The context and lease that a token authorizes; `None` if the token is invalid.
    pub fn read(&self, tenant: &TenantId, token: &str) -> Option<(ContextId, LeaseNumber)> {
        let payload = self.0.verify_text(token)?;
        let (id, lease) = payload.strip_prefix(tenant.as_str())?.strip_prefix('.')?.split_once('.')?;
        Some((ContextId::parse(id)?, LeaseNumber::parse(lease)?))
    }
}

/// The tenant that a token claims, whose key must verify it.
pub fn tenant_of(token: &str) -> Option<&str> {
    token.split_once('.').map(|(tenant, _)| tenant)
}

/// The content of a callback.
#[derive(Debug, PartialEq, Eq)]
pub enum CallbackMessage<'a> {
    /// A result, an error or a request for input, to be read as a response.
    Outcome,
    /// The work continues.
    Heartbeat { lease_ms: Option<u64>, progress: Option<&'a str> },
}

/// Reads a body that has passed `json::check`, with all its faults.
pub fn read(text: &str) -> Result<CallbackMessage<'_>, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let outcomes = ["result", "error", "input_required"];
    let given: Vec<&str> = outcomes.into_iter().filter(|name| body.raw_or_null(name).is_some()).collect();
    let lease_ms = body.integer("lease_seconds", LEASE_SECONDS).map(|seconds| seconds * 1000);
    let progress = body.raw("progress").map(RawValue::get);
    if progress.is_some_and(|text| text.len() > MAX_PROGRESS_BYTES) {
        body.fault("progress", format!("must have at most {MAX_PROGRESS_BYTES} bytes"));
    }
    let beats = lease_ms.is_some() || progress.is_some();
    if let Some(usage) = body.raw("usage") {
        let at = body.pointer_to("usage");
        body.faults(StatedUsage::read(usage, &at).err().into_iter().flatten());
        if beats {
            body.fault("usage", "cannot be combined with progress or lease_seconds");
        }
    }
    match given.as_slice() {
        [] if beats => {}
        [_] if !beats => {}
        [] => body.fault("result", "is required, or error, input_required, progress or lease_seconds"),
        [_] => body.fault("progress", "cannot be combined with the outcome"),
        [_, second, ..] => body.fault(second, "cannot be combined with another outcome"),
    }
    let faults = body.finish();
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(if beats { CallbackMessage::Heartbeat { lease_ms, progress } } else { CallbackMessage::Outcome })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{Region, StoreId};
    use crate::base::time::Timestamp;
    use crate::context::fixtures::lease_number;

    fn id() -> ContextId {
        ContextId::new(StoreId { region: Region::Eu, shard: 0 }, Timestamp(1_000), [7; 10])
    }

    #[test]
    fn a_token_opens_one_lease_of_one_context_in_one_tenant() {
        let (key, own, other) = (CallbackKey::new(b"secret"), TenantId::first(), TenantId::parse("other").unwrap());
        let lease = lease_number(3);
        let token = key.token(&own, &id(), lease);
        assert_eq!((tenant_of(&token), key.read(&own, &token)), (Some("default"), Some((id(), lease))));
        assert_eq!(key.read(&other, &token.replace("default.", "other.")), None);
        assert_eq!(key.read(&other, &token), None);
        assert_eq!(CallbackKey::new(b"another").read(&own, &token), None);
        assert_eq!(key.read(&own, &token.replace(".3.", ".4.")), None);
        for bad in ["", "..", "a.b.c", &token[..token.len() - 1], &format!("{token}."), &format!("{token}.x")] {
            assert_eq!(key.read(&own, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_callback_has_one_outcome() {
        assert_eq!(read(r#"{"result":null}"#), Ok(CallbackMessage::Outcome));
        assert_eq!(read(r#"{"error":{"code":"a","message":"b"}}"#), Ok(CallbackMessage::Outcome));
        assert_eq!(
            read(r#"{"lease_seconds":30}"#),
            Ok(CallbackMessage::Heartbeat { lease_ms: Some(30_000), progress: None })
        );
        let said = read(r#"{"progress": {"percent": 40}}"#);
        assert_eq!(said, Ok(CallbackMessage::Heartbeat { lease_ms: None, progress: Some(r#"{"percent": 40}"#) }));
        assert_eq!(read(r#"{"result":null,"usage":{"cost":"0.01"}}"#), Ok(CallbackMessage::Outcome));
        for bad in [
            "{}",
            "[]",
            r#"{"result":1,"usage":{"cost":0.01}}"#,
            r#"{"result":1,"usage":{"prompt_tokens":1}}"#,
            r#"{"progress":1,"usage":{"cost":"0.01"}}"#,
            r#"{"usage":{"cost":"0.01"}}"#,
            r#"{"result":1,"error":{}}"#,
            r#"{"result":1,"progress":1}"#,
            r#"{"lease_seconds":1}"#,
            r#"{"result":1,"more":2}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let large = format!(r#"{{"progress":"{}"}}"#, "x".repeat(MAX_PROGRESS_BYTES));
        assert!(read(&large).is_err());
    }
}
