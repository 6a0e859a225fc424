//! The supported drafts of JSON Schema, and what each means by its keywords.

use boon::Draft;
use serde_json::{Map, Value};

/// In order of publication.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dialect {
    Draft4,
    Draft6,
    Draft7,
    Draft2019,
    /// The default.
    #[default]
    Draft2020,
}

/// The kind of value a keyword has.
pub(super) enum KeywordValue {
    Schema,
    List,
    Map,
}

/// Each draft with its URI, without the scheme.
const NAMES: [(Dialect, &str); 5] = [
    (Dialect::Draft4, "http://json-schema.org/draft-04/schema"),
    (Dialect::Draft6, "http://json-schema.org/draft-06/schema"),
    (Dialect::Draft7, "http://json-schema.org/draft-07/schema"),
    (Dialect::Draft2019, "https://json-schema.org/draft/2019-09/schema"),
    (Dialect::Draft2020, "https://json-schema.org/draft/2020-12/schema"),
];

impl Dialect {
    /// The draft of a `$schema`, with http or https and with or without an empty fragment.
    pub fn named(text: &str) -> Option<Self> {
        let bare = |text: &str| text.split_once("://").map(|(scheme, rest)| (scheme.to_owned(), rest.to_owned()));
        let (scheme, rest) = bare(text.strip_suffix('#').unwrap_or(text))?;
        let is_it = |name: &str| bare(name).is_some_and(|(_, known)| known == rest);
        let known = NAMES.iter().find(|(_, name)| matches!(scheme.as_str(), "http" | "https") && is_it(name));
        known.map(|(dialect, _)| *dialect)
    }

    /// All URIs, for messages.
    pub fn all() -> String {
        NAMES.map(|(_, name)| name).join(", ")
    }

    /// The URI of the draft's metaschema.
    pub fn url(self) -> &'static str {
        NAMES.iter().find(|(dialect, _)| *dialect == self).map_or("", |(_, name)| name)
    }

    /// The same draft in boon's terms.
    pub fn draft(self) -> Draft {
        match self {
            Self::Draft4 => Draft::V4,
            Self::Draft6 => Draft::V6,
            Self::Draft7 => Draft::V7,
            Self::Draft2019 => Draft::V2019_09,
            Self::Draft2020 => Draft::V2020_12,
        }
    }

    /// The keyword that gives a part its address.
    pub fn id(self) -> &'static str {
        if self == Self::Draft4 { "id" } else { "$id" }
    }

    /// Whether anchors are fragments of `$id` or `id`.
    pub fn has_anchors_in_ids(self) -> bool {
        self <= Self::Draft7
    }

    /// Whether this schema is a reference whose siblings are ignored.
    pub fn is_alone(self, keywords: &Map<String, Value>) -> bool {
        self <= Self::Draft7 && keywords.get("$ref").is_some_and(Value::is_string)
    }

    /// Whether the draft has this keyword with subschemas.
    pub fn knows(self, keyword: &str) -> bool {
        match keyword {
            "additionalItems" => self <= Self::Draft2019,
            "contains" | "propertyNames" => self >= Self::Draft6,
            "if" | "then" | "else" => self >= Self::Draft7,
            "dependentSchemas" | "unevaluatedItems" | "unevaluatedProperties" | "contentSchema" | "$defs" => {
                self >= Self::Draft2019
            }
            "prefixItems" => self == Self::Draft2020,
            _ => true,
        }
    }

    /// Whether the draft has this keyword for a reference.
    pub fn is_reference(self, keyword: &str) -> bool {
        match keyword {
            "$ref" => true,
            "$recursiveRef" => self == Self::Draft2019,
            "$dynamicRef" => self == Self::Draft2020,
            _ => false,
        }
    }

    /// Whether the draft has this keyword for an anchor.
    pub fn is_anchor(self, keyword: &str) -> bool {
        match keyword {
            "$anchor" => self >= Self::Draft2019,
            "$dynamicAnchor" => self == Self::Draft2020,
            _ => false,
        }
    }
}

/// The kind of value that a keyword has in any draft that has it.
pub(super) fn keyword_value(keyword: &str, value: &Value) -> Option<KeywordValue> {
    match keyword {
        "items" if value.is_array() => Some(KeywordValue::List),
        "not"
        | "if"
        | "then"
        | "else"
        | "items"
        | "additionalItems"
        | "contains"
        | "unevaluatedItems"
        | "additionalProperties"
        | "unevaluatedProperties"
        | "propertyNames"
        | "contentSchema" => Some(KeywordValue::Schema),
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Some(KeywordValue::List),
        "properties" | "patternProperties" | "dependentSchemas" | "dependencies" | "$defs" | "definitions" => {
            Some(KeywordValue::Map)
        }
        _ => None,
    }
}
