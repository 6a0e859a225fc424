//! `GrantStore`: state of the authorization server that must be used only once or kept in one place.
//!
//! One object holds one grant: its code, and its current refresh token. Another holds the keys that sign access tokens,
//! and never returns their private parts. Others record the assertions that clients have used, and one per tenant lists
//! its grants, so that they can be shown and revoked. An alarm deletes what has ended.

pub mod messages;
mod tables;

use std::cell::RefCell;
use std::rc::Rc;

use wasm_bindgen::JsValue;

use crate::objects::protocol::Done;
use crate::objects::shell::{Answer, Handle, HandleLater, Outcome, Shell, WrittenAnswer, durable_object};
use crate::platform::{Failure, clock, crypto, secret_box, settings};
use narthex_core::access::encrypted_secret::AssociatedData;
use narthex_core::access::issuer::ACCESS_TOKEN;
use narthex_core::access::oauth::grant::{Grant, Redemption, Refresh, RetryWindow, TokenResult};
use narthex_core::access::oauth::signing_keys::{self, SigningKeyPair};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;

use messages::{
    ActiveGrant, Ask, Begin, CheckToken, CheckedToken, End, Ended, Find, FirstUse, FoundGrant, Keys, List, Listed,
    PublicKey, ReadGrant, ReadKeys, ReadList, Redeem, RefreshGrant, Sign, Signed, TokenOutcome, TokenUse, Unlist,
    UseOnce,
};
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

durable_object!(GrantStore: Inner);

impl Shell for Inner {
    type Message = Ask;

    fn open(state: &JsValue, env: &JsValue) -> Result<Rc<Self>, Failure> {
        let tables = Tables::open(state)?;
        let settings = settings::of(env);
        let (retry_ms, code_retry_ms) = (settings.oauth_retry_ms, settings.oauth_code_retry_ms);
        let (signing, life_ms) = (RefCell::default(), settings.oauth_key_ms);
        Ok(Rc::new(Self { tables, signing, life_ms, retry_ms, code_retry_ms }))
    }

