//! Metadata documents of clients: read when a client needs it, cached in each isolate for as long as the document's
//! server allows. The rules for fetching are in `narthex_core::access::oauth::metadata_document`.

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
use super::EndpointError;

/// The largest document, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// The time-out of a fetch, in milliseconds.
const FETCH_TIMEOUT_MS: u64 = 5_000;
/// The interval at which a request polls for the fetch of another, in milliseconds.
const POLL_MS: u64 = 20;

thread_local! {
    static CACHE: RefCell<DocumentCache<Rc<Client>>> = RefCell::default();
}

/// Whether a client id is the URL of a document, rather than an id that the gateway issued.
pub fn is_address(id: &str) -> bool {
    id.starts_with("https://") || id.starts_with("http://")
}

fn seen(found: &CachedDocument<Rc<Client>>) -> SeenClient {
    SeenClient { client: (*found.content).clone(), at: found.at }
}

/// The error while the document's server does not answer: the client may be valid.
fn unreachable() -> EndpointError {
    OAuthError::new(
        OAuthErrorCode::TemporarilyUnavailable,
        "the client's metadata document cannot be read now; try again later",
    )
    .into()
}

/// The client that the document at this URL describes; nothing if it describes none.
pub async fn client(call: &Call, id: &str) -> Result<Option<SeenClient>, EndpointError> {
    let rules = call.write_rules();
    let policy = rules.addresses().for_strangers();
    let Ok(url) = egress_address::check(id, policy, &rules.own_hosts()) else { return Ok(None) };
    // The URL is the client's id, so it needs a path and a canonical form.
    if url.as_str() != id || url.path() == "/" {
        return Ok(None);
    }
    loop {
        let now = clock::now();
        match CACHE.with_borrow_mut(|cache| cache.lookup(id, call.began, now)) {
            Lookup::Use(found) => return Ok(Some(seen(&found))),
            Lookup::Unreachable => return Err(unreachable()),
            // A request cannot await the I/O of another, but can poll for its result.
            Lookup::Wait => clock::pause(POLL_MS).await,
            Lookup::Fetch { etag } => {
                let started = CACHE.with_borrow_mut(|cache| cache.begin_fetch(id, call.address(), host_of(id), now));
                if let Err(FetchLimit(until_ms)) = started {
                    let stale = CACHE.with_borrow(|cache| cache.stale_copy(id, now));
                    return stale
                        .map(|found| Some(seen(&found)))
                        .ok_or_else(|| exceeded(vec![("client-documents".into(), until_ms)]).into());
                }
                return fetch(&url, id, etag.as_deref(), policy).await;
            }
        }
    }
}

/// Whether the status means that the document does not exist; other errors may be temporary.
fn is_final(status: u16) -> bool {
    matches!(status, 300..=499) && !matches!(status, 401 | 403 | 408 | 421 | 425 | 429)
}

async fn fetch(
    url: &Address,
    id: &str,
    etag: Option<&str>,
    policy: Policy<'_>,
) -> Result<Option<SeenClient>, EndpointError> {
    let answer = calls::conditional_document(url, FETCH_TIMEOUT_MS, MAX_BYTES, etag).await;
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
    let stale = CACHE.with_borrow_mut(|cache| cache.unreachable(id, now));
    stale.map(|found| Some(seen(&found))).ok_or_else(unreachable)
}
