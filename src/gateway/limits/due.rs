//! One limit that binds a request, and the object that counts it.

use crate::objects::limits::messages::{Ask, Message, Reply};
use crate::objects::registry::snapshot::Policy;
use crate::platform::objects::{self, Kind as Object, PATIENCE_MS};
use crate::platform::{Failure, log_event};
use narthex_core::base::time::Timestamp;
use narthex_core::limits::policy::LimitKind;
use narthex_core::limits::quota_pool::QuotaRule;

/// A limit that a request is to be held against.
#[derive(Clone)]
pub struct Due {
    /// The object's name.
    pub bucket: String,
    pub name: String,
    pub kind: LimitKind,
    pub rule: QuotaRule,
    pub configured_at: Timestamp,
}

impl Due {
    pub fn of(policy: &Policy, tenant: &str, value: &str) -> Self {
        Self {
            bucket: format!("{tenant}/{}/{value}", policy.name),
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
        objects::send(Object::Limits, &self.bucket, "", &message, PATIENCE_MS).await
    }

    /// Tells the object something that nobody waits for. Once: what is lost comes back by itself.
    pub async fn tell(&self, ask: Ask) {
        if let Err(failure) = self.ask(ask).await {
            log_event!(LimitNotNotified, bucket = &self.bucket, detail = &failure);
        }
    }
}
