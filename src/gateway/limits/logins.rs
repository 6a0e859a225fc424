//! Failed logins, limited by the client's address. A good one is not counted, and costs nothing but a look at what this
//! isolate knows; a bad one is counted by an object, so that all isolates together let the same number through.

use std::cell::Cell;

use crate::platform::clock;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::Problem;
use narthex_core::limits::quota_pool::QuotaRule;

use super::super::answer::internal;
use super::super::call::Call;
use super::addresses::by_address;
use super::due::Due;
use super::{Outcome, exceeded, take, with_local_quota};

/// What the limit is called in problems.
const NAME: &str = "failed-logins";
const WINDOW_MS: u64 = 60_000;

fn due(call: &Call) -> Due {
    by_address(call, NAME, QuotaRule { quota: call.settings.failed_logins, window_ms: WINDOW_MS })
}

thread_local! {
    /// Until when any source is shut out, as far as this isolate knows: the usual request looks no further.
    static SHUT_UNTIL: Cell<Timestamp> = const { Cell::new(Timestamp(0)) };
}

/// Before anything is looked up: refuses who failed too often.
pub fn check(call: &Call) -> Result<(), Problem> {
    if SHUT_UNTIL.get() <= call.began {
        return Ok(());
    }
    let (due, now) = (due(call), clock::now());
    match with_local_quota(&due.bucket, |local| local.is_exhausted(now).then(|| local.state(now))) {
        Some(standing) => Err(exceeded(vec![(due.name, standing.reset_ms)])),
        None => Ok(()),
    }
}

/// Counts a failed login. It is refused for that instead when there were too many.
pub async fn failed(call: &Call) -> Result<(), Problem> {
    let due = due(call);
    let outcome = take(call, &due).await.map_err(internal)?;
    let now = clock::now();
    if with_local_quota(&due.bucket, |local| local.is_exhausted(now)) {
        SHUT_UNTIL.set(SHUT_UNTIL.get().max(now.plus_ms(WINDOW_MS)));
    }
    match outcome {
        Outcome::Refused(standing) => Err(exceeded(vec![(due.name, standing.reset_ms)])),
        Outcome::Token(..) | Outcome::Permit(..) => Ok(()),
    }
}
