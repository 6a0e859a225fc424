//! Estimates the cost of a check without running it. boon has no limit of its own: `allOf` with two equal references,
//! nested thirty times, takes two to the thirtieth steps, and every nested step takes 2.6 KiB of the 1 MiB stack of
//! WebAssembly.
//!
//! The unit is an eighth of the cost of applying a subschema to the value itself, which costs more than applying one to
//! a part of it. The cost of a keyword is a product of the schema's size and the value's. Patterns are counted while
//! they run (`patterns.rs`).

use super::dialect::Dialect;
use super::numbers::Checks;
use super::{Manner, depth};
use crate::base::exact_json::Numbers;
use serde_json::{Map, Value};

/// The maximum cost of one check. Measured as WebAssembly: at most 0.06 µs each, so about 30 ms.
const MAX_UNITS: usize = 560_000;
const APPLICATION: usize = 8;
const TO_A_PART: usize = 5;
/// The maximum number of nested applications: half of what was measured to be fatal.
const MAX_NESTED: usize = 200;
/// The maximum number of nested applications that the metaschema takes for each level of a value.
const METASCHEMA_NESTED: usize = 5;
/// What the metaschema costs for each part of a value.
const METASCHEMA: usize = 60;
/// The key that marks a schema as a reference without effective siblings.
const ALONE: &str = "\u{1}alone";
/// The key under which a schema's own weight is stored; no valid schema has it.
const WEIGHT: &str = "\u{1}weight";
/// The cost of a division, and of this many digits of it.
const DIVISION: usize = 8;
const DIGITS_PER_UNIT: usize = 4;
/// The bytes of a string that are read for its format at the cost of one unit.
const READ_PER_UNIT: usize = 2;

/// Stores in each of these schemas its own weight, whatever it is applied to, or that it is a reference whose siblings
/// are ignored.
pub(super) fn weigh(document: &mut Value, schemas: &[String], dialect: Dialect) {
    let alone =
        |keywords: &Map<String, Value>| dialect <= Dialect::Draft7 && keywords.get("$ref").is_some_and(Value::is_array);
    // A part may stand inside an ignored sibling and be referred to there, so nothing is removed.
    for at in schemas {
        if let Some(Value::Object(keywords)) = document.pointer_mut(at) {
            if alone(keywords) {
                keywords.insert(ALONE.into(), Value::Null);
            } else {
                let weight = own_weight(keywords);
                keywords.insert(WEIGHT.into(), weight.into());
            }
        }
    }
}

fn own_weight(keywords: &Map<String, Value>) -> usize {
    let of = |(keyword, value): (&String, &Value)| match (keyword.as_str(), value) {
        ("enum", Value::Array(values)) => values.len() / 8 + size(value) / 8,
        ("const", value) => size(value) / 8,
        ("required", Value::Array(names)) => names.len(),
        ("dependentRequired" | "dependencies", Value::Object(map)) => {
            map.values().map(|names| 1 + names.as_array().map_or(0, Vec::len)).sum()
        }
        ("dependentSchemas", Value::Object(map)) => map.len(),
        ("multipleOf", _) => DIVISION,
        ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "format", _) => 1,
        _ => 0,
    };
    keywords.len() / 4 + keywords.iter().map(of).sum::<usize>()
}

/// The parts of a value, and its text in chunks.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / 32,
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => {
            1 + members.iter().map(|(name, inner)| 1 + name.len() / 32 + size(inner)).sum::<usize>()
        }
        _ => 1,
    }
}

/// The maximum cost for the metaschema to check whether the strings of a value are patterns: boon reads a whole one
/// again for each control character that is escaped by its letter.
fn patterns(value: &Value) -> usize {
    let read = |text: &str| text.matches("\\c").count().saturating_mul(text.len()) / READ_PER_UNIT;
    match value {
        Value::String(text) => read(text),
        Value::Array(items) => items.iter().map(patterns).fold(0, usize::saturating_add),
        Value::Object(members) => {
            let each = members.iter().map(|(name, inner)| read(name).saturating_add(patterns(inner)));
            each.fold(0, usize::saturating_add)
        }
        _ => 0,
    }
}

