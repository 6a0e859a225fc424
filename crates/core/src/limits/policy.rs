//! Limits as they are configured. Their use is counted in `quota_pool` and `concurrency`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::base::json::{Fault, Object};
use crate::base::names::valid_id;
use crate::base::principal_id::PrincipalId;
use crate::base::service_id::ServiceId;

/// The largest quota.
const MAX_QUOTA: u64 = 1_000_000_000;
/// The largest quota of a concurrency limit.
const MAX_CONCURRENT: u64 = 10_000;
/// The longest window: 31 days.
const MAX_WINDOW_SECONDS: u64 = 2_678_400;
/// In a target: the limit applies to each one separately.
pub const EACH: &str = "*";

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Requests within any window.
    Requests,
    /// Concurrent requests.
    Concurrent,
}

/// What a limit applies to. In JSON, an object with one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LimitTarget {
    /// The whole tenant; always true.
    Tenant(bool),
    Role(String),
    Key(String),
    Service(String),
    Capability(String),
}

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Limit {
    pub kind: LimitKind,
    pub quota: u64,
    /// For limits on requests only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
    pub binds: LimitTarget,
}

/// Reads the body of a limit. Returns every fault.
pub fn read(text: &str) -> Result<Limit, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let kind = body.parsed("kind", "requests or concurrent", |text| match text {
        "requests" => Some(LimitKind::Requests),
        "concurrent" => Some(LimitKind::Concurrent),
        _ => None,
    });
    let kind = body.require("kind", kind).unwrap_or(LimitKind::Requests);
    let most = if kind == LimitKind::Requests { MAX_QUOTA } else { MAX_CONCURRENT };
    let quota = body.integer("quota", 1..=most);
    let quota = body.require("quota", quota).unwrap_or(1);
    let window_seconds = body.integer("window_seconds", 1..=MAX_WINDOW_SECONDS);
    match kind {
        LimitKind::Requests => drop(body.require("window_seconds", window_seconds)),
        LimitKind::Concurrent if window_seconds.is_some() => body.fault("window_seconds", "is only for requests"),
        LimitKind::Concurrent => {}
    }
    let named = body.object("binds");
    let binds = body.require("binds", named).and_then(|named| read_target(&mut body, named));
    let faults = body.finish();
    match binds {
        Some(binds) if faults.is_empty() => Ok(Limit { kind, quota, window_seconds, binds }),
        _ => Err(faults),
    }
}

fn read_target<'a>(body: &mut Object<'a>, mut named: Object<'a>) -> Option<LimitTarget> {
    let name = |text: &str| (text == EACH || valid_id(text)).then(|| text.to_string());
    let tenant = named.boolean("tenant");
    if tenant == Some(false) {
        named.fault("tenant", "must be true");
    }
    let tenant = tenant.map(LimitTarget::Tenant);
    let role = named.parsed("role", "the name of a role, or *", name).map(LimitTarget::Role);
    let key = named.string("key", 1..=PrincipalId::MAX_BYTES).map(LimitTarget::Key);
    let service = named.parsed("service", "the id of a service, or *", name).map(LimitTarget::Service);
    let capability = named.string("capability", 1..=128).map(LimitTarget::Capability);
    let mut found: Vec<LimitTarget> = [tenant, role, key, service, capability].into_iter().flatten().collect();
    let faults = named.finish();
    let one = found.len() == 1;
    if !one && faults.is_empty() {
        body.fault("binds", "must have one member: tenant, role, key, service or capability");
    }
    body.faults(faults);
    found.pop().filter(|_| one)
}

/// The value, if the target names it or each one.
fn matching<'v>(bound: &str, value: &'v str) -> Option<&'v str> {
    (bound == EACH || bound == value).then_some(value)
}

impl Limit {
    /// The name of the pool that counts requests of this principal; `None` if the limit does not apply to it.
    pub fn pool_of_principal(&self, principal: &PrincipalId, role: &str) -> Option<String> {
        match &self.binds {
            LimitTarget::Tenant(_) => Some("tenant".into()),
            LimitTarget::Role(bound) => matching(bound, role).map(|role| format!("role:{role}")),
            LimitTarget::Key(bound) if principal.key() == Some(bound) => Some(principal.to_string()),
            LimitTarget::Key(bound) => matching(bound, principal.as_str()).map(Into::into),
            LimitTarget::Service(_) | LimitTarget::Capability(_) => None,
        }
    }

    /// The name of the pool that counts contexts for this capability of this service; `None` if the limit does not
    /// apply.
    pub fn pool_of_work(&self, service: &ServiceId, capability: &str) -> Option<String> {
        match &self.binds {
            LimitTarget::Service(bound) => {
                matching(bound, service.as_str()).map(|service| format!("service:{service}"))
            }
            LimitTarget::Capability(bound) => matching(bound, capability).map(|name| format!("capability:{name}")),
            LimitTarget::Tenant(_) | LimitTarget::Role(_) | LimitTarget::Key(_) => None,
        }
    }
}

/// A limit that applied to a request, and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedLimit {
    pub name: String,
    pub quota: u64,
    /// `None` for a concurrency limit.
    pub window_seconds: Option<u64>,
    pub left: u64,
    /// Milliseconds until all tokens are back; if none is left, until the first is.
    pub reset_ms: u64,
}

