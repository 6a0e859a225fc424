//! The limit on failed logins. A successful login is not counted, and costs only a look at the state of this isolate;
//! failures are counted by an object, so that the limit holds for all isolates together.
//!
//! Failures are counted by the client's address, and an address with too many is refused before anything is looked up.
//! If the address may be that of a proxy, which all clients share, that would lock out everybody: then failures are
//! counted by the id of the key or client, and in all, and only the response to a failure changes.

use std::cell::Cell;

use crate::platform::clock;
use narthex_core::access::api_key;
use narthex_core::base::canonical::digest;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::Problem;
use narthex_core::limits::quota_pool::QuotaRule;

use super::super::answer::internal;
use super::super::call::Call;
use super::addresses::{by_address, of_deployment};
use super::pool_ref::PoolRef;
use super::{Outcome, exceeded, take, with_local_quota};

/// The name of the limit in problems.
const NAME: &str = "failed-logins";
const WINDOW_MS: u64 = 60_000;
/// How many times as many failures as with one id are allowed in all, while addresses are not known.
const IN_ALL: u64 = 50;
/// How many hexadecimal digits of an id's digest name its counter: ids can be made up, so the number of counters must
/// be bounded.
const COUNTER_DIGITS: usize = 2;

/// What a failed login named, without its secret.
#[derive(Debug, Clone, Copy)]
pub enum Login<'c> {
    /// The text presented as a key or token.
    Key(&'c str),
    /// The id of an OAuth client.
    Client(&'c str),
    Ticket,
}

impl<'c> Login<'c> {
    fn id(self) -> Option<&'c str> {
        match self {
            Login::Key(presented) => api_key::parse(presented).map(|key| key.id),
            Login::Client(id) => Some(id).filter(|id| !id.is_empty()),
            Login::Ticket => None,
        }
    }
}

fn rule(quota: u64) -> QuotaRule {
    QuotaRule { quota, window_ms: WINDOW_MS }
}

fn pool(call: &Call) -> PoolRef {
    by_address(call, NAME, rule(call.settings.failed_logins))
}

thread_local! {
    /// Until when any address is blocked, as far as this isolate knows: most requests look no further.
    static BLOCKED_UNTIL: Cell<Timestamp> = const { Cell::new(Timestamp(0)) };
}

/// Refuses addresses with too many failures, before anything is looked up.
pub fn check(call: &Call) -> Result<(), Problem> {
    if BLOCKED_UNTIL.get() <= call.began || !call.client_address().is_clients {
        return Ok(());
    }
    let (pool, now) = (pool(call), clock::now());
    match with_local_quota(&pool.id, |local| local.is_exhausted(now).then(|| local.state(now))) {
        Some(standing) => Err(exceeded(vec![(pool.name, standing.reset_ms)])),
        None => Ok(()),
    }
}

/// Counts a failed login. Fails with the limit if there were too many.
pub async fn failed(call: &Call, login: Login<'_>) -> Result<(), Problem> {
    if !call.client_address().is_clients {
        return failed_anywhere(call, login).await;
    }
    let pool = pool(call);
    let counted = count(&pool).await;
    let now = clock::now();
    if with_local_quota(&pool.id, |local| local.is_exhausted(now)) {
        BLOCKED_UNTIL.set(BLOCKED_UNTIL.get().max(now.plus_ms(WINDOW_MS)));
    }
    counted
}

/// Counts a failed login from an address that many clients may share.
async fn failed_anywhere(call: &Call, login: Login<'_>) -> Result<(), Problem> {
    let quota = call.settings.failed_logins;
    count(&of_deployment(NAME, format_args!("{NAME}-in-all"), rule(quota.saturating_mul(IN_ALL)))).await?;
    let digest = login.id().map(digest);
    let counter = digest.as_deref().and_then(|digest| digest.get(..COUNTER_DIGITS)).unwrap_or("others");
    count(&of_deployment(NAME, format_args!("{NAME}-by-id/{counter}"), rule(quota))).await
}

async fn count(pool: &PoolRef) -> Result<(), Problem> {
    match take(pool).await.map_err(internal)? {
        Outcome::Refused(standing) => Err(exceeded(vec![(pool.name.clone(), standing.reset_ms)])),
        Outcome::Token(..) | Outcome::Permit(..) => Ok(()),
    }
}