/// The cost of finding equal items. Up to 20 are compared pairwise; more are distinguished by a hash, which ignores how
/// arrays inside arrays are structured.
fn unique(items: &[Value]) -> usize {
    let all: usize = items.iter().map(size).sum();
    if items.len() <= 20 {
        return all * items.len() / 4;
    }
    let alike: Vec<usize> = items.iter().filter(|item| holds_arrays(item, false)).map(size).collect();
    all + alike.iter().sum::<usize>() * alike.len() / 8
}

/// Whether it is cheap to see that no two of these are equal.
pub(super) fn can_be_distinguished(items: &[Value]) -> bool {
    unique(items) <= MAX_UNITS
}

fn holds_arrays(value: &Value, within: bool) -> bool {
    match value {
        Value::Array(items) => within || items.iter().any(|item| holds_arrays(item, true)),
        Value::Object(members) => members.values().any(|inner| holds_arrays(inner, within)),
        _ => false,
    }
}

pub(super) struct Scale<'a> {
    /// The schema's document, with references replaced by pointers.
    document: &'a Value,
    units_left: usize,
    /// If evaluation is tracked anywhere, it is tracked everywhere.
    manner: Manner,
    checks: &'a Checks,
    /// The value's own numbers.
    own: &'a Numbers,
}

impl<'a> Scale<'a> {
    /// `own` are the numbers of the value that is to be checked.
    pub fn new(document: &'a Value, manner: Manner, checks: &'a Checks, own: &'a Numbers) -> Self {
        Scale { document, units_left: MAX_UNITS, manner, checks, own }
    }

    fn spend(&mut self, units: usize) -> bool {
        match self.units_left.checked_sub(units) {
            Some(left) => {
                self.units_left = left;
                true
            }
            None => false,
        }
    }

    /// The cost of applying these keywords, without their applications to parts of the value.
    fn weight(&self, keywords: &Map<String, Value>, instance: &Value, nested: usize) -> usize {
        let own =
            keywords.get(WEIGHT).and_then(Value::as_u64).map_or(0, |own| usize::try_from(own).unwrap_or(usize::MAX));
        let with_value = match instance {
            // Each member is looked up among the known ones.
            Value::Object(members) => members.len() * if self.manner.remembers { 6 } else { 1 },
            Value::Array(items) => {
                let remembered = if self.manner.remembers { items.len() * 3 } else { 0 };
                let is_unique = keywords.get("uniqueItems") == Some(&Value::Bool(true));
                remembered + if is_unique { unique(items) } else { 0 }
            }
            Value::String(text) => {
                let is_read = self.manner.reads_texts && keywords.contains_key("format");
                let is_counted = keywords.contains_key("maxLength") || keywords.contains_key("minLength");
                (if is_read { text.len() / READ_PER_UNIT } else { 0 }) + (if is_counted { text.len() / 64 } else { 0 })
            }
            Value::Number(number) if keywords.contains_key("multipleOf") => {
                self.checks.digits(number, self.own) / DIGITS_PER_UNIT
            }
            _ => 0,
        };
        own.saturating_add(with_value).saturating_add(TO_A_PART + nested / 8)
    }

    /// Whether `instance` can be checked against `schema` within the limits, at `nested` levels of application.
    /// Anything that only a check could show is assumed to apply.
    pub fn bears(&mut self, schema: &Value, instance: &Value, nested: usize) -> bool {
        let Value::Object(keywords) = schema else {
            return self.spend(TO_A_PART);
        };
        let is_alone = keywords.contains_key(ALONE);
        nested < MAX_NESTED
            && self.spend(self.weight(keywords, instance, nested))
            && keywords.iter().filter(|(keyword, _)| !is_alone || *keyword == "$ref").all(
                |(keyword, inner)| match inner {
                    Value::Array(list) => self.bears_list(keyword, list, instance, nested + 1),
                    Value::Object(_) | Value::Bool(_) => match instance {
                        Value::Object(members) => {
                            self.bears_members(keywords, keyword, inner, instance, members, nested + 1)
                        }
                        _ => self.bears_inner(keywords, keyword, inner, instance, nested + 1),
                    },
                    _ => true,
                },
            )
    }

