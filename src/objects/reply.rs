//! Replies that several requests of a class have in common.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The variants of an enum of replies, by their names in messages.
pub trait Variants {
    const NAMES: &'static [&'static str];
}

/// A reply, or one of the refusals that several requests have in common. In messages the variants of both are side by
/// side, so `T` must have no variant that is named like one of `E`.
#[derive(Debug)]
pub struct Reply<T, E>(pub Result<T, E>);

impl<T, E> Reply<T, E> {
    pub fn ok(reply: T) -> Self {
        Self(Ok(reply))
    }
}

impl<T, E> From<E> for Reply<T, E> {
    fn from(refusal: E) -> Self {
        Self(Err(refusal))
    }
}

impl<T: Serialize, E: Serialize> Serialize for Reply<T, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Ok(reply) => reply.serialize(serializer),
            Err(refusal) => refusal.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>, E: Deserialize<'de> + Variants> Deserialize<'de> for Reply<T, E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReplyVisitor(PhantomData))
    }
}

/// Decides by the name of the variant which enum to read.
struct ReplyVisitor<T, E>(PhantomData<(T, E)>);

impl<'de, T: Deserialize<'de>, E: Deserialize<'de> + Variants> Visitor<'de> for ReplyVisitor<T, E> {
    type Value = Reply<T, E>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a reply")
    }

    fn visit_str<Error: de::Error>(self, name: &str) -> Result<Self::Value, Error> {
        Ok(Reply(match E::NAMES.contains(&name) {
            true => Err(E::deserialize(name.into_deserializer())?),
            false => Ok(T::deserialize(name.into_deserializer())?),
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let name: String = map.next_key()?.ok_or_else(|| de::Error::custom("an empty reply"))?;
        let is_refusal = E::NAMES.contains(&name.as_str());
        let variant = MapAccessDeserializer::new(Variant { name: Some(name), map });
        Ok(Reply(match is_refusal {
            true => Err(E::deserialize(variant)?),
            false => Ok(T::deserialize(variant)?),
        }))
    }
}

/// A map whose first key was already read.
struct Variant<A> {
    name: Option<String>,
    map: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Variant<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.name.take() {
            Some(name) => seed.deserialize(name.into_deserializer()).map(Some),
            None => self.map.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Found {
        Found { content: Box<RawValue> },
        Nothing,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Refusal {
        Stale { revision: u64 },
        Gone,
    }

    impl Variants for Refusal {
        const NAMES: &'static [&'static str] = &["stale", "gone"];
    }

    fn read(text: &str) -> Result<Reply<Found, Refusal>, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn the_name_of_the_variant_decides() {
        for text in [r#"{"found":{"content":{"a": 1}}}"#, r#""nothing""#, r#"{"stale":{"revision":3}}"#, r#""gone""#] {
            assert_eq!(serde_json::to_string(&read(text).unwrap()).unwrap(), text);
        }
        assert!(matches!(read(r#"{"stale":{"revision":3}}"#).unwrap(), Reply(Err(Refusal::Stale { revision: 3 }))));
        assert!(matches!(read(r#"{"gone":null}"#).unwrap(), Reply(Err(Refusal::Gone))));
        assert!(matches!(read(r#"{"nothing":null}"#).unwrap(), Reply(Ok(Found::Nothing))));
    }

    #[test]
    fn what_neither_enum_has_is_an_error() {
        for text in ["{}", "3", r#""found""#, r#"{"other":{}}"#, r#"{"found":{}}"#, r#"{"gone":null,"nothing":null}"#] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