/// The values of `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11).
pub fn headers(applied: &[AppliedLimit]) -> (String, String) {
    let (mut policies, mut states) = (String::new(), String::new());
    for AppliedLimit { name, quota, window_seconds, left, reset_ms } in applied {
        for text in [&mut policies, &mut states] {
            if !text.is_empty() {
                text.push(',');
            }
        }
        // No character of a name needs an escape. Writing to a string does not fail.
        let _ = match window_seconds {
            Some(seconds) => write!(policies, r#""{name}";q={quota};w={seconds}"#),
            None => write!(policies, r#""{name}";q={quota};qu="concurrent-requests""#),
        };
        let _ = match window_seconds {
            Some(_) => write!(states, r#""{name}";r={left};t={}"#, reset_ms.div_ceil(1000)),
            None => write!(states, r#""{name}";r={left}"#),
        };
    }
    (policies, states)
}

/// Seconds for `Retry-After`: at least the time until a retry can succeed, plus up to a quarter at random, so that
/// clients rejected together do not return together.
pub fn retry_after(reset_ms: u64, random: u64) -> u64 {
    let seconds = reset_ms.div_ceil(1000).max(1);
    seconds + random % (seconds / 4 + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pointers(text: &str) -> String {
        read(text).unwrap_err().into_iter().map(|fault| fault.pointer).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_limit_is_read_and_kept_as_it_is_written() {
        for text in [
            r#"{"kind":"requests","quota":100,"window_seconds":60,"binds":{"role":"caller"}}"#,
            r#"{"kind":"requests","quota":1,"window_seconds":2678400,"binds":{"tenant":true}}"#,
            r#"{"kind":"concurrent","quota":5,"binds":{"service":"llm"}}"#,
            r#"{"kind":"requests","quota":5,"window_seconds":1,"binds":{"capability":"*"}}"#,
            r#"{"kind":"requests","quota":5,"window_seconds":1,"binds":{"key":"client:default.ci"}}"#,
        ] {
            let limit = read(text).unwrap();
            assert_eq!(serde_json::to_string(&limit).unwrap(), text);
            assert_eq!(serde_json::from_str::<Limit>(text).unwrap(), limit);
        }
    }

    #[test]
    fn a_wrong_limit_names_every_fault() {
        assert_eq!(pointers("{}"), "#/kind #/quota #/window_seconds #/binds");
        assert_eq!(
            pointers(r#"{"kind":"x","quota":0,"window_seconds":0,"binds":1,"more":1}"#),
            "#/kind #/quota #/window_seconds #/binds #/more"
        );
        let with = |binds: &str| format!(r#"{{"kind":"requests","quota":1,"window_seconds":1,"binds":{binds}}}"#);
        assert_eq!(pointers(&with("{}")), "#/binds");
        assert_eq!(pointers(&with(r#"{"role":"a","service":"b"}"#)), "#/binds");
        assert_eq!(pointers(&with(r#"{"tenant":false}"#)), "#/binds/tenant");
        assert_eq!(pointers(&with(r#"{"role":"A b"}"#)), "#/binds/role");
        assert_eq!(pointers(&with(r#"{"user":"a"}"#)), "#/binds/user");
        let concurrent = r#"{"kind":"concurrent","quota":20000,"window_seconds":1,"binds":{"tenant":true}}"#;
        assert_eq!(pointers(concurrent), "#/quota #/window_seconds");
    }

    #[test]
    fn a_limit_applies_to_its_target() {
        let limit = |binds| Limit { kind: LimitKind::Requests, quota: 1, window_seconds: Some(1), binds };
        let asker = |binds| limit(binds).pool_of_principal(&PrincipalId::of_key("ab"), "caller");
        assert_eq!(asker(LimitTarget::Tenant(true)).as_deref(), Some("tenant"));
        assert_eq!(asker(LimitTarget::Role("caller".into())).as_deref(), Some("role:caller"));
        assert_eq!(asker(LimitTarget::Role("admin".into())), None);
        for bound in ["ab", "key:ab", "*"] {
            assert_eq!(asker(LimitTarget::Key(bound.into())).as_deref(), Some("key:ab"), "{bound}");
        }
        assert_eq!(asker(LimitTarget::Key("a".into())), None);
        assert_eq!(asker(LimitTarget::Service("*".into())), None);
        let work = |binds| limit(binds).pool_of_work(&"llm".into(), "chat");
        assert_eq!(work(LimitTarget::Service("llm".into())).as_deref(), Some("service:llm"));
        assert_eq!(work(LimitTarget::Capability("*".into())).as_deref(), Some("capability:chat"));
        assert_eq!(work(LimitTarget::Capability("embed".into())), None);
        assert_eq!(work(LimitTarget::Tenant(true)), None);
    }

    #[test]
    fn headers_are_structured_fields() {
        let burst =
            AppliedLimit { name: "burst".into(), quota: 100, window_seconds: Some(60), left: 50, reset_ms: 29_001 };
        let few = AppliedLimit { name: "few".into(), quota: 5, window_seconds: None, left: 2, reset_ms: 0 };
        let (policies, states) = headers(&[burst, few]);
        assert_eq!(policies, r#""burst";q=100;w=60,"few";q=5;qu="concurrent-requests""#);
        assert_eq!(states, r#""burst";r=50;t=30,"few";r=2"#);
    }

    proptest! {
        #[test]
        fn retry_after_is_never_too_early(reset_ms in 0u64..10_000_000, random: u64) {
            let seconds = retry_after(reset_ms, random);
            prop_assert!(seconds * 1000 >= reset_ms && seconds >= 1);
            prop_assert!(seconds <= reset_ms.div_ceil(1000) * 5 / 4 + 2);
        }
    }
}
