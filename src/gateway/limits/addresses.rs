//! Limits of the deployment's own on what one client's address may do without credentials.

use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::time::Timestamp;
use narthex_core::http::client_address::source;
use narthex_core::http::problem::Problem;
use narthex_core::limits::policy::LimitKind;
use narthex_core::limits::quota_pool::QuotaRule;

use super::super::answer::internal;
use super::super::call::Call;
use super::due::Due;
use super::{Outcome, exceeded, take};

/// What the limit on registrations is called.
const REGISTRATIONS: &str = "registrations";
const REGISTRATIONS_MS: u64 = 600_000;

/// A limit on the address that this request comes from.
pub fn by_address(call: &Call, name: &'static str, rule: QuotaRule) -> Due {
    Due {
        // No limit that somebody configures has a name that begins so.
        bucket: format!("{FIRST_TENANT}/:{name}/{}", source(call.address())),
        name: name.into(),
        kind: LimitKind::Requests,
        rule,
        // A deployment's own setting: all that ask have the same.
        configured_at: Timestamp(0),
    }
}

/// Counts a client that registers itself.
///
/// # Errors
/// There were too many from this address.
pub async fn registration(call: &Call) -> Result<(), Problem> {
    let rule = QuotaRule { quota: call.settings.registrations, window_ms: REGISTRATIONS_MS };
    let due = by_address(call, REGISTRATIONS, rule);
    match take(call, &due).await.map_err(internal)? {
        Outcome::Refused(standing) => Err(exceeded(vec![(due.name, standing.reset_ms)])),
        Outcome::Token(..) | Outcome::Permit(..) => Ok(()),
    }
}
