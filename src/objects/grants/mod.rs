//! `GrantStore`: state of the authorization server that must be used only once or kept in one place.
//!
//! One object holds one grant: its code, and its current refresh token. Another holds the keys that sign access tokens,
//! and never returns their private parts. Others record the assertions that clients have used, and one per tenant lists
//! its grants, so that they can be shown and revoked. An alarm deletes what has ended.

pub mod messages;
mod tables;

use std::cell::RefCell;
use std::rc::Rc;

use wasm_bindgen::prelude::*;

use crate::objects::reply;
use crate::platform::{Failure, clock, crypto, secret_box, settings, tasks};
use narthex_core::access::encrypted_secret::AssociatedData;
use narthex_core::access::issuer::ACCESS_TOKEN;
use narthex_core::access::oauth::grant::{Grant, Redemption, Refresh, RetryWindow, TokenResult};
use narthex_core::access::oauth::signing_keys::{self, SigningKeyPair};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;

use messages::{ActiveGrant, Ask, PublicKey, Reply, TokenOutcome};
use tables::{GRANT, PAIRS, Tables};

/// An ended grant is kept for this long, so that a late replay is distinguished from an unknown token, in milliseconds.
const ENDED_RETENTION_MS: u64 = 3_600_000;

struct Inner {
    tables: Tables,
    /// The name and private part of the current signing key.
    signing: RefCell<Option<(String, String)>>,
    /// How long a key signs, in milliseconds.
    life_ms: u64,
    /// How long a used refresh token gets the same response again, and a used code, in milliseconds.
    retry_ms: u64,
    code_retry_ms: u64,
}

#[wasm_bindgen]
pub struct GrantStore(Rc<Inner>);

#[wasm_bindgen]
impl GrantStore {
    #[wasm_bindgen(constructor)]
    pub fn new(state: &JsValue, env: &JsValue) -> Result<GrantStore, JsValue> {
        let tables = Tables::open(state).map_err(|failure| js_sys::Error::new(&failure.0))?;
        let settings = settings::of(env);
        let (retry_ms, code_retry_ms) = (settings.oauth_retry_ms, settings.oauth_code_retry_ms);
        let (signing, life_ms) = (RefCell::default(), settings.oauth_key_ms);
        Ok(Self(Rc::new(Inner { tables, signing, life_ms, retry_ms, code_retry_ms })))
    }

    /// `message` is a [`messages::Ask`].
    pub fn call(&self, message: &str) -> Result<JsValue, JsValue> {
        let ask: Ask = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        let inner = self.0.clone();
        Ok(tasks::promise(async move { reply(inner.answer(ask).await) }))
    }

    pub fn alarm(&self) -> JsValue {
        let inner = self.0.clone();
        tasks::promise(
            async move { inner.delete_ended().map(|()| JsValue::UNDEFINED).map_err(|failure| failure.0.into()) },
        )
    }
}

/// The associated data of a private part. The authorization server belongs to the deployment's own tenant, `first`.
fn key_data<'a>(first: &'a TenantId, kid: &'a str) -> AssociatedData<'a> {
    AssociatedData { tenant: first, kind: "oauth_key", id: kid, field: "private" }
}

async fn new_pair(now: Timestamp) -> Result<SigningKeyPair, Failure> {
    let (public, private) = crypto::make_pair().await?;
    let kid = public.kid.unwrap_or_default();
    let private = secret_box::encrypt(key_data(&TenantId::first(), &kid), now, "", &private).await?;
    Ok(SigningKeyPair { kid, public: public.text, private, made_at: now })
}

impl Inner {
    async fn answer(&self, ask: Ask) -> Result<Reply, Failure> {
        match ask {
            Ask::Begin(grant) => self.begin(&grant),
            Ask::Redeem { hash, client, redirect_uri, verifier, next } => self.decide(|grant, now| {
                let (redirect_uri, next) = (redirect_uri.as_deref(), next.as_deref());
                let redemption = Redemption { hash: &hash, client: &client, redirect_uri, verifier: &verifier, next };
                grant.redeem(&redemption, RetryWindow { now, retry_ms: self.code_retry_ms })
            }),
            Ask::Refresh { place, hash, client, next, seen } => self.decide(|grant, now| {
                let refresh = Refresh { place, hash: &hash, client: &client, next: &next };
                let outcome = grant.refresh(&refresh, RetryWindow { now, retry_ms: self.retry_ms });
                if let (TokenResult::Accepted, Some(seen)) = (outcome, seen) {
                    grant.seen = Some(*seen);
                }
                outcome
            }),
            Ask::Read { client } => {
                let grant = self.tables.get::<Grant>(GRANT)?.filter(|grant| grant.is_open_to(&client, clock::now()));
                Ok(Reply::Read(grant.map(|grant| {
                    let used_at = grant.used_at();
                    let Grant { allowed, until, seen, .. } = grant;
                    Box::new(ActiveGrant { allowed, until, used_at, seen })
                })))
            }
            Ask::Look { place, hash } => {
                let grant = self.tables.get::<Grant>(GRANT)?;
                let grant = grant.filter(|grant| grant.is_current(place, &hash, clock::now()));
                Ok(Reply::Looked(grant.map(|grant| (grant.allowed, grant.until))))
            }
            Ask::End { client } => self.end(&client),
            Ask::UseOnce { name, until } => self.use_once(&name, until),
            Ask::Keys => {
                let keys = self.pairs().await?.into_iter();
                Ok(Reply::Keys(keys.map(|pair| PublicKey { kid: pair.kid, public: pair.public }).collect()))
            }
            Ask::Sign { claims } => self.sign(&claims).await,
            Ask::List(entry) => self.tables.list(&entry, clock::now()).map(|()| Reply::Done),
            Ask::Unlist { grant } => self.tables.unlist(&grant).map(|()| Reply::Done),
            Ask::Listed(query) => self.tables.listed(&query, clock::now()).map(Reply::Listed),
            Ask::Find { grant } => {
                let entry = self.tables.find(&grant, clock::now())?;
                Ok(Reply::Listed(entry.into_iter().collect()))
            }
        }
    }

