//! Ids of contexts and stores.
//!
//! A context's id names its store, so that any isolate finds the object without a lookup: `ctx_`, region (2), shard (2)
//! and a ULID (26), all lower-case. The ULID sorts by the time of creation.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::object_name::ObjectName;
use super::tenant_id::TenantId;
use super::time::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn letter(value: u128) -> char {
    ALPHABET.get((value & 31) as usize).map_or('0', |&byte| byte as char)
}

fn digit(byte: u8) -> Option<u128> {
    ALPHABET.iter().position(|&letter| letter == byte).map(|at| at as u128)
}

/// A ULID: 48 bits of milliseconds, 80 of randomness, in Crockford's base 32.
pub fn ulid(now: Timestamp, random: [u8; 10]) -> String {
    let mut value = u128::from(now.0) << 80;
    for (place, byte) in random.iter().rev().enumerate() {
        value |= u128::from(*byte) << (8 * place);
    }
    (0..26).rev().map(|place| letter(value >> (5 * place))).collect()
}

/// The region in which a request arrived, so that its work can run nearby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Region {
    Na,
    Sa,
    #[default]
    Eu,
    As,
    Af,
    Oc,
}

impl Region {
    pub const ALL: [Region; 6] = [Region::Na, Region::Sa, Region::Eu, Region::As, Region::Af, Region::Oc];

    pub fn code(self) -> &'static str {
        match self {
            Region::Na => "na",
            Region::Sa => "sa",
            Region::Eu => "eu",
            Region::As => "as",
            Region::Af => "af",
            Region::Oc => "oc",
        }
    }

    /// Parses a two-letter continent code, in any case. `None` for Antarctica and unknown codes.
    pub fn parse(code: &str) -> Option<Self> {
        Region::ALL.into_iter().find(|region| region.code().eq_ignore_ascii_case(code))
    }

    /// The platform's location hint for new objects.
    pub fn location_hint(self) -> &'static str {
        match self {
            Region::Na => "enam",
            Region::Sa => "sam",
            Region::Eu => "weur",
            Region::As => "apac",
            Region::Af => "afr",
            Region::Oc => "oc",
        }
    }
}

/// Maximum number of shards of a region: two letters in base 32.
pub const MAX_SHARDS: u16 = 1024;

/// One store of a tenant's contexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId {
    pub region: Region,
    pub shard: u16,
}

impl StoreId {
    /// `eu00`: four characters, as in a context's id.
    pub fn code(self) -> String {
        let shard = u128::from(self.shard);
        format!("{}{}{}", self.region.code(), letter(shard >> 5), letter(shard))
    }

    pub fn parse(code: &str) -> Option<Self> {
        if !code.is_ascii() || code.len() != 4 {
            return None;
        }
        let (region, shard) = code.split_at(2);
        let [high, low] = shard.as_bytes() else { return None };
        let shard = u16::try_from(digit(*high)? * 32 + digit(*low)?).ok()?;
        let region = Region::parse(region).filter(|found| found.code() == region)?;
        Some(Self { region, shard })
    }

    /// The name of the store's object.
    pub fn object_name(self, tenant: &TenantId) -> ObjectName {
        tenant.object_for(self.code())
    }
}

impl Serialize for StoreId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.code())
    }
}

impl<'de> Deserialize<'de> for StoreId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        StoreId::parse(&text).ok_or_else(|| serde::de::Error::custom("not a store"))
    }
}

/// The id of a context, such as `ctx_eu0001k…`: 34 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ContextId(String);

impl ContextId {
    pub const PREFIX: &'static str = "ctx_";
    const LENGTH: usize = 34;

    pub fn new(store: StoreId, now: Timestamp, random: [u8; 10]) -> Self {
        Self(format!("{}{}{}", Self::PREFIX, store.code(), ulid(now, random)))
    }

    /// `None` for any text that [`ContextId::new`] cannot have created.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(Self::PREFIX)?;
        let valid = text.len() == Self::LENGTH
            && rest.bytes().all(|byte| digit(byte).is_some() || byte.is_ascii_lowercase())
            && StoreId::parse(rest.get(..4)?).is_some()
            && rest.get(4..)?.bytes().all(|byte| digit(byte).is_some());
        valid.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn store(&self) -> Option<StoreId> {
        StoreId::parse(self.0.get(4..8)?)
    }

