//! How replies are read, and what several requests of a class have in common in them.

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

/// A reply as it is read from a message.
pub trait ReadReply: Sized {
    fn read(text: &str) -> Result<Self, serde_json::Error>;
}

impl<T: DeserializeOwned> ReadReply for T {
    fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// The variants of an enum of replies, by their names in messages.
pub trait Variants {
    const NAMES: &'static [&'static str];
}

/// A reply, or one of the refusals that several requests have in common. In messages the variants of both are side by
/// side, so `T` must have no variant that is named like one of `E`.
#[derive(Debug)]
#[must_use]
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

impl<T: DeserializeOwned, E: DeserializeOwned + Variants> ReadReply for Reply<T, E> {
    fn read(text: &str) -> Result<Self, serde_json::Error> {
        Ok(Self(match refusal(text) {
            Some(refusal) => Err(refusal?),
            None => Ok(serde_json::from_str(text)?),
        }))
    }
}

/// The refusal that a reply consists of, if it is one.
pub fn refusal<E: DeserializeOwned + Variants>(text: &str) -> Option<Result<E, serde_json::Error>> {
    variant(text).is_some_and(|name| E::NAMES.contains(&name)).then(|| serde_json::from_str(text))
}

/// The name of the variant that a reply begins with.
fn variant(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let text = text.strip_prefix('{').map_or(text, str::trim_start);
    text.strip_prefix('"')?.split('"').next()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
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
        Reply::read(text)
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