    fn begin(&self, grant: &Grant) -> Result<Reply, Failure> {
        self.tables.put(GRANT, grant, grant.until)?;
        // A grant whose code is never redeemed is deleted soon.
        self.tables.set_alarm(grant.code_until.plus_ms(ENDED_RETENTION_MS));
        Ok(Reply::Done)
    }

    /// Lets the core decide and stores the result, without another request in between.
    fn decide(&self, decision: impl FnOnce(&mut Grant, Timestamp) -> TokenResult) -> Result<Reply, Failure> {
        let Some(mut grant) = self.tables.get::<Grant>(GRANT)? else {
            return Ok(Reply::Token(TokenOutcome::Rejected));
        };
        let (before, now) = (grant.clone(), clock::now());
        let outcome = decision(&mut grant, now);
        if grant != before {
            self.tables.put(GRANT, &grant, grant.until)?;
            let until = if grant.ended { now } else { grant.until };
            self.tables.set_alarm(until.plus_ms(ENDED_RETENTION_MS));
        }
        Ok(Reply::Token(match outcome {
            TokenResult::Accepted => TokenOutcome::Accepted(grant.allowed),
            TokenResult::Repeated => TokenOutcome::Repeated(grant.allowed),
            TokenResult::Rejected => TokenOutcome::Rejected,
            TokenResult::Replayed => TokenOutcome::Replayed,
        }))
    }

    fn end(&self, client: &str) -> Result<Reply, Failure> {
        let Some(mut grant) = self.tables.get::<Grant>(GRANT)?.filter(|grant| grant.allowed.client == client) else {
            return Ok(Reply::Ended(false));
        };
        grant.ended = true;
        self.tables.put(GRANT, &grant, grant.until)?;
        self.tables.set_alarm(clock::now().plus_ms(ENDED_RETENTION_MS));
        Ok(Reply::Ended(true))
    }

    fn use_once(&self, name: &str, until: Timestamp) -> Result<Reply, Failure> {
        let name = format!("once {name}");
        if self.tables.get::<bool>(&name)?.is_some() {
            return Ok(Reply::Ended(false));
        }
        self.tables.put(&name, &true, until)?;
        self.tables.set_alarm(clock::now().plus_ms(ENDED_RETENTION_MS));
        Ok(Reply::Ended(true))
    }

    /// The signing keys, after adding another one if that is due.
    async fn pairs(&self) -> Result<Vec<SigningKeyPair>, Failure> {
        let life_ms = self.life_ms;
        let mut pairs: Vec<SigningKeyPair> = self.tables.get(PAIRS)?.unwrap_or_default();
        let now = clock::now();
        let count = pairs.len();
        signing_keys::forget(&mut pairs, life_ms, now);
        if signing_keys::wants_another(&pairs, life_ms, now) {
            let new = new_pair(now).await?;
            // Another request may have added one in the meantime.
            pairs = self.tables.get(PAIRS)?.unwrap_or_default();
            if signing_keys::wants_another(&pairs, life_ms, now) {
                pairs.push(new);
            }
            self.tables.put(PAIRS, &pairs, Timestamp(u64::MAX))?;
        } else if self.encrypt_again(&mut pairs).await? || pairs.len() != count {
            let known: Vec<SigningKeyPair> = self.tables.get(PAIRS)?.unwrap_or_default();
            // A key added in the meantime is not overwritten; the next call does what is left.
            if known.len() == count {
                self.tables.put(PAIRS, &pairs, Timestamp(u64::MAX))?;
            }
        }
        Ok(pairs)
    }

    async fn sign(&self, claims: &str) -> Result<Reply, Failure> {
        let pairs = self.pairs().await?;
        let signer = signing_keys::signer(&pairs, self.life_ms, clock::now())
            .ok_or_else(|| Failure("there is no signing key".into()))?;
        let cached = self.signing.borrow().clone().filter(|(kid, _)| *kid == signer.kid);
        let (kid, private) = match cached {
            Some(cached) => cached,
            None => (
                signer.kid.clone(),
                secret_box::decrypt(key_data(&TenantId::first(), &signer.kid), &signer.private).await?,
            ),
        };
        let signed = crypto::sign(&kid, &private, ACCESS_TOKEN, claims).await?;
        *self.signing.borrow_mut() = Some((kid, private));
        Ok(Reply::Signed(signed))
    }

    /// Re-encrypts private parts that are not under the newest key.
    async fn encrypt_again(&self, pairs: &mut [SigningKeyPair]) -> Result<bool, Failure> {
        let mut changed = false;
        for pair in pairs {
            let again =
                secret_box::encrypt_again(key_data(&TenantId::first(), &pair.kid), &pair.private, pair.made_at, |_| {
                    String::new()
                })
                .await?;
            if let Some(again) = again {
                pair.private = again;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Deletes what has ended, and the object itself once nothing is left.
    fn delete_ended(&self) -> Result<(), Failure> {
        let now = clock::now();
        let grant = self.tables.get::<Grant>(GRANT)?;
        let has_ended = grant.is_none_or(|grant| grant.ended || !grant.redeemed || now >= grant.until);
        self.tables.delete_ended(if has_ended { None } else { Some(GRANT) }, now)?;
        if let Some(next) = self.tables.next_end()? {
            self.tables.set_alarm(next.plus_ms(1));
        }
        Ok(())
    }
}
