//! What a later version has written and this one cannot read. During a deployment two versions run at once, and after a
//! rollback the earlier one finds what the later one has left.
//!
//! Such documents are kept, and nothing else fails because of them. What they would have refused, or might have, is
//! refused ([`Binds`]); what they would have permitted is not permitted.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::messages::DocumentKind;
use super::records::{KEY, StoredDocument};
use crate::access::principal::Principal;
use crate::base::service_id::ServiceId;
use crate::limits::policy::EACH;
use crate::services::Service;

/// The names of what a reader of a document must know to respect it. A later version that adds a member which restricts
/// (the addresses that a key may be used from, say) adds a name: a version that does not know it then cannot read the
/// document, instead of ignoring the member. This version knows no names but those of [`ServiceNeeds`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs;

impl<'de> Deserialize<'de> for Needs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Vec::<String>::deserialize(deserializer)?.first() {
            Some(unknown) => Err(D::Error::custom(format!("it needs {unknown}, which this version does not know"))),
            None => Ok(Self),
        }
    }
}

/// The name of the member `models` of a service, which restricts the models that contexts may use.
const MODELS: &str = "models";

/// As [`Needs`], of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServiceNeeds {
    models: bool,
}

impl ServiceNeeds {
    pub fn of(service: &Service) -> Self {
        Self { models: service.models.is_some() && service.transport.model_endpoint().is_some() }
    }

    pub fn are_none(&self) -> bool {
        !self.models
    }
}

impl Serialize for ServiceNeeds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.models.then_some(MODELS))
    }
}

impl<'de> Deserialize<'de> for ServiceNeeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        match names.iter().find(|name| *name != MODELS) {
            Some(unknown) => Err(D::Error::custom(format!("it needs {unknown}, which this version does not know"))),
            None => Ok(Self { models: !names.is_empty() }),
        }
    }
}

/// A document that this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub kind: String,
    pub id: String,
    /// What it restricts, by its member `binds`.
    pub binds: Option<Binds>,
    /// For an issuer, its URL.
    pub issuer: Option<String>,
}

/// What a document restricts. All that is named must apply; an unknown target applies to everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binds {
    role: Option<String>,
    key: Option<String>,
    service: Option<String>,
    capability: Option<String>,
}

impl Binds {
    /// Reads what it can: a list, or anything else that is not a name, applies to everything.
    fn read(value: &Value) -> Self {
        let name = |member: &str| value.get(member).and_then(Value::as_str).map(Into::into);
        Self { role: name("role"), key: name("key"), service: name("service"), capability: name("capability") }
    }

    /// Whether it applies to requests of a principal whatever they do.
    fn applies_to_requests(&self, principal: &Principal) -> bool {
        self.service.is_none() && self.capability.is_none() && self.applies_to_principal(principal)
    }

    fn applies_to_principal(&self, principal: &Principal) -> bool {
        let names = |bound: &Option<String>, values: [Option<&str>; 2]| match bound {
            Some(bound) => bound == EACH || values.contains(&Some(bound)),
            None => true,
        };
        let Principal { principal: name, role, .. } = principal;
        names(&self.role, [Some(role), None]) && names(&self.key, [name.key(), Some(name.as_str())])
    }

    fn applies_to_calls(&self, service: &ServiceId, capability: &str) -> bool {
        let names =
            |bound: &Option<String>, value: &str| bound.as_deref().is_none_or(|bound| bound == EACH || bound == value);
        names(&self.service, service.as_str()) && names(&self.capability, capability)
    }
}

/// The parts of a document that all versions have.
#[derive(Deserialize)]
struct Envelope {
    /// Keys have none.
    #[serde(default)]
    kind: String,
    id: String,
    #[serde(default)]
    document: Value,
}

/// The documents of these kinds and ids, which this version cannot read.
pub fn unreadable(raw: &[Box<RawValue>]) -> Vec<Unreadable> {
    raw.iter().filter_map(|raw| Unreadable::read(raw)).collect()
}

/// The keys that this version cannot read.
pub fn unreadable_keys(raw: &[Box<RawValue>]) -> Vec<Unreadable> {
    let key = |text: &str| {
        let Envelope { id, .. } = serde_json::from_str(text).ok()?;
        Some(Unreadable { kind: KEY.into(), id, binds: None, issuer: None })
    };
    raw.iter().filter_map(|raw| key(raw.get())).collect()
}

impl Unreadable {
    /// A document as it is stored. `None` if it does not even have a kind and an id.
    pub fn read(raw: &RawValue) -> Option<Self> {
        let Envelope { kind, id, document } = serde_json::from_str(raw.get()).ok()?;
        Some(Self::new(kind, id, &document))
    }

    fn new(kind: String, id: String, document: &Value) -> Self {
        let is_limit = kind == DocumentKind::Limit.as_str();
        let binds = document.get("binds").map(Binds::read);
        let issuer = document.get("issuer").and_then(Value::as_str).map(Into::into);
        Self { binds: binds.or_else(|| is_limit.then(Binds::default)), kind, id, issuer }
    }

    /// A readable envelope with a document that this version cannot read.
    pub fn of(stored: &StoredDocument) -> Self {
        let document = serde_json::from_str(stored.document.get()).unwrap_or_default();
        Self::new(stored.kind.as_str().into(), stored.id.clone(), &document)
    }

    /// Whether it may refuse any request of a principal. Only limits count requests that are not calls.
    pub fn refuses_requests(&self, principal: &Principal) -> bool {
        let is_limit = self.kind == DocumentKind::Limit.as_str();
        is_limit && self.binds.as_ref().is_some_and(|binds| binds.applies_to_requests(principal))
    }

