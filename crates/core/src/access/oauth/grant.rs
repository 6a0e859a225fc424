//! Grants: what a person allowed a client, from the code to the last refresh token. One object keeps one grant, so that
//! single use is decided in one place.
//!
//! A code or a refresh token carries its grant's name under an HMAC of the tenant's secret: one that was never given
//! out costs no look-up, and one that was, but is no longer the current one, proves that somebody has a copy.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::super::api_key::valid_tenant;
use super::client::Client;
use super::form::proves;
use crate::base::canonical::digest;
use crate::base::keyed_mac::keyed;
use crate::base::time::Timestamp;

/// How long a code is good for, in milliseconds.
pub const CODE_MS: u64 = 60_000;
/// How long a grant lasts at most, in milliseconds: 30 days.
pub const GRANT_MS: u64 = 30 * 86_400_000;
/// How long a refresh token is answered again whose answer may have been lost, in milliseconds.
pub const RETRY_MS: u64 = 30_000;
/// With so many wrong verifiers or addresses a code ends.
pub const MAX_TRIES: u8 = 3;
/// How long what a client's document said serves a grant while the document cannot be read, in milliseconds.
pub const SEEN_MS: u64 = 86_400_000;
/// What was seen of a client is kept anew after this, in milliseconds.
const SEE_AGAIN_MS: u64 = 3_600_000;
const TAG: usize = 16;

/// What codes and refresh tokens are signed with.
#[derive(Clone)]
pub struct GrantKey(Hmac<Sha256>);

impl std::fmt::Debug for GrantKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrantKey(…)")
    }
}

/// Which of a grant's texts it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Code,
    /// With its place in the row of them, from 1.
    Refresh(u64),
}

impl Use {
    fn word(self) -> String {
        match self {
            Use::Code => "c".into(),
            Use::Refresh(place) => format!("r{place}"),
        }
    }

    fn parse(word: &str) -> Option<Self> {
        match word {
            "c" => Some(Use::Code),
            _ => word.strip_prefix('r')?.parse().ok().map(Use::Refresh),
        }
    }
}

/// A code or refresh token that this tenant gave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    pub grant: String,
    pub used: Use,
    /// SHA-256 of the whole text, in hex.
    pub hash: String,
}

impl GrantKey {
    pub fn new(secret: &[u8]) -> Self {
        Self(keyed("narthex grant\0", secret))
    }

    /// `nxg_{tenant}.{grant}.{use}.{secret}.{tag}`
    pub fn write(&self, tenant: &str, grant: &str, used: Use, secret: &[u8; 32]) -> String {
        let signed = format!("nxg_{tenant}.{grant}.{}.{}", used.word(), URL_SAFE_NO_PAD.encode(secret));
        let tag = self.0.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.get(..TAG).unwrap_or_default()))
    }

    /// The text that comes after `presented` in its grant. It follows from it, so that a lost answer can be given again
    /// though nothing but its hash is kept; without the tenant's secret it cannot be made.
    pub fn write_next(&self, tenant: &str, grant: &str, used: Use, presented: &str) -> String {
        // What is signed never begins so.
        let secret = self.0.clone().chain_update("next\0").chain_update(presented).finalize().into_bytes();
        self.write(tenant, grant, used, &secret.into())
    }

    pub fn read(&self, text: &str) -> Option<Presented> {
        let (signed, tag) = text.rsplit_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok().filter(|tag| tag.len() == TAG)?;
        self.0.clone().chain_update(signed).verify_truncated_left(&tag).ok()?;
        let mut parts = signed.split('.').skip(1);
        let (grant, word) = (parts.next()?, parts.next()?);
        Some(Presented { grant: grant.into(), used: Use::parse(word)?, hash: digest(text) })
    }
}

/// Whose a text says it is: whose key is to verify it.
pub fn tenant_of(text: &str) -> Option<&str> {
    let (tenant, _) = text.strip_prefix("nxg_")?.split_once('.')?;
    valid_tenant(tenant).then_some(tenant)
}

/// What was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    pub client: String,
    /// A principal.
    pub subject: String,
    pub scope: Vec<String>,
    pub resource: String,
    /// Of a person who signed in elsewhere; a key's are in the registry.
    #[serde(default)]
    pub roles: Vec<String>,
}

/// What a client said of itself when it was last read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub client: Client,
    pub at: Timestamp,
}

impl Seen {
    /// Whether it still stands for a document that cannot be read.
    pub fn serves(&self, now: Timestamp) -> bool {
        now.since(self.at) < SEEN_MS
    }

    pub fn is_due(&self, now: Timestamp) -> bool {
        now.since(self.at) >= SEE_AGAIN_MS
    }
}