    /// The row key of the id, in decimal: 41 bits of milliseconds and 22 random bits. Sorts like the ids of one store.
    /// Two ids can have the same key, about once in millions of ids of the same millisecond.
    pub fn row_key(&self) -> String {
        row_key(self.sort_key()).to_string()
    }

    /// The time of creation, to the millisecond.
    pub fn created_at(&self) -> Timestamp {
        let value = self.sort_key().bytes().filter_map(digit).fold(0_u128, |value, digit| value << 5 | digit);
        Timestamp((value >> 80) as u64)
    }

    /// The part of the id that sorts the contexts of all stores by their time of creation.
    pub fn sort_key(&self) -> &str {
        self.0.get(8..).unwrap_or_default()
    }
}

impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ContextId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        ContextId::parse(&text).ok_or_else(|| serde::de::Error::custom("not a context id"))
    }
}

/// Nothing was created before this time: 2020-09-13.
const FIRST_MS: u64 = 1_600_000_000_000;

/// The row key of the smallest id whose sort key begins with this text.
pub fn row_key(sort_key: &str) -> u64 {
    let mut value: u128 = 0;
    let mut letters = sort_key.bytes();
    for _ in 0..26 {
        value = value << 5 | letters.next().and_then(digit).unwrap_or(0);
    }
    let ms = (value >> 80) as u64;
    let random = ((value >> 58) & ((1 << 22) - 1)) as u64;
    (ms.saturating_sub(FIRST_MS) & ((1 << 41) - 1)) << 22 | random
}

/// The smallest row key of ids created at this time or later.
pub fn first_row_key(at: Timestamp) -> u64 {
    row_key(&ulid(at, [0; 10]))
}

/// The smallest sort key of ids with this row key.
pub fn sort_key(row_key: u64) -> String {
    let ms = (row_key >> 22) + FIRST_MS;
    let value = u128::from(ms) << 80 | u128::from(row_key & ((1 << 22) - 1)) << 58;
    (0..26).rev().map(|place| letter(value >> (5 * place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn store() -> impl Strategy<Value = StoreId> {
        (0usize..6, 0u16..MAX_SHARDS).prop_map(|(region, shard)| StoreId { region: Region::ALL[region], shard })
    }

    proptest! {
        #[test]
        fn an_id_finds_its_store(store in store(), ms in 0u64..(1 << 48), random: [u8; 10]) {
            let id = ContextId::new(store, Timestamp(ms), random);
            prop_assert_eq!(id.as_str().len(), ContextId::LENGTH);
            prop_assert_eq!(id.store(), Some(store));
            prop_assert_eq!(ContextId::parse(id.as_str()), Some(id));
        }

        #[test]
        fn ids_sort_by_time(a in 0u64..(1 << 48), b in 0u64..(1 << 48), x: [u8; 10], y: [u8; 10]) {
            prop_assume!(a < b);
            prop_assert!(ulid(Timestamp(a), x) < ulid(Timestamp(b), y));
        }

        #[test]
        fn row_keys_sort_as_ids(a in 0u64..1 << 40, b in 0u64..1 << 40, x: [u8; 10], y: [u8; 10]) {
            let store = StoreId { region: Region::Eu, shard: 0 };
            let id = |ms: u64, random| ContextId::new(store, Timestamp(FIRST_MS + ms), random);
            let (one, other) = (id(a, x), id(b, y));
            let keys = (row_key(one.sort_key()), row_key(other.sort_key()));
            if keys.0 != keys.1 {
                prop_assert_eq!(keys.0 < keys.1, one.sort_key() < other.sort_key());
            }
            prop_assert!(keys.0 < 1 << 63);
        }

        #[test]
        fn a_row_key_has_a_smallest_sort_key(ms in 0u64..1 << 40, random: [u8; 10]) {
            let id = ContextId::new(StoreId { region: Region::Eu, shard: 0 }, Timestamp(FIRST_MS + ms), random);
            let key = row_key(id.sort_key());
            let smallest = sort_key(key);
            prop_assert_eq!((row_key(&smallest), smallest.len()), (key, 26));
            prop_assert!(smallest.as_str() <= id.sort_key());
            prop_assert!(sort_key(key + 1).as_str() > id.sort_key());
        }

        #[test]
        fn nothing_else_is_an_id(text in "ctx_[a-zA-Z0-9/_.~]{28,32}|.{0,40}") {
            if let Some(id) = ContextId::parse(&text) {
                prop_assert!(id.store().is_some());
                prop_assert_eq!(id.sort_key().len(), 26);
            }
        }
    }
}