    /// Whether it may refuse calls of a capability by a principal; without one, by a schedule.
    pub fn refuses_calls(&self, principal: Option<&Principal>, service: &ServiceId, capability: &str) -> bool {
        self.binds.as_ref().is_some_and(|binds| {
            binds.applies_to_calls(service, capability)
                && principal.is_none_or(|principal| binds.applies_to_principal(principal))
        })
    }
}

/// Deserializes the items that this version can read.
pub fn readable<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(parsed(Vec::<Box<RawValue>>::deserialize(deserializer)?).0)
}

/// Parses items; returns the unreadable ones as they are.
pub fn parsed<T: DeserializeOwned>(items: Vec<Box<RawValue>>) -> (Vec<T>, Vec<Box<RawValue>>) {
    let (mut read, mut unread) = (Vec::with_capacity(items.len()), Vec::new());
    for raw in items {
        match serde_json::from_str(raw.get()) {
            Ok(item) => read.push(item),
            Err(_) => unread.push(raw),
        }
    }
    (read, unread)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::principal_id::PrincipalId;

    fn principal(key: &str, role: &str) -> Principal {
        Principal { principal: PrincipalId::of_key(key), role: role.into(), ..Principal::admin() }
    }

    fn stored(kind: &str, document: &Value) -> Unreadable {
        let raw = json!({"kind": kind, "id": "one", "document": document, "version": 1}).to_string();
        Unreadable::read(&RawValue::from_string(raw).unwrap()).unwrap()
    }

    /// Whether requests of key k with role caller are refused, its calls of llm/chat, and those of llm/other.
    fn refused(kind: &str, document: &Value) -> [bool; 3] {
        let (unreadable, principal, service) = (stored(kind, document), principal("k", "caller"), "llm".into());
        let calls = |capability| unreadable.refuses_calls(Some(&principal), &service, capability);
        [unreadable.refuses_requests(&principal), calls("chat"), calls("other")]
    }

    #[test]
    fn a_limit_refuses_what_it_binds() {
        let limit = |binds: Value| refused("limit", &json!({"kind": "tokens", "quota": 5, "binds": binds}));
        for all in [json!({"tenant": true}), json!({"role": "caller"}), json!({"role": "*"}), json!({"key": "k"})] {
            assert_eq!(limit(all.clone()), [true; 3], "{all}");
        }
        for all in [json!({"key": "key:k"}), json!({"model": "m"}), json!({"key": ["l"]}), json!(7), json!(null)] {
            assert_eq!(limit(all.clone()), [true; 3], "{all}");
        }
        for calls in [json!({"service": "llm"}), json!({"service": "*"}), json!({"key": "k", "service": "llm"})] {
            assert_eq!(limit(calls.clone()), [false, true, true], "{calls}");
        }
        assert_eq!(limit(json!({"capability": "chat"})), [false, true, false]);
        assert_eq!(limit(json!({"capability": "chat", "service": "llm"})), [false, true, false]);
        for none in [json!({"role": "viewer"}), json!({"key": "l"}), json!({"service": "words"})] {
            assert_eq!(limit(none.clone()), [false; 3], "{none}");
        }
        // Without a word on what it binds, it may bind anything.
        assert_eq!(refused("limit", &json!({"kind": "tokens"})), [true; 3]);
    }

    #[test]
    fn a_document_of_an_unknown_kind_refuses_the_calls_that_it_binds() {
        assert_eq!(refused("budget", &json!({"binds": {"role": "caller"}})), [false, true, true]);
        assert_eq!(refused("policy", &json!({"binds": {"role": "caller", "model": "m"}})), [false, true, true]);
        assert_eq!(refused("policy", &json!({"binds": {"role": "viewer"}})), [false; 3]);
        assert_eq!(refused("dashboard", &json!({"title": "x"})), [false; 3]);
    }

    #[test]
    fn a_schedule_is_bound_as_any_principal() {
        let limit = stored("limit", &json!({"binds": {"role": "viewer", "capability": "chat"}}));
        assert!(limit.refuses_calls(None, &"llm".into(), "chat") && !limit.refuses_calls(None, &"llm".into(), "x"));
    }

    #[test]
    fn what_a_document_needs_must_be_known() {
        let parsed = |text: &str| serde_json::from_str::<Needs>(text).is_ok();
        assert!(parsed("[]") && !parsed(r#"["addresses"]"#) && !parsed(r#"{"a":1}"#) && !parsed("1"));
    }

    #[test]
    fn what_a_service_needs_is_written_and_known() {
        let models = ServiceNeeds { models: true };
        assert_eq!(serde_json::to_string(&models).unwrap(), r#"["models"]"#);
        let parsed = |text: &str| serde_json::from_str::<ServiceNeeds>(text).ok();
        assert_eq!((parsed(r#"["models"]"#), parsed("[]")), (Some(models), Some(ServiceNeeds::default())));
        assert!(parsed(r#"["models","more"]"#).is_none() && parsed("1").is_none());
    }

    #[test]
    fn what_has_no_id_is_nothing() {
        let raw = |text: &str| RawValue::from_string(text.into()).unwrap();
        assert_eq!(Unreadable::read(&raw("[]")), None);
        assert_eq!(Unreadable::read(&raw(r#"{"kind":"limit"}"#)), None);
        let key = Unreadable { kind: "key".into(), id: "k".into(), binds: None, issuer: None };
        assert_eq!(unreadable_keys(&[raw(r#"{"id":"k","kind":"limit"}"#), raw("{}")]), [key]);
    }
}