/// The refresh token that was taken last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    pub place: u64,
    pub hash: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub allowed: Allowed,
    pub redirect_uri: String,
    pub challenge: String,
    pub code_hash: String,
    pub code_until: Timestamp,
    pub until: Timestamp,
    /// The refresh token that is good: its place and its hash.
    #[serde(default)]
    pub current: Option<(u64, String)>,
    #[serde(default)]
    pub redeemed: bool,
    #[serde(default)]
    pub ended: bool,
    /// When the code was redeemed.
    #[serde(default)]
    pub redeemed_at: Option<Timestamp>,
    /// How often the code came with a wrong verifier or address.
    #[serde(default)]
    pub tries: u8,
    #[serde(default)]
    pub last: Option<Last>,
    /// Of a client that is not registered here.
    #[serde(default)]
    pub seen: Option<Seen>,
}

/// What becomes of a code or refresh token that is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was good, and is no longer.
    Taken,
    /// It was taken a moment ago: the same answer is given again, and nothing changes.
    Again,
    /// It is good for nothing, which changes nothing.
    Refused,
    /// It was used before: somebody has a copy, so the grant has ended.
    Replayed,
}

/// A code that is presented.
#[derive(Debug, Clone, Copy)]
pub struct Redemption<'a> {
    pub hash: &'a str,
    pub client: &'a str,
    pub redirect_uri: Option<&'a str>,
    pub verifier: &'a str,
    /// The hash of the first refresh token, where there is one.
    pub next: Option<&'a str>,
}

/// A refresh token that is presented.
#[derive(Debug, Clone, Copy)]
pub struct Refresh<'a> {
    pub place: u64,
    pub hash: &'a str,
    pub client: &'a str,
    /// The hash of the refresh token that takes its place.
    pub next: &'a str,
}

/// The time, and how long ago a first answer may be that is given again, in milliseconds: nothing is with 0.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub now: Timestamp,
    pub retry_ms: u64,
}

impl Moment {
    fn is_retry(&self, first: Timestamp) -> bool {
        self.now.since(first) < self.retry_ms
    }
}

impl Grant {
    fn is_over(&self, now: Timestamp) -> bool {
        self.ended || now >= self.until
    }

    /// Whether this client may still get something of it.
    pub fn is_open_to(&self, client: &str, now: Timestamp) -> bool {
        !self.is_over(now) && self.allowed.client == client
    }

    /// When its code or its refresh token was taken last.
    pub fn used_at(&self) -> Option<Timestamp> {
        self.last.as_ref().map(|last| last.at).max(self.redeemed_at)
    }

    /// Redeems the code.
    pub fn redeem(&mut self, asked: &Redemption<'_>, at: Moment) -> Outcome {
        let now = at.now;
        if !self.is_open_to(asked.client, now) || asked.hash != self.code_hash {
            return Outcome::Refused;
        }
        // OAuth 2.1 no longer has the redirect URI here; one that is sent is the one it was.
        let redirects = asked.redirect_uri.is_none_or(|uri| uri == self.redirect_uri);
        let proven = redirects && proves(asked.verifier, &self.challenge);
        if self.redeemed {
            // The first refresh token was not used yet, if there is one.
            let same =
                self.current.as_ref().map(|(place, hash)| (*place, hash.as_str())) == asked.next.map(|next| (1, next));
            if proven && same && self.redeemed_at.is_some_and(|first| at.is_retry(first)) {
                return Outcome::Again;
            }
            self.ended = true;
            return Outcome::Replayed;
        }
        if now >= self.code_until {
            self.ended = true;
            return Outcome::Refused;
        }
        if !proven {
            // A mistake costs nothing; guessing does.
            self.tries = self.tries.saturating_add(1);
            self.ended = self.tries >= MAX_TRIES;
            return Outcome::Refused;
        }
        (self.redeemed, self.redeemed_at) = (true, Some(now));
        self.current = asked.next.map(|hash| (1, hash.into()));
        Outcome::Taken
    }

    /// Puts the next refresh token in the place of this one.
    pub fn refresh(&mut self, asked: &Refresh<'_>, at: Moment) -> Outcome {
        let Some((current, known)) = self.current.clone() else {
            return Outcome::Refused;
        };
        if !self.is_open_to(asked.client, at.now) {
            return Outcome::Refused;
        }
        if asked.place == current && asked.hash == known {
            self.last = Some(Last { place: current, hash: known, at: at.now });
            self.current = Some((current + 1, asked.next.into()));
            return Outcome::Taken;
        }
        // The one before, whose answer nothing was done with since: the token that came with it is still the current
        // one.
        let lost = self
            .last
            .as_ref()
            .is_some_and(|last| (last.place, last.hash.as_str()) == (asked.place, asked.hash) && at.is_retry(last.at));
        if lost && known == asked.next {
            return Outcome::Again;
        }
        self.ended = true;
        Outcome::Replayed
    }

    /// Whether this refresh token would be taken.
    pub fn is_current(&self, place: u64, hash: &str, now: Timestamp) -> bool {
        !self.is_over(now) && self.current.as_ref().is_some_and(|(at, known)| *at == place && known == hash)
    }
}

#[cfg(test)]
mod tests;
