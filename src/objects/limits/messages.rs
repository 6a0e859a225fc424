//! The messages of a `RateLimiter`: its requests and replies.

use serde::{Deserialize, Serialize};

use crate::objects::protocol::{Address, Done, Object, Pending, Request, call_enclosed, requests};
use crate::platform::objects::{CALL_TIMEOUT_MS, Kind};
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::time::Timestamp;
use narthex_core::limits::concurrency::LimitPermitNumber;
use narthex_core::limits::quota_pool::{LeaseReport, QuotaLease, QuotaRule, QuotaState};

pub struct Limits;

impl Object for Limits {
    const KIND: Kind = Kind::Limits;
}

impl Limits {
    /// The object that counts this pool.
    pub fn of(pool: &ObjectName) -> Address<Self> {
        Address::new(pool.clone())
    }
}

/// A request, with the sender's view of the limit.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message<A> {
    pub rule: QuotaRule,
    /// When the rule was configured; the newest counts.
    pub configured_at: Timestamp,
    pub ask: A,
}

/// Calls the object of a limit. `configured_at` is the time of the rule.
pub fn call<R: Request<Object = Limits>>(
    address: &Address<Limits>,
    rule: QuotaRule,
    configured_at: Timestamp,
    request: &R,
) -> Pending<R::Reply> {
    call_enclosed(address, &Message { rule, configured_at, ask: () }, request)
}

requests! {
    pub enum Ask of Limits {
        "take": Take => TakeReply, HandleLater, |_| CALL_TIMEOUT_MS;
        "report": Report => Done, Handle, |_| CALL_TIMEOUT_MS;
        "renew": Renew => Done, Handle, |_| CALL_TIMEOUT_MS;
        "release": Release => Done, Handle, |_| CALL_TIMEOUT_MS;
    }
    units {
        "acquire": Acquire => AcquireReply, Handle, |_| CALL_TIMEOUT_MS;
    }
}

/// Leases up to this many tokens, after recording the reports on earlier leases.
#[derive(Debug, Serialize, Deserialize)]
pub struct Take {
    pub wanted: u64,
    #[serde(default)]
    pub reports: Vec<LeaseReport>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakeReply {
    Given {
        #[serde(rename = "portion")]
        lease: QuotaLease,
        #[serde(rename = "standing")]
        state: QuotaState,
    },
    Refused {
        #[serde(rename = "standing")]
        state: QuotaState,
    },
}

/// Reports how much of a quota lease was used.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report(pub LeaseReport);

/// Requests a permit of a concurrency limit.
#[derive(Debug, Serialize)]
pub struct Acquire;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcquireReply {
    Permit {
        permit: LimitPermitNumber,
        #[serde(rename = "standing")]
        state: QuotaState,
    },
    Refused {
        #[serde(rename = "standing")]
        state: QuotaState,
    },
}

/// Extends a permit.
#[derive(Debug, Serialize, Deserialize)]
pub struct Renew {
    pub permit: LimitPermitNumber,
}

/// Returns a permit.
#[derive(Debug, Serialize, Deserialize)]
pub struct Release {
    pub permit: LimitPermitNumber,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Acquire, Ask, Message};
    use crate::objects::protocol::enclosed;
    use crate::objects::wire_tests::assert_pinned;

    #[test]
    fn other_versions_read_the_messages() {
        assert_pinned::<Ask>(include_str!("wire.json"));
    }

    #[test]
    fn other_versions_read_what_comes_with_a_request() {
        let sent = json!({"rule": {"quota": 100, "window_ms": 60000}, "configured_at": 3, "ask": "acquire"});
        let Message { rule, configured_at, ask } = serde_json::from_value(sent.clone()).unwrap();
        assert!(matches!(ask, Ask::Acquire));
        let again = enclosed(&Message { rule, configured_at, ask: () }, &Acquire).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), sent);
    }
}
