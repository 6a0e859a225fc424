//! The deployment's own limits on requests without credentials, by the client's address.

use std::fmt;

use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::http::client_address::source;
use narthex_core::http::problem::Problem;
use narthex_core::limits::policy::LimitKind;
use narthex_core::limits::quota_pool::QuotaRule;

use super::super::answer::internal;
use super::super::call::Call;
use super::pool_ref::PoolRef;
use super::{Outcome, exceeded, take};

/// The name of the limit on registrations.
const REGISTRATIONS: &str = "registrations";
const REGISTRATIONS_MS: u64 = 600_000;

/// A limit on the address that this request comes from.
pub fn by_address(call: &Call, name: &'static str, rule: QuotaRule) -> PoolRef {
    of_deployment(name, format_args!("{name}/{}", source(call.address())), rule)
}

/// A limit of the deployment's own, counted by the object of this name.
pub fn of_deployment(name: &'static str, object: fmt::Arguments<'_>, rule: QuotaRule) -> PoolRef {
    PoolRef {
        // Names of configured limits have no colon.
        id: TenantId::first().object_for(format_args!(":{object}")),
        name: name.into(),
        kind: LimitKind::Requests,
        rule,
        // It is a setting of the deployment, the same for every request.
        configured_at: Timestamp(0),
    }
}

/// Counts a client that registers itself.
///
/// # Errors
/// There were too many from this address.
pub async fn registration(call: &Call) -> Result<(), Problem> {
    let rule = QuotaRule { quota: call.settings.registrations, window_ms: REGISTRATIONS_MS };
    let pool = by_address(call, REGISTRATIONS, rule);
    match take(&pool).await.map_err(internal)? {
        Outcome::Refused(standing) => Err(exceeded(vec![(pool.name, standing.reset_ms)])),
        Outcome::Token(..) | Outcome::Permit(..) => Ok(()),
    }
}
