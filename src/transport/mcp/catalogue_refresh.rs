//! Keeping the tools of MCP servers in step: a Worker reads them, the registry decides what that changes.
//!
//! They are read when the service is registered, when somebody asks for it, by the cron, and when the server says that they
//! have changed, on whatever stream it has.

use std::cell::RefCell;
use std::collections::HashMap;

use futures_util::StreamExt;
use futures_util::stream;

use crate::objects::registry::messages::{Ask, Message, Reply};
use crate::objects::registry::snapshot::{self, Entry, Snapshot};
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{Failure, clock, log_event, settings, tasks};
use narthex_core::access::audit::Actor;
use narthex_core::base::time::Timestamp;
use narthex_core::mcp::client_capabilities;

use super::{Asker, Peer, list_tools};

/// How long all of a server's list may take, in milliseconds.
const READ_MS: u64 = 10_000;
/// Servers that one sweep reads at the same time.
const AT_ONCE: usize = 4;
const MINUTE_MS: u64 = 60_000;
/// A server that says that its tools have changed may say so again at once: they are read this much later, and twice as much
/// with each time that it goes on.
const HEED_PAUSE_MS: u64 = 100;
const MAX_HEED_PAUSE_MS: u64 = 15_000;
/// One that says nothing for so many of its pauses begins with the shortest again.
const CALM_PAUSES: u64 = 10;
/// How long who passes that on waits for it, in milliseconds.
const TELL_MS: u64 = 5_000;
/// How long the reading may take at the most, and how often it is looked at whether it is over, in milliseconds.
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
    /// How long this reading is put off, in milliseconds.
    pause_ms: u64,
    /// Readings that were begun, and the last of them that has ended.
    begun: u64,
    ended: u64,
}

impl Heeded {
    /// Whether its pauses still count for what it says next.
    fn is_calm(&self, now: Timestamp) -> bool {
        now.since(self.until) >= self.pause_ms * CALM_PAUSES
    }
}

fn longer(pause_ms: u64) -> u64 {
    (pause_ms * 2).min(MAX_HEED_PAUSE_MS)
}

thread_local! {
    static HEEDED: RefCell<HashMap<String, Heeded>> = RefCell::new(HashMap::new());
}

/// The reading that heeds what a server has just said: its number, and how long it is put off where it is this request's.
fn put_down(name: &str, family: u32, now: Timestamp) -> (u64, Option<u64>) {
    HEEDED.with_borrow_mut(|all| {
        all.retain(|_, heeded| heeded.until > now || !heeded.is_calm(now));
        match all.get_mut(name) {
            Some(heeded) if heeded.until > now => {
                heeded.again = true;
                (heeded.begun + 1, None)
            }
            known => {
                let (pause_ms, begun) = known.map_or((HEED_PAUSE_MS, 0), |last| (longer(last.pause_ms), last.begun));
                let until = now.plus_ms(pause_ms + HEED_MS);
                all.insert(name.into(), Heeded { family, until, again: false, pause_ms, begun, ended: begun });
                (begun + 1, Some(pause_ms))
            }
        }
    })
}

/// The next reading begins: what was said until now is in it.
fn begin(name: &str, now: Timestamp) {
    HEEDED.with_borrow_mut(|all| {
        if let Some(heeded) = all.get_mut(name) {
            (heeded.again, heeded.until, heeded.begun) = (false, now.plus_ms(HEED_MS), heeded.begun + 1);
        }
    });
}

/// A reading has ended. Gives how long the next is put off, where there is to be one.
fn end(name: &str, now: Timestamp) -> Option<u64> {
    HEEDED.with_borrow_mut(|all| {
        let heeded = all.get_mut(name)?;
        heeded.ended = heeded.begun;
        if !heeded.again {
            heeded.until = now;
            return None;
        }
        heeded.pause_ms = longer(heeded.pause_ms);
        heeded.until = now.plus_ms(heeded.pause_ms + HEED_MS);
        Some(heeded.pause_ms)
    })
}

/// A server says that its tools have changed: they are read again, by one request at a time, and once more where it says
/// so meanwhile. Gives the number of the reading that heeds it.
pub fn heed(tenant: &str, service: &str) -> u64 {
    let name = format!("{tenant} {service}");
    let (number, mine) = put_down(&name, tasks::family(), clock::now());
    let Some(mut pause_ms) = mine else { return number };
    let (tenant, service) = (tenant.to_string(), service.to_string());
    tasks::spawn(async move {
        loop {
            // Saying so right away and again does not have it read all the time.
            clock::pause(pause_ms).await;
            begin(&name, clock::now());
            if let Ok(snapshot) = snapshot::fresh(&tenant).await
                && let Some(entry) = snapshot.service(&service)
                && let Err(failure) = renew(&tenant, entry).await
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

/// The same for who passes it on: comes back once they are read, so that those who look then see them, or after a while.
pub async fn heed_first(tenant: &str, service: &str) {
    let (number, name) = (heed(tenant, service), format!("{tenant} {service}"));
    let until = clock::now().plus_ms(TELL_MS);
    let waits = |now| HEEDED.with_borrow(|all| all.get(&name).is_some_and(|it| it.ended < number && it.until > now));
    while clock::now() < until && waits(clock::now()) {
        clock::pause(SETTLE_MS).await;
    }
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
            let capabilities = client_capabilities::served();
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
    let by = Actor { actor: "gateway".into(), ..Actor::default() };
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
            log_event!(ToolsNotRead, tenant = tenant, service = &entry.service().id, detail = &failure);
        }
    }));
    readings.buffer_unordered(AT_ONCE).collect::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_that_are_said_to_change_all_the_time_are_read_ever_more_rarely() {
        let (name, mut now) = ("tenant all-the-time", Timestamp(1_000_000));
        let (number, mut pause) = put_down(name, 1, now);
        let mut pauses = Vec::new();
        for reading in number.. {
            let Some(pause_ms) = pause else { break };
            pauses.push(pause_ms);
            now = now.plus_ms(pause_ms);
            begin(name, now);
            if reading < number + 9 {
                // It belongs to the next one, however often it is said.
                assert_eq!(
                    (put_down(name, 2, now), put_down(name, 3, now)),
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
            let (_, pause) = put_down(name, 1, now);
            begin(name, now);
            assert_eq!(end(name, now), None);
            pause
        };
        assert_eq!([0, 900, 2_000].map(|ms| read(now.plus_ms(ms))), [Some(100), Some(200), Some(400)]);
        assert_eq!(read(now.plus_ms(6_000)), Some(100));
    }
}
