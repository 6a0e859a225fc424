//! Keeping the tools of MCP servers in step: a Worker reads them, the registry decides what that changes.
//!
//! They are read when the service is registered, when somebody asks for it, by the cron, and when the server says that they
//! have changed, on whatever stream it has.

use std::cell::RefCell;
use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::stream;

use crate::core::audit::By;
use crate::core::mcp::able;
use crate::core::time::Timestamp;
use crate::objects::registry::messages::{Ask, Message, Reply};
use crate::objects::registry::snapshot::{self, Entry, Snapshot};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{Failure, clock, log, settings, tasks};
use crate::transport::mcp::{Asker, Peer, list_tools};

/// How long all of a server's list may take, in milliseconds.
const READ_MS: u64 = 10_000;
/// Servers that one sweep reads at the same time.
const AT_ONCE: usize = 4;
const MINUTE_MS: u64 = 60_000;
/// A server that says that its tools have changed may say so again at once: they are read this much later.
const HEED_PAUSE_MS: u64 = 100;
/// How long that may take at the most, and how often it is looked at whether it is over, in milliseconds.
const HEED_MS: u64 = READ_MS + 5_000;
const SETTLE_MS: u64 = 50;

/// What a reading has come to.
pub struct Read {
    /// The registry's word: the service, where something has changed.
    pub reply: Reply,
    /// Why the list could not be read, or not to its end.
    pub error: Option<String>,
}

/// A service whose server says that its tools have changed.
struct Heeded {
    /// The requests in which they are read.
    family: u32,
    /// Until when that is believed to go on.
    until: Timestamp,
    /// It has said so again meanwhile.
    again: bool,
}

thread_local! {
    static HEEDED: RefCell<HashMap<String, Heeded>> = RefCell::new(HashMap::new());
}

/// A server says that its tools have changed: they are read again, by one request at a time, and once more where it says
/// so meanwhile.
pub fn heed(tenant: &str, service: &str) {
    let (name, now) = (format!("{tenant} {service}"), clock::now());
    let mine = Heeded { family: tasks::family(), until: now.plus_ms(HEED_MS), again: false };
    let is_mine = HEEDED.with_borrow_mut(|all| match all.get_mut(&name).filter(|heeded| heeded.until > now) {
        Some(heeded) => {
            heeded.again = true;
            false
        }
        None => all.insert(name.clone(), mine).is_none_or(|_| true),
    });
    if !is_mine {
        return;
    }
    let (tenant, service) = (tenant.to_string(), service.to_string());
    tasks::spawn(async move {
        loop {
            // Saying so right away and again does not have it read all the time.
            clock::pause(HEED_PAUSE_MS).await;
            HEEDED.with_borrow_mut(|all| {
                if let Some(heeded) = all.get_mut(&name) {
                    (heeded.again, heeded.until) = (false, clock::now().plus_ms(HEED_MS));
                }
            });
            if let Ok(snapshot) = snapshot::fresh(&tenant).await
                && let Some(entry) = snapshot.service(&service)
                && let Err(failure) = renew(&tenant, entry).await
            {
                log(&format!(
                    r#"{{"level":"warn","message":"tools not read","service":{service:?},"detail":{:?}}}"#,
                    failure.0
                ));
            }
            let is_over = HEEDED.with_borrow_mut(|all| {
                let is_over = all.get(&name).is_none_or(|heeded| !heeded.again);
                if is_over {
                    all.remove(&name);
                }
                is_over
            });
            if is_over {
                return;
            }
        }
    });
}

/// Whether tools are read in this request that a server has said to be others: it is not to end before that.
pub fn are_read() -> bool {
    let (family, now) = (tasks::family(), clock::now());
    HEEDED.with_borrow(|all| all.values().any(|heeded| heeded.family == family && heeded.until > now))
}

/// Passes once that is over.
pub async fn settled() {
    while are_read() {
        clock::pause(SETTLE_MS).await;
    }
}

/// Reads the tools of a service now; nothing where it is no MCP server.
pub async fn renew(tenant: &str, entry: &Entry) -> Result<Option<Read>, Failure> {
    let Some(upstream) = entry.service().transport.upstream() else { return Ok(None) };
    let until = clock::now().plus_ms(READ_MS);
    let read = match settings::current().may_call(&upstream.url, None) {
        Ok(address) => {
            let secrets = entry.secrets(tenant).await?;
            // All that a caller can be asked through the gateway: a server may have tools for such clients only.
            let capabilities = able::served();
            let asker = Asker { capabilities: capabilities.as_deref(), ..Asker::default() };
            let peer = Peer::new(tenant, entry, (address.into(), secrets), asker);
            list_tools(&peer, upstream.timeout_seconds, until).await
        }
        Err(refusal) => Err(format!("it was not called: {refusal}")),
    };
    let error = match &read {
        Ok(seen) => seen.unread.clone(),
        Err(reason) => Some(reason.clone()),
    };
    let ask = Ask::RenewTools { id: entry.service().id.clone(), url: upstream.url.clone(), read: read.map(Box::new) };
    let by = By { actor: "gateway".into(), ..By::default() };
    let message = Message { tenant: tenant.into(), ask, by };
    let reply = objects::send(Kind::Registry, tenant, "", &message, PATIENCE_MS).await?;
    Ok(Some(Read { reply, error }))
}

/// Whether it is this minute's turn: those that are read as often are spread over the time between.
fn is_due(entry: &Entry, now: Timestamp) -> bool {
    let Some(upstream) = entry.service().transport.upstream() else { return false };
    let known = entry.service().catalogue.as_ref();
    if known.is_none_or(|known| known.protocol_version.is_none()) {
        return true;
    }
    let every = (upstream.refresh_seconds * 1000).div_ceil(MINUTE_MS).max(1);
    (now.0 / MINUTE_MS + entry.registered.created_at.0).is_multiple_of(every)
}

/// Reads those whose turn it is. One that fails does not keep the others from being read.
pub async fn sweep(tenant: &str, snapshot: &Snapshot) {
    let now = clock::now();
    let due = snapshot.services.iter().filter(|entry| is_due(entry, now));
    let readings = stream::iter(due.map(|entry| async move {
        if let Err(failure) = renew(tenant, entry).await {
            let (id, detail) = (&entry.service().id, failure.0);
            log(&format!(r#"{{"level":"warn","message":"tools not read","service":{id:?},"detail":{detail:?}}}"#));
        }
    }));
    readings.buffer_unordered(AT_ONCE).collect::<()>().await;
}
