//! Clients that publish a document about themselves: read when they ask, held in each isolate for as long as its server
//! says. When it is fetched is decided in `narthex_core::access::oauth::metadata_document`.

use std::cell::RefCell;
use std::rc::Rc;

use crate::platform::{calls, clock, log_event};
use narthex_core::access::oauth::client::Client;
use narthex_core::access::oauth::client_metadata::read_metadata;
use narthex_core::access::oauth::grant::SeenClient;
use narthex_core::access::oauth::metadata_document::{CachedDocument, DocumentCache, FetchLimit, Lookup};
use narthex_core::access::oauth::{OAuthError, OAuthErrorCode};
use narthex_core::http::egress_address::{self, Address, Policy, host_of};

use super::super::call::Call;
use super::super::limits::exceeded;
use super::Failed;

/// The largest document, in bytes, and how long its server may take, in milliseconds.
const MAX_BYTES: usize = 64 * 1024;
const PATIENCE_MS: u64 = 5_000;
/// How often somebody who waits for another's request looks, in milliseconds.
const LOOK_MS: u64 = 20;

thread_local! {
    static CACHE: RefCell<DocumentCache<Rc<Client>>> = RefCell::default();
}

/// Whether this is the address of a document, and no id that was given out here.
pub fn is_address(id: &str) -> bool {
    id.starts_with("https://") || id.starts_with("http://")
}

fn seen(found: &CachedDocument<Rc<Client>>) -> SeenClient {
    SeenClient { client: (*found.content).clone(), at: found.at }
}

/// Its server does not answer, which says nothing of the client.
fn away() -> Failed {
    OAuthError::new(
        OAuthErrorCode::TemporarilyUnavailable,
        "the document of the client cannot be read now: try again later",
    )
    .into()
}

/// What the client of this id says of itself; nothing where it is none.
pub async fn client(call: &Call, id: &str) -> Result<Option<SeenClient>, Failed> {
    let rules = call.write_rules();
    let policy = rules.addresses();
    let Ok(url) = egress_address::check(id, policy, &rules.own_hosts()) else { return Ok(None) };
    // Its address is its name: it has a path, and is written in one way only.
    if url.as_str() != id || url.path() == "/" {
        return Ok(None);
    }
    loop {
        let now = clock::now();
        match CACHE.with_borrow_mut(|cache| cache.lookup(id, call.began, now)) {
            Lookup::Use(found) => return Ok(Some(seen(&found))),
            Lookup::Unreachable => return Err(away()),
            // Another request's I/O cannot be waited for; what it brings can.
            Lookup::Wait => clock::pause(LOOK_MS).await,
            Lookup::Fetch { etag } => {
                let begun = CACHE.with_borrow_mut(|cache| cache.begin_fetch(id, call.address(), host_of(id), now));
                if let Err(FetchLimit(until_ms)) = begun {
                    let held = CACHE.with_borrow(|cache| cache.stale_copy(id, now));
                    return held
                        .map(|found| Some(seen(&found)))
                        .ok_or_else(|| exceeded(vec![("client-documents".into(), until_ms)]).into());
                }
                return fetched(&url, id, etag.as_deref(), policy).await;
            }
        }
    }
}

/// Whether a server that answers so says that there is no such document; any other refusal may pass.
fn is_final(status: u16) -> bool {
    matches!(status, 300..=499) && !matches!(status, 401 | 403 | 408 | 421 | 425 | 429)
}

async fn fetched(url: &Address, id: &str, etag: Option<&str>, policy: Policy) -> Result<Option<SeenClient>, Failed> {
    let answer = calls::conditional_document(url, PATIENCE_MS, MAX_BYTES, etag).await;
    let now = clock::now();
    let detail = match answer {
        Ok(answer) if answer.status == 200 => {
            let body = answer.body.unwrap_or_default();
            let text = narthex_core::base::json::check(&body, 8).ok();
            let client = text.and_then(|text| read_metadata(id, text, policy));
            return Ok(CACHE.with_borrow_mut(|cache| match client {
                Some(client) => Some(seen(&cache.store(id, Rc::new(client), &answer.caching, now))),
                None => {
                    cache.remove(id);
                    None
                }
            }));
        }
        Ok(answer) if answer.status == 304 => {
            if let Some(found) = CACHE.with_borrow_mut(|cache| cache.revalidated(id, &answer.caching, now)) {
                return Ok(Some(seen(&found)));
            }
            "status 304".to_string()
        }
        Ok(answer) if is_final(answer.status) => {
            CACHE.with_borrow_mut(|cache| cache.remove(id));
            return Ok(None);
        }
        Ok(answer) => format!("status {}", answer.status),
        Err(failure) => failure.0,
    };
    log_event!(ClientDocumentNotRead, url = id, detail = detail);
    let held = CACHE.with_borrow_mut(|cache| cache.unreachable(id, now));
    held.map(|found| Some(seen(&found))).ok_or_else(away)
}
