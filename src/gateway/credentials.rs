//! Records the use of keys and rejected credentials, after the response and at a limited rate.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::auth;
use crate::objects::protocol::Request;
use crate::objects::registry::client::ask_as;
use crate::objects::registry::messages::{RecordClientUse, RecordKeyUse, Registries, RejectedCredentials};
use crate::platform::{clock, log_event, tasks};
use narthex_core::access::api_key;
use narthex_core::access::audit::Actor;
use narthex_core::access::jose::jwt;
use narthex_core::access::oauth::client::{client_id, split_client_id};
use narthex_core::access::principal::Principal;
use narthex_core::access::repeat_suppressor::RepeatSuppressor;
use narthex_core::base::canonical::digest;
use narthex_core::base::names::valid_id;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::{Code, Problem};

use super::call::Call;
use super::limits::logins::{self, Login};

const HOUR_MS: u64 = 3_600_000;
/// The maximum number of principals whose last use an isolate remembers.
const MAX_KEYS: usize = 10_000;
/// The interval at which the same rejection is reported again, in milliseconds, and the maximum number of different
/// ones in that time.
const REFUSALS_MS: u64 = 60_000;
const MAX_REFUSALS: usize = 32;

thread_local! {
    /// The hour in which the use of a principal was last reported.
    static USED: RefCell<HashMap<PrincipalId, u64>> = RefCell::default();
    static REFUSED: RefCell<RepeatSuppressor> = const { RefCell::new(RepeatSuppressor::new(REFUSALS_MS, MAX_REFUSALS)) };
}

fn report<R: Request<Object = Registries> + 'static>(tenant: TenantId, by: Actor, request: R) {
    tasks::keep_running(async move {
        if let Err(failure) = ask_as(&tenant, &by, &request).await {
            log_event!(CredentialUseNotRecorded, tenant = &tenant, detail = &failure);
        }
    });
}

/// Whether the use of this principal must be reported: once an hour.
fn is_news(principal: &PrincipalId, hour: u64) -> bool {
    USED.with_borrow_mut(|used| {
        if used.get(principal) == Some(&hour) {
            return false;
        }
        if used.len() >= MAX_KEYS {
            used.clear();
        }
        used.insert(principal.clone(), hour);
        true
    })
}

/// Reports the use of a key, once an hour.
pub fn used(call: &Call, principal: &Principal) {
    // Only keys end. The deployment's own does not, and is not in the registry.
    let (Some(id), Some(_)) = (principal.principal.key(), principal.until) else { return };
    let hour = call.began.0 / HOUR_MS;
    if is_news(&principal.principal, hour) {
        let request = RecordKeyUse { key: id.into(), at: Timestamp(hour * HOUR_MS) };
        report(principal.tenant.clone(), Actor::default(), request);
    }
}

/// Reports that a client of this tenant received a token, once an hour.
pub fn used_client(call: &Call, tenant: &TenantId, id: &str) {
    let hour = call.began.0 / HOUR_MS;
    if is_news(&PrincipalId::of_client(&client_id(tenant, id)), hour) {
        let request = RecordClientUse { client: id.into(), at: Timestamp(hour * HOUR_MS) };
        report(tenant.clone(), Actor::default(), request);
    }
}

/// Reports the credentials of a request if they were rejected. Returns the rejection, or the rate limit for failed
/// logins.
pub async fn refused(call: &Call, problem: Problem) -> Problem {
    if let Some(presented) = auth::presented(&call.request).filter(|_| problem.code == Code::Unauthenticated) {
        if let Err(limited) = logins::failed(call, Login::Key(presented)).await {
            return limited;
        }
        note(call, presented, problem.cause.clone()).await;
    }
    problem
}

/// Reports rejected credentials. For keys the registry knows the real reason; for other credentials `reason` is
/// recorded.
pub async fn note(call: &Call, presented: &str, reason: Option<String>) {
    let parsed = api_key::parse(presented);
    let token = jwt::parse(presented)
        .ok()
        .filter(|token| call.settings.oauth && token.issuer() == Some(&auth::origin_of(&call.request, &call.settings)));
    let tenant = parsed.as_ref().map(|key| key.tenant).or_else(|| token.as_ref()?.text("tenant"));
    let key = parsed.as_ref().map(|key| key.id.to_string());
    report_rejection(
        call,
        tenant,
        RejectedCredentials { key, client: None, hash: digest(presented), count: 1, reason },
    )
    .await;
}

/// Reports an OAuth client that failed to authenticate. For unknown clients the registry knows the reason.
pub async fn note_client(call: &Call, client_id: &str, reason: Option<String>) {
    let named = split_client_id(client_id).filter(|(_, id)| valid_id(id));
    let (tenant, client) = named.unzip();
    // Other texts than ids of clients are not written to the log.
    let reason = if client.is_some() { reason } else { reason.or(Some("unknown".into())) };
    let refused =
        RejectedCredentials { key: None, client: client.map(Into::into), hash: String::new(), count: 1, reason };
    report_rejection(call, tenant, refused).await;
}

async fn report_rejection(call: &Call, tenant: Option<&str>, refused: RejectedCredentials) {
    // Without a tenant of this name, it is reported to the operator of the deployment.
    let known = match tenant {
        Some(tenant) => auth::existing_tenant(tenant).await.ok().flatten(),
        None => None,
    };
    let tenant = known.unwrap_or_else(TenantId::first);
    let subject = [&refused.key, &refused.client, &refused.reason].into_iter().flatten().map(String::as_str);
    let like = [tenant.to_string(), call.address().to_string(), subject.collect::<Vec<_>>().join(" ")];
    let due = REFUSED.with_borrow_mut(|refused| refused.add(like, 1, clock::now()));
    if let Some(([tenant, address, _], count)) = due {
        let refused = RejectedCredentials { count, ..refused };
        // There were too many to report them one by one.
        let tenant = if tenant.is_empty() { TenantId::first() } else { TenantId::from_stored(tenant) };
        let by = Actor { actor: String::new(), name: None, request_id: call.request_id.clone(), address };
        report(tenant, by, refused);
    }
}
