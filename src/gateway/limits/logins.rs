//! The limit on failed logins, by the client's address. A successful login is not counted, and costs only a look at the
//! state of this isolate; failures are counted by an object, so that the limit holds for all isolates together.

use std::cell::Cell;

use crate::platform::clock;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::Problem;
use narthex_core::limits::quota_pool::QuotaRule;

use super::super::answer::internal;
use super::super::call::Call;
use super::addresses::by_address;
use super::pool_ref::PoolRef;
use super::{Outcome, exceeded, take, with_local_quota};

/// The name of the limit in problems.
const NAME: &str = "failed-logins";
const WINDOW_MS: u64 = 60_000;

fn pool(call: &Call) -> PoolRef {
    by_address(call, NAME, QuotaRule { quota: call.settings.failed_logins, window_ms: WINDOW_MS })
}

thread_local! {
    /// Until when any address is blocked, as far as this isolate knows: most requests look no further.
    static BLOCKED_UNTIL: Cell<Timestamp> = const { Cell::new(Timestamp(0)) };
}

/// Refuses addresses with too many failures, before anything is looked up.
pub fn check(call: &Call) -> Result<(), Problem> {
    if BLOCKED_UNTIL.get() <= call.began {
        return Ok(());
    }
    let (pool, now) = (pool(call), clock::now());
    match with_local_quota(&pool.id, |local| local.is_exhausted(now).then(|| local.state(now))) {
        Some(standing) => Err(exceeded(vec![(pool.name, standing.reset_ms)])),
        None => Ok(()),
    }
}

/// Counts a failed login. Fails with the limit if there were too many.
pub async fn failed(call: &Call) -> Result<(), Problem> {
    let pool = pool(call);
    let outcome = take(&pool).await.map_err(internal)?;
    let now = clock::now();
    if with_local_quota(&pool.id, |local| local.is_exhausted(now)) {
        BLOCKED_UNTIL.set(BLOCKED_UNTIL.get().max(now.plus_ms(WINDOW_MS)));
    }
    match outcome {
        Outcome::Refused(standing) => Err(exceeded(vec![(pool.name, standing.reset_ms)])),
        Outcome::Token(..) | Outcome::Permit(..) => Ok(()),
    }
}
