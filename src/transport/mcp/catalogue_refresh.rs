//! Keeping the tools of MCP servers up to date: a Worker reads them, the registry decides what that changes.
//!
//! They are read when a service is registered, on request, by the cron, and when the server notifies that they have
//! changed.

use std::cell::RefCell;
use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::stream;

use crate::objects::registry::client::ask_as;
use crate::objects::registry::messages::{RenewTools, StoredService, ToolsReply};
use crate::objects::registry::snapshot::{self, Entry, ServiceDocument, Snapshot};
use crate::objects::reply::Reply;
use crate::platform::{Failure, clock, log_event, settings, tasks};
use narthex_core::access::audit::Actor;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::mcp::client_capabilities;
use narthex_core::services::outline::TransportOutline;

use super::{Peer, Requester, list_tools};

/// How long reading the whole list of a server may take, in milliseconds.
const READ_TIMEOUT_MS: u64 = 10_000;
/// The maximum number of servers that a sweep reads at a time.
const MAX_CONCURRENT: usize = 4;
const MINUTE_MS: u64 = 60_000;
/// The delay between a notification and the refresh, in milliseconds. It doubles with each notification in a row, as a
/// server may send them all the time.
const REFRESH_DELAY_MS: u64 = 100;
const MAX_REFRESH_DELAY_MS: u64 = 15_000;
/// After this many of its delays without a notification, a server starts with the shortest delay again.
const CALM_PAUSES: u64 = 10;
/// How long the forwarding of a notification waits for the refresh, in milliseconds.
const WAIT_TIMEOUT_MS: u64 = 5_000;
/// The maximum duration of a refresh, and how often waiting requests check whether it is over, in milliseconds.
const REFRESH_TIMEOUT_MS: u64 = READ_TIMEOUT_MS + 5_000;
const WAIT_POLL_MS: u64 = 50;

/// The result of a refresh.
pub struct RefreshResult {
    /// The service, if something has changed.
    pub service: Option<Box<StoredService>>,
    /// Why the list could not be read completely.
    pub error: Option<String>,
}

/// The refresh of a service whose server has notified a change.
struct PendingRefresh {
    /// When the refresh counts as lost.
    until: Timestamp,
    /// Another notification has arrived since the refresh began.
    again: bool,
    /// The delay of this refresh, in milliseconds.
    pause_ms: u64,
    /// The numbers of the last refresh that began, and of the last that ended.
    begun: u64,
    ended: u64,
}

impl PendingRefresh {
    /// Whether enough time has passed to start with the shortest delay again.
    fn is_calm(&self, now: Timestamp) -> bool {
        now.since(self.until) >= self.pause_ms * CALM_PAUSES
    }
}

fn longer(pause_ms: u64) -> u64 {
    (pause_ms * 2).min(MAX_REFRESH_DELAY_MS)
}

thread_local! {
    static REFRESHING: RefCell<HashMap<String, PendingRefresh>> = RefCell::new(HashMap::new());
}

/// Plans the refresh for a notification. Returns its number, and its delay if this request is to make it.
fn plan_refresh(name: &str, now: Timestamp) -> (u64, Option<u64>) {
    REFRESHING.with_borrow_mut(|all| {
        all.retain(|_, state| state.until > now || !state.is_calm(now));
        match all.get_mut(name) {
            Some(state) if state.until > now => {
                state.again = true;
                (state.begun + 1, None)
            }
            known => {
                let (pause_ms, begun) = known.map_or((REFRESH_DELAY_MS, 0), |last| (longer(last.pause_ms), last.begun));
                let until = now.plus_ms(pause_ms + REFRESH_TIMEOUT_MS);
                all.insert(name.into(), PendingRefresh { until, again: false, pause_ms, begun, ended: begun });
                (begun + 1, Some(pause_ms))
            }
        }
    })
}

/// Begins the next refresh, which covers all notifications until now.
fn begin(name: &str, now: Timestamp) {
    REFRESHING.with_borrow_mut(|all| {
        if let Some(state) = all.get_mut(name) {
            (state.again, state.until, state.begun) = (false, now.plus_ms(REFRESH_TIMEOUT_MS), state.begun + 1);
        }
    });
}

/// Ends a refresh. Returns the delay of the next one if there is to be one.
fn end(name: &str, now: Timestamp) -> Option<u64> {
    REFRESHING.with_borrow_mut(|all| {
        let state = all.get_mut(name)?;
        state.ended = state.begun;
        if !state.again {
            state.until = now;
            return None;
        }
        state.pause_ms = longer(state.pause_ms);
        state.until = now.plus_ms(state.pause_ms + REFRESH_TIMEOUT_MS);
        Some(state.pause_ms)
    })
}

/// Refreshes the tools of a service after a notification of its server: one request at a time reads them, and once more
/// if another notification arrives in between. Returns the number of the refresh that covers this notification.
pub fn refresh_soon(tenant: &TenantId, service: &ServiceId) -> u64 {
    let name = format!("{tenant} {service}");
    let (number, mine) = plan_refresh(&name, clock::now());
    let Some(mut pause_ms) = mine else { return number };
    let (tenant, service) = (tenant.clone(), service.clone());
    tasks::keep_running(async move {
        loop {
            // The delay bounds how often the list of a server that notifies all the time is read.
            clock::pause(pause_ms).await;
            begin(&name, clock::now());
            if let Ok(snapshot) = snapshot::fresh(&tenant).await
                && let Ok(Some(document)) = snapshot.document(service.as_str()).await
                && let Err(failure) = refresh(&tenant, &document).await
            {
                log_event!(ToolsNotRead, tenant = &tenant, service = &service, detail = &failure);
            }
            match end(&name, clock::now()) {
                Some(next) => pause_ms = next,
                None => return,
            }
        }
    });
    number
}

