//! Caches the key sets that issuers publish, in each isolate. `narthex_core::access::jose::key_set_cache` decides when
//! to fetch one.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::objects::grants::messages::{Grants, Keys as OwnKeys, PublicKey, READ_KEYS_TIMEOUT_MS, ReadKeys};
use crate::objects::protocol::call;
use crate::platform::{Failure, calls, clock, crypto, log_event, settings};
use narthex_core::access::issuer::{DocumentVersion, Keys};
use narthex_core::access::jose::algorithm::{Algorithm, KeyKind};
use narthex_core::access::jose::jwk::{self, Jwk, MAX_SET_BYTES, choose};
use narthex_core::access::jose::jwt::{Token, TokenError};
use narthex_core::access::jose::key_set_cache::{CachedKeySet, KeyLookup, max_age};
use narthex_core::base::time::Timestamp;

/// The key set of the gateway's own authorization server.
pub const OWN: &str = "own";
/// How long the server of an issuer or a client may take to send its key set, in milliseconds.
const FETCH_TIMEOUT_MS: u64 = 5_000;
/// The interval at which a request checks whether another's fetch has finished, in milliseconds.
const POLL_INTERVAL_MS: u64 = 20;

/// The document that a key set belongs to: its path below `/v1`, its creation time and its generation. When the
/// document is written, every isolate fetches the key set again; a deleted document leaves nothing to a new one with
/// the same id.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'o> {
    pub path: &'o str,
    pub written: DocumentVersion,
    /// A client that no principal registered: its URL must be public.
    pub is_stranger: bool,
}

#[derive(Default)]
struct Entry {
    written: DocumentVersion,
    url: String,
    keys: CachedKeySet,
}

/// Clients choose the URLs of their keys themselves, so at most this many of these sets are cached.
const MAX_CLIENT_SETS: usize = 200;
const CLIENTS: &str = "clients/";

thread_local! {
    static SETS: RefCell<HashMap<String, Entry>> = RefCell::new(HashMap::new());
}

/// Looks up the entry for this URL. An owner older than the entry uses the entry: its decision began before the write.
fn with_entry<T>(owner: Owner<'_>, url: &str, use_it: impl FnOnce(&mut Entry) -> T) -> T {
    SETS.with_borrow_mut(|sets| {
        let is_new = !sets.contains_key(owner.path);
        if is_new && owner.path.starts_with(CLIENTS) {
            let clients = || sets.keys().filter(|path| path.starts_with(CLIENTS));
            if clients().count() >= MAX_CLIENT_SETS {
                sets.retain(|path, _| !path.starts_with(CLIENTS));
            }
        }
        let entry = sets.entry(owner.path.into()).or_default();
        let (is_newer, is_same) = (owner.written > entry.written, owner.written == entry.written);
        if is_newer && entry.url == url && entry.written.created_at == owner.written.created_at {
            entry.written = owner.written;
            entry.keys.invalidate(clock::now());
        } else if is_newer || is_same && entry.url != url {
            *entry = Entry { written: owner.written, url: url.into(), keys: CachedKeySet::default() };
        }
        use_it(entry)
    })
}

/// Verifies a token's signature against these keys; returns until when the result may be cached.
pub async fn verify(token: &Token<'_>, keys: &Keys, owner: Owner<'_>) -> Result<Timestamp, TokenError> {
    match keys {
        Keys::Url(url) => verify_by(token, url, owner).await,
        Keys::Fixed(keys) => {
            let fitting = choose(keys, token.kid.as_deref(), token.algorithm);
            let refused = if fitting.is_empty() { TokenError::Key } else { TokenError::Signature };
            let fitting = fitting.into_iter().cloned().collect();
            if any_verifies(token, fitting).await { Ok(Timestamp(u64::MAX)) } else { Err(refused) }
        }
    }
}

/// Verifies a token's signature against the gateway's own keys.
pub async fn verify_own(token: &Token<'_>) -> Result<Timestamp, TokenError> {
    verify_by(token, OWN, Owner { path: OWN, written: DocumentVersion::default(), is_stranger: false }).await
}

async fn verify_by(token: &Token<'_>, url: &str, owner: Owner<'_>) -> Result<Timestamp, TokenError> {
    let (kid, algorithm) = (token.kid.as_deref(), token.algorithm);
    let timing = settings::timing();
    let mut failed = None;
    loop {
        let now = clock::now();
        match with_entry(owner, url, |entry| entry.keys.lookup(kid, algorithm, failed, now, &timing)) {
            KeyLookup::Try(keys, number) => {
                if any_verifies(token, keys).await {
                    return Ok(with_entry(owner, url, |entry| entry.keys.valid_until(now, &timing)));
                }
                failed = Some(number);
            }
            // Another request's I/O cannot be awaited, but its result can be polled.
            KeyLookup::Wait => clock::pause(POLL_INTERVAL_MS).await,
            KeyLookup::Fetch => fetch(url, owner, now).await,
            KeyLookup::Reject(refused) => return Err(refused),
        }
    }
}

async fn any_verifies(token: &Token<'_>, keys: Vec<Jwk>) -> bool {
    for key in keys {
        if crypto::verify(token.algorithm, &key, &token.signature, token.signed).await {
            return true;
        }
    }
    false
}

async fn fetch(url: &str, owner: Owner<'_>, now: Timestamp) {
    // If the document was replaced in the meantime, its present URL is fetched.
    let (url, written) = with_entry(owner, url, |entry| {
        entry.keys.begin_fetch(now.plus_ms(FETCH_TIMEOUT_MS.max(READ_KEYS_TIMEOUT_MS) + 1_000));
        (entry.url.clone(), entry.written)
    });
    let fetched = if url == OWN { own().await } else { published(&url, owner).await };
    let fetched = fetched.inspect_err(|detail| {
        log_event!(KeySetNotFetched, object = owner.path, url = &url, detail = detail);
    });
    SETS.with_borrow_mut(|sets| {
        // A key set requested before a document was written does not apply to its present version.
        let same = sets.get_mut(owner.path).filter(|entry| entry.url == url && entry.written == written);
        if let Some(entry) = same {
            entry.keys.fetched(fetched.ok(), clock::now());
        }
    });
}

type FetchResult = Result<(Vec<Jwk>, Option<u64>), String>;

async fn published(url: &str, owner: Owner<'_>) -> FetchResult {
    let settings = settings::current();
    let address =
        if owner.is_stranger { settings.may_call_for_stranger(url, None) } else { settings.may_call(url, None) };
    let address = address.map_err(|refusal| refusal.to_string())?;
    match calls::document(&address, FETCH_TIMEOUT_MS, MAX_SET_BYTES).await {
        Ok(document) => jwk::read_set(&document.body)
            .map(|keys| (keys, max_age(&document.cache_control)))
            .map_err(|refused| refused.to_string()),
        Err(failure) => Err(failure.0),
    }
}

async fn own() -> FetchResult {
    let keys = own_keys().await.map_err(|failure| failure.0)?;
    Ok((keys, None))
}

/// The public keys of the gateway's own authorization server, as they are now.
pub async fn own_keys() -> Result<Vec<Jwk>, Failure> {
    let OwnKeys::Keys(keys) = call(&Grants::own_keys(), &ReadKeys).await?;
    let jwk = |key: PublicKey| Jwk {
        kid: Some(key.kid),
        kind: KeyKind::P256,
        algorithm: Some(Algorithm::Es256),
        text: key.public,
    };
    Ok(keys.into_iter().map(jwk).collect())
}
