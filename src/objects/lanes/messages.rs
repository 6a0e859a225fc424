//! The messages of a service's lane: its requests and replies.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::objects::protocol::{Address, Done, Object, requests};
use crate::objects::registry::messages::StoredService;
use crate::objects::reply::ReadReply;
use crate::platform::objects::Kind;
use narthex_core::access::revocation::Revocation;
use narthex_core::base::id::ContextId;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::context::Admission;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context::status::Priority;
use narthex_core::events::viewer::Viewer;
use narthex_core::lane::PermitDecision;
use narthex_core::lane::call_outcome::CallOutcome;
use narthex_core::lane::observed::{HealthStatus, ObservedStatus};
use narthex_core::lane::permit_number::PermitNumber;
use narthex_core::registry::notifications::LaneSettings;
use narthex_core::service_lane::probing::{ProbeReport, Target};

/// How long a lane may take beyond the wait for a permit, in milliseconds.
const TIMEOUT_MS: u64 = 5_000;
/// A probe takes up to 5 s, and the registry is notified of the result.
const PROBE_TIMEOUT_MS: u64 = 12_000;
/// How long the registry waits for a lane, in milliseconds.
const REGISTRY_TIMEOUT_MS: u64 = 2_000;

pub struct Lanes;

impl Object for Lanes {
    const KIND: Kind = Kind::Lanes;
}

impl Lanes {
    pub fn of(tenant: &TenantId, service: &ServiceId) -> Address<Self> {
        Address::new(tenant.object_for(service))
    }
}

/// A request, with the sender's view of the service's configuration.
#[derive(Debug, Serialize, Deserialize)]
pub struct Message<A> {
    pub tenant: TenantId,
    pub service: ServiceId,
    /// When that configuration was written; the newest counts.
    pub configured_at: Timestamp,
    /// When the service was given its address.
    #[serde(default)]
    pub moved_at: Timestamp,
    #[serde(default)]
    pub max_concurrency: Option<u64>,
    #[serde(default)]
    pub max_queue: u64,
    /// For a service that connects: how long a dropped connection's deliveries are kept for it.
    #[serde(default)]
    pub grace_ms: Option<u64>,
    pub ask: A,
}

impl<A> Message<A> {
    fn new(tenant: TenantId, settings: LaneSettings, ask: A) -> Self {
        let LaneSettings { service, configured_at, moved_at, max_concurrency, max_queue, grace_ms } = settings;
        Self { tenant, service, configured_at, moved_at, max_concurrency, max_queue, grace_ms, ask }
    }

    /// The same message with another request.
    pub fn with<B>(&self, ask: B) -> Message<B> {
        Message::new(self.tenant.clone(), self.settings(), ask)
    }

    /// The sender's view of the service's configuration.
    pub fn settings(&self) -> LaneSettings {
        LaneSettings {
            service: self.service.clone(),
            configured_at: self.configured_at,
            moved_at: self.moved_at,
            max_concurrency: self.max_concurrency,
            max_queue: self.max_queue,
            grace_ms: self.grace_ms,
        }
    }
}

impl Message<()> {
    /// A message about a service, without a request.
    pub fn about(tenant: &TenantId, registered: &StoredService) -> Self {
        Self::with_settings(tenant, &registered.lane_settings())
    }

    pub fn with_settings(tenant: &TenantId, settings: &LaneSettings) -> Self {
        Self::new(tenant.clone(), settings.clone(), ())
    }
}

/// A reply, and the service's present status.
#[derive(Debug, Serialize)]
pub struct LaneReply<T> {
    #[serde(rename = "measured")]
    pub observed: ObservedStatus,
    #[serde(rename = "told")]
    pub reply: T,
}

/// A reply whose type is not known yet.
#[derive(Deserialize)]
struct RawLaneReply {
    #[serde(rename = "measured")]
    observed: ObservedStatus,
    #[serde(rename = "told")]
    reply: Box<RawValue>,
}

impl<T: ReadReply> ReadReply for LaneReply<T> {
    fn read(text: &str) -> Result<Self, serde_json::Error> {
        let RawLaneReply { observed, reply } = serde_json::from_str(text)?;
        Ok(Self { observed, reply: T::read(reply.get())? })
    }
}

requests! {
    pub enum Ask of Lanes {
        "configure": Configure => Done, Handle, |_| REGISTRY_TIMEOUT_MS;
        "acquire": Acquire => PermitReply, HandleLater, |acquire| acquire.wait_ms + TIMEOUT_MS;
        "renew": Renew => Done, Handle, |_| TIMEOUT_MS;
        "release": Release => Done, Handle, |_| TIMEOUT_MS;
        "report": ReportCalls => Done, Handle, |_| TIMEOUT_MS;
        "leave": Leave => Done, Handle, |_| TIMEOUT_MS;
        "heartbeat": Heartbeat => HeartbeatReply, Handle, |_| TIMEOUT_MS;
        "check": Probe => ProbeReply, HandleLater, |_| PROBE_TIMEOUT_MS;
        "hand": Dispatch => DispatchReply, Handle, |_| TIMEOUT_MS;
        "withdraw": Withdraw => Done, Handle, |_| TIMEOUT_MS;
        "revoke": Revoke => Done, Handle, |_| REGISTRY_TIMEOUT_MS;
        "end": RevokeDependents => Done, Handle, |_| REGISTRY_TIMEOUT_MS;
    }
    units {
        "connects": Connects => Done, Handle, |_| REGISTRY_TIMEOUT_MS;
        "forget": Forget => Done, Handle, |_| REGISTRY_TIMEOUT_MS;
        "look": CheckConnection => ProbeReply, Handle, |_| TIMEOUT_MS;
    }
}

