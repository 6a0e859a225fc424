//! The quota pool that one limit has for a request, and the object that counts it.

use crate::objects::limits::messages::{Ask, Message, Reply};
use crate::objects::registry::snapshot::Policy;
use crate::platform::objects::{self, CALL_TIMEOUT_MS, Kind as Object};
use crate::platform::{Failure, log_event};
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::limits::policy::LimitKind;
use narthex_core::limits::quota_pool::QuotaRule;

/// A reference to a quota pool.
#[derive(Clone)]
pub struct PoolRef {
    /// The name of the object.
    pub id: ObjectName,
    /// The name of the limit.
    pub name: String,
    pub kind: LimitKind,
    pub rule: QuotaRule,
    pub configured_at: Timestamp,
}

impl PoolRef {
    pub fn of(policy: &Policy, tenant: &TenantId, value: &str) -> Self {
        Self {
            id: tenant.object_for(format_args!("{}/{value}", policy.name)),
            name: policy.name.clone(),
            kind: policy.limit.kind,
            rule: QuotaRule {
                quota: policy.limit.quota,
                window_ms: policy.limit.window_seconds.unwrap_or_default().max(1) * 1000,
            },
            configured_at: policy.configured_at,
        }
    }

    pub async fn ask(&self, ask: Ask) -> Result<Reply, Failure> {
        let message = Message { rule: self.rule, configured_at: self.configured_at, ask };
        objects::send(Object::Limits, &self.id, "", &message, CALL_TIMEOUT_MS).await
    }

    /// Notifies the object, without retries: permits and tokens that it does not get back expire.
    pub async fn notify(&self, ask: Ask) {
        if let Err(failure) = self.ask(ask).await {
            log_event!(LimitNotNotified, bucket = &self.id, detail = &failure);
        }
    }
}