    fn answer(self: &Rc<Self>, ask: Ask) -> WrittenAnswer {
        ask.dispatch(self)
    }

    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        Outcome::Now(self.delete_ended())
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

impl Handle<Begin> for &Rc<Inner> {
    fn handle(self, Begin(grant): Begin) -> Result<Done, Failure> {
        self.tables.put(GRANT, &*grant, grant.until)?;
        // A grant whose code is never redeemed is deleted soon.
        self.tables.set_alarm(grant.code_until.plus_ms(ENDED_RETENTION_MS));
        Ok(Done::Done)
    }
}

impl Handle<Redeem> for &Rc<Inner> {
    fn handle(self, Redeem { hash, client, redirect_uri, verifier, next }: Redeem) -> Result<TokenUse, Failure> {
        self.decide(|grant, now| {
            let (redirect_uri, next) = (redirect_uri.as_deref(), next.as_deref());
            let redemption = Redemption { hash: &hash, client: &client, redirect_uri, verifier: &verifier, next };
            grant.redeem(&redemption, RetryWindow { now, retry_ms: self.code_retry_ms })
        })
    }
}

impl Handle<RefreshGrant> for &Rc<Inner> {
    fn handle(self, RefreshGrant { place, hash, client, next, seen }: RefreshGrant) -> Result<TokenUse, Failure> {
        self.decide(|grant, now| {
            let refresh = Refresh { place, hash: &hash, client: &client, next: &next };
            let outcome = grant.refresh(&refresh, RetryWindow { now, retry_ms: self.retry_ms });
            if let (TokenResult::Accepted, Some(seen)) = (outcome, seen) {
                grant.seen = Some(*seen);
            }
            outcome
        })
    }
}

impl Handle<ReadGrant> for &Rc<Inner> {
    fn handle(self, ReadGrant { client }: ReadGrant) -> Result<FoundGrant, Failure> {
        let grant = self.tables.get::<Grant>(GRANT)?.filter(|grant| grant.is_open_to(&client, clock::now()));
        Ok(FoundGrant::Grant(grant.map(|grant| {
            let used_at = grant.used_at();
            let Grant { allowed, until, seen, .. } = grant;
            Box::new(ActiveGrant { allowed, until, used_at, seen })
        })))
    }
}

impl Handle<CheckToken> for &Rc<Inner> {
    fn handle(self, CheckToken { place, hash }: CheckToken) -> Result<CheckedToken, Failure> {
        let grant = self.tables.get::<Grant>(GRANT)?;
        let grant = grant.filter(|grant| grant.is_current(place, &hash, clock::now()));
        Ok(CheckedToken::Access(grant.map(|grant| (grant.allowed, grant.until))))
    }
}

impl Handle<End> for &Rc<Inner> {
    fn handle(self, End { client }: End) -> Result<Ended, Failure> {
        let Some(mut grant) = self.tables.get::<Grant>(GRANT)?.filter(|grant| grant.allowed.client == client) else {
            return Ok(Ended::Ended(false));
        };
        grant.ended = true;
        self.tables.put(GRANT, &grant, grant.until)?;
        self.tables.set_alarm(clock::now().plus_ms(ENDED_RETENTION_MS));
        Ok(Ended::Ended(true))
    }
}

impl Handle<UseOnce> for &Rc<Inner> {
    fn handle(self, UseOnce { name, until }: UseOnce) -> Result<FirstUse, Failure> {
        let name = format!("once {name}");
        if self.tables.get::<bool>(&name)?.is_some() {
            return Ok(FirstUse::IsFirst(false));
        }
        self.tables.put(&name, &true, until)?;
        self.tables.set_alarm(clock::now().plus_ms(ENDED_RETENTION_MS));
        Ok(FirstUse::IsFirst(true))
    }
}

impl HandleLater<ReadKeys> for &Rc<Inner> {
    fn handle(self, ReadKeys: ReadKeys) -> Answer<Keys> {
        let inner = self.clone();
        Answer::later(async move {
            let keys = inner.pairs().await?.into_iter();
            Ok(Keys::Keys(keys.map(|pair| PublicKey { kid: pair.kid, public: pair.public }).collect()))
        })
    }
}

impl HandleLater<Sign> for &Rc<Inner> {
    fn handle(self, Sign { claims }: Sign) -> Answer<Signed> {
        let inner = self.clone();
        Answer::later(async move { inner.sign(&claims).await.map(Signed::Token) })
    }
}

impl Handle<List> for &Rc<Inner> {
    fn handle(self, List(entry): List) -> Result<Done, Failure> {
        self.tables.list(&entry, clock::now()).map(|()| Done::Done)
    }
}

impl Handle<Unlist> for &Rc<Inner> {
    fn handle(self, Unlist { grant }: Unlist) -> Result<Done, Failure> {
        self.tables.unlist(&grant).map(|()| Done::Done)
    }
}

impl Handle<ReadList> for &Rc<Inner> {
    fn handle(self, ReadList(query): ReadList) -> Result<Listed, Failure> {
        self.tables.listed(&query, clock::now()).map(Listed::Entries)
    }
}

impl Handle<Find> for &Rc<Inner> {
    fn handle(self, Find { grant }: Find) -> Result<Listed, Failure> {
        let entry = self.tables.find(&grant, clock::now())?;
        Ok(Listed::Entries(entry.into_iter().collect()))
    }
}

impl Inner {
    /// Lets the core decide and stores the result, without another request in between.
    fn decide(&self, decision: impl FnOnce(&mut Grant, Timestamp) -> TokenResult) -> Result<TokenUse, Failure> {
        let Some(mut grant) = self.tables.get::<Grant>(GRANT)? else {
            return Ok(TokenUse::Token(TokenOutcome::Rejected));
        };
        let (before, now) = (grant.clone(), clock::now());
        let outcome = decision(&mut grant, now);
        if grant != before {
            self.tables.put(GRANT, &grant, grant.until)?;
            let until = if grant.ended { now } else { grant.until };
            self.tables.set_alarm(until.plus_ms(ENDED_RETENTION_MS));
        }
        Ok(TokenUse::Token(match outcome {
            TokenResult::Accepted => TokenOutcome::Accepted(grant.allowed),
            TokenResult::Repeated => TokenOutcome::Repeated(grant.allowed),
            TokenResult::Rejected => TokenOutcome::Rejected,
            TokenResult::Replayed => TokenOutcome::Replayed,
        }))
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

    async fn sign(&self, claims: &str) -> Result<String, Failure> {
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
        Ok(signed)
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
