//! Rate limits: who or what may do how much. What is given out under one is counted in `quota_pool` and `concurrency`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::access::issuer::LONGEST_PRINCIPAL;
use crate::base::json::{Fault, Object};
use crate::base::names::valid_id;

/// The largest quota.
const MAX_QUOTA: u64 = 1_000_000_000;
const MAX_CONCURRENT: u64 = 10_000;
/// The longest window, in seconds: 31 days.
const LONGEST: u64 = 2_678_400;
/// Stands for each one by itself.
pub const EACH: &str = "*";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// So many within any window.
    Requests,
    /// So many at a time.
    Concurrent,
}

/// Who or what is bound. Written as an object with one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Binds {
    /// The whole tenant; always true.
    Tenant(bool),
    Role(String),
    Key(String),
    Service(String),
    Capability(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub kind: Kind,
    pub quota: u64,
    /// Only for requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_seconds: Option<u64>,
    pub binds: Binds,
}

/// Reads a limit as somebody writes it; gives all faults.
pub fn read(text: &str) -> Result<Limit, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let kind = body.parsed("kind", "requests or concurrent", |text| match text {
        "requests" => Some(Kind::Requests),
        "concurrent" => Some(Kind::Concurrent),
        _ => None,
    });
    let kind = body.require("kind", kind).unwrap_or(Kind::Requests);
    let most = if kind == Kind::Requests { MAX_QUOTA } else { MAX_CONCURRENT };
    let quota = body.integer("quota", 1..=most);
    let quota = body.require("quota", quota).unwrap_or(1);
    let window_seconds = body.integer("window_seconds", 1..=LONGEST);
    match kind {
        Kind::Requests => drop(body.require("window_seconds", window_seconds)),
        Kind::Concurrent if window_seconds.is_some() => body.fault("window_seconds", "is only for requests"),
        Kind::Concurrent => {}
    }
    let named = body.object("binds");
    let binds = body.require("binds", named).and_then(|named| binds(&mut body, named));
    let faults = body.finish();
    match binds {
        Some(binds) if faults.is_empty() => Ok(Limit { kind, quota, window_seconds, binds }),
        _ => Err(faults),
    }
}

fn binds<'a>(body: &mut Object<'a>, mut named: Object<'a>) -> Option<Binds> {
    let name = |text: &str| (text == EACH || valid_id(text)).then(|| text.to_string());
    let tenant = named.boolean("tenant");
    if tenant == Some(false) {
        named.fault("tenant", "must be true");
    }
    let tenant = tenant.map(Binds::Tenant);
    let role = named.parsed("role", "the name of a role, or *", name).map(Binds::Role);
    let key = named.string("key", 1..=LONGEST_PRINCIPAL).map(Binds::Key);
    let service = named.parsed("service", "the id of a service, or *", name).map(Binds::Service);
    let capability = named.string("capability", 1..=128).map(Binds::Capability);
    let mut found: Vec<Binds> = [tenant, role, key, service, capability].into_iter().flatten().collect();
    let faults = named.finish();
    let one = found.len() == 1;
    if !one && faults.is_empty() {
        body.fault("binds", "must have one member: tenant, role, key, service or capability");
    }
    body.faults(faults);
    found.pop().filter(|_| one)
}

/// What a limit's name for one of these begins with.
fn matching<'v>(bound: &str, value: &'v str) -> Option<&'v str> {
    (bound == EACH || bound == value).then_some(value)
}

impl Limit {
    /// The bucket that counts a request of this principal, if it is bound.
    pub fn of_asker(&self, principal: &str, role: &str) -> Option<String> {
        match &self.binds {
            Binds::Tenant(_) => Some("tenant".into()),
            Binds::Role(bound) => matching(bound, role).map(|role| format!("role:{role}")),
            Binds::Key(bound) if principal.strip_prefix("key:") == Some(bound) => Some(principal.into()),
            Binds::Key(bound) => matching(bound, principal).map(Into::into),
            Binds::Service(_) | Binds::Capability(_) => None,
        }
    }

