//! Key sets that issuers publish, held in each isolate. When one is fetched is decided in `core/jwks.rs`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::core::jwk::{self, Jwk, MAX_SET_BYTES, choose};
use crate::core::jwks::{Age, Decision, decide, max_age};
use crate::core::jwt::Algorithm;
use crate::core::time::Timestamp;
use crate::objects::grants::messages::{Ask, PublicKey, Reply};
use crate::platform::objects::{self, Kind};
use crate::platform::{Failure, calls, clock, log, settings};

/// The set of the gateway's own authorization server.
pub const OWN: &str = "own";
/// The object that keeps it.
pub const OWN_KEYS: &str = "default/keys";
/// How long a server may take, in milliseconds.
const PATIENCE_MS: u64 = 5_000;
/// How often somebody who waits for another's request looks, in milliseconds.
const LOOK_MS: u64 = 20;

#[derive(Default)]
struct Held {
    age: Age,
    keys: Rc<Vec<Jwk>>,
    /// Somebody fetches it now. A request that dies on the way tells nobody, hence the end.
    fetching_until: Option<Timestamp>,
}

thread_local! {
    static SETS: RefCell<HashMap<String, Held>> = RefCell::new(HashMap::new());
}

/// What is to be done, and the keys there are.
fn look(url: &str, kid: Option<&str>, algorithm: Algorithm, now: Timestamp) -> (Decision, Option<Jwk>, bool) {
    SETS.with_borrow(|sets| {
        let Some(held) = sets.get(url) else {
            return (Decision::Fetch, None, false);
        };
        let key = choose(&held.keys, kid, algorithm).filter(|_| held.age.usable(now));
        let decision = decide(&held.age, key.is_some(), now);
        (decision, key.cloned(), held.fetching_until.is_some_and(|until| now < until))
    })
}

/// The key that is to verify, of the set at this address.
pub async fn key(url: &str, kid: Option<&str>, algorithm: Algorithm) -> Option<Jwk> {
    loop {
        let now = clock::now();
        match look(url, kid, algorithm, now) {
            (Decision::Use, key, _) => return key,
            // Another request's I/O cannot be waited for; what it brings can.
            (Decision::Fetch, _, true) => clock::pause(LOOK_MS).await,
            (Decision::Fetch, _, false) => fetch(url, now).await,
        }
    }
}

async fn fetch(url: &str, now: Timestamp) {
    SETS.with_borrow_mut(|sets| {
        sets.entry(url.into()).or_default().fetching_until = Some(now.plus_ms(PATIENCE_MS + 1_000));
    });
    let fetched = if url == OWN { own().await } else { published(url).await };
    let now = clock::now();
    SETS.with_borrow_mut(|sets| {
        let held = sets.entry(url.into()).or_default();
        held.fetching_until = None;
        match fetched {
            Ok((keys, max_age)) => {
                held.keys = Rc::new(keys);
                held.age.fetched(now, max_age);
            }
            Err(detail) => {
                held.age.failed(now);
                log(&format!(
                    r#"{{"level":"warn","message":"key set not fetched","url":{url:?},"detail":{detail:?}}}"#
                ));
            }
        }
    });
}

type Fetched = Result<(Vec<Jwk>, Option<u64>), String>;

async fn published(url: &str) -> Fetched {
    let address = settings::current().may_call(url, None).map_err(|refusal| refusal.to_string())?;
    match calls::document(&address, PATIENCE_MS, MAX_SET_BYTES).await {
        Ok(document) => jwk::read_set(&document.body)
            .map(|keys| (keys, max_age(&document.cache_control)))
            .map_err(|refused| refused.to_string()),
        Err(failure) => Err(failure.0),
    }
}

async fn own() -> Fetched {
    let keys = own_keys().await.map_err(|failure| failure.0)?;
    Ok((keys, None))
}

/// The public keys of the gateway's own authorization server, as they are now.
pub async fn own_keys() -> Result<Vec<Jwk>, Failure> {
    match objects::send(Kind::Grants, OWN_KEYS, "", &Ask::Keys, PATIENCE_MS).await? {
        Reply::Keys(keys) => {
            let jwk = |key: PublicKey| Jwk {
                kid: Some(key.kid),
                kind: jwk::Kind::P256,
                algorithm: Some(Algorithm::Es256),
                text: key.public,
            };
            Ok(keys.into_iter().map(jwk).collect())
        }
        _ => Err(Failure("the keys' object answered something else".into())),
    }
}