/// From the registry: how the service is reached and probed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Configure(pub Target);

/// From the registry: the service connects; the fields beside `ask` say how.
#[derive(Debug, Serialize)]
pub struct Connects;

/// From the registry: the service was deleted.
#[derive(Debug, Serialize)]
pub struct Forget;

/// Requests a permit, and waits for it up to `wait_ms`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Acquire {
    pub context: ContextId,
    pub principal: PrincipalId,
    pub priority: Priority,
    pub deadline: Timestamp,
    /// The context was admitted before, so a full queue does not reject it.
    #[serde(default)]
    pub admitted: bool,
    pub wait_ms: u64,
}

impl Acquire {
    /// For a context that was admitted, or is about to be.
    pub fn of(admission: &Admission, admitted: bool, wait_ms: u64) -> Self {
        Self {
            context: admission.id.clone(),
            principal: admission.owner.clone(),
            priority: admission.priority,
            deadline: admission.expires_at,
            admitted,
            wait_ms,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub enum PermitReply {
    #[serde(rename = "entered")]
    Decision(PermitDecision),
}

/// Extends a permit.
#[derive(Debug, Serialize, Deserialize)]
pub struct Renew {
    pub permit: PermitNumber,
    pub principal: PrincipalId,
}

/// Returns a permit.
#[derive(Debug, Serialize, Deserialize)]
pub struct Release {
    pub permit: PermitNumber,
    pub sample: CallOutcome,
}

/// Reports calls without a permit: the number of successes, and then the last outcome.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReportCalls {
    pub successes: u64,
    pub last: CallOutcome,
}

/// Leaves the wait queue.
#[derive(Debug, Serialize, Deserialize)]
pub struct Leave {
    pub context: ContextId,
}

/// Reports the service's own status, valid for `lease_ms`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    pub status: HealthStatus,
    pub lease_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum HeartbeatReply {
    #[serde(rename = "beats")]
    Valid { until: Timestamp },
}

/// Probes now.
#[derive(Debug, Serialize, Deserialize)]
pub struct Probe(pub Target);

/// Asks whether the service is connected.
#[derive(Debug, Serialize)]
pub struct CheckConnection;

#[derive(Debug, Serialize, Deserialize)]
pub enum ProbeReply {
    #[serde(rename = "seen")]
    Report(ProbeReport),
}

/// Dispatches work to a connection with free capacity.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dispatch {
    pub delivery: Delivery,
    pub work: Box<RawValue>,
    /// The request is carried out only until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum DispatchReply {
    /// False if no connection has capacity.
    #[serde(rename = "handed")]
    Dispatched(bool),
}

/// The attempt of this context is over. If `cancelled`, the service is notified.
#[derive(Debug, Serialize, Deserialize)]
pub struct Withdraw {
    pub context: ContextId,
    pub cancelled: bool,
    /// Attempts under later leases are another worker's. All attempts if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseNumber>,
}

/// Closes the connections of ended credentials.
#[derive(Debug, Serialize, Deserialize)]
pub struct Revoke {
    pub principal: PrincipalId,
}

/// Closes the connections whose credentials depend on what was revoked.
#[derive(Debug, Serialize, Deserialize)]
pub struct RevokeDependents(pub Revocation);

/// What the message that opens a WebSocket asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Open {
    /// Opens a connection of the service; `headers` are those of the response.
    Connect { viewer: Viewer, headers: String },
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, from_value, to_value};

    use super::{Ask, CheckConnection, Done, LaneReply, Message, Open, ProbeReply, ReadReply};
    use crate::objects::protocol::enclosed;
    use crate::objects::wire_tests::assert_pinned;

    #[test]
    fn other_versions_read_the_messages() {
        assert_pinned::<Ask>(include_str!("wire.json"));
    }

    fn read<T: DeserializeOwned>(example: &Value) -> T {
        from_value(example.clone()).unwrap()
    }

    fn assert_unchanged<T: Serialize + DeserializeOwned>(example: &Value) {
        assert_eq!(to_value(read::<T>(example)).unwrap(), *example);
    }

    #[test]
    fn other_versions_read_what_comes_with_requests_and_replies() {
        let examples: Value = serde_json::from_str(include_str!("envelopes.json")).unwrap();
        let message: Message<Ask> = read(&examples["message"]);
        assert!(matches!(message.ask, Ask::CheckConnection));
        let Message { tenant, service, configured_at, moved_at, max_concurrency, max_queue, grace_ms, .. } = message;
        let ask = ();
        let envelope = Message { tenant, service, configured_at, moved_at, max_concurrency, max_queue, grace_ms, ask };
        let again = enclosed(&envelope, &CheckConnection).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), examples["message"]);
        let older: Message<Ask> = read(&examples["older_message"]);
        assert!(matches!(older.ask, Ask::Forget));
        assert_unchanged::<Message<Open>>(&examples["open"]);
        let done = LaneReply::<Done>::read(&examples["reply"].to_string()).unwrap();
        assert_eq!(to_value(done).unwrap(), examples["reply"]);
        let older = LaneReply::read(&examples["older_reply"].to_string()).unwrap();
        let LaneReply { reply: ProbeReply::Report(report), .. } = older;
        assert!(report.good);
    }
}
