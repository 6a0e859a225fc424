//! Keeping the tools of MCP servers in step: a Worker reads them, the registry decides what that changes.
//!
//! They are read when the service is registered, when somebody asks for it, by the cron, and when the server says that they
//! have changed while somebody listens at its door.

use futures_util::StreamExt;
use futures_util::stream;

use crate::core::audit::By;
use crate::core::time::Timestamp;
use crate::objects::registry::messages::{Ask, Message, Reply};
use crate::objects::registry::snapshot::{Entry, Snapshot};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{Failure, clock, log, settings};
use crate::transport::mcp::{Peer, list_tools};

/// How long all of a server's list may take, in milliseconds.
const READ_MS: u64 = 10_000;
/// Servers that one sweep reads at the same time.
const AT_ONCE: usize = 4;
const MINUTE_MS: u64 = 60_000;

/// What a reading has come to.
pub struct Read {
    /// The registry's word: the service, where something has changed.
    pub reply: Reply,
    /// Why the list could not be read, or not to its end.
    pub error: Option<String>,
}

/// Reads the tools of a service now; nothing where it is no MCP server.
pub async fn renew(tenant: &str, entry: &Entry) -> Result<Option<Read>, Failure> {
    let Some(upstream) = entry.service().transport.upstream() else { return Ok(None) };
    let until = clock::now().plus_ms(READ_MS);
    let read = match settings::current().may_call(&upstream.url, None) {
        Ok(address) => {
            let secrets = entry.secrets(tenant).await?;
            let peer = Peer::new(tenant, entry, (address.into(), secrets), "", None);
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
