//! What is told of credentials after the answer: that a key was used, or that somebody was refused, and both
//! seldom enough that it costs nobody anything.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::auth;
use crate::objects::registry::messages::{Ask, Message, RejectedCredentials, Reply};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{clock, log_event};
use narthex_core::access::api_key;
use narthex_core::access::audit::Actor;
use narthex_core::access::jose::jwt;
use narthex_core::access::oauth::client::{client_id, split_client_id};
use narthex_core::access::principal::Principal;
use narthex_core::access::repeat_suppressor::RepeatSuppressor;
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::canonical::digest;
use narthex_core::base::names::valid_id;
use narthex_core::base::time::Timestamp;
use narthex_core::http::problem::{Code, Problem};

use super::call::Call;
use super::limits::logins;

const HOUR_MS: u64 = 3_600_000;
/// Keys an isolate remembers the last use of.
const MAX_KEYS: usize = 10_000;
/// The same refusal is told again after this, in milliseconds; and so many different ones in that time.
const REFUSALS_MS: u64 = 60_000;
const MAX_REFUSALS: usize = 32;

thread_local! {
    /// The hour in which a key's use was told last, by principal.
    static USED: RefCell<HashMap<String, u64>> = RefCell::default();
    static REFUSED: RefCell<RepeatSuppressor> = const { RefCell::new(RepeatSuppressor::new(REFUSALS_MS, MAX_REFUSALS)) };
}

fn tell(call: &Call, message: Message) {
    call.keep_running(async move {
        let tenant = message.tenant.clone();
        let told: Result<Reply, _> = objects::send(Kind::Registry, &tenant, "", &message, PATIENCE_MS).await;
        if let Err(failure) = told {
            log_event!(CredentialUseNotRecorded, tenant = &tenant, detail = &failure);
        }
    });
}

/// Whether this principal's use is to be noted: once an hour.
fn is_news(principal: &str, hour: u64) -> bool {
    USED.with_borrow_mut(|used| {
        if used.get(principal) == Some(&hour) {
            return false;
        }
        if used.len() >= MAX_KEYS {
            used.clear();
        }
        used.insert(principal.into(), hour);
        true
    })
}

/// Notes that a key was used: once an hour.
pub fn used(call: &Call, principal: &Principal) {
    // Only keys end; the deployment's own does not, and is not in the registry.
    let (Some(id), Some(_)) = (principal.principal.strip_prefix("key:"), principal.until) else { return };
    let hour = call.began.0 / HOUR_MS;
    if is_news(&principal.principal, hour) {
        let ask = Ask::Used { key: id.into(), at: Timestamp(hour * HOUR_MS) };
        tell(call, Message::new(principal.tenant.clone(), ask));
    }
}

/// Notes that a client of this tenant was given a token: once an hour.
pub fn used_client(call: &Call, tenant: &str, id: &str) {
    let hour = call.began.0 / HOUR_MS;
    if is_news(&format!("client:{}", client_id(tenant, id)), hour) {
        let ask = Ask::UsedClient { client: id.into(), at: Timestamp(hour * HOUR_MS) };
        tell(call, Message::new(tenant, ask));
    }
}

/// Notes that the request's credentials were refused, if they were. Gives the refusal back, or that it was one too many.
pub async fn refused(call: &Call, problem: Problem) -> Problem {
    if let Some(presented) = auth::presented(&call.request).filter(|_| problem.code == Code::Unauthenticated) {
        if let Err(limited) = logins::failed(call).await {
            return limited;
        }
        note(call, presented, problem.cause.clone()).await;
    }
    problem
}

/// Notes that credentials were refused. Of a key the registry knows why in truth; of what is none, `reason` says it.
pub async fn note(call: &Call, presented: &str, reason: Option<String>) {
    let parsed = api_key::parse(presented);
    let token = jwt::parse(presented)
        .ok()
        .filter(|token| call.settings.oauth && token.issuer() == Some(&auth::origin_of(&call.request, &call.settings)));
    let tenant = parsed.as_ref().map(|key| key.tenant).or_else(|| token.as_ref()?.text("tenant"));
    let key = parsed.as_ref().map(|key| key.id.to_string());
    tell_refused(call, tenant, RejectedCredentials { key, client: None, hash: digest(presented), count: 1, reason })
        .await;
}

/// Notes that an OAuth client did not prove that it is the one. Of one that is not there the registry knows why.
pub async fn note_client(call: &Call, client_id: &str, reason: Option<String>) {
    let named = split_client_id(client_id).filter(|(_, id)| valid_id(id));
    let (tenant, client) = named.unzip();
    // What is no id of a client here names nothing in the log.
    let reason = if client.is_some() { reason } else { reason.or(Some("unknown".into())) };
    let refused =
        RejectedCredentials { key: None, client: client.map(Into::into), hash: String::new(), count: 1, reason };
    tell_refused(call, tenant, refused).await;
}

async fn tell_refused(call: &Call, tenant: Option<&str>, refused: RejectedCredentials) {
    // Where there is no such tenant, it is for who runs the deployment to know.
    let tenant = match tenant {
        Some(tenant) if auth::is_tenant(tenant).await.unwrap_or(false) => tenant,
        _ => FIRST_TENANT,
    };
    let subject = [&refused.key, &refused.client, &refused.reason].into_iter().flatten().map(String::as_str);
    let like = [tenant.to_string(), call.address().to_string(), subject.collect::<Vec<_>>().join(" ")];
    let told = REFUSED.with_borrow_mut(|refused| refused.add(like, 1, clock::now()));
    if let Some(([tenant, address, _], count)) = told {
        let refused = RejectedCredentials { count, ..refused };
        // Too many to be told apart.
        let tenant = if tenant.is_empty() { FIRST_TENANT.into() } else { tenant };
        let by = Actor { actor: String::new(), name: None, request_id: call.request_id.clone(), address };
        tell(call, Message { tenant, ask: Ask::Refused(refused), by });
    }
}
