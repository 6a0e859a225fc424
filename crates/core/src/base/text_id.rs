//! What the ids of tenants, principals and services have in common.

/// Declares an id that is a text: a type of its own, so that it cannot be confused with another id. It is written and
/// read like the text, and a clone only counts a reference.
macro_rules! text_id {
    ($(#[$about:meta])* $name:ident) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::rc::Rc<str>);

        impl $name {
            /// An id from the gateway's own storage or messages, which was checked when it first arrived. It is not
            /// checked again: what an earlier rule permitted must remain readable.
            pub fn from_stored(text: impl Into<std::rc::Rc<str>>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        /// As of the text: cursors are bound to what this writes.
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        /// So that a map can be asked for a text that is not yet known to be an id.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::base::text_id::read_text(deserializer).map(Self)
            }
        }

        #[cfg(any(test, feature = "schema"))]
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                str::schema_name()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                str::json_schema(generator)
            }
        }
    };
}

pub(crate) use text_id;

/// Reads a text into the memory that its clones share.
pub(crate) fn read_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<std::rc::Rc<str>, D::Error> {
    struct Text;

    impl serde::de::Visitor<'_> for Text {
        type Value = std::rc::Rc<str>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.into())
        }
    }

    deserializer.deserialize_str(Text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    text_id!(
        /// An id.
        Id
    );

    #[test]
    fn an_id_is_written_and_read_like_its_text() {
        for text in ["acme", "", "What an earlier rule permitted: \"ä\""] {
            let (id, written) = (Id::from_stored(text), serde_json::to_string(text).unwrap());
            assert_eq!(serde_json::to_string(&id).unwrap(), written);
            assert_eq!(serde_json::from_str::<Id>(&written).unwrap(), id);
            assert_eq!(serde_json::from_value::<Id>(text.into()).unwrap(), id);
            assert_eq!((id.as_str(), id.to_string(), format!("{id:?}")), (text, text.to_string(), format!("{text:?}")));
            assert_eq!(HashMap::from([(id, 1)]).get(text), Some(&1));
        }
        let fault = |text| {
            (
                serde_json::from_str::<Id>(text).unwrap_err().to_string(),
                serde_json::from_str::<String>(text).unwrap_err().to_string(),
            )
        };
        for (of_id, of_text) in ["1", "null", "{}"].map(fault) {
            assert_eq!(of_id, of_text);
        }
    }

    #[test]
    fn ids_sort_like_their_texts() {
        let mut ids = ["b", "a-b", "a"].map(Id::from_stored);
        ids.sort_unstable();
        assert_eq!(ids.map(|id| id.to_string()), ["a", "a-b", "b"]);
    }
}
