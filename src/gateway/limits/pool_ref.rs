//! The quota pool that one limit has for a request, and the object that counts it.

use crate::objects::limits::messages::{self, Limits};
use crate::objects::protocol::{Done, Request};
use crate::platform::log_event;
use crate::platform::objects::CallError;
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::limits::policy::LimitKind;
use narthex_core::limits::quota_pool::QuotaRule;
use narthex_core::registry::rules::NamedLimit;

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
    pub fn of(policy: &NamedLimit, tenant: &TenantId, value: &str) -> Self {
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

    /// Sends a request to the object.
    pub async fn call<R: Request<Object = Limits>>(&self, request: &R) -> Result<R::Reply, CallError> {
        messages::call(&Limits::of(&self.id), self.rule, self.configured_at, request).await
    }

    /// Notifies the object, without retries: permits and tokens that it does not get back expire.
    pub async fn notify(&self, request: &impl Request<Object = Limits, Reply = Done>) {
        if let Err(error) = self.call(request).await {
            log_event!(LimitNotNotified, bucket = &self.id, detail = &error);
        }
    }
}