    /// The same for a subschema that applies to the value itself.
    fn bears_in_place(&mut self, schema: &Value, instance: &Value, nested: usize) -> bool {
        self.spend(APPLICATION - TO_A_PART) && self.bears(schema, instance, nested)
    }

    fn bears_list(&mut self, keyword: &str, list: &[Value], value: &Value, nested: usize) -> bool {
        match (keyword, value) {
            ("$ref" | "$recursiveRef" | "$dynamicRef", _) if list.is_empty() => {
                nested + METASCHEMA_NESTED * depth(value) < MAX_NESTED
                    && self.spend(size(value).saturating_mul(METASCHEMA).saturating_add(patterns(value)))
            }
            ("$ref" | "$recursiveRef" | "$dynamicRef", _) => list.iter().all(|target| {
                let schema = target.as_str().and_then(|at| self.document.pointer(at));
                schema.is_none_or(|schema| self.bears_in_place(schema, value, nested))
            }),
            ("allOf" | "anyOf" | "oneOf", _) => list.iter().all(|schema| self.bears_in_place(schema, value, nested)),
            ("prefixItems" | "items", Value::Array(items)) => {
                list.iter().zip(items).all(|(schema, item)| self.bears(schema, item, nested))
            }
            _ => true,
        }
    }

    /// Keywords with one schema, for any value.
    fn bears_inner(
        &mut self,
        keywords: &Map<String, Value>,
        keyword: &str,
        inner: &Value,
        value: &Value,
        nested: usize,
    ) -> bool {
        match (keyword, value) {
            ("not" | "if" | "then" | "else", _) => self.bears_in_place(inner, value, nested),
            ("items" | "additionalItems" | "contains" | "unevaluatedItems", Value::Array(items)) => {
                let length = |keyword| keywords.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
                let done = match keyword {
                    "contains" => 0,
                    "additionalItems" => length("items"),
                    "items" => length("prefixItems"),
                    // The same in each draft.
                    _ => length("prefixItems").max(length("items")),
                };
                let mut rest = items.iter().skip(done);
                rest.all(|item| self.bears(inner, item, nested))
            }
            _ => true,
        }
    }

    /// Keywords for members; the others are passed on.
    fn bears_members(
        &mut self,
        keywords: &Map<String, Value>,
        keyword: &str,
        inner: &Value,
        value: &Value,
        members: &Map<String, Value>,
        nested: usize,
    ) -> bool {
        let named = || inner.as_object().into_iter().flatten();
        match keyword {
            "properties" => members.iter().all(|(name, member)| {
                let schema = inner.get(name);
                schema.is_none_or(|schema| self.bears(schema, member, nested))
            }),
            "patternProperties" => named().all(|(_, schema)| {
                let mut members = members.values();
                members.all(|member| self.bears(schema, member, nested))
            }),
            "additionalProperties" | "unevaluatedProperties" => {
                let known = keywords.get("properties").and_then(Value::as_object);
                let mut others =
                    members.iter().filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                others.all(|(_, member)| self.bears(inner, member, nested))
            }
            // Each name is checked separately, as a string.
            "propertyNames" => members
                .keys()
                .all(|name| self.spend(3 * APPLICATION) && self.bears(inner, &Value::String(name.clone()), nested)),
            "dependentSchemas" | "dependencies" => {
                named().all(|(name, schema)| !members.contains_key(name) || self.bears_in_place(schema, value, nested))
            }
            _ => self.bears_inner(keywords, keyword, inner, value, nested),
        }
    }
}