/// As [`refresh_soon`], and waits until the refresh has ended, for at most a few seconds, so that clients that look
/// then see the new tools.
pub async fn refresh_and_wait(tenant: &TenantId, service: &ServiceId) {
    let (number, name) = (refresh_soon(tenant, service), format!("{tenant} {service}"));
    let until = clock::now().plus_ms(WAIT_TIMEOUT_MS);
    let waits =
        |now| REFRESHING.with_borrow(|all| all.get(&name).is_some_and(|it| it.ended < number && it.until > now));
    while clock::now() < until && waits(clock::now()) {
        clock::pause(WAIT_POLL_MS).await;
    }
}

/// Reads the tools of a service now. `None` if it is not an MCP server.
pub async fn refresh(tenant: &TenantId, document: &ServiceDocument) -> Result<Option<RefreshResult>, Failure> {
    let Some(upstream) = document.service().transport.upstream() else { return Ok(None) };
    let until = clock::now().plus_ms(READ_TIMEOUT_MS);
    let read = match settings::current().may_call(&upstream.url, None) {
        Ok(address) => {
            let secrets = document.secrets(tenant).await?;
            // All that clients can be asked through the gateway: a server may offer tools only to clients with these
            // capabilities.
            let capabilities = client_capabilities::served();
            let requester = Requester { capabilities: capabilities.as_deref(), ..Requester::default() };
            let peer = Peer::new(tenant, document, (address.into(), secrets), requester);
            list_tools(&peer, upstream.timeout_seconds, until).await
        }
        Err(refusal) => Err(format!("it was not called: {refusal}")),
    };
    let error = match &read {
        Ok(seen) => seen.unread.clone(),
        Err(reason) => Some(reason.clone()),
    };
    let request = RenewTools { id: document.service().id.clone(), url: upstream.url.clone(), read: read.map(Box::new) };
    let by = Actor { actor: "gateway".into(), ..Actor::default() };
    let Reply(outcome) = ask_as(tenant, &by, &request).await?;
    let service = match outcome {
        Ok(ToolsReply::Service(written)) => Some(written.service),
        // A refusal means that the service was deleted, or that there is no space left.
        Ok(ToolsReply::Unchanged) | Err(_) => None,
    };
    Ok(Some(RefreshResult { service, error }))
}

/// Whether the service is due in this minute: services with equal intervals are spread over them.
fn is_due(entry: &Entry, now: Timestamp) -> bool {
    let TransportOutline::Mcp { refresh_seconds } = entry.service().transport else { return false };
    let known = entry.service().server.as_ref();
    if known.is_none_or(|known| known.protocol_version.is_none()) {
        return true;
    }
    let every = (refresh_seconds * 1000).div_ceil(MINUTE_MS).max(1);
    (now.0 / MINUTE_MS + entry.outline.created_at.0).is_multiple_of(every)
}

/// Reads the due services. A failure does not affect the others.
pub async fn sweep(tenant: &TenantId, snapshot: &Snapshot) {
    let now = clock::now();
    let due = snapshot.services.iter().filter(|entry| is_due(entry, now));
    let readings = stream::iter(due.map(|entry| async move {
        // A sweep must not displace what calls need.
        let read = match snapshot.first_documents(&[entry]).await {
            Ok((documents, _)) => match documents.first() {
                Some(document) => refresh(tenant, document).await.map(drop),
                None => Ok(()),
            },
            Err(failure) => Err(failure),
        };
        if let Err(failure) = read {
            log_event!(ToolsNotRead, tenant = tenant, service = &entry.service().id, detail = &failure);
        }
    }));
    readings.buffer_unordered(MAX_CONCURRENT).collect::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_that_are_said_to_change_all_the_time_are_read_ever_more_rarely() {
        let (name, mut now) = ("tenant all-the-time", Timestamp(1_000_000));
        let (number, mut pause) = plan_refresh(name, now);
        let mut pauses = Vec::new();
        for reading in number.. {
            let Some(pause_ms) = pause else { break };
            pauses.push(pause_ms);
            now = now.plus_ms(pause_ms);
            begin(name, now);
            if reading < number + 9 {
                // It is covered by the next refresh, however often it is notified.
                assert_eq!(
                    (plan_refresh(name, now), plan_refresh(name, now)),
                    ((reading + 1, None), (reading + 1, None))
                );
            }
            pause = end(name, now);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000]);
    }

    #[test]
    fn pauses_between_two_readings_count_until_it_has_been_calm() {
        let (name, now) = ("tenant now-and-then", Timestamp(1_000_000));
        let read = |now: Timestamp| {
            let (_, pause) = plan_refresh(name, now);
            begin(name, now);
            assert_eq!(end(name, now), None);
            pause
        };
        assert_eq!([0, 900, 2_000].map(|ms| read(now.plus_ms(ms))), [Some(100), Some(200), Some(400)]);
        assert_eq!(read(now.plus_ms(6_000)), Some(100));
    }
}