    /// The bucket that counts a context for this capability of this service, if it is bound.
    pub fn of_work(&self, service: &str, capability: &str) -> Option<String> {
        match &self.binds {
            Binds::Service(bound) => matching(bound, service).map(|service| format!("service:{service}")),
            Binds::Capability(bound) => matching(bound, capability).map(|name| format!("capability:{name}")),
            Binds::Tenant(_) | Binds::Role(_) | Binds::Key(_) => None,
        }
    }
}

/// A limit that a request was held against, and how that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub name: String,
    pub quota: u64,
    /// Nothing: at a time.
    pub window_seconds: Option<u64>,
    pub left: u64,
    /// Until all is back, or when nothing is left until something is; in milliseconds.
    pub reset_ms: u64,
}

/// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11).
pub fn headers(applied: &[Applied]) -> (String, String) {
    let (mut policies, mut standing) = (String::new(), String::new());
    for Applied { name, quota, window_seconds, left, reset_ms } in applied {
        for text in [&mut policies, &mut standing] {
            if !text.is_empty() {
                text.push(',');
            }
        }
        // Names have no character that needs an escape. Writing to a string does not fail.
        let _ = match window_seconds {
            Some(seconds) => write!(policies, r#""{name}";q={quota};w={seconds}"#),
            None => write!(policies, r#""{name}";q={quota};qu="concurrent-requests""#),
        };
        let _ = match window_seconds {
            Some(_) => write!(standing, r#""{name}";r={left};t={}"#, reset_ms.div_ceil(1000)),
            None => write!(standing, r#""{name}";r={left}"#),
        };
    }
    (policies, standing)
}

/// Seconds for `Retry-After`: not before it can work, and up to a quarter later, so that who is refused together does
/// not come back together.
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
    fn it_binds_who_or_what_it_names() {
        let limit = |binds| Limit { kind: Kind::Requests, quota: 1, window_seconds: Some(1), binds };
        let asker = |binds| limit(binds).of_asker("key:ab", "caller");
        assert_eq!(asker(Binds::Tenant(true)).as_deref(), Some("tenant"));
        assert_eq!(asker(Binds::Role("caller".into())).as_deref(), Some("role:caller"));
        assert_eq!(asker(Binds::Role("admin".into())), None);
        for bound in ["ab", "key:ab", "*"] {
            assert_eq!(asker(Binds::Key(bound.into())).as_deref(), Some("key:ab"), "{bound}");
        }
        assert_eq!(asker(Binds::Key("a".into())), None);
        assert_eq!(asker(Binds::Service("*".into())), None);
        let work = |binds| limit(binds).of_work("llm", "chat");
        assert_eq!(work(Binds::Service("llm".into())).as_deref(), Some("service:llm"));
        assert_eq!(work(Binds::Capability("*".into())).as_deref(), Some("capability:chat"));
        assert_eq!(work(Binds::Capability("embed".into())), None);
        assert_eq!(work(Binds::Tenant(true)), None);
    }

    #[test]
    fn headers_are_structured_fields() {
        let burst = Applied { name: "burst".into(), quota: 100, window_seconds: Some(60), left: 50, reset_ms: 29_001 };
        let few = Applied { name: "few".into(), quota: 5, window_seconds: None, left: 2, reset_ms: 0 };
        let (policies, standing) = headers(&[burst, few]);
        assert_eq!(policies, r#""burst";q=100;w=60,"few";q=5;qu="concurrent-requests""#);
        assert_eq!(standing, r#""burst";r=50;t=30,"few";r=2"#);
    }

    proptest! {
        #[test]
        fn nobody_is_told_to_come_back_too_early(reset_ms in 0u64..10_000_000, random: u64) {
            let seconds = retry_after(reset_ms, random);
            prop_assert!(seconds * 1000 >= reset_ms && seconds >= 1);
            prop_assert!(seconds <= reset_ms.div_ceil(1000) * 5 / 4 + 2);
        }
    }
}
